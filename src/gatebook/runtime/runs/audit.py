"""Verifying a run of a journal: reads everything that is stored about it and checks it.

Knows the journal's contract; the checks themselves are `kernel.verify`'s.
"""

import msgspec

from gatebook.errors import IntegrityError
from gatebook.kernel.events import ActionRequested
from gatebook.kernel.spending.ledgers import COUNTED, EMPTY, Balance
from gatebook.kernel.spending.sums import Sums
from gatebook.kernel.verify import Report, verify_chain, verify_facts
from gatebook.ports import Journal, RunKey, RunRow

LOOKS = 5  # at ledgers that move while they are added up


async def audit(journal: Journal, run: RunKey) -> Report:
    """Return what a run's stored bytes, hashes, events, sums and head prove; changes nothing.

    A run may be driven meanwhile: what is checked is its state at one instant. The report holds
    the first violation; only a store that does not answer raises.

    Raises:
        RunNotFound: there is no such run.
        StoreError: the store did not answer.
    """
    row, rows = await _instant(journal, run)
    actions = 0
    violation = None
    try:
        verify_chain(run.id, rows, row.head)
        events = [recorded.event for recorded in await journal.read(run, limit=len(rows))]
        actions = sum(isinstance(event, ActionRequested) for event in events)
        verify_facts(run.id, events, row.head)
    except IntegrityError as exc:
        violation = exc
    return Report(
        run=run.id,
        events=len(rows),
        actions=actions,
        status=str(row.head.status),
        hash=row.head.hash.hex(),
        violation=violation,
    )


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
        JournalCorrupt: an event does not read. StoreError: the store did not answer.
    """
    sums, stored, still = await _look(journal, tenant)
    for _ in range(LOOKS):
        if still and not sums.differing(stored):
            break
        sums, stored, still = await _look(journal, tenant)
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
