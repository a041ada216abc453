"""What an append reserves and settles on the ledgers that all runs of a tenant share."""

import asyncio

import pytest

from gatebook.kernel.append import BudgetShort
from gatebook.kernel.budget import Amount, Limits
from gatebook.kernel.events import (
    ActionFailed,
    ActionResolved,
    AttemptFailed,
    AttemptStarted,
    ErrorRecord,
    LedgersDeclared,
    RunCompleted,
)
from gatebook.kernel.spending.ledgers import Balance, key_of
from gatebook.ports import Appended, Journal, Lease
from gatebook.testing.journal_facts.kit import (
    fact,
    inside,
    outside,
    requested,
    succeeded,
    unknown,
    working,
)

ERROR = ErrorRecord("E_PROVIDER", "text", "transient")
TENANT = "tenant"


def calls(count: int) -> Amount:
    """So many tool calls."""
    return Amount(tool_calls=count)


async def counting(
    journal: Journal, id: str = "r1", *, limit: int | None = 10, tenant: str = "default"
) -> Lease:
    """Return a claimed run at seq 2 that counts against the tenant's ledger."""
    lease = await working(journal, id, tenant=tenant)
    declared = LedgersDeclared(ledgers={TENANT: Limits(tool_calls=limit)})
    await journal.append(lease.run, inside(lease, 1, declared))
    return lease


async def ask(
    journal: Journal, lease: Lease, after: int, address: str, want: int = 1
) -> Appended | BudgetShort:
    """Request a call; return the refusal when the ledger cannot carry it."""
    batch = inside(lease, after, requested(address, reserve=calls(want)))
    try:
        return await journal.append(lease.run, batch)
    except BudgetShort as short:
        return short


async def tenants(journal: Journal, tenant: str = "default") -> Balance:
    """Return the balance of the tenant's ledger."""
    return (await journal.ledgers(tenant)).get(TENANT, Balance())


class LedgerFacts:
    """Facts about ledgers."""

    @fact
    async def test_a_run_that_declares_no_ledger_counts_against_none(
        self, journal: Journal
    ) -> None:
        """What is not used must cost nothing and hold nothing."""
        lease = await working(journal)

        await journal.append(lease.run, inside(lease, 1, requested("1", reserve=calls(1))))

        assert await journal.ledgers("default") == {}

    @fact
    async def test_a_request_reserves_and_its_outcome_settles(self, journal: Journal) -> None:
        """Both in the append that records them, so no crash can come between."""
        lease = await counting(journal)

        await ask(journal, lease, 2, "1", want=5)
        held = await tenants(journal)
        await journal.append(lease.run, inside(lease, 3, succeeded("1", spent=calls(3))))

        assert held == Balance(reserved=calls(5))
        assert await tenants(journal) == Balance(spent=calls(3))

    @fact
    async def test_a_request_that_a_ledger_cannot_carry_is_refused(self, journal: Journal) -> None:
        """The text must say which ledger, what is left of it and when it renews."""
        lease = await counting(journal)
        await ask(journal, lease, 2, "1", want=8)
        before = await journal.row(lease.run)

        short = await ask(journal, lease, 3, "2", want=3)

        assert isinstance(short, BudgetShort)
        assert short.code == "E_LEDGER"
        assert short.fields == {
            "tool": "2", "ledger": TENANT, "meter": "tool_calls", "limit": 10, "used": 8,
            "left": 2, "want": 3, "renews": "it does not renew",
        }  # fmt: skip
        assert await journal.row(lease.run) == before
        assert await tenants(journal) == Balance(reserved=calls(8))

    @fact
    async def test_a_refused_batch_books_nothing(self, journal: Journal) -> None:
        """Half a batch in the ledger would never be settled."""
        lease = await counting(journal)
        batch = inside(lease, 2, requested("1", reserve=calls(9)), requested("2", reserve=calls(2)))

        with pytest.raises(BudgetShort):
            await journal.append(lease.run, batch)

        assert await tenants(journal) == Balance()

    @fact
    async def test_what_a_batch_settles_may_carry_what_it_requests(self, journal: Journal) -> None:
        """An outcome and the next request are one append, in that order."""
        lease = await counting(journal)
        await ask(journal, lease, 2, "1", want=10)
        batch = inside(
            lease, 3, succeeded("1", spent=calls(1)), requested("2", reserve=calls(9))
        )  # fmt: skip

        await journal.append(lease.run, batch)

        assert await tenants(journal) == Balance(calls(9), calls(1))

    @fact
    async def test_runs_of_a_tenant_share_and_other_tenants_do_not(self, journal: Journal) -> None:
        """One tenant must be able to starve itself, and nobody else."""
        one, two = await counting(journal, "a"), await counting(journal, "b")
        other = await counting(journal, "a", tenant="other")

        await ask(journal, one, 2, "1", want=6)
        shared = await ask(journal, two, 2, "1", want=6)
        apart = await ask(journal, other, 2, "1", want=6)

        assert isinstance(shared, BudgetShort)
        assert isinstance(apart, Appended)
        assert (await tenants(journal), await tenants(journal, "other")) == (
            Balance(calls(6)), Balance(calls(6)),
        )  # fmt: skip

    @fact
    async def test_concurrent_runs_never_pass_the_limit(self, journal: Journal) -> None:
        """In peers each of many concurrent runs found room for itself, and all of them went."""
        leases = [await counting(journal, f"r{n}", limit=7) for n in range(30)]

        answers = await asyncio.gather(*(ask(journal, each, 2, "1") for each in leases))

        assert sum(isinstance(answer, Appended) for answer in answers) == 7
        assert await tenants(journal) == Balance(reserved=calls(7))

    @fact
    async def test_a_retry_is_charged_and_reserves_anew(self, journal: Journal) -> None:
        """A failed attempt called the tool too."""
        lease = await counting(journal, limit=2)
        await ask(journal, lease, 2, "1")
        failed = AttemptFailed(address="1", attempt=0, error=ERROR, delay_ms=0)
        again = AttemptStarted(address="1", attempt=1, reserve=calls(1))

        await journal.append(lease.run, inside(lease, 3, failed, again))
        more = await ask(journal, lease, 5, "2")

        assert isinstance(more, BudgetShort)
        assert await tenants(journal) == Balance(calls(1), calls(1))

    @fact
    async def test_a_lost_attempt_is_charged_at_its_reservation(self, journal: Journal) -> None:
        """Nobody knows what it took, so it took what it could."""
        lease = await counting(journal)
        await ask(journal, lease, 2, "1", want=4)
        again = AttemptStarted(address="1", attempt=1, reserve=calls(4), cause="recovery")

        await journal.append(lease.run, inside(lease, 3, again))

        assert await tenants(journal) == Balance(calls(4), calls(4))

    @fact
    async def test_an_unknown_outcome_holds_until_it_is_resolved(self, journal: Journal) -> None:
        """What may have been spent is not anybody else's to spend."""
        lease = await counting(journal)
        await ask(journal, lease, 2, "1", want=4)

        await journal.append(lease.run, inside(lease, 3, unknown("1")))
        held = await tenants(journal)
        resolved = ActionResolved(address="1", resolution="failed")
        await journal.append(lease.run, outside(resolved))

        assert held == Balance(reserved=calls(4))
        assert await tenants(journal) == Balance(spent=calls(4))

    @fact
    async def test_the_end_of_a_run_settles_what_is_unknown(self, journal: Journal) -> None:
        """A reservation that nobody can settle any more would be lost to all other runs."""
        lease = await counting(journal)
        await ask(journal, lease, 2, "1", want=4)
        await journal.append(lease.run, inside(lease, 3, unknown("1")))

        await journal.append(lease.run, inside(lease, 4, RunCompleted()))
        await journal.append(lease.run, outside(ActionResolved(address="1", resolution="failed")))

        assert await tenants(journal) == Balance(spent=calls(4))

    @fact
    async def test_an_overrun_is_kept_and_blocks_the_next_request(self, journal: Journal) -> None:
        """What has happened is taken; what is not yet started can be refused."""
        lease = await counting(journal)
        await ask(journal, lease, 2, "1")

        await journal.append(lease.run, inside(lease, 3, succeeded("1", spent=calls(50))))
        more = await ask(journal, lease, 4, "2")

        assert await tenants(journal) == Balance(spent=calls(50))
        assert isinstance(more, BudgetShort)
        assert (more.fields["used"], more.fields["left"]) == (50, 0)

    @fact
    async def test_a_ledger_without_a_limit_only_counts(self, journal: Journal) -> None:
        """So that somebody can see what a limit would have to be."""
        lease = await counting(journal, limit=None)

        await ask(journal, lease, 2, "1", want=10**6)

        assert await tenants(journal) == Balance(reserved=calls(10**6))

    @fact
    async def test_a_reservation_is_settled_though_the_ledger_is_not_declared_any_more(
        self, journal: Journal
    ) -> None:
        """Settings change while calls are in flight."""
        lease = await counting(journal)
        await ask(journal, lease, 2, "1", want=4)

        await journal.append(lease.run, inside(lease, 3, LedgersDeclared(ledgers={})))
        await ask(journal, lease, 4, "2", want=100)
        failed = ActionFailed(address="1", error=ERROR, spent=calls(2))
        await journal.append(lease.run, inside(lease, 5, failed))

        assert await tenants(journal) == Balance(spent=calls(2))

    @fact
    async def test_the_ledger_of_a_day_is_that_of_the_stamp(self, journal: Journal) -> None:
        """Whoever reads the journal must be able to add it up again."""
        lease = await working(journal)
        declared = LedgersDeclared(ledgers={"day": Limits()})
        done = await journal.append(
            lease.run, inside(lease, 1, declared, requested("1", reserve=calls(1)))
        )

        assert await journal.ledgers("default") == {
            key_of("day", done.events[-1].event.time): Balance(reserved=calls(1))
        }

    @fact
    async def test_balances_outlive_a_close(self, journal: Journal) -> None:
        """A limit that a restart lifts is none."""
        lease = await counting(journal)
        await ask(journal, lease, 2, "1", want=4)

        await journal.close()
        await journal.open()

        assert await tenants(journal) == Balance(reserved=calls(4))
