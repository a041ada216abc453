"""A journal in this process's memory: the reference for what every journal answers.

Everything happens on the event loop, so each method is one transaction. It outlives `close`:
a journal that is opened again still holds its runs, as a file would.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from gatebook.errors import Conflict, RunNotFound, StoreError
from gatebook.journals.book import Book
from gatebook.journals.clock import StoreClock, SystemClock
from gatebook.journals.entry import RunEntry, superseded
from gatebook.kernel.append import Batch, Row, SeqMismatch
from gatebook.kernel.events import RunStarted
from gatebook.kernel.spending.ledgers import Balance
from gatebook.kernel.stored import attach, decode
from gatebook.ports import (
    Appended,
    Journal,
    Lease,
    ParkedReason,
    Piece,
    Recorded,
    RunKey,
    RunQuery,
    RunRow,
)


class _Stored:
    """One event as it lies here."""

    __slots__ = ("append_id", "external", "position", "row", "run")

    def __init__(self, run: RunKey, row: Row, position: int, append_id: bytes) -> None:
        self.run = run
        self.row = row
        self.position = position
        self.append_id = append_id
        self.external = row.event.epoch == 0

    def recorded(self) -> Recorded:
        row = self.row
        body = row.body
        if row.blob is not None:
            body = attach(body, row.blob[1], run=self.run.id, seq=row.seq)
        event = decode(body, run=self.run.id, seq=row.seq)
        return Recorded(self.run, row.seq, self.position, self.append_id, row.hash, event)


class MemoryJournal(Journal):
    """A journal that lives as long as this object.

    Args:
        clock: anything with `now()` in microseconds UTC; leases lapse by it.
    """

    url = "memory:"

    def __init__(self, *, clock: StoreClock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._entries: dict[RunKey, RunEntry] = {}
        self._events: dict[RunKey, list[_Stored]] = {}
        self._log: list[_Stored] = []
        self._pieces: dict[RunKey, list[Piece]] = {}
        self._book = Book()
        self._mark = 0
        self._seen = 0
        self._opened = False
        self._waiters: set[asyncio.Future[None]] = set()

    async def open(self) -> None:
        """Make the journal usable; safe to call twice."""
        self._opened = True

    async def close(self) -> None:
        """Release every lease and end what waits."""
        for entry in self._entries.values():
            if entry.owner:
                entry.release(now=self.now())
        self._opened = False
        self._wake()

    async def create(self, run: RunKey, started: RunStarted, *, input_hash: str) -> RunRow | None:
        """Append a run's first event and return its row, or None when the id is taken."""
        self._check_open()
        if run in self._entries:
            return None
        entry = RunEntry(run, started, input_hash)
        batch = Batch(events=(started,), append_id=secrets.token_bytes(16), after=0)
        rows = entry.append(batch, now=self.now())
        entry.id = len(self._entries) + 1
        self._entries[run], self._events[run] = entry, []
        self._store(run, rows, batch.append_id)
        return entry.row()

    async def append(self, run: RunKey, batch: Batch) -> Appended:
        """Append a batch, all or none; see `ports.Journal.append`."""
        entry = self._entry(run)
        try:
            rows = entry.append(batch, now=self.now(), book=self._book)
        except SeqMismatch:
            return self._own_or_conflict(entry, batch)
        if run in self._pieces:
            self._drop_pieces(entry, batch)
        stored = self._store(run, rows, batch.append_id)
        return Appended(entry.head.copy(), lambda: tuple(item.recorded() for item in stored))

    def _own_or_conflict(self, entry: RunEntry, batch: Batch) -> Appended:
        after = batch.after or 0
        tail = self._tail_of(entry.run, after)
        own = tuple(event for event in tail if event.append_id == batch.append_id)
        if own:
            return Appended(entry.head.copy(), lambda: own)
        raise Conflict(tail=tail, run=entry.run.id, seq=entry.head.seq, expected=after)

    async def row(self, run: RunKey) -> RunRow:
        """Return a run's row."""
        return self._entry(run).row()

    async def runs(self, tenant: str, query: RunQuery) -> list[RunRow]:
        """Return the matching runs, newest first."""
        self._check_open()
        found = [
            entry.row()
            for entry in self._entries.values()
            if entry.run.tenant == tenant
            and (not query.statuses or entry.head.status in query.statuses)
            and (not query.program or entry.program == query.program)
            and entry.run.id.startswith(query.id_prefix)
            and query.labels.items() <= entry.labels.items()
            and (query.since is None or entry.created >= query.since)
        ]
        return found[::-1][: query.limit]

    async def read(
        self, run: RunKey, *, after: int = 0, limit: int | None = None
    ) -> list[Recorded]:
        """Return a run's events with seq > `after`, in order."""
        self._entry(run)
        stop = None if limit is None else after + limit
        return [stored.recorded() for stored in self._events[run][after:stop]]

    async def raw(self, run: RunKey) -> list[tuple[int, bytes, bytes, bytes]]:
        """Return (seq, prev_hash, hash, stored body) of a run's events."""
        self._entry(run)
        rows = [stored.row for stored in self._events[run]]
        return [(row.seq, row.prev_hash, row.hash, row.body) for row in rows]

    async def tail(self, tenant: str, *, after: int, limit: int = 1_000) -> list[Recorded]:
        """Return events of all the tenant's runs with position > `after`, in order."""
        self._check_open()
        later = [stored for stored in self._log[after:] if stored.run.tenant == tenant]
        return [stored.recorded() for stored in later[:limit]]

    async def wait(self, after: int) -> int:
        """Wait until an event with position > `after` is there; return the last position."""
        await self._until(lambda: len(self._log) > after)
        return len(self._log)

    async def touched(self) -> frozenset[RunKey]:
        """Wait for work from outside a claim; return the runs it concerns."""
        found: frozenset[RunKey] = frozenset()

        def look() -> bool:
            nonlocal found
            found = frozenset(s.run for s in self._log[self._seen :] if s.external)
            self._seen = len(self._log)
            return bool(found)

        await self._until(look)
        return found

    async def ledgers(self, tenant: str) -> dict[str, Balance]:
        """Return the tenant's ledgers that runs have counted against, by key."""
        self._check_open()
        return self._book.of(tenant)

    async def put_pieces(self, lease: Lease, pieces: Sequence[Piece]) -> None:
        """Keep pieces of answers that are being written."""
        taken = self._entry(lease.run).takes(lease, pieces)
        kept = self._pieces.setdefault(lease.run, [])
        known = {(piece.address, piece.first) for piece in kept}
        for piece in taken:
            if (piece.address, piece.first) not in known:
                self._mark += 1
                kept.append(msgspec.structs.replace(piece, mark=self._mark))

    async def pieces(self, run: RunKey, *, after: int = 0) -> list[Piece]:
        """Return the run's pieces with a mark > `after`."""
        self._entry(run)
        return [piece for piece in self._pieces.get(run, ()) if piece.mark > after]

    def _drop_pieces(self, entry: RunEntry, batch: Batch) -> None:
        over = dict(superseded(batch.events))
        kept = [p for p in self._pieces.pop(entry.run) if p.attempt >= over.get(p.address, 0)]
        if kept and not entry.head.terminal:
            self._pieces[entry.run] = kept

    async def claim(self, run: RunKey, *, owner: str, ttl_ms: int) -> Lease | None:
        """Claim a run for a worker and bump its epoch; None while another's lease stands."""
        entry = self._entry(run)
        now = self.now()
        if entry.owner not in ("", owner) and entry.lease_until > now:
            return None
        return entry.claim(owner, until=now + ttl_ms * 1000)

    async def renew(self, owner: str, leases: Sequence[Lease], *, ttl_ms: int) -> list[Lease]:
        """Extend the leases and return those that were lost."""
        self._check_open()
        lost = []
        until = self.now() + ttl_ms * 1000
        for lease in leases:
            entry = self._entries.get(lease.run)
            if entry is None or lease.owner != owner or not entry.keeps(lease):
                lost.append(lease)
            elif entry.owner:
                entry.lease_until = until
        return lost

    async def park(
        self,
        lease: Lease,
        *,
        after: int,
        wake_at: int | None,
        waiting_on: str,
        reason: ParkedReason | Literal[""] = "",
    ) -> None:
        """Release a run until `wake_at` or until somebody appends to it."""
        entry = self._entry(lease.run)
        try:
            entry.park(lease, after=after, wake_at=wake_at, waiting_on=waiting_on, reason=reason)
        except SeqMismatch:
            tail = self._tail_of(lease.run, after)
            seq = entry.head.seq
            raise Conflict(tail=tail, run=lease.run.id, seq=seq, expected=after) from None

    async def due(self, tenant: str, *, programs: Sequence[str], limit: int = 100) -> list[RunKey]:
        """Return runs that somebody should drive now, oldest due first."""
        self._check_open()
        now = self.now()
        found = [
            (entry.updated if entry.owner else entry.wake_at or 0, entry.id, entry.run)
            for entry in self._entries.values()
            if entry.run.tenant == tenant
            and entry.program in programs
            and not entry.head.terminal
            and not entry.parked_reason
            and (
                entry.lease_until <= now
                if entry.owner
                else entry.wake_at is not None and entry.wake_at <= now
            )
        ]
        return [run for _, _, run in sorted(found)[:limit]]

    def now(self) -> int:
        """Return the clock in microseconds UTC."""
        return self._clock.now()

    def _check_open(self) -> None:
        if not self._opened:
            raise StoreError("E_STORE_CLOSED", store=self.url)

    def _entry(self, run: RunKey) -> RunEntry:
        self._check_open()
        entry = self._entries.get(run)
        if entry is None:
            raise RunNotFound("E_RUN_NOT_FOUND", run=run.id)
        return entry

    def _store(self, run: RunKey, rows: list[Row], append_id: bytes) -> list[_Stored]:
        first = len(self._log) + 1
        stored = [_Stored(run, row, first + i, append_id) for i, row in enumerate(rows)]
        self._log += stored
        self._events[run] += stored
        self._wake()
        return stored

    def _tail_of(self, run: RunKey, after: int) -> tuple[Recorded, ...]:
        return tuple(stored.recorded() for stored in self._events[run][after:])

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while True:
            self._check_open()
            if holds():
                return
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
