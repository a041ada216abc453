"""Pieces of answers in a SQLite file: cheap to keep, seen by other processes, left to none."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from gatebook.journals.sqlite import SqliteJournal
from gatebook.testing.journal_facts.kit import claimed, inside, note, outside, succeeded
from gatebook.testing.journal_facts.pieces import kept, piece, speaking

NORMAL, FULL = 1, 2


@contextmanager
def commits() -> Iterator[list[object]]:
    """The durability of every commit, in order."""
    found: list[object] = []

    def watch(connection: apsw.Connection) -> None:
        def profile(statement: str, _: int) -> None:
            if "COMMIT" in statement:
                found.append(connection.execute("PRAGMA synchronous").get)

        connection.set_profile(profile)

    apsw.connection_hooks.append(watch)
    try:
        yield found
    finally:
        apsw.connection_hooks.remove(watch)


def test_claims_and_pieces_wait_for_no_disk_and_every_event_does(tmp_path: Path) -> None:
    """What a crash may take needs no sync; an event that is acknowledged does, before and after."""

    async def scenario(found: list[object]) -> list[list[object]]:
        journal = SqliteJournal(tmp_path / "journal.db")
        await journal.open()
        lease = await speaking(journal)
        seen = [found.copy()]
        found.clear()
        await journal.put_pieces(lease, [piece()])
        seen.append(found.copy())
        found.clear()
        await asyncio.gather(
            journal.put_pieces(lease, [piece(first=2)]), journal.append(lease.run, outside(note()))
        )
        seen.append(found.copy())
        await journal.close()
        return seen

    with commits() as found:
        before, alone, together = asyncio.run(scenario(found))

    assert before[-3:] == [FULL, NORMAL, FULL]  # created, claimed, requested
    assert alone == [NORMAL]
    assert set(together) == {FULL}


def test_another_journal_sees_pieces_and_takes_them_away(tmp_path: Path) -> None:
    """The worker that takes a run over ends what the dead one was saying."""

    async def scenario() -> None:
        first, second = (SqliteJournal(tmp_path / "journal.db") for _ in range(2))
        await first.open()
        await second.open()
        lease = await speaking(first)
        await first.put_pieces(lease, [piece()])
        seen = await kept(second, lease.run)
        await first.close()
        mine = await claimed(second, lease.run, owner="w2")
        still = await kept(second, lease.run)

        await second.append(lease.run, inside(mine, 2, succeeded("1")))

        assert (seen, still) == ([("1", 0, 0)], [("1", 0, 0)])
        assert await kept(second, lease.run) == []
        await second.close()

    asyncio.run(scenario())
