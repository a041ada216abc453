"""A15: many calls at once and many retries, of which nobody says what they used."""

import asyncio
from typing import Any

import pytest

from gatebook import Agent, AllowDeclared, Budget, RetryWithBackoffPolicy, tool
from gatebook.errors import ActionDenied, ActionError, ProviderError
from gatebook.kernel.budget import METERS
from gatebook.kernel.events import ActionRequested, AnyEvent
from gatebook.kernel.state import RunState
from gatebook.kernel.verify import verify_facts
from tests.attacks.kit import calls
from tests.runtime.kit import Desk, Model, flow, run, said

LIMIT = 60


def never_passed(events: list[AnyEvent]) -> int:
    """Fold every prefix: what is reserved and spent stays within the limits. Count the calls."""
    state = RunState()
    for event in events:
        state.apply(event)
        for meter in METERS:
            limit = getattr(state.head.limits, meter)
            assert limit is None or getattr(state.head.used, meter) <= limit
    return sum(isinstance(event, ActionRequested) for event in events)


async def gathered(ctx: Any, made: Any, count: int) -> list[str]:
    """Ask for many at once; the code each ended with, "" for well."""

    async def one(number: int) -> str:
        try:
            await ctx.call_tool(made, number=number)
        except ActionError as exc:
            return exc.code
        return ""

    return list(await ctx.gather(*(one(number) for number in range(count))))


@pytest.mark.parametrize("effect", ["read", "at_most_once"])
def test_a15_800_calls_at_once_stay_within_the_limit(effect: Any) -> None:
    """Each is counted before it starts, beside all the others."""

    async def scenario() -> None:
        desk, ran = Desk(AllowDeclared(budget=Budget(tool_calls=LIMIT))), list[int]()

        @tool(effect=effect)
        async def work(number: int) -> int:
            ran.append(number)
            await asyncio.sleep(0)
            return number

        async def body(ctx: Any) -> Any:
            return await gathered(ctx, work, 800)

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, work), None, run_id="r")
            state: Any = await desk.settled(handle)
            events, row = await desk.events("r"), await handle.row()

        assert len(ran) == LIMIT == never_passed(events) == state.output.count("")
        assert {code for code in state.output if code} == {"E_FANOUT", "E_BUDGET"}
        verify_facts("r", events, row.head)

    run(scenario())


def test_a15_a_model_that_asks_for_800_calls_a_turn_gets_no_more() -> None:
    """Turn after turn."""

    async def scenario() -> None:
        desk, ran = Desk(AllowDeclared(budget=Budget(tool_calls=LIMIT))), list[int]()

        @tool(effect="read")
        async def work(number: int) -> int:
            ran.append(number)
            return number

        agent = Agent(name="a", model="fake:m", tools=[work], max_turns=4)
        storm = calls(*(("work", {"number": number}) for number in range(800)))
        model = Model(storm, storm, storm, said("done"))
        await desk.ran(agent, "go", providers={"fake": model})
        events = await desk.events("r")

        assert len(ran) == LIMIT
        assert never_passed(events) == LIMIT + 1  # the model's own

    run(scenario())


def test_a15_ten_thousand_retries_are_each_paid_for() -> None:
    """A tool that always asks for another try is stopped by its attempts and by the budget."""

    async def scenario() -> None:
        policy = RetryWithBackoffPolicy(
            AllowDeclared(budget=Budget(tool_calls=LIMIT)), max_retries=99, base_ms=1, cap_ms=2
        )
        desk, tries = Desk(policy), list[int]()

        @tool(effect="read")
        async def flaky(number: int) -> int:
            tries.append(number)
            raise ActionError.transient("again")

        async def body(ctx: Any) -> Any:
            return await gathered(ctx, flaky, 100)

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, flaky), None, run_id="r")
            await desk.settled(handle)
            events, row = await desk.events("r"), await handle.row()

        assert len(tries) == LIMIT
        never_passed(events)
        assert row.head.spent.tool_calls == LIMIT
        verify_facts("r", events, row.head)

    run(scenario())


@pytest.mark.parametrize("fails", [False, True])
def test_a15_model_calls_that_do_not_say_what_they_used_cost_what_was_reserved(
    fails: bool,
) -> None:
    """To say nothing must not be cheaper than the truth."""
    refused = ProviderError("busy", kind="transient", category="server", phase="response")

    async def scenario() -> None:
        policy = RetryWithBackoffPolicy(
            AllowDeclared(budget=Budget(llm_tokens=30_000)), max_retries=99, base_ms=1, cap_ms=2
        )
        desk = Desk(policy)
        model = Model(*([[refused]] * 500 if fails else [said("x", usage=None)] * 500))

        async def body(ctx: Any) -> int:
            for number in range(500):
                try:
                    await ctx.call_llm("fake:m", f"question {number}")
                except ActionDenied:
                    return number
                except ActionError:
                    continue
            return -1

        program = flow(body, models=["fake:m"])
        async with desk.open(providers={"fake": model}, breaker=None) as runtime:
            handle = await runtime.start(program, None, run_id="r")
            await desk.settled(handle)
            events, row = await desk.events("r"), await handle.row()

        asked = len(model.calls)
        assert 1 <= asked <= 30_000 // 4_096
        assert row.head.spent.llm_tokens >= asked * 4_096
        never_passed(events)

    run(scenario())
