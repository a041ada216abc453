"""Who writes a SQLite store: a thread, or the event loop itself while the disk is quick.

Group commit without delay: whatever waits when a commit ends is the next transaction. Handing a
transaction to a thread and back costs more than writing it where a sync takes microseconds; where
it takes milliseconds the loop must not wait for it (docs/design.md, "Who commits").
"""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeGuard, TypeVar

from gatebook.errors import StoreError
from gatebook.journals.sqlite_desk import Desk
from gatebook.journals.sqlite_files import Store
from gatebook.journals.sqlite_locks import OwnerLocks
from gatebook.journals.sqlite_members import (
    Change,
    Claim,
    Close,
    Member,
    Touched,
    Wait,
    answer,
    fail,
    resolve,
)
from gatebook.journals.sqlite_scribe import Scribe

T = TypeVar("T")

GROUP = 512  # members of one transaction
POLL_S = 0.025  # how often other processes' commits are looked for while somebody waits
IDLE_POLL_S = 0.25  # ... while only the worker's own wake-up waits
QUICK_S = 0.005  # a commit no longer than one thread may keep the interpreter from another


class Writer(threading.Thread):
    """Takes members to a scribe, each journal object one."""

    def __init__(self, store: Store, scribe: Scribe, locks: OwnerLocks) -> None:
        super().__init__(name=f"gatebook-writer {store.path.name}", daemon=True)
        self._store, self._scribe, self._locks = store, scribe, locks
        self._queue: queue.SimpleQueue[Sequence[Member]] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._ended = False
        self._at_work = False  # the thread has members or wants to look round: it goes first

    @property
    def last(self) -> int:
        """The last position known to be committed, by any process."""
        return self._scribe.last

    def submit(self, members: Sequence[Member]) -> None:
        """Hand members to the thread. Raises StoreError E_STORE_CLOSED after the end."""
        with self._gate:
            if self._ended:
                raise StoreError("E_STORE_CLOSED", store=str(self._store.path))
            self._ended = bool(members) and type(members[-1]) is Close
            self._queue.put(members)

    def write(self, members: list[Change]) -> None:
        """Commit members of the running loop here and now if that is quick, else in the thread."""
        scribe = self._scribe
        if not self._quick(members) or not scribe.turn.acquire(blocking=False):
            self.submit(members)
            return
        try:
            done = not self._ended and scribe.serve_at_once(members)
            if done and scribe.news:
                scribe.notice()
            kept = done or scribe.doubts(members)
            behind = not done or scribe.log_is_long
        finally:
            scribe.turn.release()
        if done:
            resolve(members)
        if behind:
            self.submit([] if kept else members)

    def look(self, question: Callable[[Desk], T | None]) -> T | None:
        """Answer a brief question of the running loop; None: a thread that reads is to answer it.

        The writing connection knows the pages it has just written; another one reads them anew.
        """
        scribe = self._scribe
        if self._at_work or self._ended or not scribe.turn.acquire(blocking=False):
            return None
        try:
            return scribe.look(question)
        finally:
            scribe.turn.release()

    def _quick(self, members: list[Change]) -> bool:
        return (
            self._scribe.pace_s < QUICK_S
            and len(members) <= GROUP
            and self._queue.empty()
            and not self._at_work
            and all(member.brief or self._locked(member) for member in members)
        )

    def _locked(self, member: Change) -> bool:
        """Whether a member is a claim that waits for nothing: an owner's first takes a lock."""
        return isinstance(member, Claim) and member.owner in self._locks.owners

    def run(self) -> None:
        """Open the store for the first member, then serve members until a Close comes."""
        (opening,) = self._queue.get()
        try:
            with self._scribe.turn:
                self._scribe.open()
        except Exception as exc:  # noqa: BLE001 - else whoever opens would wait for ever
            with self._gate:
                self._ended = True
            fail([opening], self._store.explain(exc))
            return
        answer([opening])
        while not self._turn():
            pass

    def _turn(self) -> bool:
        """Serve what waits; return whether that was the end."""
        members, scribe = self._take(), self._scribe
        self._at_work = True
        ends: list[Member] = [member for member in members if type(member) is Close]
        with scribe.turn:
            writing = [member for member in members if self._writes(member)]
            scribe.serve(writing)
            if ends:
                scribe.end(ends)
                return True
            scribe.notice()
            if scribe.log_is_long:
                scribe.shorten_log()
        self._at_work = False
        return False

    def _take(self) -> list[Member]:
        """Return all members that wait, or none when it is time to look for other processes."""
        scribe = self._scribe
        patience = POLL_S if scribe.waits else IDLE_POLL_S if scribe.touched else None
        try:
            members = list(self._queue.get(timeout=patience))
        except queue.Empty:
            return []
        for _ in range(self._queue.qsize()):
            if len(members) >= GROUP:
                break
            members += self._queue.get()
        return members

    def _writes(self, member: Member) -> TypeGuard[Change]:
        if type(member) is Wait:
            self._scribe.waits.append(member)
        elif type(member) is Touched:
            self._scribe.touched.append(member)
        return not isinstance(member, Wait | Touched | Close)
