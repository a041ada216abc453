"""Hooks cannot get round the gate: what they swap, say late, hold or inflate does nothing."""

import asyncio
from typing import Any

from tests.runtime.hooking import LLM, Pay, asked
from tests.runtime.kit import RUN, Desk, Model, run, said

from gatebook import Budget, Change, hook
from gatebook.errors import IntegrityError
from gatebook.kernel.actions import CallTool
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import ActionDenied, ActionRequested, RunFailed
from gatebook.ports import Lease
from gatebook.runtime.performing.permits import Permit
from gatebook.runtime.runs.states import Failed, Finished


def test_arguments_swapped_in_place_are_not_the_calls() -> None:
    """A hook sees a copy; what it does to it does nothing, then or later."""

    async def scenario() -> None:
        desk, pay, views = Desk(), Pay(), list[Any]()

        @hook("before_tool", rights=["change"], timeout=60, on_failure="closed")
        async def swaps(view: Any) -> Change:
            made = {"amount": 1}
            view.args["amount"] = 99
            views.extend((view.args, made))
            asyncio.get_running_loop().call_soon(made.update, {"amount": 77})
            return Change(made)

        state = await desk.ran(pay.program, hooks=[swaps])

        assert (state, pay.calls) == (Finished(10), [1])
        assert views == [{"amount": 99}, {"amount": 77}]

    run(scenario())


def test_an_answer_after_its_time_changes_nothing() -> None:
    """The decision was taken without it, on other bytes."""

    async def scenario() -> None:
        desk, pay, late = Desk(), Pay(), asyncio.Event()

        @hook("before_tool", rights=["change"], timeout=0.01, on_failure="open")
        async def slow(view: Any) -> Change:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                late.set()  # and does not stop
            return Change({"amount": 99})

        async with desk.open(pay.program, hooks=[slow]) as runtime:
            state = await runtime.start(pay.program, None, run_id="r")
            end = await desk.settled(state)
            await late.wait()

        assert (end, pay.calls) == (Finished(50), [5])

    run(scenario())


def test_a_hook_has_no_permit() -> None:
    """The request it sees cannot be turned into an effect of its own."""

    async def scenario() -> None:
        desk, pay, codes = Desk(), Pay(), list[str]()
        (act,) = pay.program.tools.values()

        @hook("before_tool", rights=["observe"], timeout=60, on_failure="closed")
        async def acts(view: Any) -> None:
            request = ActionRequested(address="0", action=_call(view))
            assert runtime._worker is not None
            stale = Permit(request, 0, runtime._worker._services.leases.held(_lease()))
            try:
                stale.use(request.action, 0.0)  # type: ignore[arg-type]
            except IntegrityError as exc:
                codes.append(exc.code)

        def _call(view: Any) -> Any:
            return CallTool(view.tool, Raw(b'{"amount":1}'))

        def _lease() -> Any:
            return Lease(RUN, "somebody", 9)

        async with desk.open(hooks=[acts]) as runtime:
            await desk.settled(await runtime.start(pay.program, None, run_id="r"))

        assert (codes, pay.calls) == (["E_PERMIT"], [5])
        assert act.spec.name == "pay"

    run(scenario())


def test_hooks_do_not_lift_what_policy_withholds_nor_a_budget() -> None:
    """They run ahead of it; nothing runs ahead of the append."""

    async def scenario() -> None:
        desk, model = Desk(), Model(said("x"))
        before = asked("before_model", lambda view: Change([*view.messages] * 400), "change")
        async with desk.open(LLM, hooks=[before], providers={"fake": model}) as runtime:
            handle = await runtime.start(
                LLM, None, run_id="r", budget=Budget(llm_tokens=5_000, tool_calls=1)
            )
            state = await desk.settled(handle)

        assert isinstance(state, Failed | Finished)
        assert "E_BUDGET" in str(state)
        assert model.asked == []
        await desk.journal.open()
        assert [e for e in await desk.events("r") if isinstance(e, RunFailed | ActionDenied)]

    run(scenario())
