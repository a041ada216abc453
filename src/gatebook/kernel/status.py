"""Where a run stands, and which event may follow where: the run's state machine as two tables.

`TRANSITIONS` are the events that change a status, `STAYS` those that leave it; any other is
refused. It folds nothing: that is `kernel.head`.
"""

from enum import StrEnum

from gatebook.kernel.approvals.standing import APPROVAL_KINDS, FROM_OUTSIDE
from gatebook.kernel.events import (
    AUDIT,
    ENDS_OF_ATTEMPTS,
    ActionDenied,
    ActionRequested,
    ActionResolved,
    AttemptStarted,
    BudgetRaised,
    CancelRequested,
    DefinitionChanged,
    Event,
    HookAnswered,
    Interrupted,
    LabelEndorsed,
    LedgersDeclared,
    Note,
    Resumed,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    SignalReceived,
)


class Status(StrEnum):
    """Where a run stands. Waiting is not a status: a run that waits is running, and parked."""

    NEW = "new"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


NEW, RUNNING = Status.NEW, Status.RUNNING  # names: Python 3.11 looks up a member by Python code
INTERRUPTED, CANCELLING = Status.INTERRUPTED, Status.CANCELLING
TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})

TRANSITIONS: dict[tuple[Status, type[Event]], Status] = {
    (Status.NEW, RunStarted): Status.RUNNING,
    (Status.RUNNING, Interrupted): Status.INTERRUPTED,
    (Status.RUNNING, CancelRequested): Status.CANCELLING,
    (Status.RUNNING, RunCompleted): Status.COMPLETED,
    (Status.RUNNING, RunFailed): Status.FAILED,
    (Status.INTERRUPTED, Resumed): Status.RUNNING,
    (Status.INTERRUPTED, CancelRequested): Status.CANCELLING,
    (Status.CANCELLING, RunCancelled): Status.CANCELLED,
}

_AUDIT: frozenset[type[Event]] = frozenset(AUDIT)
_ALWAYS: frozenset[type[Event]] = frozenset(ENDS_OF_ATTEMPTS) | {
    ActionResolved, BudgetRaised, DefinitionChanged, HookAnswered, LabelEndorsed, Note,
    SignalReceived,
}  # fmt: skip
STAYS: dict[Status, frozenset[type[Event]]] = {
    Status.NEW: frozenset(),
    Status.RUNNING: _ALWAYS
    | APPROVAL_KINDS
    | {ActionRequested, AttemptStarted, ActionDenied, LedgersDeclared},
    Status.INTERRUPTED: _ALWAYS | FROM_OUTSIDE,
    Status.CANCELLING: _ALWAYS | {ActionDenied},
    Status.COMPLETED: _AUDIT,
    Status.FAILED: _AUDIT,
    Status.CANCELLED: _AUDIT,
}
