"""Runs that wait: which are parked, when they go on, and that waiting costs nothing."""

import asyncio
from typing import Any

from tests.runtime.kit import Desk, flow, run

from gatebook import tool
from gatebook.kernel.append import Batch
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import SignalReceived
from gatebook.ports import Lease, RunKey
from gatebook.runtime.runs.states import Finished, Waiting
from gatebook.testing.failpoints import FailpointJournal


def test_a_short_sleep_is_sat_out_and_a_long_one_parks_the_run() -> None:
    """A parked run costs no memory; parking for a second would cost two commits."""

    async def scenario() -> None:
        desk = Desk()
        journal = FailpointJournal(desk.journal, [])

        async def body(ctx: Any, seconds: float) -> None:
            await ctx.sleep(seconds)

        async with desk.open(journal=journal) as runtime:
            await desk.settled(await runtime.start(flow(body), 1.5))
            parks = journal.calls.get("park", 0)
            state = await desk.settled(await runtime.start(flow(body), 3600.0))

        assert parks == 0
        assert journal.calls["park"] > 0
        assert isinstance(state, Waiting)
        assert state.on == ("sleep 0",)

    run(scenario())


def test_a_parked_run_goes_on_at_its_time() -> None:
    """The timer of a sleep is an absolute time, kept by the store."""

    async def scenario() -> None:
        desk = Desk()

        async def body(ctx: Any) -> str:
            await ctx.sleep(3600)
            return str(ctx.now())

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body), None)
            await desk.settled(handle)
            desk.clock.advance(3599)
            await desk.clock.settle()
            early = (await handle.row()).head.terminal
            state = await desk.settled(handle)

        assert not early
        assert state == Finished("2023-11-14 23:13:20+00:00")

    run(scenario())


def test_a_run_does_not_park_over_a_signal() -> None:
    """One that comes between the look and the parking must be seen without any wake-up."""

    class Crossing(FailpointJournal):
        """Somebody in another process signals while the worker parks; nobody tells it."""

        crossed = False

        async def park(self, lease: Lease, **how: Any) -> None:
            if not self.crossed:
                self.crossed = True
                signal = SignalReceived(name="go", payload=Raw(b"7"))
                await self.inner.append(lease.run, Batch(events=(signal,), append_id=b"x"))
            await super().park(lease, **how)

        async def touched(self) -> frozenset[RunKey]:
            await asyncio.Event().wait()
            return frozenset()

    async def scenario() -> None:
        desk = Desk()

        async def body(ctx: Any) -> Any:
            return await ctx.wait_signal("go")

        async with desk.open(journal=Crossing(desk.journal, [])) as runtime:
            handle = await runtime.start(flow(body), None)

            assert await desk.settled(handle) == Finished(7)
            assert desk.clock.monotonic() < 2, "not by a lease that lapsed"

    run(scenario())


def test_waiting_for_time_beside_a_tool_does_not_spin() -> None:
    """A wake-up that wakes itself burns a core until the tool ends."""

    async def scenario() -> None:
        desk = Desk()
        go = asyncio.Event()

        @tool(effect="read")
        async def slow() -> None:
            await go.wait()

        @tool(effect="read")
        async def quick() -> None:
            return None

        async def body(ctx: Any) -> None:
            await ctx.gather(ctx.call_tool(slow), ctx.call_tool(quick), ctx.sleep(100))

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, slow, quick), None)
            await desk.clock.settle()
            before = len(desk.clock.slept)
            for _ in range(10):
                await desk.clock.settle()
            after = len(desk.clock.slept)
            go.set()
            await desk.settled(handle)

        assert after == before

    run(scenario())
