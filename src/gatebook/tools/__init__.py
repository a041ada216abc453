"""What an agent may do: functions as tools, the context they are given, and tools that ship.

Must not know runs, journals or who calls; pydantic is imported at a tool's first use, and `files`,
`http` and `shell` when they are asked for.
"""

from typing import TYPE_CHECKING, Any

from gatebook.tools.context import ToolContext
from gatebook.tools.function import FunctionTool, tool

if TYPE_CHECKING:
    from gatebook.tools.file_tools import files
    from gatebook.tools.http_tools import http
    from gatebook.tools.sandbox import ShellLimits
    from gatebook.tools.shell_tool import shell

__all__ = [
    "FunctionTool",
    "ShellLimits",
    "ToolContext",
    "files",
    "http",
    "shell",
    "tool",
]

_HOMES = {
    "ShellLimits": "gatebook.tools.sandbox",
    "files": "gatebook.tools.file_tools",
    "http": "gatebook.tools.http_tools",
    "shell": "gatebook.tools.shell_tool",
}


def __getattr__(name: str) -> Any:
    """Import a tool that ships at its first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gatebook.tools' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
