"""Approvals, grants and deferrals: who may append what, and that it holds inside the append."""

import asyncio
from typing import Any

import pytest

from gatebook.errors import InvalidInput, StoreError
from gatebook.kernel.actions import CallTool, action_digest
from gatebook.kernel.approvals.events import (
    ActionDeferred,
    ApprovalAnswered,
    ApprovalAsked,
    ApprovalExpired,
    DeferralEnded,
    Granted,
    GrantRevoked,
)
from gatebook.kernel.approvals.standing import binding
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import ActionRequested, AnyEvent, DecisionRecord
from gatebook.ports import Journal
from gatebook.testing.journal_facts.kit import (
    begin,
    claimed,
    fact,
    inside,
    kinds,
    outside,
    succeeded,
    working,
)

CALL = CallTool("t", Raw(b"{}"))
BOUND = binding("default", "r1", "1", CALL, "")
HOUR_MS = 3_600_000
FAR = 2**53  # microseconds: some day in 2255


def asks(*, expires_ms: int = HOUR_MS) -> ApprovalAsked:
    """Return a question about the call at address 1."""
    return ApprovalAsked(
        address="1",
        action=CALL,
        digest=action_digest(CALL),
        bound=BOUND,
        requester="rita",
        expires_ms=expires_ms,
    )


def says(answer: Any = "approve", *, by: str = "ann") -> ApprovalAnswered:
    """Return an answer to the question at seq 2."""
    return ApprovalAnswered(address="1", asked=2, answer=answer, by=by)


def wants(**decision: Any) -> ActionRequested:
    """Return the request of the call, under its approval."""
    fields = {"verdict": "ask", "approval": BOUND} | decision
    return ActionRequested(address="1", action=CALL, decision=DecisionRecord(**fields))


def granted() -> Granted:
    """Return a grant of the call's tool, for a long time."""
    return Granted(tool="t", definition="", until=FAR, by="ann")


class ApprovalFacts:
    """Facts about what people say before an action starts."""

    @pytest.mark.parametrize(
        "event",
        [
            asks(),
            ApprovalExpired(address="1", asked=2),
            ActionDeferred(address="1", action=CALL, decision=DecisionRecord("defer")),
            DeferralEnded(address="1"),
        ],
        ids=lambda event: type(event).__name__,
    )
    def test_only_the_worker_asks_expires_and_defers(
        self, journal: Journal, event: AnyEvent
    ) -> None:
        """A face that could append these could hold up any run."""

        @fact
        async def scenario(self: object, journal: Journal) -> None:
            run = await begin(journal)

            with pytest.raises(StoreError) as caught:
                await journal.append(run, outside(event))

            assert caught.value.code == "E_EVENT_EXTERNAL"

        scenario(self, journal)

    @fact
    async def test_an_approval_is_used_by_one_request(self, journal: Journal) -> None:
        """The second finds it used, in whatever process it was decided."""
        lease = await working(journal)
        await journal.append(lease.run, inside(lease, 1, asks()))
        await journal.append(lease.run, outside(says()))
        await journal.append(lease.run, inside(lease, 3, wants()))
        await journal.append(lease.run, inside(lease, 4, succeeded("1")))

        with pytest.raises(InvalidInput) as caught:
            await journal.append(lease.run, inside(lease, 5, wants()))

        assert caught.value.code == "E_APPROVAL_STATE"
        assert (await journal.row(lease.run)).head.seq == 5

    @fact
    async def test_what_nobody_approved_is_not_requested(self, journal: Journal) -> None:
        """Not even by the worker that asked."""
        lease = await working(journal)
        await journal.append(lease.run, inside(lease, 1, asks()))

        with pytest.raises(InvalidInput) as caught:
            await journal.append(lease.run, inside(lease, 2, wants()))

        assert caught.value.code == "E_APPROVAL_STATE"

    @fact
    async def test_of_two_answers_the_second_is_told(self, journal: Journal) -> None:
        """First wins: two people may look at one question at once."""
        lease = await working(journal)
        await journal.append(lease.run, inside(lease, 1, asks()))

        answers = await asyncio.gather(
            journal.append(lease.run, outside(says(by="ann"))),
            journal.append(lease.run, outside(says("deny", by="bob"))),
            return_exceptions=True,
        )

        (refused,) = [each for each in answers if isinstance(each, InvalidInput)]
        assert refused.code == "E_APPROVAL_ANSWERED"
        assert (await kinds(journal, lease.run)).count("approval_answered") == 1

    @fact
    async def test_an_approval_ends_by_the_stores_clock(self, journal: Journal) -> None:
        """Inside the append, whatever the clock of whoever answers shows."""
        lease = await working(journal)
        await journal.append(lease.run, inside(lease, 1, asks(expires_ms=0)))

        with pytest.raises(InvalidInput) as caught:
            await journal.append(lease.run, outside(says()))

        assert caught.value.code == "E_APPROVAL_EXPIRED"

    @fact
    async def test_an_answer_makes_a_parked_run_due(self, journal: Journal) -> None:
        """Whoever parked it until the approval expires has to look now."""
        lease = await working(journal)
        await journal.append(lease.run, inside(lease, 1, asks()))
        await journal.park(lease, after=2, wake_at=FAR, waiting_on="approval 2")
        assert await journal.due("default", programs=["p"]) == []

        await journal.append(lease.run, outside(says()))

        assert await journal.due("default", programs=["p"]) == [lease.run]

    @fact
    async def test_questions_and_grants_outlive_their_worker(self, journal: Journal) -> None:
        """They are in the head, where the next append looks."""
        lease = await working(journal)
        await journal.append(lease.run, inside(lease, 1, asks()))
        await journal.append(lease.run, outside(granted()))
        before = (await journal.row(lease.run)).head.approvals
        await journal.park(lease, after=3, wake_at=None, waiting_on="approval 2")

        again = await claimed(journal, lease.run, owner="w2")

        assert (await journal.row(again.run)).head.approvals == before
        assert before.asked["1"].seq == 2
        assert before.grants[3].tool == "t"

    @fact
    async def test_a_grant_is_revoked_once(self, journal: Journal) -> None:
        """The second is told, and what it let through is not."""
        lease = await working(journal)
        await journal.append(lease.run, outside(granted()))
        request = wants(approval="", grant=2)
        await journal.append(lease.run, outside(GrantRevoked(grant=2, by="bob")))

        with pytest.raises(InvalidInput) as caught:
            await journal.append(lease.run, outside(GrantRevoked(grant=2, by="eve")))
        with pytest.raises(InvalidInput) as late:
            await journal.append(lease.run, inside(lease, 3, request))

        assert caught.value.code == late.value.code == "E_GRANT_UNKNOWN"
