"""The append: every check that must hold inside the one transaction, as a pure function.

Each store loads the run's head under its lock, calls `admit`, writes the rows it returns and
commits. So all stores refuse the same things for the same reasons.
"""

from collections.abc import Sequence

import msgspec

from gatebook.errors import Fenced, GatebookError, InvalidInput, RunIsOver, StoreError
from gatebook.kernel.budget import shortfall
from gatebook.kernel.events import (
    AUDIT,
    EXTERNAL,
    ActionFailed,
    ActionRequested,
    ActionResolved,
    ActionSucceeded,
    ActionUnknown,
    AnyEvent,
    AttemptFailed,
    AttemptStarted,
    CancelRequested,
    Resumed,
    RunCancelled,
    RunCompleted,
    RunFailed,
    SignalReceived,
    chain,
    detach,
    encode,
    kind_of,
    stamp,
    stamped,
)
from gatebook.kernel.state import Head, Status

DETACH = 64 * 1024  # bytes; event bodies above this go to the blob table
MAX_EVENTS = 50_000  # events of one run; docs/design.md, "Limits"
WARN_EVENTS = 10_000
MAX_KEPT_SIGNALS = 1_000  # signals nobody awaits


class Batch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Events to append to one run, all or none.

    Attributes:
        events: in order, not yet stamped.
        epoch: the worker's claim; None for what anybody may append (signals, cancels, ...).
        after: the seq the run must be at; None only when nothing is requested.
        append_id: random per append: tells our own events apart after an unknown commit.
        time: the stamp the worker stepped its program on (us UTC); taken when it lies between
            the run's last stamp and the store's clock, so it can never move an expiry.
    """

    events: tuple[AnyEvent, ...]
    append_id: bytes
    epoch: int | None = None
    after: int | None = None
    time: int | None = None


class BudgetShort(GatebookError):
    """A reservation does not fit the budget any more; nothing was written."""


class SeqMismatch(Exception):
    """The run is not at the expected seq: the store turns this into a Conflict with the tail."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """One event as it is stored; `blob` is (digest, bytes) of a body kept apart."""

    seq: int
    kind: str
    time: int
    prev_hash: bytes
    hash: bytes
    body: bytes
    event: AnyEvent
    blob: tuple[str, bytes] | None = None


def bodies(events: Sequence[AnyEvent]) -> list[bytes]:
    """Return the events' bytes without stamps; made before the lock is taken."""
    return [encode(event) for event in events]


def admit(head: Head, batch: Batch, encoded: Sequence[bytes], *, now: int, run: str) -> list[Row]:
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
    if batch.time is not None and head.time <= batch.time <= now:
        now = batch.time
    epoch = batch.epoch or 0
    rows = []
    for event, body in zip(batch.events, encoded, strict=True):
        _guard(head, event, batch, run)
        fact = stamped(event, time=now, epoch=epoch)
        data = stamp(body, time=now, epoch=epoch)
        blob = None
        if len(data) > DETACH:
            whole = data
            data, name = detach(whole, salt=batch.append_id)
            blob = (name, whole)
        previous = head.hash
        head.apply(fact)
        head.hash = chain(previous, head.seq, data)
        rows.append(Row(head.seq, kind_of(event), now, previous, head.hash, data, fact, blob))
    return rows


def _guard(head: Head, event: AnyEvent, batch: Batch, run: str) -> None:
    if batch.epoch is None and not isinstance(event, EXTERNAL) and head.status is not Status.NEW:
        raise StoreError("E_EVENT_EXTERNAL", kind=kind_of(event))
    if head.terminal and not isinstance(event, AUDIT):
        raise RunIsOver("E_RUN_TERMINAL", run=run, status=head.status.value)
    match event:
        case ActionRequested() | AttemptStarted():
            _guard_request(head, event, batch, run)
        case ActionSucceeded() | ActionFailed() | ActionUnknown() | AttemptFailed():
            entry = head.open.get(event.address)
            if entry is None or entry.phase == "unknown":
                raise InvalidInput("E_ACTION_NOT_OPEN", address=event.address, run=run)
        case ActionResolved():
            entry = head.open.get(event.address)
            if entry is None or entry.phase != "unknown":
                status = entry.phase if entry else "not open"
                raise InvalidInput(
                    "E_ACTION_NOT_UNKNOWN", address=event.address, run=run, status=status
                )
        case SignalReceived():
            if head.kept_signals >= MAX_KEPT_SIGNALS:
                raise InvalidInput("E_SIGNAL_LIMIT", run=run, limit=MAX_KEPT_SIGNALS)
        case CancelRequested():
            if head.status is Status.CANCELLING:
                raise InvalidInput("E_ALREADY_CANCELLING", run=run)
        case Resumed():
            if head.status is not Status.INTERRUPTED:
                raise InvalidInput("E_NOT_INTERRUPTED", run=run, status=head.status.value)
        case RunCompleted() | RunFailed() | RunCancelled():
            waiting = [a for a, entry in head.open.items() if entry.phase != "unknown"]
            if waiting:
                detail = f"it would end with unanswered actions {', '.join(waiting)}"
                raise StoreError("E_INVARIANT", run=run, detail=detail)
        case _:
            pass


def _guard_request(
    head: Head, event: ActionRequested | AttemptStarted, batch: Batch, run: str
) -> None:
    if batch.after is None:
        raise StoreError("E_INVARIANT", run=run, detail="a request without an expected seq")
    if head.cancel_seq is not None or head.status is not Status.RUNNING:
        raise InvalidInput("E_NOT_STARTING", run=run, status=head.status.value)
    if head.seq + 1 > MAX_EVENTS:
        raise BudgetShort("E_RUN_TOO_LONG", run=run, limit=MAX_EVENTS)
    if isinstance(event, AttemptStarted):
        entry = head.open.get(event.address)
        if entry is None or (entry.phase == "unknown"):
            raise StoreError("E_INVARIANT", run=run, detail=f"{event.address} cannot start again")
    short = shortfall(head.limits, head.used, event.reserve)
    if short is not None:
        raise BudgetShort("E_BUDGET", tool=event.address, **short.told())
