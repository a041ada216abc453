"""Deadlines of attempts: one timer watches over all attempts of a run."""

import asyncio
from typing import Any

from tests.runtime.kit import Desk, LoopClock, flow, run_jumping

from gatebook import tool
from gatebook.errors import ActionError
from gatebook.kernel.events import ActionFailed, ActionRequested

S = 1_000_000  # microseconds


@tool(effect="read", retries=0)
async def hang(name: str) -> str:
    """Wait for what never comes."""
    await asyncio.Event().wait()
    return name


@tool(effect="read", retries=0, timeout=1)
async def resist() -> None:
    """Wait, and go on waiting when told to stop."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.Event().wait()


async def failures(body: Any, *tools: Any) -> dict[str, tuple[str, int]]:
    """Run a workflow; return code and second of each failure after its request, by address."""
    desk = Desk(clock=LoopClock())
    async with desk.runtime() as runtime:
        await (await runtime.start(flow(body, *tools), None, run_id="r")).result()
        events = await desk.events("r")
        began = {e.address: e.time for e in events if isinstance(e, ActionRequested)}
        return {
            e.address: (e.error.code, (e.time - began[e.address]) // S)
            for e in events
            if isinstance(e, ActionFailed)
        }


async def caught(call: Any) -> None:
    """Await a call that fails."""
    try:
        await call
    except ActionError:
        return


def test_each_attempt_is_stopped_at_its_own_deadline() -> None:
    """The timer stands at the earliest deadline, whichever attempt began first."""

    async def body(ctx: Any) -> None:
        calls = [ctx.call_tool(hang.options(timeout=s), name="x") for s in (30, 10, 20)]
        await ctx.gather(*(caught(call) for call in calls))

    found = run_jumping(failures(body, hang))

    assert list(found.values()) == [
        ("E_ACTION_TIMEOUT", 10),
        ("E_ACTION_TIMEOUT", 20),
        ("E_ACTION_TIMEOUT", 30),
    ]


def test_a_deadline_holds_after_an_earlier_attempt_ended_in_time() -> None:
    """The timer of an attempt that ended is left standing; it must not stop a later one early."""

    async def body(ctx: Any) -> None:
        for _ in range(3):
            await caught(ctx.call_tool(hang.options(timeout=10), name="x"))

    found = run_jumping(failures(body, hang))

    assert [second for _, second in found.values()] == [10, 10, 10]


def test_an_attempt_that_does_not_stop_is_given_up_after_its_grace() -> None:
    """Python cannot kill it, and the run must go on."""

    async def body(ctx: Any) -> None:
        await caught(ctx.call_tool(resist))

    found = run_jumping(failures(body, resist))

    assert found == {"0": ("E_ACTION_TIMEOUT", 6)}
