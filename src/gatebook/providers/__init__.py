"""Who answers model calls: servers that speak chat completions, a script, a small local model."""

from typing import NamedTuple

from gatebook.kernel.messages import Capabilities
from gatebook.providers.local import LocalModel
from gatebook.providers.openai_compatible import OPENAI, Dialect, OpenAICompatible
from gatebook.providers.script import Reply, Rule, Script, ToolUse, When
from gatebook.providers.scripted import Scripted

__all__ = [
    "PRESETS",
    "Dialect",
    "LocalModel",
    "OpenAICompatible",
    "Preset",
    "Reply",
    "Rule",
    "Script",
    "Scripted",
    "ToolUse",
    "When",
]


class Preset(NamedTuple):
    """What is known of a server by its name."""

    base_url: str
    key_variable: str = ""
    dialect: Dialect = Dialect()
    capabilities: Capabilities = Capabilities()


PRESETS: dict[str, Preset] = {
    "openai": Preset("https://api.openai.com/v1", "OPENAI_API_KEY", OPENAI),
    "openrouter": Preset("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "groq": Preset("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "ollama": Preset("http://127.0.0.1:11434/v1", capabilities=Capabilities(terminal="done")),
    "llamacpp": Preset(
        "http://127.0.0.1:8080/v1", capabilities=Capabilities(forced_tool_choice=False)
    ),
}
