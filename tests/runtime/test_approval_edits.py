"""Edits: other arguments, decided about like any other call, approved by their author."""

from typing import Any

from tests.runtime.approving import ALL, Asks, Bank, asking, checked, elsewhere, refused
from tests.runtime.kit import Desk, run

from gatebook import ApprovalTerms
from gatebook.kernel.approvals.events import ApprovalAnswered, ApprovalAsked
from gatebook.kernel.policy import Decision
from gatebook.runtime.runs.states import Finished, Waiting


def test_an_edit_runs_with_other_arguments() -> None:
    """The journal shows them as they ran, as somebody's edit."""

    async def scenario() -> None:
        desk, bank = Desk(Asks()), Bank()
        async with desk.open() as runtime:
            handle, _, (approval,) = await asking(runtime, desk, bank.paying(50))
            await approval.approve(by="ann", edit={"amount": 20})

            assert await desk.settled(handle) == Finished(["paid 20"])
            first, second = await desk.all("r", ApprovalAsked)
            answer = await desk.only("r", ApprovalAnswered)
            assert (first.answered, second.answered, answer.answer) == (False, True, "edit")
            await checked(desk, bank, 50)

    run(scenario())


def test_nobody_edits_past_a_deny() -> None:
    """An edit is decided about like any other call."""

    async def scenario() -> None:
        desk, bank = Desk(Asks()), Bank()
        async with desk.open() as runtime:
            handle, _, (approval,) = await asking(runtime, desk, bank.paying(50))
            await approval.approve(by="ann", edit={"amount": 500})

            assert await desk.settled(handle) == Finished(["E_POLICY_DENIED"])
            assert bank.paid == []

    run(scenario())


def test_an_edit_that_is_deferred_waits() -> None:
    """Whoever edits says what may run, not when."""

    class Later(Asks):
        def authorize(self, action: Any, context: Any) -> Decision:
            if action.arguments.get("amount") == 40:
                return Decision.defer("small ones at night")
            return super().authorize(action, context)

    async def scenario() -> None:
        desk, bank = Desk(Later()), Bank()
        async with desk.open() as runtime:
            handle, _, (approval,) = await asking(runtime, desk, bank.paying(50))
            await approval.approve(by="ann", edit={"amount": 40})

            assert isinstance(await desk.settled(handle), Waiting)
            assert bank.paid == []

    run(scenario())


def test_an_edit_that_does_not_fit_is_refused_at_once_where_the_tool_is_known() -> None:
    """Whoever makes the mistake is told; nothing is written."""

    async def scenario() -> None:
        desk, bank = Desk(Asks()), Bank()
        async with desk.open() as runtime:
            _, _, (approval,) = await asking(runtime, desk, bank.paying(50))
            code = await refused(approval.approve(by="ann", edit={"amount": "much"}))

            assert code == "E_ARGS_SCHEMA"
            assert await desk.all("r", ApprovalAnswered) == []

    run(scenario())


def test_an_edit_that_does_not_fit_is_asked_about_again() -> None:
    """A slip of the pen in another process is no denial, and no yes to the old arguments."""

    async def scenario() -> None:
        desk, bank = Desk(Asks()), Bank()
        async with desk.open() as runtime:
            handle, _, (approval,) = await asking(runtime, desk, bank.paying(50))
            async with elsewhere(desk) as client:
                await client.approval(approval.id).approve(by="ann", edit={"amount": "much"})
            await desk.clock.settle()
            state = await desk.settled(handle)
            (again,) = [found async for found in runtime.approvals()]

            assert isinstance(state, Waiting)
            assert (again.arguments, bank.paid) == ({"amount": 50}, [])
            assert "E_ARGS_SCHEMA" in again.asked.refused
            await again.approve(by="ann")
            assert await desk.settled(handle) == Finished(["paid 50"])

    run(scenario())


def test_an_edit_that_others_must_approve_is_asked_of_them() -> None:
    """And shows the edited arguments; those are what runs."""

    class TwoTiers(Asks):
        def authorize(self, action: Any, context: Any) -> Decision:
            who = "board" if action.arguments["amount"] > 60 else "ann"
            return Decision.ask(terms=ApprovalTerms(approvers=(who,), choices=ALL))

    async def scenario() -> None:
        desk, bank = Desk(TwoTiers()), Bank()
        async with desk.open() as runtime:
            handle, _, (approval,) = await asking(runtime, desk, bank.paying(50))
            await approval.approve(by="ann", edit={"amount": 70})
            await desk.clock.settle()
            state = await desk.settled(handle)
            (again,) = [found async for found in runtime.approvals()]
            code = await refused(again.approve(by="ann"))
            await again.approve(by="zoe", groups=["board"])

            assert isinstance(state, Waiting)
            assert (again.arguments, code) == ({"amount": 70}, "E_APPROVAL_APPROVER")
            assert await desk.settled(handle) == Finished(["paid 70"])
            await checked(desk, bank, 50)

    run(scenario())


def test_a_secret_in_an_edit_is_refused() -> None:
    """It would stand in the journal."""

    async def scenario() -> None:
        desk, bank = Desk(Asks()), Bank()
        async with desk.open(secrets=["hunter2-hunter2"]) as runtime:
            _, _, (approval,) = await asking(runtime, desk, bank.paying(50))
            code = await refused(approval.approve(by="ann", edit={"amount": "hunter2-hunter2"}))

            assert code == "E_ARGS_SECRET"

    run(scenario())
