"""How a run can stand when it is over or blocked, what it gave, and how an unknown is answered."""

from decimal import Decimal
from typing import Any, Generic, Literal, TypeVar

import msgspec

from gatebook.errors import RunCancelled, RunDenied, RunFailed
from gatebook.kernel.budget import Amount
from gatebook.kernel.events import ErrorRecord
from gatebook.ports import RunRow

Out = TypeVar("Out")
SOON_US = 2_000_000  # a run that goes on by itself this soon is not called waiting


class Finished(msgspec.Struct, Generic[Out], frozen=True):
    """The run ended with its output."""

    output: Out


class Failed(msgspec.Struct, frozen=True):
    """The run ended without output; `denied` when what it needed was refused before it began.

    A retry that no longer fits the budget is a failure: its action was begun once.
    """

    error: ErrorRecord
    denied: bool = False


class Cancelled(msgspec.Struct, frozen=True):
    """The run was cancelled; `unknown` names actions whose outcome nobody knows."""

    reason: str = ""
    unknown: tuple[str, ...] = ()


class Waiting(msgspec.Struct, frozen=True):
    """The run is blocked: on people, signals or time (`wake_at`, microseconds UTC).

    Attributes:
        on: what it waits for: "approval 7", "resolve t1.0", "signal go", "sleep 1", "deferred 2",
            "resume".
        parked_reason: "" or why no worker may drive it: "diverged", "definition", "hooks",
            "halted"; then `handle.resume` lets it go on, once that is mended.
    """

    on: tuple[str, ...]
    wake_at: int | None = None
    parked_reason: str = ""


class RunResult(msgspec.Struct, Generic[Out], frozen=True):
    """What a run gave: its output, id and what it used."""

    output: Out
    run_id: str
    spent: Amount = Amount()
    events: int = 0

    @property
    def cost_usd(self) -> Decimal | None:
        """What the model calls cost in dollars; None when some price is unknown."""
        return self.spent.cost_usd


class Succeeded(msgspec.Struct, frozen=True):
    """For `resolve`: the action took effect and this was its result (plain JSON)."""

    output: Any = None


class Denied(msgspec.Struct, frozen=True):
    """For `resolve`: the action did not take effect; the program sees it failed with this text."""

    message: str


RETRY: Literal["retry"] = "retry"  # for `resolve`: a person orders another start
Settled = Finished[Any] | Failed | Cancelled | Waiting


def blocked(row: RunRow, now: int) -> Waiting | None:
    """Return what a parked run waits for, or None while somebody drives it or soon will."""
    if row.parked_reason:
        return Waiting((row.waiting_on,), None, row.parked_reason)
    if row.owner or not row.waiting_on:
        return None
    if row.wake_at is not None and row.wake_at <= now + SOON_US:
        return None
    return Waiting(tuple(row.waiting_on.split(", ")), row.wake_at)


def stopped(run_id: str, state: Settled) -> RunFailed | RunDenied | RunCancelled:
    """Return the error of a run that ended without output."""
    if isinstance(state, Cancelled):
        detail = state.reason or "no reason given"
        return RunCancelled("E_RUN_CANCELLED", run=run_id, detail=detail, unknown=state.unknown)
    assert isinstance(state, Failed)
    error = {"code_name": state.error.code, "detail": state.error.message, "run": run_id}
    if state.denied:
        fix = f"see gatebook show {run_id}"
        if state.error.code == "E_TOOL_UNKNOWN":
            fix = "add it to tools=[...] of the program"
        return RunDenied("E_RUN_DENIED", fix=fix, **error)
    return RunFailed("E_RUN_FAILED", run_id=run_id, **error)
