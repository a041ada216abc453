"""The journal's calls as a thread or the event loop serves them; most are in a group commit.

A member may be evaluated more than once (alone, after its group failed), so it keeps nothing
from an earlier try. What it raises is its caller's answer and nobody else's.
"""

import asyncio
import copy
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import apsw
import msgspec

from gatebook.journals.entry import RunEntry
from gatebook.journals.sqlite_desk import Desk, recorded
from gatebook.kernel.append import Batch, SeqMismatch
from gatebook.kernel.events import RunStarted
from gatebook.ports import Appended, Lease, Piece, RunKey


class Member(msgspec.Struct, eq=False, kw_only=True):
    """One call that waits to be served; made where its caller's event loop runs.

    Attributes:
        future: where the caller waits.
        answer, error: what it gets; an error that is not None is raised.
    """

    future: asyncio.Future[Any] = msgspec.field(default_factory=asyncio.Future)
    answer: Any = None
    error: BaseException | None = None


class _AbstractStruct(msgspec.StructMeta, ABCMeta):
    """Of structs that cannot be made while a method is missing."""


class Change(Member, metaclass=_AbstractStruct, eq=False):
    """One call that changes the store, in a transaction it may share."""

    lasts = True  # whether a crash of the machine may not take it; else the next commit syncs it
    brief = False  # whether it never blocks

    @abstractmethod
    def act(self, desk: Desk) -> None:
        """Check against the desk, put the changes on it and set the answer."""


class Create(Change):
    """Append a run's first event; answers its row, or None when the id is taken."""

    run: RunKey
    started: RunStarted
    input_hash: str
    append_id: bytes
    brief = True

    def act(self, desk: Desk) -> None:
        """See Change."""
        if desk.find(self.run) is not None:
            self.answer = None
            return
        entry = RunEntry(self.run, self.started, self.input_hash)
        batch = Batch(events=(self.started,), append_id=self.append_id, after=0)
        desk.create(entry, entry.append(batch, now=desk.now), batch)
        self.answer = entry.row()


class Append(Change):
    """Append a batch; answers Appended."""

    run: RunKey
    batch: Batch
    brief = True

    def act(self, desk: Desk) -> None:
        """See Change."""
        entry = desk.entry(self.run)
        try:
            rows = desk.append(entry, self.batch)
        except SeqMismatch:
            desk.later(lambda: self._compare(desk, entry))
        else:
            drafted = self.batch.draft is not None  # then the caller made that head
            self.answer = Appended(entry.head if drafted else entry.head.copy(), recorded, rows)

    def _compare(self, desk: Desk, entry: RunEntry) -> None:
        after = self.batch.after or 0
        tail = desk.tail(entry, after)
        own = tuple(event for event in tail if event.append_id == self.batch.append_id)
        if own:
            self.answer = Appended(entry.head.copy(), lambda: own)
        else:
            self.error = desk.conflict(entry, after, tail)


class Claim(Change):
    """Claim a run for an owner; answers the lease, or None."""

    run: RunKey
    owner: str
    ttl_ms: int
    lasts = False  # the holder dies with the machine

    def act(self, desk: Desk) -> None:
        """See Change."""
        entry = desk.entry(self.run)
        if self._held(desk, entry):
            self.answer = None
            return
        desk.locks.hold(self.owner)
        self.answer = entry.claim(self.owner, until=desk.now + self.ttl_ms * 1000)
        if self.answer is not None:
            desk.change(entry)

    def _held(self, desk: Desk, entry: RunEntry) -> bool:
        """Whether a live worker has it: locked, and not seen standing still past its lease."""
        if entry.owner in ("", self.owner) or desk.locks.gone(entry.owner):
            return False
        hold = (entry.owner, entry.head.epoch, entry.lease_until)
        still_s = desk.watch.unchanged_s(entry.id, hold)
        return entry.lease_until > desk.now or still_s * 1000 < self.ttl_ms


class Renew(Change):
    """Extend leases; answers those that were lost. The writer puts these first."""

    owner: str
    leases: Sequence[Lease]
    ttl_ms: int
    lasts = False

    def act(self, desk: Desk) -> None:
        """See Change."""
        mine = [lease for lease in self.leases if lease.owner == self.owner]
        renewed = desk.renew(self.owner, mine, desk.now + self.ttl_ms * 1000)
        self.answer = [lease for lease in self.leases if self._lost(desk, lease, renewed)]

    def _lost(self, desk: Desk, lease: Lease, renewed: set[Lease]) -> bool:
        if lease in renewed:
            return False
        entry = desk.find(lease.run)
        return entry is None or lease.owner != self.owner or not entry.keeps(lease)


class Park(Change, kw_only=True):
    """Release a run until a time or until somebody appends to it."""

    lease: Lease
    after: int
    wake_at: int | None
    waiting_on: str
    reason: str
    lasts = False  # the run looks held by a dead worker then, and is taken up at once
    brief = True

    def act(self, desk: Desk) -> None:
        """See Change."""
        entry = desk.entry(self.lease.run)
        try:
            entry.park(
                self.lease, after=self.after, wake_at=self.wake_at,
                waiting_on=self.waiting_on, reason=self.reason,
            )  # fmt: skip
        except SeqMismatch:
            desk.later(lambda: self._refuse(desk, entry))
        else:
            desk.change(entry)

    def _refuse(self, desk: Desk, entry: RunEntry) -> None:
        self.error = desk.conflict(entry, self.after, desk.tail(entry, self.after))


class Keep(Change):
    """Keep pieces of answers that are being written."""

    lease: Lease
    pieces: Sequence[Piece]
    lasts = False

    def act(self, desk: Desk) -> None:
        """See Change."""
        entry = desk.entry(self.lease.run)
        desk.keep(entry, entry.takes(self.lease, self.pieces))


class Wait(Member):
    """Wait for an event with position > `after`; answers the last position."""

    after: int


class Touched(Member):
    """Wait for work from outside a claim; answers its runs."""


class Ask(Member):
    """Ask a reading thread: `question` gets its connection."""

    question: Callable[[apsw.Connection], Any]


class Open(Member):
    """Wait until the store is open."""


class Close(Member):
    """End the thread when everything before this is done."""


def answer(members: Sequence[Member]) -> None:
    """Wake the callers from another thread: one call into each event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[Member]] = {}
    for member in members:
        loops.setdefault(member.future.get_loop(), []).append(member)
    for loop, waiting in loops.items():
        with suppress(RuntimeError):  # the loop is closed: whoever waited there is gone
            loop.call_soon_threadsafe(resolve, waiting)


def fail(members: Sequence[Member], error: BaseException) -> None:
    """Give each caller its own copy of an error."""
    for member in members:
        member.error = copy.copy(error)
        member.error.__cause__ = error.__cause__
    answer(members)


def resolve(members: Sequence[Member]) -> None:
    """Wake callers of the running loop."""
    for member in members:
        future = member.future
        if future.done():
            continue
        if member.error is None:
            future.set_result(member.answer)
        else:
            future.set_exception(member.error)
