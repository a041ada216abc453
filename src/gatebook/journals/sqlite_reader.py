"""The threads that read a SQLite store, each with its own connection, off the event loop."""

import queue
import threading

import apsw

from gatebook.errors import StoreError
from gatebook.journals.sqlite_files import Store
from gatebook.journals.sqlite_members import Ask, Close, Member, answer

THREADS = 2  # a long read must not hold up a short one


class Readers:
    """Answers questions on up to two threads, started when first needed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: queue.SimpleQueue[Member] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._ended = False

    def submit(self, question: Ask) -> None:
        """Hand a question to whichever thread is free. Raises StoreError E_STORE_CLOSED."""
        if self._ended:
            raise StoreError("E_STORE_CLOSED", store=str(self._store.path))
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
