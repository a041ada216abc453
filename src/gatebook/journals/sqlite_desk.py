"""One transaction of the SQLite writer: what its members have changed, and how it is written.

Members are evaluated in memory, one after another, each against what the earlier ones have left;
a refused member changes nothing. Only then are all rows written, so an engine error can abandon
the whole transaction and every member be tried again alone.
"""

from collections.abc import Callable
from functools import cache, partial
from itertools import chain
from typing import Any

import apsw
import msgspec

from gatebook.errors import Conflict, RunNotFound
from gatebook.journals import sqlite_reads as reads
from gatebook.journals.book import Book
from gatebook.journals.entry import RunEntry, superseded
from gatebook.journals.sqlite_locks import OwnerLocks, Watch
from gatebook.kernel.append import Batch, Row
from gatebook.kernel.head import Head
from gatebook.ports import Lease, Piece, Recorded, RunKey, RunRow

AT_ONCE = 10  # events to a statement, each of which keeps the store's last position: measured
_INSERT_EVENTS = "INSERT INTO events (position, run, seq, epoch, append_id, hash, body) VALUES "
_INSERT_RUN = """
INSERT INTO runs (id, definition, status, seq, head_hash, epoch, head, updated, cancel_seq,
  owner, lease_until, wake_at, waiting_on, parked_reason,
  tenant, run_id, program, kind, input_hash, created, labels)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# Two updates: a step of a held run touches neither index.
_UPDATE_STEP = """
UPDATE runs SET definition = ?2, status = ?3, seq = ?4, head_hash = ?5, epoch = ?6, head = ?7,
  updated = ?8, cancel_seq = ?9
WHERE id = ?1
"""
_UPDATE_ALL = """
UPDATE runs SET definition = ?2, status = ?3, seq = ?4, head_hash = ?5, epoch = ?6, head = ?7,
  updated = ?8, cancel_seq = ?9,
  owner = ?10, lease_until = ?11, wake_at = ?12, waiting_on = ?13, parked_reason = ?14
WHERE id = ?1
"""
_RENEW = """
UPDATE runs SET lease_until = ?1 FROM json_each(?3) AS lease
WHERE runs.tenant = lease.value ->> 0 AND runs.run_id = lease.value ->> 1
  AND runs.epoch = lease.value ->> 2 AND runs.owner = ?2
RETURNING runs.tenant, runs.run_id, runs.epoch
"""
_RELEASE = """
UPDATE runs SET owner = '', lease_until = 0, wake_at = ?1
WHERE owner <> '' AND owner IN (SELECT value FROM json_each(?2))
"""
_INSERT_BLOB = "INSERT OR IGNORE INTO blobs (tenant, digest, body) VALUES (?, ?, ?)"
_INSERT_REF = "INSERT INTO blob_refs (run, seq, tenant, digest) VALUES (?, ?, ?, ?)"
_INSERT_PIECE = """
INSERT OR IGNORE INTO pieces (run, address, attempt, first, count, body) VALUES (?, ?, ?, ?, ?, ?)
"""
_DROP_PIECES = "DELETE FROM pieces WHERE run = ?1 AND (?2 IS NULL OR address = ?2 AND attempt < ?3)"

_PUT_LEDGER = "INSERT OR REPLACE INTO ledgers (tenant, key, balance) VALUES (?, ?, ?)"

_VERSION = "PRAGMA data_version"  # changes when another connection writes

KEPT = 1_024  # runs whose heads are kept between transactions; a few KB each

_head = msgspec.json.Encoder().encode


class Desk:
    """The writer's workspace. `begin`, members, `write`, then the caller commits.

    Args:
        cursor: of the writer's connection.
        locks: which owners live.
        watch: how long other holders have been seen unchanged.

    Attributes:
        now: the store's clock, read once per transaction under the write lock.
        last: the last position handed out, this transaction included.
        came: whether something may have come from outside a claim: in this transaction, or from
            another connection before it.
    """

    def __init__(self, cursor: apsw.Cursor, locks: OwnerLocks, watch: Watch) -> None:
        self.cursor = cursor
        self.connection = cursor.connection
        self.locks = locks
        self.watch = watch
        self.now = 0
        self.last = 0
        self.came = False
        self._version = -1
        self._runs = 0
        self._entries: dict[RunKey, RunEntry] = {}
        self._spoken: set[int] = set()  # runs that may have pieces
        self._trusted: set[int] = set()  # runs whose row was read, but not the event it names
        self._book = Book(partial(reads.ledger, self.connection))
        self._clear()

    def _clear(self) -> None:
        self.came = False
        self._rows: list[tuple[Any, ...]] = []
        self._blobs: list[tuple[RunEntry, Row]] = []
        self._new: list[RunEntry] = []
        self._stepped: dict[int, RunEntry] = {}
        self._changed: dict[int, RunEntry] = {}
        self._later: list[Callable[[], None]] = []
        self._pieces: list[tuple[Any, ...]] = []
        self._dropped: list[tuple[int, str | None, int]] = []
        self._book.changed.clear()

    def begin(self, now: int) -> None:
        """Start with what other processes have left; the write lock is held already."""
        self._clear()
        self.now = now
        self.came = self.refresh()

    def refresh(self) -> bool:
        """Forget what another connection may have written since the last call; tell if it has."""
        version = self.cursor.execute(_VERSION).get
        if version == self._version:
            return False
        self._version = version
        self.forget()
        self.last = reads.last_position(self.connection)
        self._runs = int(self.cursor.execute("SELECT max(id) FROM runs").get or 0)
        self._spoken = {run for (run,) in self.cursor.execute("SELECT DISTINCT run FROM pieces")}
        return True

    def forget(self) -> None:
        """Drop what an abandoned transaction has computed; everything is read again."""
        self._entries.clear()
        self._trusted.clear()
        self._book.forget()
        self._clear()

    def reread(self) -> None:
        """Make the next `refresh` believe nothing that is known here."""
        self._version = -1
        self.forget()

    def find(self, run: RunKey) -> RunEntry | None:
        """Return a run as the earlier members have left it, or None."""
        entry = self._entries.get(run)
        if entry is None:
            entry = reads.find(self.connection, run)
            if entry is not None:
                self._entries[run] = entry
                self._trusted.add(entry.id)
        return entry

    def entry(self, run: RunKey) -> RunEntry:
        """Return a run as the earlier members have left it. Raises RunNotFound."""
        entry = self._entries.get(run) or self.find(run)
        if entry is None:
            raise RunNotFound("E_RUN_NOT_FOUND", run=run.id)
        return entry

    def create(self, entry: RunEntry, rows: list[Row], batch: Batch) -> None:
        """Take in a new run with its first event."""
        self._runs += 1
        entry.id = self._runs
        self._entries[entry.run] = entry
        self._new.append(entry)
        self.store(entry, rows, batch)

    def append(self, entry: RunEntry, batch: Batch) -> tuple[RunKey, int, bytes, list[Row]]:
        """Admit a batch to a run and take in its rows; return what `recorded` is asked with.

        Raises what `RunEntry.append` raises, and JournalCorrupt when the run's last event is not
        the one its row names: what an outsider adds behind a cut would hide it.
        """
        if batch.epoch is None and entry.id in self._trusted:
            reads.check_last(self.connection, entry)
            self._trusted.discard(entry.id)
        rows = entry.append(batch, now=self.now, book=self._book)
        if entry.id in self._spoken:
            self._drop_pieces(entry, batch)
        held = batch.epoch is not None and entry.owner  # the end of a run has freed it
        (self._stepped if held else self._changed)[entry.id] = entry
        first = self.last + 1
        self.store(entry, rows, batch)
        return entry.run, first, batch.append_id, rows

    def keep(self, entry: RunEntry, pieces: list[Piece]) -> None:
        """Take in pieces of answers that are being written."""
        self._spoken.add(entry.id)
        self._pieces += [(entry.id, p.address, p.attempt, p.first, p.count, p.body) for p in pieces]

    def _drop_pieces(self, entry: RunEntry, batch: Batch) -> None:
        if entry.head.terminal:
            self._dropped.append((entry.id, None, 0))
        else:
            self._dropped += [(entry.id, *over) for over in superseded(batch.events)]

    def change(self, entry: RunEntry) -> None:
        """Take in that a run was claimed, parked or released."""
        self._changed[entry.id] = entry

    def row(self, run: RunKey) -> RunRow:
        """Return a run's row between transactions; as it is kept, unless others have written."""
        entry = self._entries.get(run)
        if entry is None or self.cursor.execute(_VERSION).get != self._version:
            return reads.row(self.connection, run)
        return entry.row()

    def later(self, ask: Callable[[], None]) -> None:
        """Ask something of the store once all members are written, before the commit."""
        self._later.append(ask)

    def store(self, entry: RunEntry, rows: list[Row], batch: Batch) -> None:
        """Take in rows of one append."""
        position, run, append_id = self.last, entry.id, batch.append_id
        epoch = batch.epoch or 0
        if epoch == 0:
            self.came = True
        for row in rows:
            position += 1
            self._rows.append((position, run, row.seq, epoch, append_id, row.hash, row.body))
            if row.blob is not None:
                self._blobs.append((entry, row))
        self.last = position

    def renew(self, owner: str, leases: list[Lease], until: int) -> set[Lease]:
        """Extend leases by one statement, ahead of all members; return those it reached."""
        wanted = msgspec.json.encode([(*lease.run, lease.epoch) for lease in leases]).decode()
        rows: list[Any] = self.cursor.execute(_RENEW, (until, owner, wanted)).fetchall()
        renewed = {Lease(RunKey(*run), owner, epoch) for *run, epoch in rows}
        for lease in renewed:
            if lease.run in self._entries:
                self._entries[lease.run].lease_until = until
        return renewed

    def release_all(self) -> None:
        """Let go of every run that this journal's owners hold; ahead of all members."""
        owners = msgspec.json.encode(self.locks.owners).decode()
        self.cursor.execute(_RELEASE, (self.now, owners))
        self._entries.clear()

    def tail(self, entry: RunEntry, after: int) -> tuple[Recorded, ...]:
        """Return the events of a run since `after`; for `later`, when all are written."""
        return tuple(reads.read(self.connection, entry.run, after, None) or ())

    def conflict(self, entry: RunEntry, after: int, tail: tuple[Recorded, ...]) -> Conflict:
        """Return the refusal of an append or a park that expected `after`."""
        return Conflict(tail=tail, run=entry.run.id, seq=entry.head.seq, expected=after)

    def write(self) -> None:
        """Write what the members have left, then ask what was put off."""
        cursor = self.cursor
        if self._new:
            cursor.executemany(_INSERT_RUN, [_step(e) + _held(e) + _named(e) for e in self._new])
        if self._rows:
            self._insert_events(self._rows)
        for entry, row in self._blobs:
            digest, body = row.blob or ("", b"")
            cursor.execute(_INSERT_BLOB, (entry.run.tenant, digest, body))
            cursor.execute(_INSERT_REF, (entry.id, row.seq, entry.run.tenant, digest))
        if self._pieces:
            cursor.executemany(_INSERT_PIECE, self._pieces)
        if self._dropped:
            cursor.executemany(_DROP_PIECES, self._dropped)
        if self._changed:
            cursor.executemany(_UPDATE_ALL, [_step(e) + _held(e) for e in self._changed.values()])
        stepped = [_step(e) for id, e in self._stepped.items() if id not in self._changed]
        if stepped:
            cursor.executemany(_UPDATE_STEP, stepped)
        if self._book.changed:
            cursor.executemany(
                _PUT_LEDGER,
                [(*name, reads.encoded(found)) for name, found in self._book.changed.items()],
            )
        for ask in self._later:
            ask()

    def _insert_events(self, rows: list[tuple[Any, ...]]) -> None:
        for first in range(0, len(rows), AT_ONCE):
            group = rows[first : first + AT_ONCE]
            self.cursor.execute(_insert_events(len(group)), tuple(chain.from_iterable(group)))

    @property
    def mark(self) -> tuple[int, bytes] | None:
        """A (position, append id) by which to tell whether the transaction is there."""
        return (self._rows[0][0], self._rows[0][4]) if self._rows else None

    def settle(self) -> None:
        """Forget all entries once more than 1,024 are kept; they are read again."""
        if len(self._entries) > KEPT:
            self._entries.clear()


@cache
def _insert_events(count: int) -> str:
    return _INSERT_EVENTS + ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * count)


def recorded(run: RunKey, first: int, append_id: bytes, rows: list[Row]) -> tuple[Recorded, ...]:
    """Return the rows of one append as readers will see them."""
    return tuple(
        Recorded(run, row.seq, position, append_id, row.hash, row.event)
        for position, row in enumerate(rows, first)
    )


def _named(entry: RunEntry) -> tuple[Any, ...]:
    labels = msgspec.json.encode(entry.labels, order="deterministic").decode()
    return (
        entry.run.tenant, entry.run.id, entry.program, entry.program_kind, entry.input_hash,
        entry.created, labels,
    )  # fmt: skip


def _step(entry: RunEntry) -> tuple[Any, ...]:
    head: Head = entry.head
    return (
        entry.id, entry.definition, head.status, head.seq, head.hash, head.epoch, _head(head),
        entry.updated, head.cancel_seq,
    )  # fmt: skip


def _held(entry: RunEntry) -> tuple[Any, ...]:
    return (
        entry.owner, entry.lease_until, entry.wake_at, entry.waiting_on, entry.parked_reason
    )  # fmt: skip
