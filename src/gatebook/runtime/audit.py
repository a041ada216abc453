"""Verifying a run of a journal: reads everything that is stored about it and checks it.

Knows the journal's contract; the checks themselves are `kernel.verify`'s.
"""

from gatebook.errors import IntegrityError
from gatebook.kernel.events import ActionRequested
from gatebook.kernel.verify import Report, verify_chain, verify_facts
from gatebook.ports import Journal, RunKey, RunRow


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
