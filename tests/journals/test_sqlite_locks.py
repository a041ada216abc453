"""A lock proves a death, and a lease is taken from the living only when it stands still."""

import asyncio
from pathlib import Path

import pytest

from gatebook.errors import ConfigError
from gatebook.journals.sqlite import SqliteJournal
from gatebook.journals.sqlite_locks import OwnerLocks, Watch
from gatebook.ports import RunKey
from gatebook.testing.journal_facts.kit import (
    LONG_MS,
    begin,
    claimed,
    inside,
    note,
    outside,
    signal,
)

RUN = RunKey("default", "r1")


class HandClock:
    """A clock that goes when it is told to; wall and monotonic time may part."""

    def __init__(self) -> None:
        self.wall = 1_000_000_000_000
        self.seconds = 0.0

    def now(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds

    def pass_ms(self, ms: int) -> None:
        self.wall += ms * 1000
        self.seconds += ms / 1000


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def test_two_locks_of_one_owner_are_refused(tmp_path: Path) -> None:
    """Two workers under one name would each believe the other's leases to be their own."""
    first, second = OwnerLocks(tmp_path / "locks"), OwnerLocks(tmp_path / "locks")
    first.hold("w1")
    first.hold("w1")

    with pytest.raises(ConfigError) as caught:
        second.hold("w1")

    assert caught.value.code == "E_OWNER_DUPLICATE"
    first.release()
    second.hold("w1")
    second.release()


def test_an_owner_is_gone_when_nobody_holds_its_lock(tmp_path: Path) -> None:
    """Only a held lock means life: no file, a file nobody holds and a swept one mean death."""
    mine, other = OwnerLocks(tmp_path / "locks"), OwnerLocks(tmp_path / "locks")
    mine.hold("w1")

    assert not mine.gone("w1")
    assert not other.gone("w1")
    assert other.gone("never")

    mine.release()
    assert other.gone("w1")
    assert not (tmp_path / "locks").exists()


def test_an_owner_id_cannot_leave_the_folder(tmp_path: Path) -> None:
    """Owner ids are stored by other processes; a path among them must stay a name."""
    locks = OwnerLocks(tmp_path / "deep" / "locks")
    (tmp_path / "deep").mkdir()

    locks.hold("../../escaped")

    assert [p.name for p in tmp_path.iterdir()] == ["deep"]
    assert len(list((tmp_path / "deep" / "locks").iterdir())) == 1
    locks.release()


def test_a_journal_tells_whether_a_holder_is_dead(store: Path) -> None:
    """People are told that nobody drives a run as soon as somebody else could claim it."""

    async def scenario() -> None:
        here, there = SqliteJournal(store), SqliteJournal(store)
        await here.open()
        await there.open()
        await begin(here)
        await here.claim(RUN, owner="w1", ttl_ms=LONG_MS)

        assert not there.gone("w1")
        await here.close()
        assert there.gone("w1")
        await there.close()

    asyncio.run(scenario())


def test_a_watch_counts_only_what_stands_still(clock: HandClock) -> None:
    """A renewal is a sign of life, whatever the clocks say."""
    watch = Watch(clock.monotonic)

    assert watch.unchanged_s(1, ("w1", 1, 500)) == 0.0
    clock.seconds += 20
    assert watch.unchanged_s(1, ("w1", 1, 500)) == 20.0
    assert watch.unchanged_s(1, ("w1", 1, 900)) == 0.0
    clock.seconds += 5
    watch.look([(2, ("w2", 1, 1))])
    assert watch.unchanged_s(1, ("w1", 1, 900)) == 0.0


def test_a_clock_that_jumps_takes_no_run_from_the_living(store: Path, clock: HandClock) -> None:
    """A wall clock set forward makes every lease look lapsed."""

    async def scenario() -> None:
        here, there = SqliteJournal(store, clock=clock), SqliteJournal(store, clock=clock)
        await here.open()
        await there.open()
        await begin(here)
        await here.claim(RUN, owner="w1", ttl_ms=30_000)

        clock.wall += 365 * 86_400 * 1_000_000

        assert await there.claim(RUN, owner="w2", ttl_ms=30_000) is None
        clock.seconds += 29.0
        assert await there.claim(RUN, owner="w2", ttl_ms=30_000) is None
        clock.seconds += 1.5
        assert await there.claim(RUN, owner="w2", ttl_ms=30_000) is not None
        await here.close()
        await there.close()

    asyncio.run(scenario())


def test_a_lease_that_has_not_lapsed_is_not_taken(store: Path, clock: HandClock) -> None:
    """The holder chose how long it may be silent; the claimer's own patience may be shorter."""

    async def scenario() -> None:
        here, there = SqliteJournal(store, clock=clock), SqliteJournal(store, clock=clock)
        await here.open()
        await there.open()
        await begin(here)
        await here.claim(RUN, owner="w1", ttl_ms=30_000)
        assert await there.claim(RUN, owner="w2", ttl_ms=1_000) is None

        clock.pass_ms(29_000)

        assert await there.claim(RUN, owner="w2", ttl_ms=1_000) is None
        await here.close()
        await there.close()

    asyncio.run(scenario())


def test_looking_for_work_starts_the_watch(store: Path, clock: HandClock) -> None:
    """A run of a worker that hangs should wait for one lease, not for two."""

    async def scenario() -> None:
        here, there = SqliteJournal(store, clock=clock), SqliteJournal(store, clock=clock)
        await here.open()
        await there.open()
        await begin(here)
        await here.claim(RUN, owner="w1", ttl_ms=30_000)
        assert await there.due("default", programs=["p"]) == []

        clock.pass_ms(30_001)

        assert await there.due("default", programs=["p"]) == [RUN]
        assert await there.claim(RUN, owner="w2", ttl_ms=30_000) is not None
        await here.close()
        await there.close()

    asyncio.run(scenario())


def test_two_journals_of_one_process_do_not_mix_their_owners(store: Path) -> None:
    """Two runtimes in one process are two workers."""

    async def scenario() -> None:
        first, second = SqliteJournal(store), SqliteJournal(store)
        await first.open()
        await second.open()
        await begin(first)
        lease = await claimed(first, RUN, owner="w1")

        with pytest.raises(ConfigError):
            await second.claim(RUN, owner="w1", ttl_ms=LONG_MS)
        assert await second.claim(RUN, owner="w2", ttl_ms=LONG_MS) is None
        await second.close()
        await first.append(RUN, inside(lease, 1, note()))

        await first.close()

    asyncio.run(scenario())


def test_a_second_journal_sees_and_wakes(store: Path) -> None:
    """The page that follows a run may have a journal object of its own."""

    async def scenario() -> None:
        first, second = SqliteJournal(store), SqliteJournal(store)
        await first.open()
        await second.open()
        run = await begin(first)
        assert await second.touched() == {run}
        waiting = asyncio.create_task(second.wait(1))
        touched = asyncio.create_task(second.touched())

        lease = await claimed(first, run)
        await first.append(run, inside(lease, 1, note()))
        assert await waiting == 2
        await first.append(run, outside(signal()))

        assert await touched == {run}
        assert len(await second.read(run)) == 3
        await first.close()
        await second.close()

    asyncio.run(scenario())
