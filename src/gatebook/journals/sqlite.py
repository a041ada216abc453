"""A journal in one SQLite file, for any number of processes on one machine.

Changes go to the writer; brief questions it answers at once, longer ones go to reading threads.
"""

import asyncio
import os
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import apsw

from gatebook.errors import ConfigError, StoreError
from gatebook.journals import sqlite_reads as reads
from gatebook.journals.clock import StoreClock, SystemClock
from gatebook.journals.sqlite_desk import Desk
from gatebook.journals.sqlite_files import Store
from gatebook.journals.sqlite_locks import OwnerLocks, Watch
from gatebook.journals.sqlite_members import (
    Append,
    Ask,
    Change,
    Claim,
    Close,
    Create,
    Keep,
    Open,
    Park,
    Renew,
    Touched,
    Wait,
    fail,
)
from gatebook.journals.sqlite_reader import Readers
from gatebook.journals.sqlite_scribe import Scribe
from gatebook.journals.sqlite_writer import Writer
from gatebook.kernel.append import Batch
from gatebook.kernel.events import RunStarted
from gatebook.kernel.spending.ledgers import Balance
from gatebook.kernel.stored import GENESIS
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
    Stretch,
)

T = TypeVar("T")

BUSY_S = 30.0  # one lease: who holds a lock longer hangs; docs/design.md, "Leases"


class SqliteJournal(Journal):
    """A journal in a SQLite file: WAL, every acknowledged append synced to disk.

    Args:
        path: of the database file, or `sqlite:///path`. Made, mode 0600, when it is missing.
        clock: anything with `now()` in microseconds UTC and `monotonic()` in seconds.
        busy_s: how long to wait for another process's lock before E_STORE_BUSY, seconds.
        vfs: name of a registered SQLite VFS; tests of failing disks bring theirs.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: StoreClock | None = None,
        busy_s: float = BUSY_S,
        vfs: str = "",
    ) -> None:
        text = os.fspath(path).removeprefix("sqlite:///")
        if not text or text == ":memory:" or "\0" in text:
            raise ConfigError("E_STORE_URL", value=os.fspath(path))
        place = Path(os.path.realpath(text))
        self.url = f"sqlite:///{place}"
        self._clock = clock or SystemClock()
        self._locks = OwnerLocks(place.with_name(place.name + ".locks"))
        self._watch = Watch(self._clock.monotonic)
        self._store = Store(place, busy_s=busy_s, vfs=vfs, locks=self._locks)
        self._writer: Writer | None = None
        self._readers = Readers(self._store)
        self._process = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outbox: list[Change] = []
        self._came = self._came_last = 0  # into the outbox: in this turn, and in the last
        self._door = asyncio.Lock()

    async def open(self) -> None:
        """Make the store ready: create or check its schema. Safe to call twice."""
        async with self._door:
            if self._writer is not None:
                return
            scribe = Scribe(self._store, self._locks, self._watch, self.now)
            writer = Writer(self._store, scribe, self._locks)
            opening = Open()
            writer.submit([opening])
            writer.start()
            await opening.future
            self._process = os.getpid()
            self._loop = asyncio.get_running_loop()
            self._readers = Readers(self._store)
            self._writer = writer

    async def close(self) -> None:
        """End all work in flight, release every lease of this journal's owners, and close."""
        async with self._door:
            if self._writer is None or self._process != os.getpid():
                return
            await self._readers.close()
            end = Close()
            self._send()
            self._writer.submit([end])
            await end.future
            self._writer.join()
            self._writer = None

    async def create(self, run: RunKey, started: RunStarted, *, input_hash: str) -> RunRow | None:
        """Append a run's first event and return its row, or None when the id is taken."""
        row: RunRow | None = await self._write(
            Create(run, started, input_hash, secrets.token_bytes(16))
        )
        return row

    async def append(self, run: RunKey, batch: Batch) -> Appended:
        """Append a batch, all or none; see `ports.Journal.append`."""
        done: Appended = await self._write(Append(run, batch))
        return done

    async def row(self, run: RunKey) -> RunRow:
        """Return a run's row."""
        found = self._at_once(lambda desk: desk.row(run))
        if found is not None:
            return found
        row: RunRow = await self._ask(partial(reads.row, run=run))
        return row

    async def runs(self, tenant: str, query: RunQuery) -> list[RunRow]:
        """Return the matching runs, newest first."""
        rows: list[RunRow] = await self._ask(partial(reads.runs, tenant=tenant, query=query))
        return rows

    async def keys(self, tenant: str) -> list[RunKey]:
        """Return all runs of the tenant, newest first, whether or not their rows read."""
        found: list[RunKey] = await self._ask(partial(reads.keys, tenant=tenant))
        return found

    async def check_whole(self) -> None:
        """Check that no event is gone together with its run; see `ports.Journal.check_whole`."""
        await self._ask(partial(reads.check_whole, store=self.url))

    async def read(
        self, run: RunKey, *, after: int = 0, limit: int | None = None
    ) -> list[Recorded]:
        """Return a run's events with seq > `after`, in order."""
        question = partial(reads.read, run=run, after=after, limit=limit)
        few = None
        if limit is None:
            few = self._at_once(lambda desk: question(desk.connection, most=reads.FEW))
        if few is not None:
            return few
        events: list[Recorded] = await self._ask(question)
        return events

    async def stretch(self, run: RunKey, *, after: int = 0, hash: bytes = GENESIS) -> Stretch:
        """Return a run's events with seq > `after` for a fold, checked against their chain."""
        question = partial(reads.stretch, run=run, after=after, hash=hash)
        few = self._at_once(lambda desk: question(desk.connection, most=reads.FEW))
        if few is not None:
            return few
        events: Stretch = await self._ask(question)
        return events

    async def raw(self, run: RunKey) -> list[tuple[int, bytes, bytes, bytes]]:
        """Return (seq, prev_hash, hash, stored body) of a run's events, unchecked."""
        rows: list[tuple[int, bytes, bytes, bytes]] = await self._ask(partial(reads.raw, run=run))
        return rows

    async def tail(self, tenant: str, *, after: int, limit: int = 1_000) -> list[Recorded]:
        """Return events of all the tenant's runs with position > `after`, in order."""
        events: list[Recorded] = await self._ask(
            partial(reads.tail, tenant=tenant, after=after, limit=limit)
        )
        return events

    async def wait(self, after: int) -> int:
        """Wait until an event with position > `after` is committed, by any process."""
        writer = self._opened()
        if writer.last > after:
            return writer.last
        waiting = Wait(after)
        writer.submit([waiting])
        last: int = await waiting.future
        return last

    async def touched(self) -> frozenset[RunKey]:
        """Wait for work that came from outside a claim; see `ports.Journal.touched`."""
        waiting = Touched()
        self._opened().submit([waiting])
        runs: frozenset[RunKey] = await waiting.future
        return runs

    async def ledgers(self, tenant: str) -> dict[str, Balance]:
        """Return the tenant's ledgers that runs have counted against, by key."""
        found: dict[str, Balance] = await self._ask(partial(reads.ledgers, tenant=tenant))
        return found

    async def put_pieces(self, lease: Lease, pieces: Sequence[Piece]) -> None:
        """Keep pieces of answers that are being written; see `ports.Journal.put_pieces`."""
        await self._write(Keep(lease, pieces))

    async def pieces(self, run: RunKey, *, after: int = 0) -> list[Piece]:
        """Return the run's pieces with a mark > `after`, as they were put."""
        question = partial(reads.pieces, run=run, after=after)
        few = self._at_once(lambda desk: question(desk.connection))
        if few is not None:
            return few
        found: list[Piece] = await self._ask(question)
        return found

    async def claim(self, run: RunKey, *, owner: str, ttl_ms: int) -> Lease | None:
        """Claim a run for a worker and bump its epoch; None when a live worker holds it.

        Raises:
            RunNotFound: there is no such run.
            ConfigError: E_OWNER_DUPLICATE when another journal object uses this owner id.
        """
        lease: Lease | None = await self._write(Claim(run, owner, ttl_ms))
        return lease

    def gone(self, owner: str) -> bool:
        """Whether no process holds this owner's lock; see `ports.Journal.gone`."""
        try:
            return self._locks.gone(owner)
        except OSError:  # it may not be looked at
            return False

    async def renew(self, owner: str, leases: Sequence[Lease], *, ttl_ms: int) -> list[Lease]:
        """Extend the leases and return those that were lost. Callable from any thread's loop."""
        lost: list[Lease] = await self._write(Renew(owner, tuple(leases), ttl_ms))
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
        await self._write(
            Park(lease=lease, after=after, wake_at=wake_at, waiting_on=waiting_on, reason=reason)
        )

    async def due(self, tenant: str, *, programs: Sequence[str], limit: int = 100) -> list[RunKey]:
        """Return runs that somebody should drive now, oldest due first."""
        runs: list[RunKey] = await self._ask(partial(self._due, tenant, tuple(programs), limit))
        return runs

    def _due(
        self, tenant: str, programs: tuple[str, ...], limit: int, connection: apsw.Connection
    ) -> list[RunKey]:
        now = self.now()
        held = reads.held(connection)
        self._watch.look((id, hold) for id, _, _, hold, _ in held)
        gone = {owner: self._locks.gone(owner) for owner in {hold[0] for _, _, _, hold, _ in held}}
        found = reads.due(connection, tenant, programs, now, limit)
        for id, run, program, (owner, _, lease_until), updated in held:
            if run.tenant == tenant and program in programs and (
                gone[owner] or lease_until <= now
            ):  # fmt: skip
                found.append((updated, id, run))
        return [run for _, _, run in sorted(found)[:limit]]

    def now(self) -> int:
        """Return the clock in microseconds UTC."""
        return self._clock.now()

    def _opened(self) -> Writer:
        writer = self._writer
        if writer is None:
            raise StoreError("E_STORE_CLOSED", store=self.url)
        if self._process != os.getpid():
            raise StoreError("E_STORE_FORKED", store=self.url)
        return writer

    def _write(self, member: Change) -> asyncio.Future[Any]:
        """Hand a member to the writer, with all that come in this turn of the loop.

        Who was alone last time does not wait for others.
        """
        future, loop = member.future, self._loop
        if loop is None or future.get_loop() is not loop:
            self._opened().submit([member])
            return future
        self._outbox.append(member)  # who hands it over asks whether the store is open
        self._came += 1
        if self._came == 1:
            loop.call_soon(self._gather, loop)
            if self._came_last == 1:
                self._hand_over()
        return future

    def _gather(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send what has come; fewer than last time wait a turn for those who are one behind.

        Else runs that began in different turns would go on in different commits.
        """
        if self._came < self._came_last:
            loop.call_soon(self._send)
        else:
            self._send()

    def _send(self) -> None:
        self._came_last, self._came = self._came, 0
        self._hand_over()

    def _hand_over(self) -> None:
        members, self._outbox = self._outbox, []
        if not members:
            return
        try:
            self._opened().write(members)
        except StoreError as exc:  # closed since they were handed in
            fail(members, exc)

    def _at_once(self, question: Callable[[Desk], T | None]) -> T | None:
        """Answer a brief question here and now; None when a thread is to answer it."""
        writer = self._opened()
        if asyncio.get_running_loop() is not self._loop:
            return None
        return writer.look(question)

    async def _ask(self, question: Callable[[apsw.Connection], Any]) -> Any:
        self._opened()
        ask = Ask(question)
        self._readers.submit(ask)
        return await ask.future
