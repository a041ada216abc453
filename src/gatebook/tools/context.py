"""What a tool sees of the attempt it is part of. Knows nothing of runs, journals or the loop."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

from gatebook.ports import Invocation

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Deps = TypeVar("Deps", default=Any)
else:
    from typing import TypeVar

    Deps = TypeVar("Deps")


def _never() -> bool:
    return False


def _unheard(done: float | None, total: float | None, detail: str) -> None:
    """Drop a progress report: nobody listens."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ToolContext(Generic[Deps]):
    """What one attempt of a tool may use; in unit tests, build it yourself.

    Attributes:
        deps: what the runtime was given as `deps=`; never journaled.
        idempotency_key: the same on every attempt, in every process: hand it to the service.
        context: the run's `context=`, journaled plain JSON; do not change it.
        attempt: which try this is, from 0.
        deadline: when the attempt is given up, in seconds of the monotonic clock; None: never.
        asked_to_stop: what `cancelled` asks; safe from any thread.
        report: where `progress` goes: done, total, detail; safe from any thread.
        monotonic: the clock of `deadline`, in seconds.
    """

    deps: Deps = field(repr=False)
    idempotency_key: str
    context: Mapping[str, Any] = field(default_factory=dict, repr=False)
    attempt: int = 0
    deadline: float | None = None
    asked_to_stop: Callable[[], bool] = field(default=_never, repr=False)
    report: Callable[[float | None, float | None, str], None] = field(default=_unheard, repr=False)
    monotonic: Callable[[], float] = field(default=time.monotonic, repr=False)

    @classmethod
    def of(cls, invocation: Invocation, cancelled: Callable[[], bool]) -> "ToolContext[Any]":
        """Return the context of one attempt; `cancelled` is what it asks of its caller."""
        return ToolContext(
            deps=invocation.deps,
            idempotency_key=invocation.idempotency_key(),
            context=invocation.context(),
            attempt=invocation.attempt,
            deadline=invocation.deadline,
            asked_to_stop=cancelled,
            report=invocation.progress,
            monotonic=invocation.monotonic,
        )

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more: a long sync tool looks, and returns."""
        return self.asked_to_stop()

    def remaining(self) -> float | None:
        """Return the seconds left before the deadline, at least 0; None when there is none."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - self.monotonic())

    def progress(
        self, *, done: float | None = None, total: float | None = None, detail: str = ""
    ) -> None:
        """Tell readers of the run how far this attempt is; never journaled, may be dropped."""
        self.report(done, total, detail)
