"""Whether two programs of one digest run the same code. Knows functions; runs none.

A digest covers what a program declares, not its code: a function that is made anew for each user
declares the same, and sees the variables of another.
"""

from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from types import FunctionType, MethodType
from typing import Any
from uuid import UUID

from gatebook.ports import Program

# Which are the same when they are equal.
VALUES = (
    str, bytes, int, float, bool, type(None), Decimal, PurePath, UUID, date, time, timedelta,
)  # fmt: skip

Pairs = set[tuple[int, int]]


def acts_alike(known: Program[Any, Any], given: Program[Any, Any]) -> bool:
    """Whether functions of two programs with equal digests are the same, and see the same.

    Of what is no function of ours nothing is known, and nothing is said against it.
    """
    seen: Pairs = set()
    pairs = [(known, given), *((known.tools[name], tool) for name, tool in given.tools.items())]
    return all(_alike(_function(one), _function(other), seen) for one, other in pairs)


def _function(value: Any) -> Any:
    """Return the function of a workflow or of a tool, None for what has none."""
    return getattr(value, "function", None) or getattr(value, "__wrapped__", None)


def _alike(one: Any, other: Any, seen: Pairs) -> bool:
    if one is other or (id(one), id(other)) in seen:
        return True
    seen.add((id(one), id(other)))
    if type(one) is not type(other):
        return False
    if isinstance(one, FunctionType):
        return one.__code__ == other.__code__ and _all_alike(_seen_by(one), _seen_by(other), seen)
    if isinstance(one, MethodType):
        return one.__self__ is other.__self__ and _alike(one.__func__, other.__func__, seen)
    if isinstance(one, tuple):
        return _all_alike(one, other, seen)
    if isinstance(one, VALUES):
        return bool(one == other)
    inner = _function(one)
    return inner is not None and _alike(inner, _function(other), seen)


def _all_alike(ones: tuple[Any, ...], others: tuple[Any, ...], seen: Pairs) -> bool:
    return len(ones) == len(others) and all(map(_alike, ones, others, [seen] * len(ones)))


def _seen_by(function: Any) -> tuple[Any, ...]:
    """Return what a function sees beside its globals: variables around it, and defaults."""
    cells = function.__closure__ or ()
    around = [cell.cell_contents for cell in cells if cell != type(cell)()]
    defaults = function.__kwdefaults__ or {}
    return (*around, *(function.__defaults__ or ()), *defaults, *defaults.values())
