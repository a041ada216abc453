"""Hooks and approvals: somebody approves what hooks made, and nothing is made of it after that."""

from contextlib import AsyncExitStack
from typing import Any

import pytest
from tests.runtime.approving import Asks, Bank
from tests.runtime.kit import RUN, Desk, flow, handle_of, run

from gatebook import Change, hook, tool
from gatebook.errors import GatebookError
from gatebook.kernel.approvals.events import ActionDeferred, ApprovalAsked
from gatebook.kernel.approvals.standing import NOBODY_ASKED
from gatebook.kernel.events import ActionRequested, HookAnswered
from gatebook.kernel.history import timeline
from gatebook.kernel.policies import AllowDeclared
from gatebook.kernel.policy import Decision
from gatebook.kernel.verify import verify_facts
from gatebook.runtime.replay import final_args, replay
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


class Owing:
    """A payment whose hook looks up what is owed first, which policy lets wait, and a word."""

    def __init__(self, verdict: Any = "ask", timeout: float = 60) -> None:
        self.looks: list[str] = []

        class Waits(AllowDeclared):
            def authorize(self, action: Any, context: Any) -> Decision:
                name = getattr(action, "tool", "")
                return Decision(verdict, "who knows") if name == "owed" else Decision.allow()

        @tool(effect="read")
        async def owed() -> int:
            self.looks.append("owed")
            return 30

        @tool
        async def pay(amount: int) -> int:
            return amount

        async def body(ctx: Any) -> Any:
            paid = await ctx.call_tool(pay, amount=50)
            return [paid, await ctx.wait_signal("go")]

        @hook(
            "before_tool", rights=["change", "act"], timeout=timeout, on_failure="open",
            security=False, tools=[pay],
        )  # fmt: skip
        async def cap(call: Any) -> Change:
            self.call = call
            return Change({"amount": await call.call_tool(owed)})

        self.policy, self.cap, self.owed, self.program = Waits(), cap, owed, flow(body, pay, owed)


@pytest.mark.parametrize("dies", [False, True], ids=["one worker", "its worker dies"])
def test_what_a_hook_does_is_asked_about_once(dies: bool) -> None:
    """Whoever takes the run up finds the question, and its own hook the answer."""

    async def scenario() -> None:
        owing = Owing()
        desk = Desk(owing.policy)
        async with AsyncExitStack() as stack:
            runtime = await stack.enter_async_context(desk.open(owing.program, hooks=[owing.cap]))
            await runtime.start(owing.program, None, run_id="r")
            await desk.clock.settle()
            if dies:
                await desk.crash(runtime)
                desk.lapse()
                runtime = await stack.enter_async_context(
                    desk.open(owing.program, hooks=[owing.cap])
                )
                await desk.clock.settle()
            (approval,) = [found async for found in runtime.approvals()]
            await approval.approve(by="ann")
            await handle_of(runtime).signal("go", 1)
            end = await desk.settled(handle_of(runtime))

        assert (end, owing.looks) == (Finished([30, 1]), ["owed"])
        await checked(desk, owing.program)
        assert len(await desk.all("r", ApprovalAsked)) == 1

    run(scenario())


@pytest.mark.parametrize(("verdict", "kind"), [("ask", ApprovalAsked), ("defer", ActionDeferred)])
def test_what_a_hook_waited_for_ends_with_its_answer(verdict: Any, kind: Any) -> None:
    """People are slower than hooks: a late yes must do nothing, and nobody is asked for it."""

    async def scenario() -> None:
        owing = Owing(verdict, timeout=0.05)
        desk = Desk(owing.policy)
        async with desk.open(owing.program, hooks=[owing.cap]) as runtime:
            handle = await runtime.start(owing.program, None, run_id="r")
            state = await desk.settled(handle)
            held = (await desk.journal.row(RUN)).head.approvals
            rows = {row.address: row.status for row in timeline(await desk.events("r"))}
            with pytest.raises(GatebookError, match="it has answered"):
                await owing.call.call_tool(owing.owed)
            desk.clock.advance(7 * 86_400)
            await handle.signal("go", 1)
            end = await desk.settled(handle)

        assert (state, held) == (Waiting(on=("signal go",)), NOBODY_ASKED)
        assert (end, owing.looks) == (Finished([50, 1]), [])
        await checked(desk, owing.program)
        assert await desk.all("r", kind)
        assert rows["0~cap.0.0"] == "cancelled"

    run(scenario())


def test_a_worker_that_stops_does_not_wait_for_people() -> None:
    """Its hook cannot go on in any case; another worker's is asked again, and can."""

    async def scenario() -> None:
        owing = Owing()
        desk = Desk(owing.policy)
        runtime = desk.runtime(owing.program, hooks=[owing.cap])
        await runtime.open()
        await runtime.start(owing.program, None, run_id="r")
        await desk.clock.settle()
        began = desk.clock.now()
        await desk.clock.until(runtime.close())
        stopped = desk.clock.now()

        async with desk.open(owing.program, hooks=[owing.cap]) as second:
            await desk.clock.settle()
            (approval,) = [found async for found in second.approvals()]
            await approval.approve(by="ann")
            await handle_of(second).signal("go", 1)
            end = await desk.settled(handle_of(second))

        assert stopped == began
        assert (end, owing.looks) == (Finished([30, 1]), ["owed"])

    run(scenario())
