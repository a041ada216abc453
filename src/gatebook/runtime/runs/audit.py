"""Verifying a run of a journal: reads everything that is stored about it and checks it.

Knows the journal's contract; the checks themselves are `kernel.verify`'s.
"""

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from gatebook.errors import IntegrityError, JournalCorrupt
from gatebook.kernel.events import ActionRequested, AnyEvent, DefinitionChanged, RunStarted
from gatebook.kernel.spending.ledgers import COUNTED, EMPTY, Balance
from gatebook.kernel.spending.sums import Sums
from gatebook.kernel.verify import Report, verify_chain, verify_facts
from gatebook.ports import Journal, Recorded, RunKey, RunRow

LOOKS = 5  # at ledgers that move while they are added up


async def audit(journal: Journal, run: RunKey) -> Report:
    """Return what a run's stored bytes, hashes, events, sums and head prove; changes nothing.

    A run may be driven meanwhile: what is checked is its state at one instant. The report holds
    the first violation; only a store that does not answer raises.

    Raises:
        RunNotFound: there is no such run.
        StoreError: the store did not answer.
    """
    count, actions, head = 0, 0, None
    violation = None
    try:
        row, rows = await _instant(journal, run)
        count, head = len(rows), row.head
        verify_chain(run.id, rows, row.head)
        recorded = await journal.read(run, limit=len(rows))
        events = [each.event for each in recorded]
        actions = sum(isinstance(event, ActionRequested) for event in events)
        verify_facts(run.id, events, row.head)
        _check_positions(recorded)
        _check_row(row, events)
    except IntegrityError as exc:
        violation = exc
    return Report(
        run=run.id,
        events=count,
        actions=actions,
        status=str(head.status) if head else "",
        hash=head.hash.hex() if head else "",
        violation=violation,
    )


def _check_positions(recorded: Sequence[Recorded]) -> None:
    for before, each in pairwise(recorded):
        if each.position <= before.position:
            detail = f"seq {each.seq} stands before {before.seq} in the store"
            raise IntegrityError("E_INVARIANT", run=each.run.id, detail=detail)


def _check_row(row: RunRow, events: Sequence[AnyEvent]) -> None:
    """Check what a row says beside its head: lists, second starts and replays believe it."""
    started = events[0]
    assert isinstance(started, RunStarted)  # the first transition takes no other
    changes = (event.after for event in events if isinstance(event, DefinitionChanged))
    for name, want in (
        ("program", started.program),
        ("program_kind", started.program_kind),
        ("definition", [started.definition, *changes][-1]),
        ("labels", started.labels),
        ("created", started.time),
        ("updated", events[-1].time),
    ):
        if getattr(row, name) != want:
            detail = f"it differs from the events in {name}"
            raise JournalCorrupt("E_HEAD_INVALID", run=row.run.id, detail=detail)


class LedgerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found of one ledger, and what does not hold, if anything."""

    ledger: str
    balance: Balance
    violation: IntegrityError | None = None

    @property
    def ok(self) -> bool:
        """Whether everything held."""
        return self.violation is None


async def audit_ledgers(journal: Journal, tenant: str) -> list[LedgerReport]:
    """Return what the events of all the tenant's runs prove of its ledgers; changes nothing.

    Every reservation fitted when it was committed, and the balances that are stored are what the
    events add up to. Runs may be driven meanwhile: a difference counts when it stays, and balances
    that never stand still while they are added up are not compared.

    Raises:
        StoreError: the store did not answer.
    """
    stored: dict[str, Balance] = {}
    try:
        stored = await journal.ledgers(tenant)
        sums, stored, still = await _look(journal, tenant)
        for _ in range(LOOKS):
            if still and not sums.differing(stored):
                break
            sums, stored, still = await _look(journal, tenant)
    except JournalCorrupt as exc:  # nobody can add up what does not read
        unread = {exc.fields["ledger"]: EMPTY} if exc.code == "E_LEDGER_INVALID" else {}
        each = (stored | unread).items()
        return [LedgerReport(ledger=key, balance=found, violation=exc) for key, found in each]
    found, differing = sums.balances(), sums.differing(stored) if still else []
    return [
        LedgerReport(
            ledger=key,
            balance=stored.get(key, EMPTY),
            violation=_unequal(key, stored.get(key, EMPTY), found.get(key, EMPTY))
            if key in differing
            else sums.violation,
        )
        for key in sorted(found.keys() | stored.keys())
    ]


async def audit_store(journal: Journal) -> IntegrityError | None:
    """Return what of a store's events is gone together with its run, None when nothing is."""
    try:
        await journal.check_whole()
    except IntegrityError as exc:
        return exc
    return None


async def _look(journal: Journal, tenant: str) -> tuple[Sums, dict[str, Balance], bool]:
    """Return what the events add up to, the balances, and whether these stood still meanwhile."""
    before = await journal.ledgers(tenant)
    sums = await _added_up(journal, tenant)
    stored = await journal.ledgers(tenant)
    return sums, stored, before == stored


async def _added_up(journal: Journal, tenant: str) -> Sums:
    sums, last = Sums(), 0
    while page := await journal.tail(tenant, after=last):
        for each in page:
            sums.add(each.run.id, each.seq, each.event)
        last = page[-1].position
    return sums


def _unequal(key: str, stored: Balance, found: Balance) -> IntegrityError:
    told = [
        f"{meter} {getattr(stored.used, meter)} instead of {getattr(found.used, meter)}"
        for meter in COUNTED
        if getattr(stored.used, meter) != getattr(found.used, meter)
    ]
    text = f"the stored balance of ledger {key} is not what the events add up to"
    return IntegrityError("E_INVARIANT", run="*", detail=": ".join([text, *told]))


async def _instant(
    journal: Journal, run: RunKey
) -> tuple[RunRow, list[tuple[int, bytes, bytes, bytes]]]:
    """Return the row and the stored events that belong together, read again while it moves."""
    row = await journal.row(run)
    while True:
        rows = await journal.raw(run)
        after = await journal.row(run)
        if after.head.seq == row.head.seq:
            return row, rows
        row = after
