"""Signals that come before anybody waits for them."""

from typing import Any

from tests.runtime.kit import Desk, flow, run

from gatebook.kernel.events import ActionSucceeded
from gatebook.runtime.runs.states import Finished


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
