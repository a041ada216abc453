"""Async generators that a workflow begins: they end with it, not when Python collects them.

The `finally` blocks of one that is left early (`break` in an `async for`) would run when it is
collected, in whatever event loop there is: at another moment on a replay, and unable to act.
"""

from collections.abc import Callable
from functools import partial
from sys import get_asyncgen_hooks, set_asyncgen_hooks
from types import AsyncGeneratorType
from typing import Any

MANY = 64  # so many are held before those that have ended are let go of


class Generators:
    """Those of one run: what is begun while `during` calls something is held until `end`."""

    __slots__ = ("_begin", "_begun", "_many")

    def __init__(self) -> None:
        self._begun: list[AsyncGeneratorType[Any, Any]] = []
        self._many = MANY
        self._begin: Any = self._hold  # bound once: every step is made under it

    def during(self, call: Callable[..., None], *args: Any) -> None:
        """Call something that runs the workflow's code."""
        outer = get_asyncgen_hooks()
        set_asyncgen_hooks(self._begin, None)
        try:
            call(*args)
        finally:
            set_asyncgen_hooks(*outer)

    def _hold(self, generator: AsyncGeneratorType[Any, Any]) -> None:
        self._begun.append(generator)
        if len(self._begun) > self._many:
            self._begun = [each for each in self._begun if each.ag_frame is not None]
            self._many = MANY + 2 * len(self._begun)

    def end(self, closing: Callable[[Callable[[], object]], None]) -> None:
        """End what was left early, the latest first; `closing` is given how to end each."""
        while self._begun:
            closing(partial(self._begun.pop().aclose().send, None))
