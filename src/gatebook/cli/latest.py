"""A run's row as it stands now, with what the worker that wrote it last could not know.

A row says what its run was parked with. An append from outside only makes the run due, so that no
append has to look at what runs wait for; until a worker has looked, this is where it is found out.
"""

from collections import Counter
from itertools import takewhile

import msgspec

from gatebook.cli.words import TIMED, missing, moved
from gatebook.errors import GatebookError
from gatebook.kernel.approvals.questions import next_held
from gatebook.kernel.events import AnyEvent, Note, SignalReceived
from gatebook.kernel.status import Status
from gatebook.ports import Journal, RunRow

TAIL = 16  # events read at first: few are appended while no worker looks


async def seen(journal: Journal, row: RunRow) -> RunRow:
    """Return a row without the lease of a dead worker, and with what its run still waits for.

    A run that only got what it does not wait for is not due: it waits as before.
    """
    if row.lease_until and journal.gone(row.owner):
        return msgspec.structs.replace(row, lease_until=0)
    if not (moved(row) and row.waiting_on):
        return row
    if row.head.status is not Status.RUNNING:
        return msgspec.structs.replace(row, waiting_on="")
    try:
        came = await _came(journal, row)
    except GatebookError:  # `verify` and `show` tell what is wrong with its events
        return row
    before, now = row.waiting_on.split(", "), journal.now()
    left = _left(before, row, came, now)
    inert = left == before and all(isinstance(event, SignalReceived | Note) for event in came)
    wake_at = _next_due(row) if inert else row.wake_at
    return msgspec.structs.replace(row, waiting_on=", ".join(left), wake_at=wake_at)


async def _came(journal: Journal, row: RunRow) -> list[AnyEvent]:
    """Return what was appended from outside since a worker appended last."""
    back = TAIL
    while True:
        after = max(0, row.head.seq - back)
        read = await journal.read(row.run, after=after, limit=row.head.seq - after)
        events = [each.event for each in reversed(read)]
        came = list(takewhile(lambda event: not event.epoch, events))
        if len(came) < len(events) or not after:
            return came
        back *= 4


def _left(waits: list[str], row: RunRow, came: list[AnyEvent], now: int) -> list[str]:
    """Return the waits that neither the clock nor anything of what came has ended."""
    signals = Counter(event.name for event in came if isinstance(event, SignalReceived))
    still, left = missing(row), []
    for wait in waits:
        kind, _, name = wait.partition(" ")
        if kind == "signal":
            if signals[name]:
                signals[name] -= 1
                continue
        elif kind in TIMED:
            due = _due(row, kind, name)
            if due is None or due <= now:
                continue
        elif wait not in still:
            continue
        left.append(wait)
    return left


def _due(row: RunRow, kind: str, address: str) -> int | None:
    """Return when time alone ends a wait, None for one that is over."""
    waits = row.head.approvals.deferred if kind == "deferred" else row.head.open
    found = waits.get(address)
    return None if found is None else found.due


def _next_due(row: RunRow) -> int | None:
    """Return when time moves a run next: what it was parked with, which an append wrote over."""
    times = [entry.due for entry in row.head.open.values()] + [next_held(row.head.approvals)]
    return min((time for time in times if time is not None), default=None)
