"""What differs between two JSON values, path by path: `messages[2].content[0].text: 'a' -> 'b'`."""

from collections.abc import Iterator
from typing import Any, NamedTuple

WINDOW = 60  # characters of a long text that are shown around its first difference
BEFORE = 20  # of them before it

_ABSENT = object()


class Difference(NamedTuple):
    """One place where two values differ; the `weight` grows with how much does."""

    path: str
    text: str
    weight: float

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


def differences(before: Any, after: Any, path: str = "") -> list[Difference]:
    """Return every place where `after` is not `before`, in the order of `before`."""
    return list(_walk(before, after, path))


def _walk(before: Any, after: Any, path: str) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        dot = f"{path}." if path else ""
        for key in [*before, *(key for key in after if key not in before)]:
            yield from _walk(before.get(key, _ABSENT), after.get(key, _ABSENT), f"{dot}{key}")
    elif isinstance(before, list) and isinstance(after, list):
        for index in range(max(len(before), len(after))):
            yield from _walk(_item(before, index), _item(after, index), f"{path}[{index}]")
    elif type(before) is not type(after) or before != after:
        yield Difference(path or "$", _told(before, after), _weight(before, after))


def _item(items: list[Any], index: int) -> Any:
    return items[index] if index < len(items) else _ABSENT


def _weight(before: Any, after: Any) -> float:
    if not isinstance(before, str) or not isinstance(after, str):
        return _leaves(before) + _leaves(after)
    alike = _common(before, after)
    rest = min(len(before), len(after)) - alike
    alike += min(rest, _common(before[::-1], after[::-1]))
    return 1 + (1 - alike / max(len(before), len(after)))


def _common(before: str, after: str) -> int:
    """Return how many characters two texts begin with alike."""
    pairs = enumerate(zip(before, after, strict=False))
    return next((n for n, (one, two) in pairs if one != two), min(len(before), len(after)))


def _leaves(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_leaves, value.values())) or 1
    if isinstance(value, list):
        return sum(map(_leaves, value)) or 1
    return 0 if value is _ABSENT else 1


def _told(before: Any, after: Any) -> str:
    at = 0
    if isinstance(before, str) and isinstance(after, str):
        at = _common(before, after)
    return f"{_short(before, at)} -> {_short(after, at)}"


def _short(value: Any, at: int) -> str:
    if value is _ABSENT:
        return "(nothing)"
    text = repr(value)
    if not isinstance(value, str) or len(text) <= WINDOW:
        return text if len(text) <= WINDOW else f"{text[:WINDOW]}..."
    begin = max(0, at - BEFORE)
    window = repr(value[begin : begin + WINDOW])
    return f"{'...' if begin else ''}{window}{'...' if begin + WINDOW < len(value) else ''}"
