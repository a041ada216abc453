"""Hooks where another worker goes on: what was answered holds, what comes is asked about."""

import asyncio
from typing import Any

import pytest
from tests.runtime.kit import RUN, Desk, eventually, flow, run

from gatebook import Change, hook, tool
from gatebook.kernel.append import Batch
from gatebook.kernel.events import ErrorRecord, HookAnswered
from gatebook.runtime.runs.states import Failed, Finished


def test_an_answer_without_its_request_is_used_by_the_next_worker() -> None:
    """A worker that is told to stop records what it heard and starts nothing."""

    async def scenario() -> None:
        desk, went, calls = Desk(), asyncio.Event(), list[int]()
        asked = list[Any]()

        @tool
        async def pay(amount: int) -> int:
            calls.append(amount)
            return amount

        async def body(ctx: Any) -> int:
            return await ctx.call_tool(pay, amount=1)

        @hook("before_tool", rights=["change"], timeout=60, on_failure="closed")
        async def cap(view: Any) -> Change:
            asked.append(view)
            await went.wait()
            return Change({"amount": len(asked) * 10})

        program = flow(body, pay)
        runtime = desk.runtime(program, hooks=[cap])
        async with runtime:
            await runtime.start(program, None, run_id="r")
            await eventually(lambda: asked, "the hook is asked")
            asyncio.get_running_loop().call_soon(went.set)
        await desk.journal.open()
        between = await desk.kinds("r")

        state = await desk.taken_up(program, hooks=[cap])

        assert between == ["run_started", "hook_answered"]
        assert (state, calls, len(asked)) == (Finished(10), [10], 1)

    run(scenario())


@pytest.mark.parametrize("point", ["on_run_start", "before_tool", "on_run_end"])
def test_a_recorded_refusal_holds_without_its_hook(point: Any) -> None:
    """A worker with no hooks at all still finds it in the journal."""

    async def scenario() -> None:
        desk, calls = Desk(), list[int]()

        @tool
        async def pay(amount: int) -> int:
            calls.append(amount)
            return amount

        async def body(ctx: Any) -> Any:
            if point == "before_tool":
                return await ctx.call_tool(pay, amount=1)
            return "out"

        program = flow(body, pay)
        client = desk.runtime(program)
        async with client:
            assert client._worker is not None
            client._worker._stopping = True  # nothing is driven here
            await client.start(program, None, run_id="r")
        await desk.journal.open()
        lease = await desk.journal.claim(RUN, owner="w", ttl_ms=1)
        assert lease is not None
        address = "0" if point == "before_tool" else ""
        said_no = HookAnswered(
            point=point, hook="gone", verdict="deny", address=address, stops=True,
            error=ErrorRecord("E_HOOK_DENIED", "no"),
        )  # fmt: skip
        batch = Batch(events=(said_no,), append_id=b"x", epoch=lease.epoch, after=1)
        await desk.journal.append(RUN, batch)
        desk.lapse()

        state = await desk.taken_up(program)

        assert isinstance(state, Failed)
        assert (state.error.code, calls) == ("E_HOOK_DENIED", [])

    run(scenario())


def test_hooks_that_come_later_are_asked_from_there_on() -> None:
    """What was requested before them is not asked about, nor a start that is past."""

    async def scenario() -> None:
        desk, seen = Desk(), list[str]()

        @tool
        async def pay(amount: int) -> int:
            return amount

        async def body(ctx: Any) -> int:
            first = await ctx.call_tool(pay, amount=1)
            await ctx.wait_signal("go")
            return first + await ctx.call_tool(pay, amount=2)

        def noting(point: Any) -> Any:
            async def note(view: Any) -> None:
                seen.append(f"{point} {view.address}")

            options: Any = {"rights": ["observe"], "timeout": 60, "on_failure": "closed"}
            return hook(point, name=point, **options)(note)

        program = flow(body, pay)
        await desk.ran(program)
        hooks = [noting("on_run_start"), noting("before_tool")]
        async with desk.open(program, hooks=hooks) as runtime:
            await runtime.handle("r").signal("go")
            state = await desk.settled(runtime.handle("r"))

        assert (state, seen) == (Finished(3), ["before_tool 2"])

    run(scenario())


def test_a_read_that_was_lost_is_looked_at_anew() -> None:
    """Its second attempt has a result of its own; the first was never seen."""

    async def scenario() -> None:
        desk, seen, began = Desk(), list[tuple[int, int]](), asyncio.Event()
        results = iter([1, 2])

        @tool(effect="read")
        async def look() -> int:
            return next(results)

        async def body(ctx: Any) -> int:
            return await ctx.call_tool(look)

        @hook("after_tool", rights=["observe"], timeout=60, on_failure="closed")
        async def watch(view: Any) -> None:
            seen.append((view.attempt, view.result))
            began.set()
            if view.attempt == 0:
                await asyncio.Event().wait()

        program = flow(body, look)
        runtime = desk.runtime(program, hooks=[watch])
        await runtime.open()
        await runtime.start(program, None, run_id="r")
        await began.wait()
        await desk.crash(runtime)
        desk.lapse()

        state = await desk.taken_up(program, hooks=[watch])

        assert (state, seen) == (Finished(2), [(0, 1), (1, 2)])
        assert [event.attempt for event in await desk.all("r", HookAnswered)] == [1]

    run(scenario())
