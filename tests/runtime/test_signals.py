"""Signals: kept until awaited, first in first out, and a wait that ends in time."""

from datetime import timedelta
from typing import Any

import pytest
from tests.runtime.kit import Desk, flow, handle_of, run

from gatebook import tool
from gatebook.errors import InvalidInput, RunIsOver, SignalTimeout
from gatebook.kernel.append import MAX_KEPT_SIGNALS
from gatebook.kernel.events import ActionSucceeded, SignalReceived
from gatebook.runtime.runs.states import Finished, Waiting


async def waiting(ctx: Any) -> Any:
    return await ctx.wait_signal("go")


def test_a_signal_before_its_wait_is_kept() -> None:
    """The sender cannot know how far the run is."""

    async def scenario() -> None:
        desk = Desk()

        async def late(ctx: Any) -> Any:
            await ctx.sleep(3600)
            return await ctx.wait_signal("go")

        async with desk.open() as runtime:
            handle = await runtime.start(flow(late), None)
            await desk.settled(handle)
            await handle.signal("go", {"n": 1})
            desk.clock.advance(3600)

            assert await desk.settled(handle) == Finished({"n": 1})

    run(scenario())


def test_a_run_rests_until_its_signal_comes() -> None:
    """A wait of days needs no process."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            handle = await runtime.start(flow(waiting), None, run_id="r")
            resting = await desk.settled(handle)
            owner = (await handle.row()).owner
            await handle.signal("go", 7, by="ann")

            assert resting == Waiting(("signal go",))
            assert owner == ""
            assert await desk.settled(handle) == Finished(7)
            assert (await desk.only("r", SignalReceived)).by == "ann"

    run(scenario())


def test_two_waits_on_one_name_are_served_in_order() -> None:
    """First in, first out, on both sides."""

    async def scenario() -> None:
        desk = Desk()

        async def both(ctx: Any) -> Any:
            return await ctx.gather(ctx.wait_signal("go"), ctx.wait_signal("go"))

        async with desk.open() as runtime:
            handle = await runtime.start(flow(both), None, run_id="r")
            await handle.signal("go", "first")
            await handle.signal("go", "second")

            assert await desk.settled(handle) == Finished(["first", "second"])
            taken = [event.consumed for event in await desk.all("r", ActionSucceeded)]
            assert taken == sorted(set(taken), key=lambda seq: seq or 0)

    run(scenario())


def test_a_signal_of_another_name_wakes_nobody() -> None:
    """It is kept for the wait that asks for it."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            handle = await runtime.start(flow(waiting), None)
            await desk.settled(handle)
            await handle.signal("stop", 1)

            assert await desk.settled(handle) == Waiting(("signal go",))

    run(scenario())


def test_a_wait_that_nobody_answers_times_out() -> None:
    """And the deadline is the one that was set, not one counted anew."""

    async def scenario() -> None:
        desk = Desk()

        async def patient(ctx: Any) -> str:
            try:
                await ctx.wait_signal("go", timeout=timedelta(days=1))
            except SignalTimeout as exc:
                return f"{exc.code} {ctx.now()}"
            return "came"

        program = flow(patient)
        await desk.ran(program)
        desk.clock.advance(86_399)
        async with desk.open(program) as runtime:
            handle = handle_of(runtime)
            await desk.clock.settle()
            early = (await handle.row()).head.terminal
            state = await desk.settled(handle)

        assert not early
        assert state == Finished("E_SIGNAL_TIMEOUT 2023-11-15 22:13:20+00:00")

    run(scenario())


def test_signals_nobody_awaits_are_limited() -> None:
    """A sender in a loop must not fill the store."""

    async def scenario() -> None:
        desk = Desk()

        async def asleep(ctx: Any) -> None:
            await ctx.sleep(86_400)

        async with desk.open() as runtime:
            handle = await runtime.start(flow(asleep), None)
            for n in range(MAX_KEPT_SIGNALS):
                await handle.signal("go", n)

            with pytest.raises(InvalidInput) as caught:
                await handle.signal("go")

        assert caught.value.code == "E_SIGNAL_LIMIT"

    run(scenario())


def test_a_signal_after_the_end_is_refused() -> None:
    """The sender must hear that nobody will read it."""

    async def scenario() -> None:
        desk = Desk()

        async def quick(ctx: Any) -> None:
            """Do nothing."""

        async with desk.open() as runtime:
            handle = await runtime.start(flow(quick), None)
            await desk.settled(handle)

            with pytest.raises(RunIsOver) as caught:
                await handle.signal("go")

        assert caught.value.code == "E_RUN_TERMINAL"

    run(scenario())


@pytest.mark.parametrize("name", ["", "a b", "a" * 129, 7])
def test_a_bad_signal_name_is_refused(name: Any) -> None:
    """A name that no wait can have would be kept for ever."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            handle = await runtime.start(flow(waiting), None)

            with pytest.raises(InvalidInput) as caught:
                await handle.signal(name)

        assert caught.value.code == "E_SIGNAL_NAME"

    run(scenario())


def test_a_signal_sent_while_a_tool_runs_is_not_lost() -> None:
    """The driver's next append conflicts, and it decides again."""

    async def scenario() -> None:
        desk = Desk()
        handles: list[Any] = []

        @tool
        async def act() -> int:
            await handles[0].signal("go", "mid")
            return 1

        async def body(ctx: Any) -> Any:
            await ctx.call_tool(act)
            return await ctx.wait_signal("go")

        async with desk.open() as runtime:
            program = flow(body, act)
            ready = runtime.start(program, None, run_id="r")
            handles.append(runtime.handle("r", program))
            await ready

            assert await desk.settled(handles[0]) == Finished("mid")

    run(scenario())


def test_signals_that_came_before_their_waits_are_delivered_in_order() -> None:
    """A sender cannot know whether the run waits yet; it must not have to send twice."""

    async def scenario() -> None:
        desk = Desk()

        async def body(ctx: Any) -> list[Any]:
            await ctx.wait_signal("start")
            return [await ctx.wait_signal("go"), await ctx.wait_signal("go")]

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body), None, run_id="r")
            for name, payload in (("go", 1), ("go", 2), ("start", 0)):
                await handle.signal(name, payload)
            state = await desk.settled(handle)
            events = [each.event for each in await desk.journal.read(handle.key)]

        taken = [event.consumed for event in events if isinstance(event, ActionSucceeded)]
        assert state == Finished([1, 2])
        assert len(set(taken)) == 3

    run(scenario())
