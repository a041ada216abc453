"""What may be appended without a claim, and what it does to a run."""

import asyncio

import pytest

from gatebook.errors import Conflict, InvalidInput, StoreError
from gatebook.kernel.append import MAX_KEPT_SIGNALS
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import (
    ActionResolved,
    AnyEvent,
    CancelRequested,
    Interrupted,
    Resumed,
    RunCancelled,
    RunCompleted,
)
from gatebook.kernel.events import ErrorRecord as Problem
from gatebook.kernel.status import Status
from gatebook.ports import Journal, ParkedReason
from gatebook.testing.journal_facts.kit import (
    begin,
    fact,
    inside,
    kind,
    kinds,
    outside,
    requested,
    signal,
    succeeded,
    unknown,
    working,
)


class OutsiderFacts:
    """Facts about signals, cancels, resolutions and the rest that anybody may append."""

    @pytest.mark.parametrize(
        "event",
        [requested("1"), succeeded("1"), unknown("1"), RunCompleted(), RunCancelled()],
        ids=lambda event: type(event).__name__,
    )
    def test_only_the_worker_appends_requests_outcomes_and_ends(
        self, journal: Journal, event: AnyEvent
    ) -> None:
        """A face that could append these would be a way round the gate."""

        @fact
        async def scenario(self: object, journal: Journal) -> None:
            lease = await working(journal)
            await journal.append(lease.run, inside(lease, 1, requested("1")))

            with pytest.raises(StoreError) as caught:
                await journal.append(lease.run, outside(event))

            assert caught.value.code == "E_EVENT_EXTERNAL"
            assert (await journal.row(lease.run)).head.seq == 2

        scenario(self, journal)

    @fact
    async def test_a_signal_before_its_wait_is_kept(self, journal: Journal) -> None:
        """Peers dropped signals that came early."""
        run = await begin(journal)

        await journal.append(run, outside(signal("go")))

        assert await kinds(journal, run) == ["run_started", "signal_received"]
        assert (await journal.row(run)).head.kept_signals == 1

    @fact
    async def test_a_run_keeps_a_limited_number_of_signals(self, journal: Journal) -> None:
        """A sender in a loop must not fill the store through a run that never listens."""
        run = await begin(journal)
        await journal.append(run, outside(*(signal() for _ in range(MAX_KEPT_SIGNALS))))

        with pytest.raises(InvalidInput) as caught:
            await journal.append(run, outside(signal()))

        assert caught.value.code == "E_SIGNAL_LIMIT"
        assert (await journal.row(run)).head.seq == MAX_KEPT_SIGNALS + 1

    @fact
    async def test_after_a_cancel_no_request_is_accepted(self, journal: Journal) -> None:
        """Cancel and request are totally ordered, so a cancel is never merely hoped for."""
        lease = await working(journal)
        await journal.append(lease.run, outside(CancelRequested(reason="enough")))

        with pytest.raises(InvalidInput) as caught:
            await journal.append(lease.run, inside(lease, 2, requested("1")))

        assert caught.value.code == "E_NOT_STARTING"
        assert (await journal.row(lease.run)).head.cancel_seq == 2

    @fact
    async def test_a_worker_learns_of_a_cancel_by_conflict(self, journal: Journal) -> None:
        """The request that was decided before the cancel must come back with it."""
        lease = await working(journal)
        await journal.append(lease.run, outside(CancelRequested()))

        with pytest.raises(Conflict) as caught:
            await journal.append(lease.run, inside(lease, 1, requested("1")))

        assert [kind(r) for r in caught.value.tail] == ["cancel_requested"]

    @fact
    async def test_an_outcome_after_a_cancel_is_accepted(self, journal: Journal) -> None:
        """What was in flight has happened; its record must not depend on the cancel."""
        lease = await working(journal)
        await journal.append(lease.run, inside(lease, 1, requested("1")))
        await journal.append(lease.run, outside(CancelRequested()))

        done = await journal.append(lease.run, inside(lease, None, succeeded("1"), RunCancelled()))

        assert done.head.status is Status.CANCELLED

    @fact
    async def test_of_two_cancels_the_second_is_told(self, journal: Journal) -> None:
        """First wins: who cancelled is a fact, not the last writer's."""
        run = await begin(journal)

        answers = await asyncio.gather(
            *(journal.append(run, outside(CancelRequested(by=str(i)))) for i in range(2)),
            return_exceptions=True,
        )

        (refused,) = [a for a in answers if isinstance(a, InvalidInput)]
        assert refused.code == "E_ALREADY_CANCELLING"
        assert await kinds(journal, run) == ["run_started", "cancel_requested"]

    @fact
    async def test_only_an_unknown_action_can_be_resolved(self, journal: Journal) -> None:
        """A person must not overrule a worker that is still at it."""
        lease = await working(journal)
        await journal.append(lease.run, inside(lease, 1, requested("1")))

        with pytest.raises(InvalidInput) as caught:
            await journal.append(
                lease.run, outside(ActionResolved(address="1", resolution="failed"))
            )

        assert caught.value.code == "E_ACTION_NOT_UNKNOWN"

    @fact
    async def test_of_two_resolutions_the_first_stands(self, journal: Journal) -> None:
        """Two people may look at one unknown action; it gets one outcome."""
        lease = await working(journal)
        await journal.append(lease.run, inside(lease, 1, requested("1")))
        await journal.append(lease.run, inside(lease, 2, unknown("1")))
        answer = ActionResolved(address="1", resolution="succeeded", output=Raw(b"1"))

        await journal.append(lease.run, outside(answer))
        with pytest.raises(InvalidInput) as caught:
            await journal.append(lease.run, outside(answer))

        assert caught.value.code == "E_ACTION_NOT_UNKNOWN"
        assert (await kinds(journal, lease.run)).count("action_resolved") == 1

    @fact
    async def test_only_an_interrupted_run_can_be_resumed(self, journal: Journal) -> None:
        """A resume that does nothing must say so."""
        lease = await working(journal)
        with pytest.raises(InvalidInput) as caught:
            await journal.append(lease.run, outside(Resumed()))
        await journal.append(lease.run, inside(lease, 1, Interrupted(error=Problem("E", "x"))))

        done = await journal.append(lease.run, outside(Resumed()))

        assert caught.value.code == "E_NOT_INTERRUPTED"
        assert done.head.status is Status.RUNNING

    @fact
    async def test_an_outside_append_makes_a_parked_run_due(self, journal: Journal) -> None:
        """Whoever parked it for days has to look now; the wake-up is in the same transaction."""
        lease = await working(journal)
        await journal.park(lease, after=1, wake_at=None, waiting_on="signal go")
        assert await journal.due("default", programs=["p"]) == []

        await journal.append(lease.run, outside(signal("go")))

        assert await journal.due("default", programs=["p"]) == [lease.run]

    @fact
    async def test_an_outside_append_lifts_what_a_run_is_parked_for(self, journal: Journal) -> None:
        """A run that nobody may drive could otherwise never be cancelled."""
        lease = await working(journal)
        reason = ParkedReason.DIVERGED
        await journal.park(lease, after=1, wake_at=None, waiting_on="code", reason=reason)

        await journal.append(lease.run, outside(CancelRequested()))

        assert (await journal.row(lease.run)).parked_reason == ""
        assert await journal.due("default", programs=["p"]) == [lease.run]
