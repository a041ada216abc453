"""The day of a ledger: the store's clock decides it inside the append, and settling keeps it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gatebook.journals import MemoryJournal, SqliteJournal
from gatebook.kernel.append import Batch, BudgetShort, Draft
from gatebook.kernel.budget import Amount, Limits
from gatebook.kernel.events import AnyEvent, LedgersDeclared
from gatebook.kernel.spending.ledgers import Balance
from gatebook.ports import Journal, Lease
from gatebook.testing.clock import VirtualClock
from gatebook.testing.journal_facts.kit import requested, succeeded, working

ONE = Amount(tool_calls=1)
FIRST, SECOND = "day:2023-11-14", "day:2023-11-15"
LATE = 6_390  # seconds from the clock's beginning to ten seconds before midnight
DAILY = LedgersDeclared(ledgers={"day": Limits(tool_calls=1)})

Scenario = Callable[[Journal, VirtualClock], Awaitable[None]]


@pytest.fixture(params=["memory", "sqlite"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Scenario], None]:
    """Runs a scenario on a journal whose clock stands ten seconds before midnight."""

    def runs(scenario: Scenario) -> None:
        async def main() -> None:
            clock = VirtualClock()
            clock.advance(LATE)
            memory = request.param == "memory"
            journal: Journal = (
                MemoryJournal(clock=clock)
                if memory
                else SqliteJournal(tmp_path / "j.db", clock=clock)
            )
            await journal.open()
            try:
                await scenario(journal, clock)
            finally:
                await journal.close()

        asyncio.run(main())

    return runs


async def put(
    journal: Journal, lease: Lease, after: int, *events: AnyEvent, time: int | None = None
) -> list[int]:
    """Append as the worker of a lease, planned at `time`; return the stamps."""
    batch = Batch(events=events, append_id=b"%d" % after, epoch=lease.epoch, after=after, time=time)
    done = await journal.append(lease.run, batch)
    return [each.event.time for each in done.events]


def test_a_reservation_is_settled_on_its_own_day(run: Callable[[Scenario], None]) -> None:
    """Else the first day would stay reserved for good, and the second begin below zero."""

    async def scenario(journal: Journal, clock: VirtualClock) -> None:
        lease = await working(journal)
        await put(journal, lease, 1, DAILY, requested("1", reserve=ONE))

        clock.advance(20)
        await put(journal, lease, 3, succeeded("1", spent=ONE), requested("2", reserve=ONE))

        assert await journal.ledgers("default") == {
            FIRST: Balance(spent=ONE), SECOND: Balance(reserved=ONE),
        }  # fmt: skip

    run(scenario)


def test_a_new_day_begins_empty(run: Callable[[Scenario], None]) -> None:
    """What was refused before midnight is let through after it, and the text said when."""

    async def scenario(journal: Journal, clock: VirtualClock) -> None:
        lease = await working(journal)
        await put(journal, lease, 1, DAILY, requested("1", reserve=ONE))

        with pytest.raises(BudgetShort) as caught:
            await put(journal, lease, 3, requested("2", reserve=ONE))
        clock.advance(20)
        await put(journal, lease, 3, requested("2", reserve=ONE))

        assert caught.value.fields["renews"] == "it renews at 2023-11-15T00:00:00Z"
        assert (await journal.ledgers("default"))[SECOND] == Balance(reserved=ONE)

    run(scenario)


def test_a_worker_cannot_choose_the_day(run: Callable[[Scenario], None]) -> None:
    """A plan from before midnight that comes after it counts against the day that it is."""

    async def scenario(journal: Journal, clock: VirtualClock) -> None:
        lease = await working(journal)
        planned = clock.now()

        clock.advance(20)
        stamps = await put(journal, lease, 1, DAILY, requested("1", reserve=ONE), time=planned)

        assert stamps == [clock.now()] * 2
        assert set(await journal.ledgers("default")) == {SECOND}

    run(scenario)


def test_a_draft_of_yesterday_is_not_taken(run: Callable[[Scenario], None]) -> None:
    """Its rows say which ledger they move."""

    async def scenario(journal: Journal, clock: VirtualClock) -> None:
        lease = await working(journal)
        row = await journal.row(lease.run)
        draft = Draft(row.head, "r1", b"a", lease.epoch, clock.now())
        for event in (DAILY, requested("1", reserve=ONE)):
            draft.add(event)

        clock.advance(20)
        await journal.append(lease.run, draft.finish())

        assert set(await journal.ledgers("default")) == {SECOND}

    run(scenario)


def test_a_draft_books_what_its_rows_move(run: Callable[[Scenario], None]) -> None:
    """The way of a driven run: checked and folded once, and guarded by the ledger all the same."""

    async def scenario(journal: Journal, clock: VirtualClock) -> None:
        for name, want in (("a", None), ("b", "E_LEDGER")):
            lease = await working(journal, name)
            row = await journal.row(lease.run)
            draft = Draft(row.head, name, b"a", lease.epoch, clock.now())
            for event in (DAILY, requested("1", reserve=ONE)):
                draft.add(event)
            code = None

            try:
                await journal.append(lease.run, draft.finish())
            except BudgetShort as short:
                code = short.code

            assert code == want
        assert await journal.ledgers("default") == {FIRST: Balance(reserved=ONE)}

    run(scenario)
