"""The thread that writes a SQLite store: every change of this process goes through it.

Group commit without delay: whatever waits when a commit ends is the next transaction. A commit
that fails is unknown until it has been looked up; nothing else is written before that.
"""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress

import apsw

from gatebook.errors import CommitUnknown, StoreError
from gatebook.journals import sqlite_reads as reads
from gatebook.journals.sqlite_desk import Desk
from gatebook.journals.sqlite_files import Store
from gatebook.journals.sqlite_locks import OwnerLocks, Watch
from gatebook.journals.sqlite_members import Close, Member, Renew, Touched, Wait, answer, fail

Now = Callable[[], int]

GROUP = 512  # members of one transaction
POLL_S = 0.025  # how often other processes' commits are looked for while somebody waits
IDLE_POLL_S = 0.25  # ... while only the worker's own wake-up waits
CLOSE_BUSY_MS = 200  # for readers in the way of a short log; one that hangs must not hold up an end
TRIES = 2  # of one member alone, each looked up when its commit fails


class Writer(threading.Thread):
    """Owns the writing connection of one journal object.

    Attributes:
        last: the last position known to be committed, by any process.
        crowded: whether several calls waited when it last looked.
    """

    last = 0
    crowded = False

    def __init__(self, store: Store, locks: OwnerLocks, watch: Watch, now: Now) -> None:
        super().__init__(name=f"gatebook-writer {store.path.name}", daemon=True)
        self._store, self._locks, self._watch, self._now = store, locks, watch, now
        self._queue: queue.SimpleQueue[list[Member]] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._ended = False
        self._stopped = ""
        self._waits: list[Wait] = []
        self._touched: list[Touched] = []
        self._seen = 0

    def submit(self, members: list[Member]) -> None:
        """Hand members to the thread. Raises StoreError E_STORE_CLOSED after the end."""
        with self._gate:
            if self._ended:
                raise StoreError("E_STORE_CLOSED", store=str(self._store.path))
            self._ended = type(members[-1]) is Close
            self._queue.put(members)

    # ---- the thread ----

    def run(self) -> None:
        """Open the store for the first member, then serve members until a Close comes."""
        (opening,) = self._queue.get()
        try:
            self._connection = self._store.open()
            self._sit_down()
        except Exception as exc:  # noqa: BLE001 - else whoever opens would wait for ever
            with self._gate:
                self._ended = True
            fail([opening], self._store.explain(exc))
            return
        self._seen, self._unseen = self.last, False
        answer([opening])
        while not self._turn():
            pass

    def _sit_down(self) -> None:
        self._desk = Desk(self._connection.cursor(), self._locks, self._watch)
        self._desk.look()
        self.last = max(self.last, self._desk.last)
        self._unseen = True

    def _turn(self) -> bool:
        """Serve what waits; return whether that was the end."""
        members = self._take()
        ends: list[Member] = [member for member in members if type(member) is Close]
        writing = [member for member in members if self._writes(member)]
        try:
            self._serve(writing)
        except Exception as exc:  # noqa: BLE001 - a thread that dies would leave callers waiting
            self._stopped = f"{type(exc).__name__}: {exc}"
            fail(writing, CommitUnknown("E_COMMIT_UNKNOWN", detail=self._stopped))
        if ends:
            self._end(ends)
        else:
            self._notice()
        return bool(ends)

    def _take(self) -> list[Member]:
        """Return all members that wait, or none when it is time to look for other processes."""
        patience = POLL_S if self._waits else IDLE_POLL_S if self._touched else None
        try:
            members = self._queue.get(timeout=patience)
        except queue.Empty:
            return []
        for _ in range(self._queue.qsize()):
            if len(members) >= GROUP:
                break
            members += self._queue.get()
        self.crowded = len(members) > 1
        return members

    def _writes(self, member: Member) -> bool:
        if type(member) is Wait:
            self._waits.append(member)
        elif type(member) is Touched:
            self._touched.append(member)
        return not isinstance(member, Wait | Touched | Close)

    def _serve(self, members: list[Member]) -> None:
        if self._stopped:
            fail(members, self._stop())
        elif members:
            members.sort(key=_renewals_first)
            self._commit(members, tries=TRIES)

    def _commit(self, members: list[Member], *, tries: int) -> None:
        """Run members as one transaction; when it fails, each alone."""
        desk, cursor = self._desk, self._desk.cursor
        try:
            cursor.execute("BEGIN IMMEDIATE")
        except apsw.Error as exc:
            fail(members, self._store.explain(exc))
            return
        try:
            desk.begin(self._now())
            for member in members:
                _act(member, desk)
            desk.write()
        except Exception as exc:  # noqa: BLE001 - whatever a member's values do to the engine
            self._abandon()
            self._again(members, exc, tries=tries)
            return
        try:
            cursor.execute("COMMIT")
        except apsw.Error as exc:
            self._settle_unknown(members, exc, tries=tries)
            return
        self._committed(members)

    def _committed(self, members: list[Member]) -> None:
        desk = self._desk
        self.last = desk.last
        self._unseen = self._unseen or desk.came
        if not self._unseen:
            self._seen = self.last
        desk.settle()
        answer(members)

    def _abandon(self) -> None:
        """Roll the whole transaction back, and make sure that it is: some errors do it already."""
        try:
            if not self._connection.get_autocommit():
                self._desk.cursor.execute("ROLLBACK")
        except apsw.Error as exc:
            self._reopen_or_stop(exc)
        self._desk.reread()

    def _again(self, members: list[Member], exc: Exception, *, tries: int) -> None:
        """Nothing was kept of a transaction: try each member alone, or give up on the only one."""
        if len(members) == 1 and (tries <= 1 or not isinstance(exc, apsw.Error)):
            fail(members, self._store.explain(exc))
            return
        alone = tries if len(members) > 1 else tries - 1
        for member in members:
            if self._stopped:
                fail([member], self._stop())
            else:
                self._commit([member], tries=alone)

    # ---- commits that failed ----

    def _settle_unknown(self, members: list[Member], exc: apsw.Error, *, tries: int) -> None:
        """Find out whether a commit that raised is there; answer its members or try them again.

        After anything but a full disk the log is first copied and cut on a fresh connection: a
        sync that failed proves nothing about what a crash would leave, in either direction.
        """
        mark = self._desk.mark
        try:
            self._reopen()
            if not isinstance(exc, apsw.FullError):
                self._cut_log()
            cursor = self._desk.cursor
            cursor.execute("BEGIN IMMEDIATE")
            try:
                present = mark is not None and reads.is_there(self._connection, *mark)
            finally:
                cursor.execute("ROLLBACK")
        except (apsw.Error, StoreError) as failure:
            self._stopped = f"{exc}; then {failure}"
            fail(members, CommitUnknown("E_COMMIT_UNKNOWN", detail=self._stopped))
            return
        if present:
            answer(members)
        else:
            self._again(members, exc, tries=tries)

    def _reopen(self) -> None:
        with suppress(apsw.Error):  # the last connection copies the log when it closes
            self._connection.close(force=True)
        self._connection = self._store.connect()
        self._sit_down()

    def _reopen_or_stop(self, exc: apsw.Error) -> None:
        try:
            self._reopen()
        except apsw.Error as failure:
            self._stopped = f"{exc}; then {failure}"

    def _stop(self) -> StoreError:
        return StoreError("E_STORE_STOPPED", store=str(self._store.path), detail=self._stopped)

    def _cut_log(self) -> None:
        """Copy the log into the database, sync it, and cut the log to nothing."""
        busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").get[0]
        if busy:
            raise StoreError("E_STORE_IO", store=str(self._store.path), detail="a reader is stuck")

    # ---- those who wait ----

    def _notice(self) -> None:
        """Look for what other processes have committed, and wake whom it concerns."""
        if not (self._waits or self._touched):
            return
        try:
            if not self._stopped and self._desk.look():
                self.last = max(self.last, self._desk.last)
                self._unseen = True
            woken = self._woken()
        except apsw.Error as exc:
            woken = [*self._waits, *self._touched]
            fail(woken, self._store.explain(exc))
        else:
            answer(woken)
        gone = {id(member) for member in woken}
        self._waits = [w for w in self._waits if id(w) not in gone and not w.future.done()]
        self._touched = [t for t in self._touched if id(t) not in gone and not t.future.done()]

    def _woken(self) -> list[Member]:
        woken: list[Member] = []
        for wait in self._waits:
            if self.last > wait.after:
                wait.answer = self.last
                woken.append(wait)
        if self._touched and self._unseen:
            found = reads.touched(self._connection, self._seen, self.last)
            self._seen, self._unseen = self.last, False
            if found:
                for touched in self._touched:
                    touched.answer = found
                woken += self._touched
        return woken

    def _end(self, ends: list[Member]) -> None:
        """Release what this process holds, leave a short log, and close."""
        with suppress(apsw.Error):  # what is not released lapses; the log is read at the next start
            if self._locks.owners and not self._stopped:
                self._desk.cursor.execute("BEGIN IMMEDIATE")
                self._desk.begin(self._now())
                self._desk.release_all()
                self._desk.cursor.execute("COMMIT")
            self._connection.set_busy_timeout(CLOSE_BUSY_MS)
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with suppress(apsw.Error):
            self._connection.close(force=True)
        self._locks.release()
        closed = StoreError("E_STORE_CLOSED", store=str(self._store.path))
        fail([*self._waits, *self._touched], closed)
        answer(ends)


def _renewals_first(member: Member) -> bool:
    return type(member) is not Renew


def _act(member: Member, desk: Desk) -> None:
    """Let a member act; a refusal is its own answer, a failing engine everybody's."""
    member.answer = member.error = None
    try:
        member.act(desk)
    except apsw.Error:
        raise
    except Exception as exc:  # noqa: BLE001 - handed to the caller, who raises it
        member.error = exc
