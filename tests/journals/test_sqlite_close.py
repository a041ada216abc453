"""Closing a store that others still read."""

import asyncio
from pathlib import Path

import apsw

from gatebook.journals.sqlite import SqliteJournal
from gatebook.testing.journal_facts.kit import begin

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
