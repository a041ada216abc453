"""Section F, 81 to 86: answers that are none, late, doubled, for other bytes or one's own."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gatebook import Approval, ApprovalTerms, InvalidInput
from gatebook.kernel.append import Batch
from gatebook.kernel.approvals.events import ApprovalAnswered
from gatebook.ports import RunKey
from tests.catalogue.kit import Desk, legible, refused
from tests.runtime.approving import ALL, Asks, Bank
from tests.runtime.kit import run

ANYBODY = ApprovalTerms(choices=ALL)


@asynccontextmanager
async def asked(*terms: ApprovalTerms) -> AsyncIterator[tuple[Desk, Any, Approval, Bank]]:
    """A run that waits for somebody's word about a payment of 50."""
    desk, bank = Desk(policy=Asks(*(terms or (ANYBODY,)))), Bank()
    async with desk.open() as runtime:
        context = {"user": "rita"}
        handle = await runtime.start(bank.paying(50), None, run_id="r", context=context)
        await desk.settled(handle)
        (approval,) = [found async for found in runtime.approvals()]
        yield desk, handle, approval, bank


async def said(desk: Desk, approval: Approval, answer: Any) -> None:
    """Append an answer as a face with a bug would."""
    event = ApprovalAnswered(address=approval.address, asked=approval.seq, answer=answer, by="ann")
    await desk.journal.append(RunKey("default", "r"), Batch(events=(event,), append_id=b"a" * 8))


@pytest.mark.parametrize("answer", [None, "true", True, "yes", ""])
def test_81_what_is_no_answer(answer: Any) -> None:
    """E_APPROVAL_DECISION: only the three words count, whoever writes them."""

    async def scenario() -> None:
        async with asked() as (desk, _, approval, bank):
            async with refused(desk.journal, "E_APPROVAL_DECISION", repr(answer)):
                await said(desk, approval, answer)
            assert bank.paid == []

    run(scenario())


Answer = Callable[[Desk, Any, Approval], Awaitable[Any]]


async def used(desk: Desk, handle: Any, approval: Approval) -> None:
    await approval.approve(by="ann")
    await desk.settled(handle)


async def late(desk: Desk, handle: Any, approval: Approval) -> None:
    desk.clock.advance(86_400)
    await desk.settled(handle)


async def denied(desk: Desk, handle: Any, approval: Approval) -> None:
    await approval.deny(by="bob")
    await desk.settled(handle)


async def nothing(desk: Desk, handle: Any, approval: Approval) -> None:
    """Leave the question as it is."""


@pytest.mark.parametrize(
    ("before", "by", "code"),
    [
        (used, "bob", "E_APPROVAL_CONSUMED"),
        (late, "ann", "E_APPROVAL_EXPIRED"),
        (nothing, "rita", "E_APPROVAL_SELF"),
        (denied, "ann", "E_APPROVAL_ANSWERED"),
        (nothing, " ", "E_APPROVAL_BY"),
    ],
    ids=["83 used", "84 expired", "85 own", "86 denied", "nobody"],
)
def test_83_to_86_an_answer_that_cannot_count(before: Answer, by: str, code: str) -> None:
    """Each its own code, and nothing is written."""

    async def scenario() -> None:
        async with asked() as (desk, handle, approval, _):
            await before(desk, handle, approval)
            async with refused(desk.journal, code):
                await approval.approve(by=by)

    run(scenario())


def test_82_other_bytes_than_were_shown() -> None:
    """E_APPROVAL_MISMATCH, with the beginnings of both digests; see the runtime's tests."""
    error = InvalidInput("E_APPROVAL_MISMATCH", run="r", approval="r#4", shown="a1b2", now="c3d4")

    legible(str(error), "E_APPROVAL_MISMATCH", "'a1b2'", "'c3d4'", "'r#4'")


def test_an_answer_of_somebody_who_may_not_names_who_may() -> None:
    """E_APPROVAL_APPROVER; E_APPROVAL_CHOICE says which answers there are."""

    async def scenario() -> None:
        async with asked(ApprovalTerms(approvers=("ann", "team:finance"))) as (desk, _, found, _):
            async with refused(desk.journal, "E_APPROVAL_APPROVER", "ann, team:finance"):
                await found.approve(by="bob")
            async with refused(desk.journal, "E_APPROVAL_CHOICE", "approve, deny"):
                await found.approve(by="ann", edit={"amount": 20})

    run(scenario())
