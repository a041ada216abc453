"""The tools of one program, by name."""

import inspect
from collections.abc import Iterable
from typing import Any

from gatebook.errors import ConfigError
from gatebook.ports import Tool
from gatebook.tools.options import refused

PARTS = ("spec", "validate", "call", "decode")


def tool_table(tools: Iterable[Any]) -> dict[str, Tool]:
    """Return the tools by name, in their order; each one's `spec` is read and thereby checked.

    Raises:
        ConfigError: E_TOOL_DUPLICATE; E_TOOL_DECLARATION for what is no tool or cannot be one.
    """
    table: dict[str, Tool] = {}
    for item in tools:
        _check_tool(item)
        name = item.spec.name
        if name in table:
            raise ConfigError("E_TOOL_DUPLICATE", value=name)
        table[name] = item
    return table


def _check_tool(item: object) -> None:
    if inspect.isroutine(item) or inspect.isclass(item):
        fix = "decorate it with @tool, or pass tool(it)"
        raise refused(item.__name__, "it is a plain function or class", fix)
    if not all(inspect.getattr_static(item, part, None) is not None for part in PARTS):
        fix = "pass what @tool made, or an object with spec, validate, call and decode"
        raise refused(type(item).__name__, "it is not a tool", fix)
