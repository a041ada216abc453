"""Closing a store that others still read, or of which nothing works any more."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import apsw
import pytest

from gatebook.errors import StoreError
from gatebook.journals.sqlite import SqliteJournal
from gatebook.journals.sqlite_files import Store
from gatebook.testing.journal_facts.kit import begin, note, outside

PATIENCE_S = 15.0  # half of what the store would wait for a lock


def test_a_reader_that_hangs_does_not_hold_up_a_close(tmp_path: Path) -> None:
    """A short log is a courtesy to the next start; no worker may wait for it at its end."""
    path = tmp_path / "runs.db"

    async def scenario() -> None:
        journal = SqliteJournal(path)
        await journal.open()
        await begin(journal, "r1")
        reader = apsw.Connection(str(path))
        reader.execute("BEGIN; SELECT count(*) FROM events").fetchall()
        await begin(journal, "r2")

        async with asyncio.timeout(PATIENCE_S):
            await journal.close()

        reader.close()

    asyncio.run(scenario())


def test_a_close_is_answered_when_the_lock_files_cannot_be_removed(tmp_path: Path) -> None:
    """A file that stays behind holds no lock; a close that is never answered holds a worker."""
    path = tmp_path / "runs.db"

    async def scenario() -> None:
        journal = SqliteJournal(path)
        await journal.open()
        run = await begin(journal, "r1")
        await journal.claim(run, owner="w", ttl_ms=30_000)
        locks = tmp_path / "runs.db.locks"
        locks.rename(tmp_path / "elsewhere")
        locks.write_text("no folder")

        async with asyncio.timeout(PATIENCE_S):
            await journal.close()

    asyncio.run(scenario())


def test_a_question_that_no_thread_can_answer_is_refused(tmp_path: Path) -> None:
    """When the system gives us no thread, whoever asks is told; nobody waits for one."""

    async def scenario() -> None:
        journal = SqliteJournal(tmp_path / "runs.db")
        await journal.open()
        usual = threading.stack_size(1 << 46)  # more than any machine has
        try:
            for _ in range(3):
                with pytest.raises(StoreError, match="thread"):
                    await journal.ledgers("default")
        finally:
            threading.stack_size(usual)
        async with asyncio.timeout(PATIENCE_S):
            assert await journal.ledgers("default") == {}
            await journal.close()

    asyncio.run(scenario())


class Refusing:
    """A cursor of a file that is gone: what is written fails, and so does taking it back."""

    def __init__(self, cursor: apsw.Cursor) -> None:
        self._cursor = cursor

    def execute(self, statement: str, *values: Any) -> Any:
        if statement.startswith(("INSERT INTO events", "ROLLBACK")):
            raise apsw.IOError("disk I/O error")
        return self._cursor.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


def test_who_appends_is_answered_when_nothing_can_be_taken_back_or_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write fails, its rollback fails, the file is gone: all who wait learn that it is over."""

    def gone(*_: Any, **__: Any) -> apsw.Connection:
        raise apsw.CantOpenError("unable to open database file")

    async def scenario() -> None:
        journal = SqliteJournal(tmp_path / "runs.db")
        await journal.open()
        run = await begin(journal, "r1")
        assert journal._writer is not None
        desk: Any = journal._writer._scribe._desk
        desk.cursor = Refusing(desk.cursor)
        monkeypatch.setattr(Store, "connect", gone)

        async with asyncio.timeout(PATIENCE_S):
            answers = await asyncio.gather(
                *(journal.append(run, outside(note(str(i)))) for i in range(3)),
                return_exceptions=True,
            )
            await journal.close()

        codes = [answer.code for answer in answers if isinstance(answer, StoreError)]
        assert codes == ["E_STORE_STOPPED"] * 3

    asyncio.run(scenario())
