"""Arguments of one function call that Gemini sends piece by piece, put together. Does no I/O.

Each piece names its place by a JSON path, `$.orders[0].id`; a string may come in several pieces.
"""

import itertools
import re
from typing import Any

import msgspec

MAX_DEPTH = 64
_STEP = re.compile(
    r"""\.(?P<name>[^.\[\]\s'"]+)|\[(?P<index>\d{1,6})\]"""
    r"""|\['(?P<single>(?:[^'\\]|\\.)*)'\]|\["(?P<double>(?:[^"\\]|\\.)*)"\]"""
)
_ESCAPED = re.compile(r"\\(.)")
Step = str | int


class PartialArg(msgspec.Struct):
    """One piece: at most one of the values is set."""

    jsonPath: str = ""  # noqa: N815 - the names Google gives them
    stringValue: str | msgspec.UnsetType = msgspec.UNSET  # noqa: N815
    numberValue: int | float | msgspec.UnsetType = msgspec.UNSET  # noqa: N815
    boolValue: bool | msgspec.UnsetType = msgspec.UNSET  # noqa: N815
    nullValue: Any = msgspec.UNSET  # noqa: N815
    willContinue: bool | None = None  # noqa: N815


class PathError(ValueError):
    """A piece has no place in the arguments."""


class Arguments:
    """The arguments of one call while they come."""

    def __init__(self) -> None:
        """Begin with none."""
        self._root: dict[str, Any] = {}
        self._open = ""  # the path of a string that another piece goes on with

    def add(self, piece: PartialArg) -> None:
        """Put a piece in its place.

        Raises:
            PathError: the path is not understood, or goes through what is no object or list.
        """
        steps = _steps(piece.jsonPath)
        value: Any = None
        for given in (piece.stringValue, piece.numberValue, piece.boolValue):
            if given is not msgspec.UNSET:
                value = given
                break
        else:
            if piece.nullValue is msgspec.UNSET:
                self._open = piece.jsonPath if piece.willContinue else ""
                return
        place: Any = self._root
        for step, following in itertools.pairwise(steps):
            place = _inside(place, step, [] if isinstance(following, int) else {})
        if isinstance(value, str) and self._open == piece.jsonPath:
            value = _text(place, steps[-1]) + value
        _put(place, steps[-1], value)
        self._open = piece.jsonPath if piece.willContinue else ""

    def text(self, *, whole: bool) -> str:
        """Return the JSON text; without its end when the call is not whole, so that it is none."""
        made = msgspec.json.encode(self._root).decode()
        return made if whole else made[:-1]


def _steps(path: str) -> list[Step]:
    steps: list[Step] = []
    at = 1
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None or len(steps) == MAX_DEPTH:
            raise PathError(path)
        at = match.end()
        if match["index"] is not None:
            steps.append(int(match["index"]))
        elif match["name"] is not None:
            steps.append(match["name"])
        else:
            steps.append(_ESCAPED.sub(r"\1", match["single"] or match["double"] or ""))
    if not steps or not path.startswith("$") or isinstance(steps[0], int):
        raise PathError(path)
    return steps


def _inside(place: Any, step: Step, empty: Any) -> Any:
    """Return the object or list at a step, made if nothing is there."""
    if isinstance(step, int) and isinstance(place, list):
        if step == len(place):
            place.append(empty)
        if step < len(place):
            return place[step]
    elif isinstance(step, str) and isinstance(place, dict):
        return place.setdefault(step, empty)
    raise PathError(str(step))


def _put(place: Any, step: Step, value: Any) -> None:
    _inside(place, step, None)
    place[step] = value


def _text(place: Any, step: Step) -> str:
    found = _inside(place, step, "")
    return found if isinstance(found, str) else ""
