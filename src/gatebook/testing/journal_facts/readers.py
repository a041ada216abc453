"""What readers, followers and lists see."""

import asyncio
from typing import Any

import pytest

from gatebook.errors import RunNotFound, StoreError
from gatebook.kernel.append import DETACH
from gatebook.kernel.events import ErrorRecord as Problem
from gatebook.kernel.events import RunFailed
from gatebook.kernel.stored import GENESIS
from gatebook.ports import Journal, Lease, Recorded, RunKey, RunQuery
from gatebook.testing.journal_facts.kit import (
    LONG_MS,
    begin,
    claimed,
    fact,
    inside,
    kind,
    note,
    outside,
    requested,
    signal,
    succeeded,
    working,
)


class ReaderFacts:
    """Facts about `read`, `tail`, `runs`, `wait`, `touched` and about tenants."""

    @fact
    async def test_read_takes_a_part(self, journal: Journal) -> None:
        """A page shows some events; it must not load all."""
        run = await begin(journal)
        await journal.append(run, outside(*(note(str(i)) for i in range(9))))

        part = await journal.read(run, after=3, limit=4)

        assert [r.seq for r in part] == [4, 5, 6, 7]
        assert await journal.read(run, after=10) == []

    @fact
    async def test_a_stretch_is_what_read_returns(self, journal: Journal) -> None:
        """A worker folds stretches; it must see what everybody else reads."""
        run = await begin(journal)
        await journal.append(run, outside(*(note(str(i)) for i in range(8)), note("x" * DETACH)))

        found = await journal.read(run)
        for after in (0, 3, 10):
            before = found[after - 1].hash if after else GENESIS
            stretch = await journal.stretch(run, after=after, hash=before)

            assert stretch.events == [r.event for r in found[after:]]
            assert (stretch.after, stretch.seq) == (after, 10)
            assert stretch.hash == found[-1].hash or after == 10

    @fact
    async def test_a_follower_takes_the_store_in_pages(self, journal: Journal) -> None:
        """A cursor must bring each event once, in one order, whatever the page size."""
        first, second = await begin(journal, "a"), await begin(journal, "b")
        for run in (first, second, first):
            await journal.append(run, outside(note(), note()))

        every = await journal.tail("default", after=0)
        pages: list[Recorded] = []
        while page := await journal.tail(
            "default", after=pages[-1].position if pages else 0, limit=3
        ):
            pages += page

        assert pages == every
        assert len(every) == 8

    @fact
    async def test_a_follower_misses_nothing_under_concurrent_writers(
        self, journal: Journal
    ) -> None:
        """Readers of sequences skip events that commit out of order; this one may not."""
        runs = [await begin(journal, f"r{i}") for i in range(8)]
        followed: list[Recorded] = []

        async def follow() -> None:
            cursor = 0
            while len(followed) < 8 + 8 * 25:
                await journal.wait(cursor)
                page = await journal.tail("default", after=cursor, limit=7)
                followed.extend(page)
                cursor = page[-1].position

        async def write(run: RunKey) -> None:
            for i in range(25):
                await journal.append(run, outside(note(str(i))))

        await asyncio.gather(follow(), *(write(run) for run in runs))

        positions = [r.position for r in followed]
        assert positions == sorted(set(positions))
        for run in runs:
            assert [r for r in followed if r.run == run] == await journal.read(run)

    @fact
    async def test_wait_returns_at_once_when_there_is_something(self, journal: Journal) -> None:
        """A reader that is behind must not sleep."""
        await begin(journal)

        assert await journal.wait(0) == 1

    @fact
    async def test_wait_wakes_on_the_next_event(self, journal: Journal) -> None:
        """A live page follows without polling."""
        run = await begin(journal)
        waiting = asyncio.create_task(journal.wait(1))
        gone = asyncio.create_task(journal.wait(1))
        await asyncio.sleep(0)
        gone.cancel()

        await journal.append(run, outside(note()))

        assert await waiting == 2

    @fact
    async def test_touched_names_new_and_signalled_runs(self, journal: Journal) -> None:
        """The worker learns what others brought, without looking at every run."""
        first, second = await begin(journal, "a"), await begin(journal, "b")
        assert await journal.touched() == {first, second}

        lease = await claimed(journal, first)
        await journal.append(first, inside(lease, 1, requested("1")))
        await journal.append(second, outside(signal()))

        assert await journal.touched() == {second}

    @fact
    async def test_touched_waits_for_something(self, journal: Journal) -> None:
        """The worker sleeps while its own runs go on, and wakes for what comes from outside."""
        lease = await working(journal, "a")
        await journal.touched()
        waiting = asyncio.create_task(journal.touched())
        await asyncio.sleep(0)
        await journal.append(lease.run, inside(lease, 1, requested("1")))
        await journal.append(lease.run, inside(lease, 2, succeeded("1")))
        assert not waiting.done()

        other = await begin(journal, "b")

        assert await waiting == {other}

    @fact
    async def test_runs_are_listed_newest_first(self, journal: Journal) -> None:
        """People look for what they have just started."""
        runs = [await begin(journal, f"r{i}") for i in range(5)]

        rows = await journal.runs("default", RunQuery())
        some = await journal.runs("default", RunQuery(limit=2))

        assert [row.run for row in rows] == runs[::-1]
        assert some == rows[:2]

    @pytest.mark.parametrize(
        ("query", "want"),
        [
            (RunQuery(statuses=("failed", "cancelled")), ["over"]),
            (RunQuery(program="q"), ["b.2"]),
            (RunQuery(id_prefix="b."), ["b.2", "b.1"]),
            (RunQuery(id_prefix="b%"), []),
            (RunQuery(labels={"team": "x"}), ["b.2", "b.1"]),
            (RunQuery(labels={"team": "x", "env": "y"}), ["b.2"]),
            (RunQuery(labels={"team') OR 1=1--": "x"}), []),
            (RunQuery(id_prefix="a') OR 1=1--"), []),
            (RunQuery(program="p", id_prefix="b", statuses=("running",)), ["b.1"]),
            (RunQuery(since=2**62), []),
        ],
    )
    def test_runs_are_found_by_what_is_asked(
        self, journal: Journal, query: RunQuery, want: list[str]
    ) -> None:
        """Filters reach the store as values, so no text of theirs is ever code."""

        @fact
        async def scenario(self: object, journal: Journal) -> None:
            lease = await working(journal, "over")
            error = Problem("E", "x")
            await journal.append(lease.run, inside(lease, 1, RunFailed(error=error)))
            await begin(journal, "b.1", labels={"team": "x"})
            await begin(journal, "b.2", labels={"team": "x", "env": "y"}, program="q")

            rows = await journal.runs("default", query)

            assert [row.run.id for row in rows] == want

        scenario(self, journal)

    @fact
    async def test_one_id_in_two_tenants_is_two_runs(self, journal: Journal) -> None:
        """Tenants must not be able to take each other's names."""
        a = await begin(journal, "r1", tenant="a")
        b = await begin(journal, "r1", tenant="b", program="q")

        await journal.append(a, outside(note()))

        assert [(await journal.row(run)).head.seq for run in (a, b)] == [2, 1]

    @pytest.mark.parametrize(
        "ask", ["row", "read", "raw", "append", "claim", "park"], ids=lambda ask: ask
    )
    def test_another_tenants_run_is_not_found(self, journal: Journal, ask: str) -> None:
        """Not found, never forbidden: that it exists is already too much to tell."""

        @fact
        async def scenario(self: object, journal: Journal) -> None:
            await working(journal, "r1", tenant="a")
            run = RunKey("b", "r1")
            calls: dict[str, Any] = {
                "row": lambda: journal.row(run),
                "read": lambda: journal.read(run),
                "raw": lambda: journal.raw(run),
                "append": lambda: journal.append(run, outside(note())),
                "claim": lambda: journal.claim(run, owner="w2", ttl_ms=LONG_MS),
                "park": lambda: journal.park(
                    Lease(run, "w1", 1), after=1, wake_at=None, waiting_on=""
                ),
            }

            with pytest.raises(RunNotFound):
                await calls[ask]()

        scenario(self, journal)

    @fact
    async def test_lists_and_followers_see_one_tenant(self, journal: Journal) -> None:
        """Not even the number of another tenant's runs may show."""
        await begin(journal, "r1", tenant="a")
        mine = await begin(journal, "r2", tenant="b")

        assert [row.run for row in await journal.runs("b", RunQuery())] == [mine]
        assert [r.run for r in await journal.tail("b", after=0)] == [mine]
        assert await journal.due("b", programs=["p"]) == [mine]

    @fact
    async def test_an_answer_cannot_be_changed_from_outside(self, journal: Journal) -> None:
        """A caller that folds on top of an answer must not move what is stored."""
        run = await begin(journal)
        done = await journal.append(run, outside(note()))

        for head in (done.head, (await journal.row(run)).head):
            head.seq = 99
            head.open["x"] = None  # type: ignore[assignment]

        assert (await journal.row(run)).head.seq == 2
        assert (await journal.append(run, outside(note()))).head.seq == 3

    @fact
    async def test_open_is_safe_to_repeat(self, journal: Journal) -> None:
        """Two parts of a program may both make sure that the store is open."""
        run = await begin(journal)

        await journal.open()

        assert [kind(r) for r in await journal.read(run)] == ["run_started"]

    @fact
    async def test_a_closed_journal_says_so(self, journal: Journal) -> None:
        """Silence after the end would look like an empty store."""
        run = await begin(journal)
        await journal.touched()
        waiting = asyncio.create_task(journal.wait(99))
        touched = asyncio.create_task(journal.touched())
        await asyncio.sleep(0)
        await journal.close()

        for call in (journal.row(run), journal.append(run, outside(note())), waiting, touched):
            with pytest.raises(StoreError) as caught:
                await call
            assert caught.value.code == "E_STORE_CLOSED"
