"""Drafts the narrowest rule that would allow exactly one refused action, for people to weigh.

A rule can only open what nothing allows: no rule that is added lifts a deny or answers an ask.
"""

from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from gatebook.kernel.actions import CallLLM, CallTool
from gatebook.kernel.codec import plain
from gatebook.kernel.review.decisions import Decided
from gatebook.kernel.review.writing import table
from gatebook.kernel.rules.facts import Request

MAX_ID = 64
REDACTED = "[redacted:"


class Unfit(ValueError):
    """No rule can be about exactly this action; the text says why."""


class Narrow(msgspec.Struct, frozen=True):
    """A drafted rule: its id and its TOML."""

    id: str
    text: str


def narrowest(decided: Decided, taken: Collection[str] = ()) -> Narrow:
    """Return a rule that allows one refused action, by this agent and with these arguments only.

    Args:
        taken: ids that the rule must not have.

    Raises:
        Unfit: no condition can name what is special about it, or no rule opens such actions.
    """
    request = decided.requests[0]
    values: dict[str, Any] = {"then": "allow"}
    match decided.action:
        case CallTool():
            values["tool"] = request.tool
            where = dict(_arguments(request))
        case CallLLM():
            values["action"] = "call_llm"
            where = dict(_routes(decided))
        case _:
            raise Unfit("only tool calls and model calls need an allow")
    if request.agent is not None:
        values["agent"] = request.agent
    if request.user is not None:
        where["user"] = {"eq": request.user}
    if where:
        values["where"] = where
    name = _free(f"allow-{_plain(decided.what)}", taken)
    return Narrow(name, table("rule", {"id": name, **values}))


def _routes(decided: Decided) -> Iterator[tuple[str, Any]]:
    routes = [request.name for request in decided.requests]
    yield "route", {"eq": routes[0]} if len(routes) == 1 else {"in": routes}
    yield "est_tokens", {"le": decided.requests[0].est_tokens or 0}


def _arguments(request: Request) -> Iterator[tuple[str, Any]]:
    if not isinstance(request.args, dict):
        raise Unfit("its arguments are not an object")
    yield from _members("args", request.args)
    schema = plain(request.about.schema) if request.about.schema is not None else {}
    declared = schema.get("properties", {}) if isinstance(schema, Mapping) else {}
    for name in declared:
        if name not in request.args:
            yield _path("args", name), {"type": "null", "optional": True}


def _members(path: str, value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        yield from _value(_path(path, name), item)


def _value(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if value is None:
        yield path, {"type": "null"}
    elif isinstance(value, str):
        if REDACTED in value:
            raise Unfit(f"{path} held a secret, which is not in the journal")
        yield path, {"eq": value}
    elif isinstance(value, bool | int | float | Decimal):
        yield path, {"eq": value}
    elif isinstance(value, Mapping):
        yield path, {"type": "object", "size": {"eq": len(value)}}
        yield from _members(path, value)
    else:
        yield path, {"type": "array", "size": {"eq": len(value)}}
        for at, item in enumerate(value):
            yield from _value(f"{path}.{at}", item)


def _path(path: str, name: str) -> str:
    if name in ("", "*") or "." in name:
        raise Unfit(f"no condition can name the member {name!r} of {path}")
    return f"{path}.{name}"


def _plain(text: str) -> str:
    fits = "".join(char if char.isascii() and char.isalnum() else "-" for char in text)
    return fits.strip("-") or "action"


def _free(wanted: str, taken: Collection[str]) -> str:
    found, number = wanted[:MAX_ID], 2
    while found in taken:
        tail = f"-{number}"
        found, number = wanted[: MAX_ID - len(tail)] + tail, number + 1
    return found
