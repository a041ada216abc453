"""What a program declares, checked: its name, tools and models."""

from collections.abc import Iterable
from typing import Any

from gatebook.errors import ConfigError, shown
from gatebook.kernel.actions import split_route
from gatebook.kernel.codec import check_name
from gatebook.kernel.tools import ToolSpec, check_tools
from gatebook.ports import Tool
from gatebook.programs.foreign import checked

MAX_ROUTES = 8  # of one call: its fallbacks have retries of their own
PARTS = ("validate", "call", "decode")


def program_name(name: Any) -> str:
    """Return a program's name, or refuse it with E_PROGRAM_NAME or E_NAME_*."""
    return check_name(name, code="E_PROGRAM_NAME")


def tool_map(tools: Iterable[Any], *, program: str) -> dict[str, Tool]:
    """Return the tools by name, in their order; each one's `spec` is read and thereby checked.

    Raises:
        ConfigError: E_TOOL_DECLARATION for what is no tool, E_TOOL_DUPLICATE, E_TOOL_CONFUSABLE,
            E_TOOL_UNSEEN.
        InvalidInput: E_TOOL_NAME, E_NAME_CONFUSABLE, E_NAME_RESERVED.
    """
    table: dict[str, Tool] = {}
    for item in _listed(tools, "tools", program):
        spec = None if isinstance(item, type) else getattr(item, "spec", None)
        if not isinstance(spec, ToolSpec) or not all(hasattr(item, part) for part in PARTS):
            raise ConfigError(
                "E_TOOL_DECLARATION",
                tool=getattr(item, "__name__", type(item).__name__),
                detail=f"program {program} was given {shown(item)}, which is not a tool",
                fix="decorate the function with @tool",
            )
        if spec.name in table:
            raise ConfigError("E_TOOL_DUPLICATE", value=spec.name)
        table[spec.name] = checked(item)
    check_tools(tool.spec for tool in table.values())
    return table


def routes(models: Iterable[Any], *, program: str) -> tuple[str, ...]:
    """Return the model routes, or refuse one with E_ROUTE."""
    found = tuple(_listed(models, "models", program))
    for route in found:
        split_route(route)
    return found


def route_list(model: Any, *, program: str) -> tuple[str, ...]:
    """Return the routes of one call: a route, or a list of them to go through in order.

    Raises:
        InvalidInput: E_ROUTE. ConfigError: E_PROGRAM_DECLARATION: none, too many, or one twice.
    """
    if not isinstance(model, list | tuple):
        split_route(model)
        return (model,)
    found = routes(model, program=program)
    if not 1 <= len(found) <= MAX_ROUTES:
        what = f"a call is given {len(found)} model routes"
        raise undeclarable(program, what, f"give 1 to {MAX_ROUTES}")
    if len(set(found)) < len(found):
        raise undeclarable(program, "a call is given a model route twice", "name each route once")
    return found


def _listed(items: Any, what: str, program: str) -> Iterable[Any]:
    if isinstance(items, list | tuple):
        return items
    raise undeclarable(program, f"{what}= is {shown(items)}", f"pass a list: {what}=[...]")


def undeclarable(program: str, detail: str, fix: str) -> ConfigError:
    """Return the error for a program that cannot be declared as it is."""
    return ConfigError("E_PROGRAM_DECLARATION", program=program, detail=detail, fix=fix)
