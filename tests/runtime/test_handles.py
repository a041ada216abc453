"""Handles: where a run stands, what its result is, and following it by a cursor."""

import asyncio
from typing import Any

import pydantic
import pytest
from msgspec.structs import replace
from tests.runtime.kit import Desk, flow, handle_of, run

from gatebook import Budget, ToolContext, tool
from gatebook.errors import (
    InvalidInput,
    Permanent,
    RunCancelled,
    RunDenied,
    RunFailed,
    RunNotFound,
)
from gatebook.kernel.budget import Amount
from gatebook.runtime.runs.states import (
    Cancelled,
    Failed,
    Finished,
    RunResult,
    Waiting,
    blocked,
    stopped,
)


class Report(pydantic.BaseModel):
    """An output with a type."""

    lines: int


@tool(effect="read")
async def look() -> int:
    return 2


async def reporting(ctx: Any) -> Report:
    return Report(lines=await ctx.call_tool(look))


async def failing(ctx: Any) -> None:
    raise Permanent("no such order")


async def waiting(ctx: Any) -> None:
    await ctx.wait_signal("go")


def test_a_result_has_the_declared_type() -> None:
    """Decoded from the journal, as every reader of it would."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            handle = await runtime.start(flow(reporting, look), None, run_id="r")
            result = await desk.clock.until(handle.result())

        assert result == RunResult(Report(lines=2), "r", Amount(tool_calls=1), 4)

    run(scenario())


def test_a_handle_without_its_program_gives_plain_json() -> None:
    """The journal holds JSON, never an import target."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            await desk.settled(await runtime.start(flow(reporting, look), None, run_id="r"))

            assert await desk.settled(handle_of(runtime)) == Finished({"lines": 2})

    run(scenario())


def test_a_failed_run_says_why() -> None:
    """As a value to match on, or as an exception."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            handle = await runtime.start(flow(failing), None)
            state = await desk.settled(handle)

            assert isinstance(state, Failed)
            assert (state.error.message, state.denied) == ("no such order", False)
            with pytest.raises(RunFailed, match="no such order"):
                await desk.clock.until(handle.result())

    run(scenario())


def test_a_denied_run_is_told_apart() -> None:
    """Another policy or budget may let it through; the program is not at fault."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            program = flow(reporting, look)
            handle = await runtime.start(program, None, budget=Budget(tool_calls=0))

            with pytest.raises(RunDenied, match="tool_calls") as denied:
                await desk.clock.until(handle.result())

            assert denied.value.hint == f"see gatebook show {handle.id}"

    run(scenario())


def test_a_tool_that_was_not_declared_is_said_to_be_missing_from_the_program() -> None:
    """Neither policy nor budget is at fault, and the tool is there."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            handle = await runtime.start(flow(reporting), None)

            with pytest.raises(RunDenied, match="there is no tool 'look'") as denied:
                await desk.clock.until(handle.result())

            assert denied.value.hint == "add it to tools=[...] of the program"

    run(scenario())


def test_a_cancelled_run_names_what_is_unknown() -> None:
    """The error carries it for programs."""
    error = stopped("r", Cancelled("enough", ("0",)))

    assert isinstance(error, RunCancelled)
    assert error.fields["unknown"] == ("0",)


def test_a_run_that_nobody_started_is_not_found() -> None:
    """A handle is only a name."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            with pytest.raises(RunNotFound):
                await handle_of(runtime, "nobody").settled()

    run(scenario())


def test_a_run_that_goes_on_soon_is_not_called_waiting() -> None:
    """A retry in half a second is work, not rest."""

    async def scenario() -> None:
        desk = Desk()

        async def napping(ctx: Any) -> int:
            await ctx.sleep(1.9)
            return 1

        async with desk.open() as runtime:
            handle = await runtime.start(flow(napping), None)

            assert await desk.settled(handle) == Finished(1)

    run(scenario())


def test_a_waiting_run_names_everything_it_waits_for() -> None:
    """Whoever looks must see what to do."""

    async def scenario() -> None:
        desk = Desk()

        @tool
        async def pay() -> None:
            raise OSError("lost")

        async def body(ctx: Any) -> None:
            await ctx.gather(ctx.wait_signal("go"), ctx.sleep(86_400), ctx.call_tool(pay))

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, pay), None)
            state = await desk.settled(handle)
            due = (await handle.row()).wake_at

        on = ("signal go", "sleep 0.b1.s0", "resolve 0.b2.s0")
        assert state == Waiting(on, due)

    run(scenario())


def test_a_held_run_is_not_blocked() -> None:
    """Somebody drives it."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            handle = await runtime.start(flow(waiting), None)
            await desk.settled(handle)
            row = await handle.row()

        assert blocked(row, row.updated) == Waiting(("signal go",))
        assert blocked(replace(row, owner="w"), row.updated) is None
        assert blocked(replace(row, wake_at=row.updated), row.updated) is None

    run(scenario())


def test_events_come_in_order_and_end_with_the_run() -> None:
    """A follower needs no look at the status."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            handle = await runtime.start(flow(reporting, look), None)

            async def follow() -> list[int]:
                return [each.seq async for each in handle.events()]

            assert await desk.clock.until(follow()) == [1, 2, 3, 4]

    run(scenario())


@pytest.mark.parametrize("cursor", [0, 1, 2, 3])
def test_a_follower_comes_back_with_its_cursor(cursor: int) -> None:
    """No gap and no repeat, from whatever process."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            await desk.settled(await runtime.start(flow(reporting, look), None, run_id="r"))
        await desk.journal.open()
        async with desk.open() as other:
            events = handle_of(other).events(after=cursor)
            seqs = [each.seq async for each in events]

        assert seqs == list(range(cursor + 1, 5))

    run(scenario())


def test_a_follower_at_the_end_gets_nothing_and_ends() -> None:
    """It has seen all there is."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            handle = await runtime.start(flow(reporting, look), None)
            await desk.settled(handle)

            assert [each async for each in handle.events(after=4)] == []

    run(scenario())


def test_a_follower_sees_what_happens_while_it_follows() -> None:
    """Events come when they are committed, not at the end."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            handle = await runtime.start(flow(waiting), None)
            seen: list[int] = []

            async def follow() -> None:
                async for each in handle.events():
                    seen.append(each.seq)

            following = asyncio.create_task(follow())
            await desk.settled(handle)
            early = list(seen)
            await handle.signal("go")
            await desk.clock.until(following)

        assert early == [1, 2]
        assert seen == [1, 2, 3, 4, 5]

    run(scenario())


def test_a_tools_progress_reaches_live_readers_only() -> None:
    """It is a courtesy, not a fact."""

    async def scenario() -> None:
        desk = Desk()

        @tool(effect="read")
        async def count(ctx: ToolContext[Any]) -> None:
            ctx.progress(done=1, total=2, detail="half")
            await asyncio.sleep(0)

        async def body(ctx: Any) -> None:
            await ctx.call_tool(count)

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, count), None, run_id="r")

            async def listen() -> list[Any]:
                return [item async for item in handle.live()]

            (item,) = await desk.clock.until(listen())
            kinds = await desk.kinds("r")

        assert (item.address, item.done, item.total, item.detail) == ("0", 1, 2, "half")
        assert len(kinds) == 4

    run(scenario())


@pytest.mark.parametrize("id", ["", "a b", "../x"])
def test_a_handle_needs_a_good_id(id: str) -> None:
    """A name that no run can have is a typo."""

    async def scenario() -> None:
        async with Desk().open() as runtime:
            with pytest.raises(InvalidInput):
                handle_of(runtime, id)

    run(scenario())
