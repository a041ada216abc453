"""A store whose file is taken away while it is open keeps nothing, and says so."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gatebook.errors import StoreError
from gatebook.journals.sqlite import SqliteJournal
from gatebook.ports import RunKey, RunQuery
from gatebook.testing.journal_facts.kit import begin, note, outside

RUN = RunKey("default", "r1")


def delete(store: Path) -> None:
    store.unlink()


def move(store: Path) -> None:
    store.rename(store.with_name("elsewhere.db"))


def replace(store: Path) -> None:
    shutil.copy(store, store.with_name("copy.db"))
    store.with_name("copy.db").replace(store)


TAKEN = pytest.mark.parametrize("take_away", [delete, move, replace])


@TAKEN
def test_nothing_is_acknowledged_that_nobody_would_find(
    take_away: Callable[[Path], None], tmp_path: Path
) -> None:
    """SQLite goes on with a file that has no name any more, and all of it is lost at the end."""

    async def scenario() -> list[str]:
        journal = SqliteJournal(tmp_path / "journal.db")
        await journal.open()
        await begin(journal)
        take_away(tmp_path / "journal.db")
        codes = []
        for ask in (
            lambda: journal.append(RUN, outside(note("lost"))),
            lambda: journal.row(RUN),
            lambda: journal.runs("default", RunQuery()),
            lambda: journal.wait(1_000),
        ):
            with pytest.raises(StoreError) as caught:
                async with asyncio.timeout(30):
                    await ask()
            codes.append(caught.value.code)
        await journal.close()
        return codes

    assert asyncio.run(scenario()) == ["E_STORE_MOVED"] * 4


def test_a_store_that_is_put_back_goes_on(tmp_path: Path) -> None:
    """What waits for its outcome to be kept should not have to be lost."""
    store = tmp_path / "journal.db"

    async def scenario() -> int:
        journal = SqliteJournal(store)
        await journal.open()
        await begin(journal)
        move(store)
        with pytest.raises(StoreError):
            await journal.append(RUN, outside(note("too early")))
        store.with_name("elsewhere.db").rename(store)
        await journal.append(RUN, outside(note("kept")))
        await journal.close()
        await journal.open()
        events = await journal.read(RUN)
        await journal.close()
        return len(events)

    assert asyncio.run(scenario()) == 2


def test_who_is_left_does_nothing_to_the_store_that_stands_there_now(tmp_path: Path) -> None:
    """Both have the same log by name: to cut it would take the other's events."""
    store = tmp_path / "journal.db"

    async def scenario() -> int:
        left, later = SqliteJournal(store), SqliteJournal(store)
        await left.open()
        await begin(left)
        await left.claim(RUN, owner="w", ttl_ms=60_000)  # so that closing has something to write
        move(store)
        await later.open()
        await begin(later)
        await left.close()
        await later.close()
        await later.open()
        events = await later.read(RUN)
        await later.close()
        return len(events)

    assert asyncio.run(scenario()) == 1
