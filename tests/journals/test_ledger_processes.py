"""Two journals over one file, as two processes have: each sees what the other has spent."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gatebook.journals import SqliteJournal
from gatebook.kernel.append import BudgetShort
from gatebook.kernel.budget import Amount, Limits
from gatebook.kernel.events import LedgersDeclared
from gatebook.kernel.spending.ledgers import Balance
from gatebook.ports import Journal, Lease
from gatebook.testing.journal_facts.kit import begin, claimed, inside, requested, succeeded

ONE = Amount(tool_calls=1)


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[Journal, Journal], Awaitable[None]]], None]:
    """Runs a scenario on two open journals over one file."""

    def runs(scenario: Callable[[Journal, Journal], Awaitable[None]]) -> None:
        async def main() -> None:
            one, two = (SqliteJournal(tmp_path / "j.db") for _ in range(2))
            await one.open()
            await two.open()
            try:
                await scenario(one, two)
            finally:
                await two.close()
                await one.close()

        asyncio.run(main())

    return runs


async def counting(journal: Journal, id: str, limit: int) -> Lease:
    """A claimed run that counts against the tenant's ledger."""
    lease = await claimed(journal, await begin(journal, id), owner=f"of {id}")
    declared = LedgersDeclared(ledgers={"tenant": Limits(tool_calls=limit)})
    await journal.append(lease.run, inside(lease, 1, declared))
    return lease


async def spends(journal: Journal, lease: Lease, after: int, address: str) -> bool:
    """Whether a call was let through."""
    try:
        await journal.append(lease.run, inside(lease, after, requested(address, reserve=ONE)))
    except BudgetShort:
        return False
    return True


def test_each_process_sees_what_the_other_has_reserved(
    run: Callable[[Callable[[Journal, Journal], Awaitable[None]]], None],
) -> None:
    """What was read once is not what is there now."""

    async def scenario(one: Journal, two: Journal) -> None:
        a, b = await counting(one, "a", 4), await counting(two, "b", 4)

        let_through = [
            await spends(journal, lease, after, f"{after}")
            for after in range(2, 5)
            for journal, lease in ((one, a), (two, b))
        ]

        assert let_through == [True] * 4 + [False] * 2
        assert await one.ledgers("default") == {"tenant": Balance(reserved=Amount(tool_calls=4))}

    run(scenario)


def test_what_one_process_settles_the_other_can_spend(
    run: Callable[[Callable[[Journal, Journal], Awaitable[None]]], None],
) -> None:
    """Else a ledger would look full for as long as a process lives."""

    async def scenario(one: Journal, two: Journal) -> None:
        a, b = await counting(one, "a", 1), await counting(two, "b", 1)
        assert await spends(one, a, 2, "1")
        assert not await spends(two, b, 2, "1")

        await one.append(a.run, inside(a, 3, succeeded("1", spent=Amount())))

        assert await spends(two, b, 2, "1")

    run(scenario)
