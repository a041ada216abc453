"""What a store of journals offers: runs by key, appends, claims, reads, pieces of live answers.

An abstract class: Gatebook owns the implementations, and a missing method should fail at
construction. It knows nothing of who drives a run.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Literal, NamedTuple

import msgspec

from gatebook.kernel.append import Batch
from gatebook.kernel.events import AnyEvent, RunStarted
from gatebook.kernel.head import Head
from gatebook.kernel.spending.ledgers import Balance
from gatebook.kernel.stored import GENESIS

DEFAULT_TENANT = "default"
EVERY = 1_000_000  # more runs than one store holds


class ParkedReason(StrEnum):
    """Why no worker may drive a run until somebody appends to it; kept in its row as it reads."""

    DIVERGED = "diverged"  # the program asks for something else than the journal records
    DEFINITION = "definition"  # the program's definition is another one now
    HOOKS = "hooks"  # the worker lacks security hooks that the run was started under
    HALTED = "halted"  # what is stored, or would be, breaks a rule of the journal


class RunKey(NamedTuple):
    """A run's full name. Another tenant's run is not found, never forbidden."""

    tenant: str
    id: str

    def __str__(self) -> str:
        return self.id


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """One stored event. `position` orders all events of a store; readers follow it."""

    run: RunKey
    seq: int
    position: int
    append_id: bytes
    hash: bytes
    event: AnyEvent

    def __repr__(self) -> str:
        place = f"run={self.run.id!r}, seq={self.seq}, position={self.position}"
        return f"Recorded({place}, event={self.event!r})"


class Stretch(NamedTuple):
    """Consecutive events of one run, as who folds them takes them.

    Attributes:
        after: the seq before the first.
        hash: of the last in the chain; says nothing when there are none.
    """

    after: int
    events: list[AnyEvent]
    hash: bytes

    @property
    def seq(self) -> int:
        """The last event's seq."""
        return self.after + len(self.events)


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """One run at a glance, without reading its events. Times are microseconds UTC.

    Attributes:
        head: what the next append will be checked against.
        input_hash: tells whether a second start means the same run.
        owner: the worker that holds the run, "" for none.
        lease_until: when that hold lapses unless renewed.
        wake_at: when the run should be looked at next; None = not before somebody acts.
        waiting_on: why it is parked, for people ("signal go", "resolve t1.0", ...).
        parked_reason: "" or why no worker may drive it, see `ParkedReason`.
    """

    run: RunKey
    program: str
    program_kind: str
    definition: str
    input_hash: str
    head: Head
    owner: str = ""
    lease_until: int = 0
    wake_at: int | None = None
    waiting_on: str = ""
    parked_reason: str = ""
    labels: dict[str, str] = {}
    created: int = 0
    updated: int = 0


class Lease(msgspec.Struct, frozen=True, gc=False):
    """A worker's right to append to one run: valid while the run's epoch is this one."""

    run: RunKey
    owner: str
    epoch: int


class Appended(msgspec.Struct, frozen=True):
    """Where a batch landed.

    Attributes:
        head: the run's new head.
        read, of: returns the events as they were stored, and what it is asked with: by `events`,
            never by a driver.
    """

    head: Head
    read: Callable[..., tuple[Recorded, ...]]
    of: tuple[Any, ...] = ()

    @property
    def events(self) -> tuple[Recorded, ...]:
        """The events as they were stored."""
        return self.read(*self.of)


class Piece(msgspec.Struct, frozen=True, gc=False):
    """Part of a model's answer that is being written: events `first` to `first + count` of one
    attempt, coalesced by `kernel.streams.pieces`.

    Attributes:
        mark: the store's number for it, growing; 0 before it is stored.
    """

    address: str
    attempt: int
    first: int
    count: int
    body: bytes
    mark: int = 0


class RunQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs to list, newest first; only bound parameters reach the store."""

    statuses: tuple[str, ...] = ()
    program: str = ""
    id_prefix: str = ""
    labels: dict[str, str] = {}
    since: int | None = None
    limit: int = 100


class Journal(ABC):
    """Where events live. Every method may be called from many tasks at once.

    A store method that has begun always ends: a cancelled caller abandons the answer, not the
    work. All methods raise StoreError when the store does not answer.
    """

    url: str

    @abstractmethod
    async def open(self) -> None:
        """Make the store ready: create or check its schema. Safe to call twice.

        Raises:
            ConfigError: E_STORE_* when the location is wrong, unsafe or of another version.
        """

    @abstractmethod
    async def close(self) -> None:
        """End all work in flight, release every lease of this process's workers, and close."""

    @abstractmethod
    async def create(self, run: RunKey, started: RunStarted, *, input_hash: str) -> RunRow | None:
        """Append a run's first event and return its row, or None when the id is taken.

        Of many concurrent calls exactly one gets a row. The new run is due at once.
        """

    @abstractmethod
    async def append(self, run: RunKey, batch: Batch) -> Appended:
        """Append a batch, all or none, under every guard of `kernel.append.admit`.

        An append without an epoch also makes the run due now.

        Raises:
            RunNotFound, Fenced, RunIsOver, InvalidInput: see `admit`.
            BudgetShort: a reservation does not fit the run's budget, or one of its ledgers
                (E_LEDGER); nothing was written.
            Conflict: the run is not at `batch.after`; carries the tail. A tail that holds this
                batch's own append id is success and returns.
            CommitUnknown: the commit failed and the store could not find out whether it holds.
        """

    @abstractmethod
    async def row(self, run: RunKey) -> RunRow:
        """Return a run's row. Raises RunNotFound."""

    @abstractmethod
    async def runs(self, tenant: str, query: RunQuery) -> list[RunRow]:
        """Return the matching runs, newest first."""

    async def keys(self, tenant: str) -> list[RunKey]:
        """Return all runs of the tenant, newest first, whether or not their rows read."""
        return [row.run for row in await self.runs(tenant, RunQuery(limit=EVERY))]

    async def check_whole(self) -> None:
        """Check what no run shows: that each event which was ever kept is there, and is of a run.

        Raises:
            JournalCorrupt: E_STORE_INCOMPLETE.
        """

    @abstractmethod
    async def read(
        self, run: RunKey, *, after: int = 0, limit: int | None = None
    ) -> list[Recorded]:
        """Return a run's events with seq > `after`, in order.

        Raises:
            RunNotFound, JournalCorrupt: there is no such run, or it cannot be read.
        """

    async def stretch(self, run: RunKey, *, after: int = 0, hash: bytes = GENESIS) -> Stretch:
        """Return what `read` returns for a fold; a store may leave out what that does not need.

        Args:
            run: whose events.
            after: the seq before the first.
            hash: of the event at `after`. A store that others can write checks that what follows
                is chained to it, byte for byte, and ends at the run's anchor.

        Raises:
            RunNotFound, JournalCorrupt: as `read`; E_JOURNAL_CORRUPT when a hash does not fit.
        """
        found = await self.read(run, after=after)
        return Stretch(after, [each.event for each in found], found[-1].hash if found else b"")

    @abstractmethod
    async def raw(self, run: RunKey) -> list[tuple[int, bytes, bytes, bytes]]:
        """Return (seq, prev_hash, hash, stored body) of a run's events, unchecked, for `verify`."""

    @abstractmethod
    async def tail(self, tenant: str, *, after: int, limit: int = 1_000) -> list[Recorded]:
        """Return events of all the tenant's runs with position > `after`, in order."""

    @abstractmethod
    async def wait(self, after: int) -> int:
        """Wait until an event with position > `after` is committed, by any process.

        Returns the last committed position (which may cover several events).
        """

    @abstractmethod
    async def touched(self) -> frozenset[RunKey]:
        """Wait for work that came from outside a claim, and return the runs it concerns.

        That is: runs created, and runs that got an event without an epoch, by any process,
        since the last call. The worker drives these. May name a run more often than needed.
        """

    @abstractmethod
    async def ledgers(self, tenant: str) -> dict[str, Balance]:
        """Return the tenant's ledgers that runs have counted against, by key.

        An append changes them with the run, by what `kernel.spending.booking` says of its events.
        """

    @abstractmethod
    async def put_pieces(self, lease: Lease, pieces: Sequence[Piece]) -> None:
        """Keep pieces of answers that are being written, for readers in other processes.

        They are no events: never hashed, perhaps lost in a crash, and deleted with the append that
        ends their attempt or begins the next. Pieces of an attempt that is not the running one,
        or that are there already, are left out.

        Raises:
            RunNotFound, Fenced: there is no such run, or it is not ours any more.
        """

    @abstractmethod
    async def pieces(self, run: RunKey, *, after: int = 0) -> list[Piece]:
        """Return the run's pieces with a mark > `after`, as they were put. Raises RunNotFound."""

    @abstractmethod
    async def claim(self, run: RunKey, *, owner: str, ttl_ms: int) -> Lease | None:
        """Claim a run for a worker and bump its epoch; None when a live worker holds it.

        A holder whose process is provably dead (its operating-system lock is free) loses the
        run at once; otherwise the lease must have lapsed. Terminal or parked-for-good runs are
        not claimed.

        Raises:
            RunNotFound: there is no such run.
        """

    def gone(self, owner: str) -> bool:
        """Whether a worker's process is provably dead, so that `claim` takes its runs at once.

        False proves nothing: then its leases tell.
        """
        del owner
        return False

    @abstractmethod
    async def renew(self, owner: str, leases: Sequence[Lease], *, ttl_ms: int) -> list[Lease]:
        """Extend the leases and return those that were lost. Callable from any thread's loop."""

    @abstractmethod
    async def park(
        self,
        lease: Lease,
        *,
        after: int,
        wake_at: int | None,
        waiting_on: str,
        reason: ParkedReason | Literal[""] = "",
    ) -> None:
        """Release a run until `wake_at` or until somebody appends to it.

        With a reason nobody may claim it before that append, whatever `wake_at` says.

        Check and release are one transaction: a signal that came meanwhile is a Conflict.

        Raises:
            Conflict: the run is not at seq `after`: fold and decide again. Fenced: not ours.
        """

    @abstractmethod
    async def due(self, tenant: str, *, programs: Sequence[str], limit: int = 100) -> list[RunKey]:
        """Return runs that somebody should drive now, oldest due first.

        Due: not over, of one of `programs`, not held by a live worker, and its `wake_at` has
        passed (or its holder died or let the lease lapse).
        """

    @abstractmethod
    def now(self) -> int:
        """Return the store's clock in microseconds UTC; what appends stamp."""
