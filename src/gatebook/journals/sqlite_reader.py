"""Who reads a SQLite store: threads, or the event loop itself what is brief and quick.

Handing a point query to a thread and back costs ten times the query, and under load far more: the
thread waits for the interpreter while the loop is busy (docs/design.md, "Who commits").
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import apsw

from gatebook.errors import StoreError
from gatebook.journals.sqlite_files import Store
from gatebook.journals.sqlite_members import Ask, Close, Member, answer

THREADS = 2  # a long read must not hold up a short one
QUICK_S = 0.002  # what a question may take of the loop
RECENT = 0.1  # the weight of the last question among those of late

T = TypeVar("T")


class Readers:
    """Answers questions on up to two threads, started when first needed, or on the loop.

    Each has a connection of its own.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: queue.SimpleQueue[Member] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._ended = False
        self._here: apsw.Connection | None = None  # the loop's
        self._pace_s = 0.0  # of questions answered on the loop, the mean of late

    def at_once(self, question: Callable[[apsw.Connection], T | None]) -> T | None:
        """Answer a brief question on the loop; None when it is to be submitted instead.

        That is when the store has been slow, or anything is wrong: the thread will say what.
        """
        if self._ended or self._pace_s > QUICK_S:
            return None
        began = time.monotonic()
        try:
            if self._here is None:
                self._here = self._store.connect(reading=True)
                self._here.set_busy_timeout(0)
            return question(self._here)
        except apsw.Error:
            return None
        finally:
            self._pace_s += RECENT * (time.monotonic() - began - self._pace_s)

    def submit(self, question: Ask) -> None:
        """Hand a question to whichever thread is free. Raises StoreError E_STORE_CLOSED."""
        if self._ended:
            raise StoreError("E_STORE_CLOSED", store=str(self._store.path))
        self._pace_s *= 1 - RECENT  # so that the loop tries again some day
        self._queue.put(question)
        if len(self._threads) < THREADS:
            name = f"gatebook-reader {self._store.path.name}"
            thread = threading.Thread(target=self._serve, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    async def close(self) -> None:
        """Answer what is asked already, then end the threads."""
        self._ended = True
        ends = [Close() for _ in self._threads]
        for end in ends:
            self._queue.put(end)
        for end in ends:
            await end.future
        for thread in self._threads:
            thread.join()
        if self._here is not None:
            self._here.close(force=True)

    def _serve(self) -> None:
        connection: apsw.Connection | None = None
        while True:
            member = self._queue.get()
            if not isinstance(member, Ask):
                break
            try:
                connection = connection or self._store.connect(reading=True)
                member.answer = member.question(connection)
            except Exception as exc:  # noqa: BLE001 - handed to the caller, who raises it
                member.error = self._store.explain(exc)
            answer([member])
        if connection is not None:
            connection.close(force=True)
        answer([member])
