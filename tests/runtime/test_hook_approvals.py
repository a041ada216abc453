"""Hooks and approvals: somebody approves what hooks made, and nothing is made of it after that."""

from typing import Any

import pytest
from tests.runtime.approving import Asks, Bank
from tests.runtime.kit import RUN, Desk, run

from gatebook import Change, hook
from gatebook.kernel.approvals.events import ApprovalAsked
from gatebook.kernel.events import ActionRequested, HookAnswered
from gatebook.kernel.verify import verify_facts
from gatebook.runtime.redrive import final_args, replay
from gatebook.runtime.runs.states import Finished, Waiting


def raising(to: int, asked: list[int]) -> Any:
    """A hook that makes every payment this large."""

    async def raised(call: Any) -> Change:
        asked.append(call.args["amount"])
        return Change({"amount": to})

    return hook("before_tool", rights=["change"], timeout=60, on_failure="closed")(raised)


async def checked(desk: Desk, program: Any) -> None:
    """Verify the run and replay it."""
    await desk.journal.open()
    recorded, row = await desk.journal.read(RUN), await desk.journal.row(RUN)
    verify_facts("r", [each.event for each in recorded], row.head)
    started: Any = recorded[0].event
    assert replay(program.begin(started), final_args(program.tools), recorded).ended


@pytest.mark.parametrize(("edit", "paid"), [(None, 50), ({"amount": 8}, 8)])
def test_an_approval_is_for_what_hooks_made(edit: Any, paid: int) -> None:
    """Another worker's hook, which would make something else of it, is not asked any more."""

    async def scenario() -> None:
        desk, bank, first, second = Desk(Asks()), Bank(), list[int](), list[int]()
        program = bank.paying(5)
        async with desk.open(program, hooks=[raising(50, first)]) as runtime:
            state = await desk.settled(await runtime.start(program, None, run_id="r"))
            shown = [found.arguments async for found in runtime.approvals()]
        async with desk.open(program, hooks=[raising(90, second)]) as runtime:
            (approval,) = [found async for found in runtime.approvals()]
            await approval.approve(by="ann", edit=edit)
            end = await desk.settled(runtime.handle("r"))

        assert isinstance(state, Waiting)
        assert (shown, first, second) == ([{"amount": 50}], [5], [])
        assert (end, bank.paid) == (Finished([f"paid {paid}"]), [paid])
        await checked(desk, program)
        assert len(await desk.all("r", HookAnswered)) == 1
        asked, request = await desk.all("r", ApprovalAsked), await desk.only("r", ActionRequested)
        assert asked[0].action.arguments == {"amount": 50}  # type: ignore[union-attr]
        assert request.action.arguments == {"amount": paid}  # type: ignore[union-attr]

    run(scenario())


def test_a_hook_cannot_lower_what_was_asked_about_after_the_fact() -> None:
    """It is asked ahead of the policy: a small sum needs nobody, and a large one cannot hide."""

    async def scenario() -> None:
        desk, bank, asked = Desk(Asks()), Bank(), list[int]()
        program = bank.paying(50, 500)
        state = await desk.ran(program, hooks=[raising(7, asked)])

        assert (state, bank.paid) == (Finished(["paid 7", "paid 7"]), [7, 7])
        await checked(desk, program)
        assert await desk.all("r", ApprovalAsked) == []

    run(scenario())
