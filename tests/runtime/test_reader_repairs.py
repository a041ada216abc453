"""What readers are shown of answers that did not fit and are asked for again."""

import asyncio
from typing import Any

import pytest
from tests.runtime.kit import Desk, LoopClock, Model, flow, run_jumping, said
from tests.runtime.reading import elsewhere, rest, written

from gatebook import Agent
from gatebook.runtime.subscriptions import Reset


def typed(name: str) -> Any:
    """A program whose first answer is refused: an agent, or a workflow."""
    if name == "agent":
        return Agent(name="a", model="fake:m", output=list[int])

    async def body(ctx: Any) -> Any:
        return await ctx.call_llm("fake:m", "hi", output=list[int])

    return flow(body, models=["fake:m"])


@pytest.mark.parametrize(
    ("program", "refused", "repair"), [("agent", "t1", "t2"), ("workflow", "0", "0.r1")]
)
def test_an_answer_that_did_not_fit_is_dropped_when_it_is_asked_for_again(
    program: str, refused: str, repair: str
) -> None:
    """A refused candidate is no part of the answer, though another action wrote it."""

    async def scenario() -> None:
        desk = Desk(clock=LoopClock())
        model = Model(said('["no"]'), said("[1, 2]"))
        async with desk.open(providers={"fake": model}) as runtime:
            value: Any = "hi" if program == "agent" else None
            handle = await runtime.start(typed(program), value, run_id="r")
            here = asyncio.create_task(rest(handle))
            await handle.result()
            late = await rest(elsewhere(desk))
            parts = [part async for part in elsewhere(desk).text()]

        reset = Reset(refused, 0, shown=len('["no"]'), instead=repair)
        for items in (await here, late):
            assert [item for item in items if isinstance(item, Reset)] == [reset]
            assert written(items) == "[1, 2]"
        assert parts == ['["no"]', reset, "[1, 2]"]

    run_jumping(scenario())


@pytest.mark.parametrize("program", ["agent", "workflow"])
def test_a_reader_that_leaves_around_a_repair_is_told_once(program: str) -> None:
    """Not before and not again: whoever counts what it drops would drop too much."""

    async def scenario() -> None:
        desk = Desk(clock=LoopClock())
        model = Model(said('["no"]'), said("[1, 2]"))
        async with desk.open(providers={"fake": model}) as runtime:
            value: Any = "hi" if program == "agent" else None
            await (await runtime.start(typed(program), value, run_id="r")).result()
            whole = await rest(elsewhere(desk))
            for leave in range(1, len(whole)):
                reading = elsewhere(desk).events(deltas=True)
                first = [await anext(reading) for _ in range(leave)]
                await reading.aclose()

                assert first + await rest(elsewhere(desk), reading.cursor) == whole

    run_jumping(scenario())


def test_an_agents_turns_are_all_shown() -> None:
    """What a model says before it calls a tool was not refused."""

    async def talk(ctx: Any) -> str:
        first = await ctx.call_llm("fake:m", "hi")
        second = await ctx.call_llm("fake:m", [first.message])
        return str(second.text)

    async def scenario() -> None:
        desk = Desk(clock=LoopClock())
        async with desk.open(providers={"fake": Model(said("one "), said("two"))}) as runtime:
            program = flow(talk, models=["fake:m"])
            await (await runtime.start(program, None, run_id="r")).settled()

            assert written(await rest(elsewhere(desk))) == "one two"

    run_jumping(scenario())
