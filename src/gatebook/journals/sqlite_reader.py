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
        """Hand a question to whichever thread is free.

        Raises:
            StoreError: E_STORE_CLOSED, or E_STORE_IO when the system gives us no thread at all.
        """
        store = self._store
        if self._ended:
            raise StoreError("E_STORE_CLOSED", store=str(store.path))
        if len(self._threads) < THREADS:
            name = f"gatebook-reader {store.path.name}"
            thread = threading.Thread(target=self._serve, name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError as exc:
                if not self._threads:
                    raise StoreError("E_STORE_IO", store=str(store.path), detail=str(exc)) from exc
            else:
                self._threads.append(thread)
        self._queue.put(question)

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
                self._store.check_same()
                connection = connection or self._store.connect(reading=True)
                member.answer = member.question(connection)
            except Exception as exc:  # noqa: BLE001 - handed to the caller, who raises it
                member.error = self._store.explain(exc)
            answer([member])
        if connection is not None:
            connection.close(force=True)
        answer([member])
