"""Who may drive a run, for how long, and how the next one gets it."""

import asyncio

import pytest

from gatebook.errors import Conflict, Fenced, RunNotFound
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import RunCompleted
from gatebook.ports import Journal, Lease, ParkedReason, RunKey
from gatebook.testing.journal_facts.kit import (
    LONG_MS,
    begin,
    claimed,
    eventually,
    fact,
    inside,
    note,
    outside,
    requested,
    signal,
    working,
)

SHORT_MS = 1  # a lease that lapses while nobody looks


async def lapsed(journal: Journal, id: str = "r1") -> Lease:
    """Return a lease of worker w1 that its time has run out on."""
    run = await begin(journal, id)
    lease = await journal.claim(run, owner="w1", ttl_ms=SHORT_MS)
    assert lease is not None
    until = (await journal.row(run)).lease_until

    async def over() -> bool:
        return journal.now() > until

    await eventually(over)
    return lease


async def taken(journal: Journal, run: RunKey) -> Lease:
    """Claim a run whose holder let it lapse, as soon as the journal allows it."""
    return await eventually(lambda: journal.claim(run, owner="w2", ttl_ms=SHORT_MS))  # type: ignore[arg-type,return-value]


class LeaseFacts:
    """Facts about `claim`, `renew`, `park` and `due`."""

    @fact
    async def test_a_claim_bumps_the_epoch(self, journal: Journal) -> None:
        """The epoch is what fences everybody who held the run before."""
        run = await begin(journal)

        lease = await claimed(journal, run)

        row = await journal.row(run)
        assert lease == Lease(run, "w1", row.head.epoch)
        assert (row.owner, row.head.epoch) == ("w1", 1)
        assert row.lease_until > journal.now()

    @fact
    async def test_a_held_run_cannot_be_claimed_by_another(self, journal: Journal) -> None:
        """Two workers on one run would run its effects twice."""
        lease = await working(journal)

        assert await journal.claim(lease.run, owner="w2", ttl_ms=LONG_MS) is None
        assert (await journal.row(lease.run)).owner == "w1"

    @fact
    async def test_of_concurrent_claims_one_gets_the_run(self, journal: Journal) -> None:
        """A wake-up reaches all workers at once."""
        run = await begin(journal)

        leases = await asyncio.gather(
            *(journal.claim(run, owner=f"w{i}", ttl_ms=LONG_MS) for i in range(20))
        )

        assert sum(lease is not None for lease in leases) == 1
        assert (await journal.row(run)).head.epoch == 1

    @fact
    async def test_a_worker_may_claim_again_and_fences_itself(self, journal: Journal) -> None:
        """A worker that lost track of a run takes it up anew, under a new epoch."""
        old = await working(journal)

        new = await claimed(journal, old.run)
        await journal.append(old.run, inside(new, 1, requested("1")))

        with pytest.raises(Fenced):
            await journal.append(old.run, inside(old, 2, note()))
        assert new.epoch == old.epoch + 1

    @fact
    async def test_a_lapsed_lease_can_be_taken_over(self, journal: Journal) -> None:
        """A run must not wait for ever for a worker that is gone."""
        old = await lapsed(journal)

        new = await taken(journal, old.run)

        assert new.epoch == old.epoch + 1
        assert await journal.renew("w1", [old], ttl_ms=LONG_MS) == [old]
        with pytest.raises(Fenced):
            await journal.append(old.run, inside(old, 1, note()))
        with pytest.raises(Fenced):
            await journal.park(old, after=1, wake_at=None, waiting_on="")

    @fact
    async def test_renewal_keeps_a_run(self, journal: Journal) -> None:
        """A long action must not cost a healthy worker its run."""
        lease = await lapsed(journal)

        lost = await journal.renew("w1", [lease], ttl_ms=LONG_MS)

        assert lost == []
        assert await journal.claim(lease.run, owner="w2", ttl_ms=SHORT_MS) is None
        assert await journal.due("default", programs=["p"]) == []

    @fact
    async def test_renewal_tells_which_leases_were_lost(self, journal: Journal) -> None:
        """One lost run must not stop the others, nor hide among them, nor behind a later claim."""
        kept = await working(journal, "kept")
        lost = await working(journal, "lost")
        later = await claimed(journal, lost.run)
        absent = Lease(RunKey("default", "absent"), "w1", 1)

        answer = await journal.renew("w1", [lost, later, kept, absent], ttl_ms=LONG_MS)

        assert answer == [lost, absent]

    @fact
    async def test_a_run_that_ended_is_free_and_not_lost(self, journal: Journal) -> None:
        """The heartbeat of a run that has just ended must not raise an alarm."""
        lease = await working(journal)
        await journal.append(lease.run, inside(lease, 1, RunCompleted(output=Raw(b"1"))))

        assert await journal.renew("w1", [lease], ttl_ms=LONG_MS) == []
        assert await journal.claim(lease.run, owner="w1", ttl_ms=LONG_MS) is None
        assert await journal.due("default", programs=["p"]) == []
        assert (await journal.row(lease.run)).owner == ""

    @fact
    async def test_parking_frees_a_run_until_its_time(self, journal: Journal) -> None:
        """A sleeping run needs no process, and any worker may wake it."""
        lease = await working(journal)
        later = journal.now() + LONG_MS * 1000

        await journal.park(lease, after=1, wake_at=later, waiting_on="sleep 1 h")

        row = await journal.row(lease.run)
        assert (row.owner, row.wake_at, row.waiting_on) == ("", later, "sleep 1 h")
        assert await journal.due("default", programs=["p"]) == []
        assert await journal.claim(lease.run, owner="w2", ttl_ms=LONG_MS) is not None

    @fact
    async def test_a_signal_between_check_and_park_is_a_conflict(self, journal: Journal) -> None:
        """A peer lost the event that came between the look and the sleep."""
        lease = await working(journal)
        await journal.append(lease.run, outside(signal()))

        with pytest.raises(Conflict) as caught:
            await journal.park(lease, after=1, wake_at=None, waiting_on="signal go")

        assert list(caught.value.tail) == await journal.read(lease.run, after=1)
        assert (await journal.row(lease.run)).owner == "w1"

    @fact
    async def test_park_and_signal_at_once_lose_nothing(self, journal: Journal) -> None:
        """Whichever comes first, the run is held with a conflict, or due."""
        leases = [await working(journal, f"r{i}") for i in range(16)]

        answers = await asyncio.gather(
            *(
                job
                for lease in leases
                for job in (
                    journal.park(lease, after=1, wake_at=None, waiting_on="signal go"),
                    journal.append(lease.run, outside(signal())),
                )
            ),
            return_exceptions=True,
        )

        due = await journal.due("default", programs=["p"])
        for lease, parked in zip(leases, answers[::2], strict=True):
            assert isinstance(parked, Conflict) or lease.run in due

    @fact
    async def test_a_run_parked_for_a_reason_is_left_alone(self, journal: Journal) -> None:
        """Recovery must not drive a run again and again that its code cannot continue."""
        lease = await working(journal)

        await journal.park(
            lease, after=1, wake_at=None, waiting_on="", reason=ParkedReason.DIVERGED
        )

        assert await journal.due("default", programs=["p"]) == []
        assert await journal.claim(lease.run, owner="w2", ttl_ms=LONG_MS) is None
        assert (await journal.row(lease.run)).parked_reason == "diverged"

    @fact
    async def test_due_runs_come_oldest_first(self, journal: Journal) -> None:
        """No run may starve behind newer ones."""
        leases = [await working(journal, f"r{i}") for i in range(3)]
        for lease, wake_at in zip(leases, (30, 10, 20), strict=True):
            await journal.park(lease, after=1, wake_at=wake_at, waiting_on="")

        due = await journal.due("default", programs=["p"])

        assert [run.id for run in due] == ["r1", "r2", "r0"]
        assert await journal.due("default", programs=["p"], limit=1) == due[:1]

    @fact
    async def test_due_names_only_ones_own_programs(self, journal: Journal) -> None:
        """A worker cannot drive what it has no code for."""
        mine = await begin(journal, "mine", program="mine")
        await begin(journal, "other", program="other")

        assert await journal.due("default", programs=["mine", "third"]) == [mine]
        assert await journal.due("default", programs=[]) == []

    @fact
    async def test_a_held_run_is_due_when_its_lease_has_lapsed(self, journal: Journal) -> None:
        """Recovery is nobody's extra job: whoever looks for work finds it."""
        held = await working(journal, "held")
        lease = await lapsed(journal, "lapsed")

        async def look() -> list[RunKey]:
            return await journal.due("default", programs=["p"])

        assert held.run not in await look()
        assert (await taken(journal, lease.run)).owner == "w2"

    @fact
    async def test_closing_frees_what_this_process_held(self, journal: Journal) -> None:
        """A restart should not wait for the leases of the process it replaces."""
        lease = await working(journal)
        await journal.close()
        await journal.open()

        assert await journal.due("default", programs=["p"]) == [lease.run]
        assert await journal.claim(lease.run, owner="w2", ttl_ms=LONG_MS) is not None

    @fact
    async def test_an_absent_run_cannot_be_claimed_or_parked(self, journal: Journal) -> None:
        """A wrong id is the caller's to notice."""
        run = RunKey("default", "absent")

        with pytest.raises(RunNotFound):
            await journal.claim(run, owner="w1", ttl_ms=LONG_MS)
        with pytest.raises(RunNotFound):
            await journal.park(Lease(run, "w1", 1), after=0, wake_at=None, waiting_on="")
