"""Budgets: reserved when asked, settled when answered, never passed by what was reserved."""

import asyncio
from typing import Any

import pytest
from tests.runtime.kit import Desk, Model, flow, run, said

from gatebook import Budget, ToolContext, tool
from gatebook.errors import ActionDenied, ActionError, ProviderError, Transient
from gatebook.kernel.budget import METERS, OUTPUT_TOKENS, Amount
from gatebook.kernel.events import (
    ActionRequested,
    ActionSucceeded,
    AttemptStarted,
    BudgetRaised,
    Note,
)
from gatebook.kernel.head import Head
from gatebook.kernel.messages import Usage
from gatebook.kernel.policies import AllowDeclared, RetryWithBackoffPolicy
from gatebook.runtime.runs.handles import RunHandle
from gatebook.runtime.runs.states import Failed, Finished


@tool(effect="read")
async def look(n: int = 0) -> int:
    return n


async def looking(ctx: Any, count: int) -> int:
    done = 0
    for n in range(count):
        try:
            await ctx.call_tool(look, n=n)
        except ActionDenied as exc:
            return done if exc.code == "E_BUDGET" else -1
        done += 1
    return done


async def folded(desk: Desk) -> list[Head]:
    """The run's head after each event."""
    head, heads = Head(), []
    for event in await desk.events("r"):
        head.apply(event)
        heads.append(head.copy())
    return heads


async def never_passed(desk: Desk) -> None:
    """Check that what was reserved and spent never exceeded a limit, at any prefix."""
    for head in await folded(desk):
        for meter in METERS:
            limit = getattr(head.limits, meter)
            assert limit is None or getattr(head.used, meter) <= limit, (head.seq, meter)


async def asking(ctx: Any) -> Any:
    try:
        return (await ctx.call_llm("fake:m", "hi")).text
    except ActionError as exc:
        return exc.code


async def ask(desk: Desk, *attempts: Any, budget: Budget | None = None) -> RunHandle[Any]:
    """Run one model call to its end."""
    async with desk.open(providers={"fake": Model(*attempts)}) as runtime:
        program = flow(asking, models=["fake:m"])
        handle = await runtime.start(program, None, run_id="r", budget=budget)
        await desk.clock.until(handle.result())
    await desk.journal.open()
    return handle


async def head_of(desk: Desk) -> Head:
    """The run's last head."""
    return (await folded(desk))[-1]


def test_the_call_that_does_not_fit_is_denied() -> None:
    """Three calls are three calls."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            program = flow(looking, look)
            handle = await runtime.start(program, 5, run_id="r", budget=Budget(tool_calls=3))

            assert await desk.settled(handle) == Finished(3)
            await never_passed(desk)

    run(scenario())


def test_a_budget_of_zero_denies_the_first_action() -> None:
    """Zero is a limit, not the absence of one."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            program = flow(looking, look)
            handle = await runtime.start(program, 5, budget=Budget(tool_calls=0))

            assert await desk.settled(handle) == Finished(0)

    run(scenario())


def test_a_denial_by_budget_that_nobody_catches_ends_the_run_as_denied() -> None:
    """It is not the program's bug."""

    async def scenario() -> None:
        desk = Desk()

        async def body(ctx: Any) -> None:
            await ctx.call_tool(look)

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, look), None, budget=Budget(tool_calls=0))
            state = await desk.settled(handle)

        assert isinstance(state, Failed)
        assert (state.error.code, state.denied) == ("E_BUDGET", True)

    run(scenario())


def test_siblings_together_never_pass_the_limit() -> None:
    """Ten calls that each fit alone do not fit together."""

    async def scenario() -> None:
        desk = Desk()
        inside: list[int] = []

        @tool(effect="read")
        async def meet(n: int) -> int:
            inside.append(n)
            await asyncio.sleep(0)
            return n

        async def body(ctx: Any) -> Any:
            async def part(n: int) -> Any:
                try:
                    return await ctx.call_tool(meet, n=n)
                except ActionDenied:
                    return None

            return await ctx.gather(*(part(n) for n in range(10)))

        async with desk.open() as runtime:
            handle = await runtime.start(
                flow(body, meet), None, run_id="r", budget=Budget(tool_calls=4, wall_clock=60)
            )
            state = await desk.settled(handle)

            assert state == Finished([0, 1, 2, 3, *[None] * 6])
            assert inside == [0, 1, 2, 3]
            await never_passed(desk)

    run(scenario())


def test_a_retry_is_charged() -> None:
    """The second attempt calls the tool a second time."""

    async def scenario() -> None:
        desk = Desk(policy=RetryWithBackoffPolicy(AllowDeclared(), 9, 0))

        @tool(effect="read")
        async def flaky(ctx: ToolContext[Any]) -> None:
            raise Transient("busy")

        async def body(ctx: Any) -> str:
            try:
                await ctx.call_tool(flaky)
            except ActionError as exc:
                return exc.code
            return ""

        async with desk.open() as runtime:
            program = flow(body, flaky)
            handle = await runtime.start(program, None, run_id="r", budget=Budget(tool_calls=3))
            state = await desk.settled(handle)

            assert state == Finished("E_BUDGET")
            assert (await handle.row()).head.spent.tool_calls == 3
            assert len(await desk.all("r", AttemptStarted)) == 2
            await never_passed(desk)

    run(scenario())


def test_measured_usage_settles_the_reservation() -> None:
    """What the provider counted is what is charged."""

    async def scenario() -> None:
        desk = Desk()

        await ask(desk, said("yes", usage=Usage(input_tokens=3, output_tokens=4)))

        head = await head_of(desk)
        assert (head.spent.llm_tokens, head.reserved) == (7, Amount())

    run(scenario())


@pytest.mark.parametrize(
    "usage",
    [
        None,
        Usage(),
        Usage(input_tokens=0, output_tokens=0),
        Usage(input_tokens=-5, output_tokens=2),
        Usage(input_tokens=3, output_tokens=10**12),
    ],
)
def test_usage_that_is_missing_or_impossible_is_charged_as_reserved(usage: Usage | None) -> None:
    """A broken counter must not be a free lunch, nor a lie about the books."""

    async def scenario() -> None:
        desk = Desk()

        await ask(desk, said("yes", usage=usage))

        reserved = (await desk.only("r", ActionRequested)).reserve.llm_tokens
        assert reserved >= OUTPUT_TOKENS
        assert (await head_of(desk)).spent.llm_tokens == reserved

    run(scenario())


@pytest.mark.parametrize(
    "odd",
    [
        {"input_tokens": 5.5},
        {"output_tokens": True},
        {"reasoning_tokens": "7"},
        {"total_tokens": object()},
        {"measured": "yes"},
        None,
    ],
)
def test_usage_of_another_type_is_told_and_not_kept(odd: dict[str, Any] | None) -> None:
    """A provider of one's own says anything, and an event that holds it is read by nobody."""
    usage: Any = 5 if odd is None else Usage(**{"input_tokens": 3, "output_tokens": 4} | odd)

    async def scenario() -> None:
        desk = Desk()

        await ask(desk, said("yes", usage=usage))

        assert (await desk.only("r", ActionSucceeded)).usage is None
        (note,) = await desk.all("r", Note)
        assert "E_USAGE_INVALID" in note.text
        reserved = (await desk.only("r", ActionRequested)).reserve.llm_tokens
        assert (await head_of(desk)).spent.llm_tokens == reserved

    run(scenario())


@pytest.mark.parametrize(("phase", "charged"), [("connect", False), ("read", True)])
def test_an_attempt_that_was_sent_is_charged(phase: str, charged: bool) -> None:
    """The provider bills what it received; what never left costs nothing."""

    async def scenario() -> None:
        desk = Desk()
        error = ProviderError("no", kind="permanent", category="connection", phase=phase)

        await ask(desk, [error])

        reserved = (await desk.only("r", ActionRequested)).reserve.llm_tokens
        assert (await head_of(desk)).spent.llm_tokens == (reserved if charged else 0)

    run(scenario())


def test_a_model_call_that_does_not_fit_is_denied() -> None:
    """The reservation counts the largest answer."""

    async def scenario() -> None:
        desk = Desk()

        await ask(desk, budget=Budget(llm_tokens=OUTPUT_TOKENS))

        assert "action_requested" not in await desk.kinds("r")
        assert "action_denied" in await desk.kinds("r")

    run(scenario())


def test_an_overrun_is_recorded_and_blocks_the_next_request() -> None:
    """What was used was used; the limit says no from then on."""

    async def scenario() -> None:
        desk = Desk()
        model = Model(said("one", usage=Usage(total_tokens=9_000)), said("two"))

        async def twice(ctx: Any) -> list[Any]:
            return [await asking(ctx), await asking(ctx)]

        async with desk.open(providers={"fake": model}) as runtime:
            program = flow(twice, models=["fake:m"])
            budget = Budget(llm_tokens=8_000)
            handle = await runtime.start(program, None, run_id="r", budget=budget)

            assert await desk.settled(handle) == Finished(["one", "E_BUDGET"])
            assert (await handle.row()).head.spent.llm_tokens == 9_000

    run(scenario())


def test_a_raised_budget_counts_from_the_next_request() -> None:
    """It is an event: who raised it, and when."""

    async def scenario() -> None:
        desk = Desk()

        async def body(ctx: Any) -> list[int]:
            first = await looking(ctx, 5)
            await ctx.wait_signal("more")
            return [first, await looking(ctx, 5)]

        async with desk.open() as runtime:
            program = flow(body, look)
            handle = await runtime.start(program, None, run_id="r", budget=Budget(tool_calls=2))
            await desk.settled(handle)
            await handle.raise_budget(Budget(tool_calls=5), by="ann")
            await handle.signal("more")

            assert await desk.settled(handle) == Finished([2, 3])
            assert (await desk.only("r", BudgetRaised)).by == "ann"
            await never_passed(desk)

    run(scenario())


def test_wall_clock_counts_actions_and_not_waits() -> None:
    """A run that sleeps a week has worked for a second."""

    async def scenario() -> None:
        desk = Desk()

        @tool(effect="read")
        async def work() -> None:
            desk.clock.advance(1.5)

        async def body(ctx: Any) -> None:
            await ctx.call_tool(work)
            await ctx.sleep(604_800)
            await ctx.call_tool(work)

        async with desk.open() as runtime:
            program = flow(body, work)
            handle = await runtime.start(program, None, run_id="r", budget=Budget(wall_clock=10))
            await desk.settled(handle)
            desk.clock.advance(604_800)
            state = await desk.settled(handle)

            assert state == Finished(None)
            assert (await handle.row()).head.spent.wall_ms == 3_000
            await never_passed(desk)

    run(scenario())


def test_an_actions_deadline_is_what_is_left_of_the_wall_clock() -> None:
    """An action cannot use more time than the run has."""

    async def scenario() -> None:
        desk = Desk()

        async def body(ctx: Any) -> None:
            await ctx.gather(ctx.call_tool(look), ctx.call_tool(look))

        async with desk.open() as runtime:
            program = flow(body, look)
            handle = await runtime.start(program, None, run_id="r", budget=Budget(wall_clock=10))
            await desk.settled(handle)
            limits = [event.timeout_ms for event in await desk.all("r", ActionRequested)]

        assert limits[0] == 5_000
        assert sum(limit or 0 for limit in limits) <= 10_000

    run(scenario())
