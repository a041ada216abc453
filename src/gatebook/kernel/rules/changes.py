"""What `modify` rules change, as a new value and as a JSON Patch (RFC 6902) that says how.

Applying a change again changes nothing, so that a changed request can be decided again.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Literal

import msgspec

from gatebook.kernel.codec import canonical, plain
from gatebook.kernel.redact import MARK, Redactor
from gatebook.kernel.rules.document import Change
from gatebook.kernel.rules.facts import MISSING, Request

REDACTED = MARK.format("policy")
MODEL_FIELDS = ("provider", "model", "max_output_tokens")


class Operation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One operation of a JSON Patch, its path a JSON Pointer (RFC 6901) into what is changed."""

    op: Literal["add", "replace", "remove"]
    path: str
    value: Any = None


def subject(request: Request) -> Any:
    """Return what a `modify` rule changes here: arguments, result, input, or a model's fields."""
    if request.on == "result":
        return request.result
    if request.on == "start":
        return request.input
    if request.action == "call_llm":
        return {name: getattr(request, name) for name in MODEL_FIELDS}
    return request.args


def with_subject(request: Request, value: Any) -> Request:
    """Return the request with what `subject` gave replaced."""
    if request.on == "result":
        return msgspec.structs.replace(request, result=value)
    if request.on == "start":
        return msgspec.structs.replace(request, input=value)
    if request.action == "call_llm":
        return msgspec.structs.replace(request, **value)
    return msgspec.structs.replace(request, args=value)


class ChangeError(ValueError):
    """A change cannot be made where its rule says; letting it pass unchanged would be worse."""


def apply_changes(
    changes: Iterable[Change], value: Any, redactor: Redactor
) -> tuple[Any, tuple[Operation, ...]]:
    """Return the changed value and the patch that leads to it; no patch when nothing changed.

    Raises:
        ChangeError: the value has another shape than a change needs.
    """
    operations: list[Operation] = []
    if value is not MISSING:
        for change in changes:
            value = _Edit(change, redactor, operations).at(value, _steps(change.path), "")
    return value, tuple(operations)


def plain_json(value: Any) -> Any:
    """Return a seen value as JSON again: decimals travel as text."""
    if type(value) is Decimal:
        return format(value, "f")
    if type(value) is list:
        return [plain_json(item) for item in value]
    if type(value) is dict:
        return {key: plain_json(item) for key, item in value.items()}
    return value


def _steps(path: str) -> tuple[str, ...]:
    steps = tuple(path.split("."))
    return steps[1:] if steps[0] in ("args", "result", "input") else steps


class _Edit:
    """Makes one change; writes down what it did."""

    def __init__(self, change: Change, redactor: Redactor, operations: list[Operation]) -> None:
        self.change, self.redactor, self.operations = change, redactor, operations

    def at(self, value: Any, steps: tuple[str, ...], pointer: str) -> Any:
        if not steps:
            return self._final(value, pointer)
        step, rest = steps[0], steps[1:]
        if type(value) is list:
            return self._items(value, step, rest, pointer)
        if type(value) is dict:
            return self._member(value, step, rest, pointer)
        if value is None and self.change.op != "set":
            return value
        raise ChangeError(f"{self.change.path} leads through a value that has no members")

    def _items(self, value: list[Any], step: str, rest: tuple[str, ...], pointer: str) -> Any:
        if self.change.op == "drop" and not rest:
            raise ChangeError(f"{self.change.path} would drop an item of a list")
        if step == "*":
            found = [self.at(item, rest, f"{pointer}/{i}") for i, item in enumerate(value)]
            return found if any(a is not b for a, b in zip(found, value, strict=True)) else value
        index = int(step) if step.isascii() and step.isdigit() and len(step) < 8 else -1
        if not 0 <= index < len(value):
            if self.change.op == "set" or index < 0:
                raise ChangeError(f"{self.change.path} leads to an item that is not there")
            return value
        item = self.at(value[index], rest, f"{pointer}/{index}")
        return value if item is value[index] else [*value[:index], item, *value[index + 1 :]]

    def _member(
        self, value: dict[str, Any], step: str, rest: tuple[str, ...], pointer: str
    ) -> dict[str, Any]:
        if step == "*":
            raise ChangeError(f"{self.change.path} leads to items of what is no list")
        place = f"{pointer}/{step.replace('~', '~0').replace('/', '~1')}"
        if step not in value:
            if self.change.op != "set":
                return value
            new = self.change.value
            for name in reversed(rest):
                new = {name: new}
            self.operations.append(Operation("add", place, new))
            return {**value, step: new}
        if self.change.op == "drop" and not rest:
            self.operations.append(Operation("remove", place))
            return {name: item for name, item in value.items() if name != step}
        item = self.at(value[step], rest, place)
        return value if item is value[step] else {**value, step: item}

    def _final(self, value: Any, pointer: str) -> Any:
        new = value
        if self.change.op == "set":
            new = self.change.value
        elif value is not None:
            new = REDACTED if self.change.value == "all" else self._without_secrets(value)
        if plain_json(new) == plain_json(value) and type(new) is type(value):
            return value
        self.operations.append(Operation("replace", pointer, new))
        return new

    def _without_secrets(self, value: Any) -> Any:
        data = canonical(plain_json(value))
        clean = self.redactor.json(data)
        return value if clean == data else plain(clean)
