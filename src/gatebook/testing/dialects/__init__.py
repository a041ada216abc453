"""How each provider says the same story on the wire: bytes and JSON for a fault server. Pure."""

from gatebook.testing.dialects.anthropic import MESSAGES
from gatebook.testing.dialects.chat import CHAT
from gatebook.testing.dialects.gemini import GEMINI
from gatebook.testing.dialects.responses import RESPONSES
from gatebook.testing.dialects.story import (
    Cost,
    Dialect,
    Failure,
    Refuse,
    Say,
    Story,
    Think,
    Trouble,
    Use,
)

__all__ = [
    "CHAT",
    "GEMINI",
    "MESSAGES",
    "RESPONSES",
    "Cost",
    "Dialect",
    "Failure",
    "Refuse",
    "Say",
    "Story",
    "Think",
    "Trouble",
    "Use",
]
