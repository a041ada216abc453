"""Who answers model calls: vendors, servers of chat completions, a script, a small model."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from gatebook.kernel.messages import Capabilities
from gatebook.providers.local import LocalModel
from gatebook.providers.openai_compatible import OPENAI, Dialect, OpenAICompatible
from gatebook.providers.script import Reply, Rule, Script, ToolUse, When
from gatebook.providers.scripted import Scripted

if TYPE_CHECKING:
    from gatebook.providers.anthropic import Anthropic
    from gatebook.providers.google import Google
    from gatebook.providers.openai_responses import OpenAIResponses

__all__ = [
    "PRESETS",
    "VENDORS",
    "Anthropic",
    "Dialect",
    "Google",
    "LocalModel",
    "OpenAICompatible",
    "OpenAIResponses",
    "Preset",
    "Reply",
    "Rule",
    "Script",
    "Scripted",
    "ToolUse",
    "When",
]

# The adapters over vendors' SDKs, by kind: the class, and the module it is in. They are imported
# when asked for: most runs need one of them or none.
VENDORS = {
    "openai": ("OpenAIResponses", "openai_responses"),
    "anthropic": ("Anthropic", "anthropic"),
    "google": ("Google", "google"),
}


def __getattr__(name: str) -> Any:
    """Return an adapter class that is imported with its first use."""
    for cls, module in VENDORS.values():
        if name == cls:
            return getattr(import_module(f"{__name__}.{module}"), cls)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Preset(NamedTuple):
    """What is known of a provider by its name.

    Attributes:
        key_variables: where its key may be, the first that is set counts.
        dialect: how it speaks chat completions, if it does.
        kind: "openai-compatible", or one of `VENDORS`, whose adapter knows the rest.
    """

    base_url: str
    key_variables: tuple[str, ...] = ()
    dialect: Dialect = Dialect()
    capabilities: Capabilities = Capabilities()
    kind: str = "openai-compatible"


PRESETS: dict[str, Preset] = {
    "openai": Preset("https://api.openai.com/v1", ("OPENAI_API_KEY",), OPENAI, kind="openai"),
    "openai-chat": Preset("https://api.openai.com/v1", ("OPENAI_API_KEY",), OPENAI),
    "anthropic": Preset("https://api.anthropic.com", ("ANTHROPIC_API_KEY",), kind="anthropic"),
    "google": Preset(
        "https://generativelanguage.googleapis.com",
        ("GOOGLE_API_KEY", "GEMINI_API_KEY"),  # in the order the SDK looks
        kind="google",
    ),
    "openrouter": Preset("https://openrouter.ai/api/v1", ("OPENROUTER_API_KEY",)),
    "groq": Preset("https://api.groq.com/openai/v1", ("GROQ_API_KEY",)),
    "ollama": Preset("http://127.0.0.1:11434/v1", capabilities=Capabilities(terminal="done")),
    "llamacpp": Preset(
        "http://127.0.0.1:8080/v1", capabilities=Capabilities(forced_tool_choice=False)
    ),
}
