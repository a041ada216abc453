"""The append: every check that must hold inside the one transaction, as a pure function.

Each store loads the run's head under its lock, calls `admit`, writes the rows it returns and
commits. So all stores refuse the same things for the same reasons.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from gatebook.errors import Fenced, GatebookError, InvalidInput, RunIsOver, StoreError
from gatebook.kernel.approvals.standing import GUARDS as APPROVAL_GUARDS
from gatebook.kernel.approvals.standing import NOBODY_ASKED, check_again, check_request
from gatebook.kernel.budget import LIMITED, NO_LIMITS, shortfall
from gatebook.kernel.events import (
    AUDIT,
    ENDS_OF_ATTEMPTS,
    EXTERNAL,
    ActionRequested,
    ActionResolved,
    AnyEvent,
    AttemptStarted,
    BudgetRaised,
    CancelRequested,
    EndOfAttempt,
    Ends,
    Event,
    LabelEndorsed,
    Requests,
    Resumed,
    RunCancelled,
    RunCompleted,
    RunFailed,
    SignalReceived,
    kind_of,
)
from gatebook.kernel.head import Head
from gatebook.kernel.spending.booking import carried, moves
from gatebook.kernel.spending.ledgers import DAY_US, Balance, Move
from gatebook.kernel.status import NEW, RUNNING, TERMINAL, Status
from gatebook.kernel.stored import chain, detach, stamp, written

DETACH = 64 * 1024  # bytes; event bodies above this go to the blob table
MAX_EVENTS = 50_000  # events of one run; docs/design.md, "Limits"
WARN_EVENTS = 10_000  # where the log says that a run is long
MAX_KEPT_SIGNALS = 1_000  # signals nobody awaits


class Batch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Events to append to one run, all or none.

    Attributes:
        events: in order, not yet stamped.
        epoch: the worker's claim; None for what anybody may append (signals, cancels, ...).
        after: the seq the run must be at; None only when nothing is requested.
        append_id: random per append: tells our own events apart after an unknown commit.
        time: the stamp the worker stepped its program on (us UTC); taken when it lies between
            the run's last stamp and the store's clock, so it can never move an expiry, and on the
            day that this clock shows, so it can never choose a ledger.
        draft: the same events as rows, checked and folded already; a store may take these when
            the run is where they begin (`Draft.fits`), and has nothing left to check then.
    """

    events: tuple[AnyEvent, ...]
    append_id: bytes
    epoch: int | None = None
    after: int | None = None
    time: int | None = None
    draft: "Draft | None" = None


class BudgetShort(GatebookError):
    """A reservation does not fit the budget any more; nothing was written."""


class SeqMismatch(Exception):
    """The run is not at the expected seq: the store turns this into a Conflict with the tail."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """One event as it is stored; `blob` is (digest, bytes) of a body kept apart, `moves` what it
    books on ledgers.
    """

    seq: int
    time: int
    prev_hash: bytes
    hash: bytes
    body: bytes
    event: AnyEvent
    blob: tuple[str, bytes] | None = None
    moves: Sequence[Move] = ()


def admit(head: Head, batch: Batch, *, now: int, run: str) -> list[Row]:
    """Check a batch against a run's head and fold it in; return the rows to store.

    `head` must be a copy: it is changed even when a later event of the batch is refused. `now`
    is the store's clock in microseconds UTC; stamps never go below the run's previous one.

    Raises:
        Fenced: the epoch is not the current one.
        SeqMismatch: the run is not at `batch.after`.
        RunIsOver: the run has ended and the batch is more than audit notes.
        BudgetShort: a reservation does not fit.
        InvalidInput: an external event's own guard failed.
        StoreError: E_EVENT_EXTERNAL, or a request without an expected seq.
        IntegrityError: the event cannot follow in the run's status.
    """
    if batch.epoch is not None and (batch.epoch != head.epoch or batch.epoch == 0):
        raise Fenced("E_FENCED", run=run, current=head.epoch, epoch=batch.epoch)
    if batch.after is not None and batch.after != head.seq:
        raise SeqMismatch
    now = max(now, head.time)
    if batch.time is not None and _may_stamp(batch.time, head, now):
        now = batch.time
    draft = Draft(head, run, batch.append_id, batch.epoch or 0, now)
    for event in batch.events:
        _check_origin(head, event, batch, run)
        draft.take(event)
    return draft.rows


def _may_stamp(time: int, head: Head, now: int) -> bool:
    return head.time <= time <= now and now - time <= now % DAY_US


def charge(rows: Sequence[Row], find: Callable[[str], Balance]) -> dict[str, Balance]:
    """Return the balances that an append leaves on the ledgers it moves, by key.

    `find` returns a ledger's balance under the store's lock, the same that the rows are written
    under.

    Raises:
        BudgetShort: E_LEDGER: one of them cannot carry what a request reserves.
    """
    changed, short = carried((move for row in rows for move in row.moves), find)
    if short is not None:
        raise BudgetShort(short.code, **short.fields)
    return changed


class Draft:
    """Events on their way into a run: each is stamped, checked, folded and made a row.

    A store makes one of a batch, a worker of what it plans: an append is checked and folded once.
    It begins at a head, and a hash names all that led there. So a store that finds the run at
    that hash and epoch would come to the same rows; at any other it admits the batch anew.

    Args:
        head: where the append begins; every event changes it.
        append_id, epoch, time: what the rows are written under and stamped with.

    Attributes:
        events: what a worker added, as it was given.
        rows: the same as rows, while nothing is among them that an append would refuse.
        head: once finished, of the run after them.
    """

    __slots__ = (
        "_append_id", "_began", "_end", "_epoch", "_live", "_run", "_seq", "_sound", "_time",
        "events", "head", "rows",
    )  # fmt: skip

    def __init__(self, head: Head, run: str, append_id: bytes, epoch: int, time: int) -> None:
        self.head = self._live = head
        self._run, self._append_id, self._epoch, self._time = run, append_id, epoch, time
        self._end = stamp(time, epoch)
        self._began, self._seq = head.hash, head.seq
        self._sound = True
        self.events: list[AnyEvent] = []
        self.rows: list[Row] = []

    def add(self, event: AnyEvent) -> AnyEvent:
        """Fold one more event; return it as readers will see it.

        What an append would refuse spoils the draft, so that the store says why.
        """
        self.events.append(event)
        if self._sound:
            try:
                return self.take(event)
            except GatebookError:
                self._sound = False
        fact = replace(event, time=self._time, epoch=self._epoch)
        self._live.apply(fact)
        return fact

    def take(self, event: AnyEvent) -> AnyEvent:
        """Check one more event, fold it and make its row; return it as readers will see it.

        Raises what `admit` raises, before anything has changed; IntegrityError also after.
        """
        head, time = self._live, self._time
        if head.status in TERMINAL and not isinstance(event, AUDIT):
            raise RunIsOver("E_RUN_TERMINAL", run=self._run, status=head.status.value)
        fact = replace(event, time=time, epoch=self._epoch)
        check = _GUARDS.get(type(event))
        if check is not None:
            check(head, fact, self._run)
        booked = () if head.ledgers is None else moves(head, fact)
        head.apply(fact)
        data, blob = written(event, self._end), None
        if len(data) > DETACH:
            whole = data
            data, name = detach(whole, salt=self._append_id)
            blob = (name, whole)
        seq, previous = head.seq, head.hash
        head.hash = hash = chain(previous, seq, data)
        self.rows.append(Row(seq, time, previous, hash, data, fact, blob, booked))
        return fact

    def finish(self) -> Batch:
        """Return the batch of what was added."""
        draft = None
        if self._sound:
            draft, self.head = self, self._live.copy()
            self.head.epoch = self._epoch
        return Batch(
            events=tuple(self.events),
            append_id=self._append_id,
            epoch=self._epoch,
            after=self._seq,
            time=self._time,
            draft=draft,
        )

    def fits(self, head: Head, now: int) -> bool:
        """Whether the rows follow `head` by the store's clock."""
        if head.hash != self._began or not self._epoch or head.epoch != self._epoch:
            return False
        return _may_stamp(self._time, head, now if now > head.time else head.time)


def _check_origin(head: Head, event: AnyEvent, batch: Batch, run: str) -> None:
    """Refuse what only a worker may append, and a request that was decided on nobody knows what."""
    if batch.epoch is None and not isinstance(event, EXTERNAL) and head.status is not NEW:
        raise StoreError("E_EVENT_EXTERNAL", kind=kind_of(event))
    if batch.after is None and isinstance(event, Requests):
        raise StoreError("E_INVARIANT", run=run, detail="a request without an expected seq")


def _guard_end_of_attempt(head: Head, event: EndOfAttempt, run: str) -> None:
    entry = head.open.get(event.address)
    if entry is None or entry.phase == "unknown":
        raise InvalidInput("E_ACTION_NOT_OPEN", address=event.address, run=run)


def _guard_resolution(head: Head, event: ActionResolved, run: str) -> None:
    entry = head.open.get(event.address)
    if entry is None or entry.phase != "unknown":
        status = entry.phase if entry else "not open"
        raise InvalidInput("E_ACTION_NOT_UNKNOWN", address=event.address, run=run, status=status)
    if event.resolution == "retry" and head.terminal:  # nothing starts any more; say what became
        raise RunIsOver("E_RUN_TERMINAL", run=run, status=head.status.value)


def _guard_signal(head: Head, _: SignalReceived, run: str) -> None:
    if head.kept_signals >= MAX_KEPT_SIGNALS:
        raise InvalidInput("E_SIGNAL_LIMIT", run=run, limit=MAX_KEPT_SIGNALS)


def _guard_cancel(head: Head, _: CancelRequested, run: str) -> None:
    if head.status is Status.CANCELLING:
        raise InvalidInput("E_ALREADY_CANCELLING", run=run)


def _guard_raise(head: Head, event: BudgetRaised, run: str) -> None:
    """Refuse what raises nothing: of two who raise to the same limit the second is told."""
    after = head.limits.raised(event.limits).grown(event.more)
    asked = (event.limits.named() | event.more.named()).keys()
    for meter in LIMITED:
        old, new = getattr(head.limits, meter), getattr(after, meter)
        if meter in asked and (old is None or new <= old):
            limit = "none" if old is None else old
            raise InvalidInput("E_BUDGET_RAISE", run=run, meter=meter, value=new, limit=limit)


def _guard_endorsement(head: Head, event: LabelEndorsed, run: str) -> None:
    detail = ""
    if not event.by:
        detail = "it is not said by whom"
    elif not 0 < event.upto <= head.seq:
        detail = f"it says up to event {event.upto}, and the run has {head.seq}"
    if detail:
        raise InvalidInput("E_ENDORSE", value=event.label, run=run, detail=detail)


def _guard_resume(head: Head, _: Resumed, run: str) -> None:
    if head.status is not Status.INTERRUPTED:
        raise InvalidInput("E_NOT_INTERRUPTED", run=run, status=head.status.value)


def _guard_end(head: Head, _: Ends, run: str) -> None:
    waiting = [a for a, entry in head.open.items() if entry.phase != "unknown"]
    if waiting:
        detail = f"it would end with unanswered actions {', '.join(waiting)}"
        raise StoreError("E_INVARIANT", run=run, detail=detail)


def _guard_request(head: Head, event: Requests, run: str) -> None:
    if head.cancel_seq is not None or head.status is not RUNNING:
        raise InvalidInput("E_NOT_STARTING", run=run, status=head.status.value)
    if head.seq >= MAX_EVENTS:
        raise BudgetShort("E_RUN_TOO_LONG", run=run, limit=MAX_EVENTS)
    if type(event) is ActionRequested:
        if event.decision.verdict != "allow" or head.approvals is not NOBODY_ASKED:
            check_request(head, event, run)
    else:
        entry = head.open.get(event.address)
        if entry is None or (entry.phase == "unknown"):
            raise StoreError("E_INVARIANT", run=run, detail=f"{event.address} cannot start again")
        if head.approvals is not NOBODY_ASKED:
            check_again(head, event, run)
    short = None
    if head.limits != NO_LIMITS:
        short = shortfall(head.limits, head.used, event.reserve)
    if short is not None:
        raise BudgetShort("E_BUDGET", tool=event.address, **short.told())


_GUARDS: dict[type[Event], Callable[[Head, Any, str], None]] = {
    ActionRequested: _guard_request,
    AttemptStarted: _guard_request,
    **dict.fromkeys(ENDS_OF_ATTEMPTS, _guard_end_of_attempt),
    ActionResolved: _guard_resolution,
    SignalReceived: _guard_signal,
    CancelRequested: _guard_cancel,
    BudgetRaised: _guard_raise,
    LabelEndorsed: _guard_endorsement,
    Resumed: _guard_resume,
    RunCompleted: _guard_end,
    RunFailed: _guard_end,
    RunCancelled: _guard_end,
    **APPROVAL_GUARDS,
}
