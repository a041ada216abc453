"""Hooks that are being asked when a run is cancelled or a tool's time is over."""

import asyncio
import threading
from typing import Any

import pytest
from tests.runtime.hooking import Pay, answers, only
from tests.runtime.kit import Desk, eventually, flow, run

from gatebook import hook, tool
from gatebook.kernel.events import ActionFailed, ActionRequested, ActionSucceeded
from gatebook.runtime.runs.states import Cancelled, Finished


def test_a_cancel_reaches_a_hook_that_is_being_asked() -> None:
    """The run does not wait for it, and what it guards never starts."""

    async def scenario() -> None:
        desk, pay = Desk(), Pay()
        began, told = asyncio.Event(), asyncio.Event()

        @hook("before_tool", rights=["deny"], timeout=60, on_failure="closed")
        async def held(view: Any) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                assert view.cancelled()
                told.set()
                raise

        async with desk.open(pay.program, hooks=[held]) as runtime:
            handle = await runtime.start(pay.program, None, run_id="r")
            await began.wait()
            await handle.cancel()
            state = await handle.settled()
            await told.wait()

        assert isinstance(state, Cancelled)
        assert pay.calls == []
        await desk.journal.open()
        assert await desk.all("r", ActionRequested) == []

    run(scenario())


def test_a_cancel_reaches_a_hook_while_a_tool_still_ends() -> None:
    """It does not wait for the whole run to be let go."""

    async def scenario() -> None:
        desk = Desk()
        began, told, release = asyncio.Event(), asyncio.Event(), asyncio.Event()

        @tool
        async def stubborn() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await release.wait()

        @tool(effect="read")
        async def guarded() -> None:
            """Never reached."""

        async def body(ctx: Any) -> None:
            await ctx.gather(ctx.call_tool(stubborn), ctx.call_tool(guarded))

        @hook("before_tool", rights=["deny"], timeout=60, on_failure="closed", tools=[guarded])
        async def held(view: Any) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                told.set()

        program = flow(body, stubborn, guarded)
        async with desk.open(program, hooks=[held]) as runtime:
            handle = await runtime.start(program, None, run_id="r")
            await began.wait()
            await handle.cancel()
            await told.wait()
            meanwhile = (await handle.row()).head.status
            release.set()
            state = await handle.settled()

        assert isinstance(state, Cancelled)
        assert meanwhile == "cancelling"

    run(scenario())


def test_a_blocking_hook_is_told_that_nobody_waits() -> None:
    """A thread cannot be ended, but asked."""

    async def scenario() -> None:
        desk, pay = Desk(), Pay()
        began, told = threading.Event(), threading.Event()

        @hook("before_tool", rights=["deny"], timeout=60, on_failure="closed")
        def held(view: Any) -> None:
            began.set()
            while not view.cancelled():
                threading.Event().wait(0.001)
            told.set()

        async with desk.open(pay.program, hooks=[held]) as runtime:
            handle = await runtime.start(pay.program, None, run_id="r")
            await eventually(began.is_set, "the hook is asked")
            await handle.cancel()
            state = await handle.settled()
            await eventually(told.is_set, "the hook is told")

        assert isinstance(state, Cancelled)
        assert pay.calls == []

    run(scenario())


@pytest.mark.parametrize("mode", ["closed", "open"])
def test_a_cancel_while_a_result_is_looked_at_leaves_it_certain(mode: Any) -> None:
    """The tool has run: that is not unknown, whatever becomes of its result."""

    async def scenario() -> None:
        desk, pay, began = Desk(), Pay(), asyncio.Event()

        @hook("after_tool", rights=["deny"], timeout=60, on_failure=mode)
        async def held(view: Any) -> None:
            began.set()
            await asyncio.Event().wait()

        async with desk.open(pay.program, hooks=[held]) as runtime:
            handle = await runtime.start(pay.program, None, run_id="r")
            await began.wait()
            await handle.cancel()
            state = await handle.settled()
        await desk.journal.open()
        events = await desk.events("r")

        assert isinstance(state, Cancelled)
        assert state.unknown == ()
        (answer,) = answers(events)
        assert answer.error is not None
        assert answer.error.code == "E_HOOK_CANCELLED"
        if mode == "open":
            assert bytes(only(events, ActionSucceeded).output) == b"50"
        else:
            assert only(events, ActionFailed).error.code == "E_HOOK_WITHHELD"

    run(scenario())


def test_a_tools_deadline_does_not_end_the_hook_after_it() -> None:
    """The tool ended in time; its result is not unknown because somebody looks at it longer."""

    async def scenario() -> None:
        desk, go, began = Desk(), asyncio.Event(), asyncio.Event()

        @tool(timeout=0.05)
        async def act() -> int:
            return 1

        async def body(ctx: Any) -> int:
            return await ctx.call_tool(act)

        @hook("after_tool", rights=["observe"], timeout=60, on_failure="closed")
        async def held(view: Any) -> None:
            began.set()
            await go.wait()

        program = flow(body, act)
        async with desk.open(program, hooks=[held]) as runtime:
            handle = await runtime.start(program, None, run_id="r")
            await began.wait()
            asyncio.get_running_loop().call_later(0.1, go.set)  # past the tool's deadline
            state = await handle.settled()

        assert state == Finished(1)

    run(scenario())


def test_a_cancel_while_the_end_is_shown_ends_as_cancelled() -> None:
    """The hook is told, and is asked about the end that comes."""

    async def scenario() -> None:
        desk, seen, began = Desk(), list[str](), asyncio.Event()

        async def body(ctx: Any) -> str:
            return "out"

        @hook("on_run_end", rights=["observe"], timeout=60, on_failure="closed")
        async def watch(view: Any) -> None:
            seen.append(view.status)
            began.set()
            if view.status == "completed":
                await asyncio.Event().wait()

        async with desk.open(hooks=[watch]) as runtime:
            handle = await runtime.start(flow(body), None, run_id="r")
            await began.wait()
            await handle.cancel()
            state = await handle.settled()

        assert isinstance(state, Cancelled)
        assert seen == ["completed", "cancelled"]

    run(scenario())
