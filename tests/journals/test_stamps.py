"""Time in a journal never goes back, whatever the clock does."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.journals.test_sqlite_locks import HandClock

from gatebook.journals.memory import MemoryJournal
from gatebook.journals.sqlite import SqliteJournal
from gatebook.ports import Journal
from gatebook.testing.journal_facts.kit import begin, inside, note, outside

Make = Callable[[HandClock], Journal]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    if request.param == "memory":
        return lambda clock: MemoryJournal(clock=clock)
    return lambda clock: SqliteJournal(tmp_path / "journal.db", clock=clock)


def test_stamps_never_go_below_the_previous_one(make: Make) -> None:
    """A clock that is set back must not make an expiry come true twice or never."""

    async def scenario() -> list[int]:
        clock = HandClock()
        journal = make(clock)
        await journal.open()
        run = await begin(journal)
        for step in (5, -3_600_000_000, 7):
            clock.wall += step
            await journal.append(run, outside(note()))
        stamps = [r.event.time for r in await journal.read(run)]
        await journal.close()
        return stamps

    begun = HandClock().wall

    assert asyncio.run(scenario()) == [begun, begun + 5, begun + 5, begun + 5]


def test_a_lease_lapses_by_the_clock_of_the_store(make: Make) -> None:
    """Workers do not compare their own clocks with somebody else's."""

    async def scenario() -> None:
        clock = HandClock()
        journal = make(clock)
        await journal.open()
        run = await begin(journal)
        lease = await journal.claim(run, owner="w1", ttl_ms=1_000)
        assert lease is not None
        assert await journal.claim(run, owner="w2", ttl_ms=1_000) is None

        clock.pass_ms(999)
        assert await journal.claim(run, owner="w2", ttl_ms=1_000) is None
        clock.pass_ms(1)
        taken = await journal.claim(run, owner="w2", ttl_ms=1_000)

        assert taken is not None
        await journal.append(run, inside(taken, 1, note()))
        await journal.close()

    asyncio.run(scenario())
