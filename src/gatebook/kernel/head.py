"""The head of a run: what every append must know of it, and how each event changes it.

Stores keep it in the run's row. It changes in place: a step costs what is new, not what the run
already holds (docs/design.md, "The fold"). `kernel.state` adds what a worker needs.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from gatebook.errors import IntegrityError
from gatebook.kernel.actions import Sleep, WaitSignal
from gatebook.kernel.approvals.standing import (
    HEAD_FOLDS,
    NOBODY_ASKED,
    Approvals,
    fold_closed,
    fold_denied,
    fold_requested,
    fold_resumed,
)
from gatebook.kernel.budget import NOTHING, Amount, Limits
from gatebook.kernel.events import (
    ActionDenied,
    ActionFailed,
    ActionRequested,
    ActionResolved,
    ActionSucceeded,
    ActionUnknown,
    AnyEvent,
    AttemptFailed,
    AttemptStarted,
    BudgetRaised,
    CancelRequested,
    Event,
    LedgersDeclared,
    Resumed,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    SignalReceived,
    kind_of,
)
from gatebook.kernel.opened import Open, routed
from gatebook.kernel.spending.ledgers import keys_of
from gatebook.kernel.status import INTERRUPTED, STAYS, TERMINAL, TRANSITIONS, Status
from gatebook.kernel.stored import GENESIS


class Head(msgspec.Struct, omit_defaults=True):
    """What an append must know of a run: position in the chain, status, budget, open actions."""

    seq: int = 0
    hash: bytes = GENESIS
    time: int = 0
    epoch: int = 0
    status: Status = Status.NEW
    limits: Limits = Limits()
    reserved: Amount = NOTHING
    spent: Amount = NOTHING
    open: dict[str, Open] = {}
    kept_signals: int = 0
    cancel_seq: int | None = None
    ledgers: dict[str, Limits] | None = None  # None until some are declared
    approvals: Approvals = NOBODY_ASKED

    def copy(self) -> "Head":
        """Return a head that can change without changing this one."""
        return msgspec.structs.replace(self, open=self.open.copy())

    @property
    def terminal(self) -> bool:
        """Whether the run has ended."""
        return self.status in TERMINAL

    @property
    def used(self) -> Amount:
        """What counts against the limits: reserved and spent."""
        return self.spent if self.reserved is NOTHING else self.reserved + self.spent

    def apply(self, event: AnyEvent) -> None:
        """Fold one more event.

        Raises:
            IntegrityError: E_TRANSITION when the event cannot follow in this status.
        """
        fold = _STAYING[self.status].get(type(event)) or self._turn(event)
        self.seq += 1
        self.time = event.time
        fold(self, event)

    def _turn(self, event: AnyEvent) -> "Fold":
        """Take the status that an event leads to; return what else it does."""
        after = TRANSITIONS.get((self.status, type(event)))
        if after is None:
            raise IntegrityError("E_TRANSITION", kind=kind_of(event), run="", status=self.status)
        self.status = after
        return _FOLDS.get(type(event), _nothing)

    def _reserve(self, address: str, entry: Open) -> None:
        self.open[address] = entry
        reserve, held = entry.reserve, self.reserved
        if reserve is not NOTHING:
            self.reserved = reserve if held is NOTHING else held + reserve

    def _settle(self, entry: Open, spent: Amount | None) -> None:
        reserve, held = entry.reserve, self.reserved
        if reserve is not NOTHING:  # mostly it is all that the run holds
            self.reserved = NOTHING if reserve is held else held - reserve
        charge = reserve if spent is None else spent
        if charge is not NOTHING:
            self.spent += charge

    def _entry(self, address: str) -> Open:
        entry = self.open.get(address)
        if entry is None:
            raise _not_open(address)
        return entry

    def _started(self, event: RunStarted) -> None:
        self.limits = event.limits
        if event.decision is not None and event.decision.verdict == "interrupt":
            self.status = INTERRUPTED

    def _requested(self, event: ActionRequested) -> None:
        address, action, due = event.address, event.action, None
        if address in self.open:
            raise IntegrityError("E_INVARIANT", run="", detail=f"{address} requested twice")
        if type(action) is Sleep:
            due = event.time + action.ms * 1000
        elif type(action) is WaitSignal and action.timeout_ms is not None:
            due = event.time + action.timeout_ms * 1000
        held = keys_of(self.ledgers, event.time, event.reserve) if self.ledgers else ()
        entry = Open("started", 0, event.reserve, due, 0, event.epoch, "", 0, held)
        self._reserve(address, entry)
        if self.approvals is not NOBODY_ASKED:
            fold_requested(self, address)

    def _attempt_failed(self, event: AttemptFailed) -> None:
        entry = self._entry(event.address)
        self._settle(entry, event.spent)
        due = event.time + event.delay_ms * 1000
        self.open[event.address] = Open(
            "backoff", entry.attempt, NOTHING, due, entry.lost, 0, *routed(entry, event.route)
        )

    def _attempt_started(self, event: AttemptStarted) -> None:
        entry = self._entry(event.address)
        if event.attempt != entry.attempt + 1:
            raise IntegrityError(
                "E_INVARIANT", run="", detail=f"attempt {event.attempt} of {event.address}"
            )
        self._settle(entry, None)  # a lost attempt is charged at its reservation
        lost = entry.lost + (event.cause == "recovery")
        on = routed(entry, event.route)
        held = keys_of(self.ledgers, event.time, event.reserve) if self.ledgers else ()
        entry = Open("started", event.attempt, event.reserve, None, lost, event.epoch, *on, held)
        self._reserve(event.address, entry)

    def _ended(self, event: ActionSucceeded | ActionFailed) -> None:
        entry = self.open.pop(event.address, None)
        if entry is None:
            raise _not_open(event.address)
        self._settle(entry, event.spent)
        if self.approvals is not NOBODY_ASKED:
            fold_closed(self, event.address)
        if type(event) is ActionSucceeded and event.consumed is not None:
            self.kept_signals -= 1

    def _unknown(self, event: ActionUnknown) -> None:
        entry = self._entry(event.address)
        self.open[event.address] = Open(
            "unknown", entry.attempt, entry.reserve, None, entry.lost, 0, entry.route, entry.since,
            entry.ledgers,
        )  # fmt: skip

    def _resolved(self, event: ActionResolved) -> None:
        entry = self._entry(event.address)
        self._settle(entry, None)
        if event.resolution == "retry" and not self.terminal:
            self.open[event.address] = Open(
                "backoff", entry.attempt, NOTHING, event.time, entry.lost, 0,
                entry.route, entry.since,
            )  # fmt: skip
        else:
            del self.open[event.address]
            fold_closed(self, event.address)

    def _signal(self, event: SignalReceived) -> None:
        self.kept_signals += 1

    def _cancel(self, event: CancelRequested) -> None:
        self.cancel_seq = self.seq

    def _raised(self, event: BudgetRaised) -> None:
        self.limits = self.limits.raised(event.limits).grown(event.more)

    def _declared(self, event: LedgersDeclared) -> None:
        self.ledgers = event.ledgers

    def _resumed(self, event: Resumed) -> None:
        self.open = {a: msgspec.structs.replace(e, lost=0) for a, e in self.open.items()}
        fold_resumed(self)

    def _over(self, event: RunCompleted | RunFailed | RunCancelled) -> None:
        self.spent += self.reserved  # what is still unknown is charged at its reservation
        self.reserved = NOTHING
        self.approvals = NOBODY_ASKED
        self.open = {a: Open("unknown", e.attempt) for a, e in self.open.items()}


def _not_open(address: str) -> IntegrityError:
    return IntegrityError("E_ACTION_NOT_OPEN", address=address, run="")


def _nothing(folded: Any, event: Any) -> None:
    """Do what most events do to most of the state."""


Fold = Callable[[Head, Any], None]

_FOLDS: dict[type[Event], Fold] = {
    RunStarted: Head._started,
    ActionRequested: Head._requested,
    ActionDenied: fold_denied,
    AttemptFailed: Head._attempt_failed,
    AttemptStarted: Head._attempt_started,
    ActionSucceeded: Head._ended,
    ActionFailed: Head._ended,
    ActionUnknown: Head._unknown,
    ActionResolved: Head._resolved,
    SignalReceived: Head._signal,
    CancelRequested: Head._cancel,
    BudgetRaised: Head._raised,
    LedgersDeclared: Head._declared,
    Resumed: Head._resumed,
    RunCompleted: Head._over,
    RunFailed: Head._over,
    RunCancelled: Head._over,
    **HEAD_FOLDS,
}

# STAYS, with what each event does to the head.
_STAYING = {
    status: {kind: _FOLDS.get(kind, _nothing) for kind in kinds} for status, kinds in STAYS.items()
}
