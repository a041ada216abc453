"""The writing connection of a SQLite store: members become transactions here, one at a time.

Whoever holds `turn` may call it: the writer's thread, or for a moment the event loop. A commit
that fails is unknown until it has been looked up; nothing else is written before that.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import apsw

from gatebook.errors import CommitUnknown, StoreError
from gatebook.journals import sqlite_reads as reads
from gatebook.journals.sqlite_desk import Desk
from gatebook.journals.sqlite_files import Store
from gatebook.journals.sqlite_locks import OwnerLocks, Watch
from gatebook.journals.sqlite_members import (
    Change,
    Member,
    Renew,
    Touched,
    Wait,
    answer,
    fail,
)

Now = Callable[[], int]
T = TypeVar("T")

CLOSE_BUSY_MS = 200  # for readers in the way of a short log; one that hangs must not hold up an end
TRIES = 2  # of one member alone, each looked up when its commit fails
FIRST_PAGES = 200  # of a new log before it is copied into the database; then twice as many ...
LOG_PAGES = 1_000  # ... and at most these, SQLite's own default; docs/design.md, "A log that grows"
LOOK_S = 0.002  # what a question may take of whoever asks it
RECENT = 0.1  # the weight of the last commit among those of late


class Scribe:
    """Serves members on the one connection that writes.

    Attributes:
        turn: held by whoever works here.
        last: the last position known to be committed, by any process.
        pace_s, look_s: how long a commit and a brief question take, seconds: the mean of late.
        waits, touched: who waits for news.
    """

    def __init__(self, store: Store, locks: OwnerLocks, watch: Watch, now: Now) -> None:
        self._store, self._locks, self._watch, self._now = store, locks, watch, now
        self.turn = threading.Lock()
        self.last = 0
        self.pace_s = self.look_s = 0.0
        self.waits: list[Wait] = []
        self.touched: list[Touched] = []
        self._doubt: tuple[list[Change], apsw.Error] | None = None
        self._stopped = ""
        self._seen = 0
        self._pages = 0  # of the log
        self._copied = 0  # of these, when it was last copied
        self._long = FIRST_PAGES

    def open(self) -> None:
        """Open the store, or make it. Raises what `Store.open` raises."""
        self._connection = self._store.open()
        self._sit_down()
        self._seen, self._unseen = self.last, False

    def _sit_down(self) -> None:
        self._connection.wal_autocheckpoint(0)
        self._connection.set_wal_hook(self._grown)
        self._desk = Desk(self._connection.cursor(), self._locks, self._watch)
        self._desk.refresh()
        self.last = max(self.last, self._desk.last)
        self._unseen = True

    def _grown(self, _: apsw.Connection, __: str, pages: int) -> int:
        self._pages = pages
        if pages < self._copied:
            self._copied = 0  # the log has begun anew
        return 0

    def serve(self, members: list[Change]) -> None:
        """Commit members, as one transaction if it can be; every one gets its answer."""
        try:
            self._settle_doubt()
            if self._stopped:
                fail(members, self._stop())
            elif members:
                members.sort(key=_renewals_first)
                self._commit_as_needed(members)
        except Exception as exc:  # noqa: BLE001 - a thread that dies would leave callers waiting
            self._stopped = f"{type(exc).__name__}: {exc}"
            fail(members, CommitUnknown("E_COMMIT_UNKNOWN", detail=self._stopped))

    def _commit_as_needed(self, members: list[Change]) -> None:
        if any(member.lasts for member in members):
            self._commit(members, tries=TRIES)
            return
        with self._not_synced():
            self._commit(members, tries=TRIES)

    @contextmanager
    def _not_synced(self) -> Iterator[None]:
        """Do not wait for the disk: what a crash of the machine may take, the next commit syncs."""
        pace_s = self.pace_s
        self._connection.execute("PRAGMA synchronous=NORMAL")
        try:
            yield
        finally:
            self.pace_s = pace_s
            try:
                self._connection.execute("PRAGMA synchronous=FULL")
            except apsw.Error as exc:  # nothing may be called durable any more
                self._stopped = self._stopped or str(exc)

    def serve_at_once(self, members: list[Change]) -> bool:
        """Commit members without waiting for anybody; they are not answered here.

        False: nothing was written, `serve` them, unless the commit itself failed. That is left in
        doubt (`doubts`): the next `serve` settles it, before it does anything else.
        """
        if self._stopped or self._doubt is not None:
            return False
        if any(member.lasts for member in members):
            return self._commit_at_once(members)
        with self._not_synced():
            return self._commit_at_once(members)

    def _commit_at_once(self, members: list[Change]) -> bool:
        desk = self._desk
        try:
            self._connection.set_busy_timeout(0)
            desk.cursor.execute("BEGIN IMMEDIATE")
            self._write(members)
        except Exception:  # noqa: BLE001 - the thread meets it again and says what it is
            self._abandon()
            return False
        finally:
            with suppress(apsw.ConnectionClosedError):  # it could not be opened anew
                self._store.be_patient(self._connection)
        try:
            self._end_transaction()
        except apsw.Error as exc:
            self._doubt = (members, exc)
            return False
        self._committed()
        return True

    def look(self, question: Callable[[Desk], T | None]) -> T | None:
        """Answer a brief question without waiting for anybody; None: ask another connection.

        That is when questions have been slow of late, or when anything is wrong.
        """
        if self._stopped or self._doubt is not None or self.look_s > LOOK_S:
            self.look_s *= 1 - RECENT  # so that it is tried again some day
            return None
        began, connection = time.monotonic(), self._connection
        connection.set_busy_timeout(0)
        try:
            self._store.check_same()
            return question(self._desk)
        except (apsw.Error, StoreError, UnicodeEncodeError):
            if not connection.get_autocommit():
                connection.execute("ROLLBACK")
            return None
        finally:
            self._store.be_patient(connection)
            self.look_s += RECENT * (time.monotonic() - began - self.look_s)

    def doubts(self, members: list[Change]) -> bool:
        """Whether the commit of these failed and is still to be looked up; `serve` answers them."""
        return self._doubt is not None and self._doubt[0] is members

    def _settle_doubt(self) -> None:
        if self._doubt is not None:
            (members, exc), self._doubt = self._doubt, None
            self._settle_unknown(members, exc, tries=TRIES)

    def _commit(self, members: list[Change], *, tries: int) -> None:
        """Run members as one transaction; when it fails, each alone."""
        try:
            self._desk.cursor.execute("BEGIN IMMEDIATE")
        except apsw.Error as exc:
            fail(members, self._store.explain(exc))
            return
        try:
            self._write(members)
        except Exception as exc:  # noqa: BLE001 - whatever a member's values do to the engine
            self._abandon()
            self._again(members, exc, tries=tries)
            return
        try:
            self._end_transaction()
        except apsw.Error as exc:
            self._settle_unknown(members, exc, tries=tries)
            return
        self._committed()
        answer(members)

    def _write(self, members: list[Change]) -> None:
        """Let members act; a refusal is its member's answer, a failing engine everybody's."""
        desk = self._desk
        desk.begin(self._now())
        for member in members:
            member.answer = member.error = None
            try:
                member.act(desk)
            except apsw.Error:
                raise
            except Exception as exc:  # noqa: BLE001 - handed to the caller, who raises it
                member.error = self._store.explain(exc)
        desk.write()
        self._store.check_same()

    def _end_transaction(self) -> None:
        began = time.monotonic()
        self._desk.cursor.execute("COMMIT")
        self.pace_s += RECENT * (time.monotonic() - began - self.pace_s)

    def _committed(self) -> None:
        desk = self._desk
        self.last = desk.last
        self._unseen = self._unseen or desk.came
        if not self._unseen:
            self._seen = self.last
        desk.settle()

    def _abandon(self) -> None:
        """Roll the whole transaction back, and make sure that it is: some errors do it already."""
        try:
            if not self._connection.get_autocommit():
                self._desk.cursor.execute("ROLLBACK")
        except apsw.Error as exc:
            self._reopen_or_stop(exc)
        self._desk.reread()

    def _again(self, members: list[Change], exc: Exception, *, tries: int) -> None:
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

    def _settle_unknown(self, members: list[Change], exc: apsw.Error, *, tries: int) -> None:
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

    @property
    def log_is_long(self) -> bool:
        """Whether the log should be copied into the database."""
        return self._pages - self._copied >= self._long

    def shorten_log(self) -> None:
        """Copy as much of the log as readers allow, after its commits were answered."""
        with suppress(apsw.Error):  # what is not copied stays in the log and is tried again
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        self._copied = self._pages
        self._long = min(2 * self._long, LOG_PAGES)

    def _cut_log(self) -> None:
        """Copy the log into the database, sync it, and cut the log to nothing."""
        busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").get[0]
        if busy:
            raise StoreError("E_STORE_IO", store=str(self._store.path), detail="a reader is stuck")

    def notice(self) -> None:
        """Look for what other processes have committed, and wake whom it concerns."""
        if not (self.waits or self.touched):
            return
        try:
            self._store.check_same()
            if not self._stopped and self._desk.refresh():
                self.last = max(self.last, self._desk.last)
                self._unseen = True
            woken = self._woken()
        except Exception as exc:  # noqa: BLE001 - handed to those who wait
            woken = [*self.waits, *self.touched]
            fail(woken, self._store.explain(exc))
        else:
            answer(woken)
        gone = {id(member) for member in woken}
        self.waits = [w for w in self.waits if id(w) not in gone and not w.future.done()]
        self.touched = [t for t in self.touched if id(t) not in gone and not t.future.done()]

    @property
    def news(self) -> bool:
        """Whether somebody waits for what was committed here."""
        return bool(self.waits or (self.touched and self._unseen))

    def _woken(self) -> list[Member]:
        woken: list[Member] = []
        for wait in self.waits:
            if self.last > wait.after:
                wait.answer = self.last
                woken.append(wait)
        if self.touched and self._unseen:
            found = reads.touched(self._connection, self._seen, self.last)
            self._seen, self._unseen = self.last, False
            if found:
                for touched in self.touched:
                    touched.answer = found
                woken += self.touched
        return woken

    def end(self, ends: list[Member]) -> None:
        """Release what this process holds, leave a short log, and close; `ends` are answered."""
        try:
            self._settle_doubt()
            self._release()
            with suppress(apsw.Error):
                self._connection.close(force=True)
            self._locks.release()
        finally:
            closed = StoreError("E_STORE_CLOSED", store=str(self._store.path))
            fail([*self.waits, *self.touched], closed)
            answer(ends)

    def _release(self) -> None:
        # What is not released lapses; the log is read at the next start.
        with suppress(apsw.Error, StoreError):
            self._store.check_same()  # else the log may be that of whoever stands there now
            if self._locks.owners and not self._stopped:
                self._desk.cursor.execute("BEGIN IMMEDIATE")
                self._desk.begin(self._now())
                self._desk.release_all()
                self._desk.cursor.execute("COMMIT")
            self._connection.set_busy_timeout(CLOSE_BUSY_MS)
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _renewals_first(member: Change) -> bool:
    return type(member) is not Renew
