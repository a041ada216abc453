"""Soft limits and fan-out: what is asked about, goes elsewhere, or is too much at once."""

import asyncio
from typing import Any

import pytest
from tests.runtime.kit import Desk, Model, flow, run, said

from gatebook import Agent, Budget, Soft, hook, tool
from gatebook.errors import ActionDenied, InvalidInput
from gatebook.kernel.approvals.events import ApprovalAsked
from gatebook.kernel.budget import Limits, SoftLimit
from gatebook.kernel.codec import plain
from gatebook.kernel.events import ActionDenied as DeniedEvent
from gatebook.kernel.events import ActionRequested, RunStarted
from gatebook.kernel.messages import ChatRequest, Usage
from gatebook.kernel.policies import AllowDeclared
from gatebook.kernel.spending.soft import moved
from gatebook.providers.script import Reply, ToolUse
from gatebook.providers.scripted import Scripted
from gatebook.runtime.runs.audit import audit
from gatebook.runtime.runs.states import Finished, Waiting

DEAR, CHEAP = "fake:dear", "fake:cheap"
PRICES = {DEAR: {"input": "10", "output": "10"}, CHEAP: {"input": "1", "output": "1"}}


@tool(effect="read")
async def look(n: int = 0) -> int:
    return n


async def looking(ctx: Any, count: int) -> list[int]:
    return [await ctx.call_tool(look, n=n) for n in range(count)]


async def at_once(ctx: Any, count: int) -> list[int | str]:
    async def one(n: int) -> int | str:
        try:
            return int(await ctx.call_tool(look, n=n))
        except ActionDenied as error:
            return error.code

    return list(await ctx.gather(*(one(n) for n in range(count))))


async def talking(ctx: Any, count: int) -> list[str]:
    return [
        (await ctx.call_llm(DEAR, f"turn {n}", max_output_tokens=100)).text for n in range(count)
    ]


def answers(count: int) -> Model:
    """A model that answers so often, for 100 tokens each."""
    usage = Usage(input_tokens=50, output_tokens=50)
    return Model(*(said("yes", usage=usage) for _ in range(count)))


def test_beyond_a_soft_limit_a_person_is_asked() -> None:
    """The run waits with the call that would go beyond, and what went before is done."""

    async def scenario() -> None:
        desk = Desk()
        budget = Budget(tool_calls=9, soft=Soft(tool_calls=2))
        async with desk.open() as runtime:
            handle = await runtime.start(flow(looking, look), 4, run_id="r", budget=budget)
            state = await desk.settled(handle)
            asked = await desk.only("r", ApprovalAsked)
            requested = await desk.all("r", ActionRequested)

        assert isinstance(state, Waiting)
        assert len(requested) == 2
        assert asked.decision.verdict == "ask"
        assert asked.decision.rule == "gatebook.soft"
        assert "soft limit of 2 tool_calls is reached: 2 used" in asked.decision.reason

    run(scenario())


def test_what_a_person_approves_beyond_a_soft_limit_is_done() -> None:
    """Once: the next call beyond it is asked about again."""

    async def scenario() -> None:
        desk = Desk()
        budget = Budget(tool_calls=9, soft=Soft(tool_calls=2))
        async with desk.open() as runtime:
            handle = await runtime.start(flow(looking, look), 4, run_id="r", budget=budget)
            for _ in range(2):
                assert isinstance(await desk.settled(handle), Waiting)
                (pending,) = [each async for each in runtime.approvals()]
                await pending.approve(by="ann")

            assert await desk.settled(handle) == Finished([0, 1, 2, 3])
            report = await audit(desk.journal, handle.key)
            assert report.ok, report.violation

    run(scenario())


def test_the_hard_limit_ends_what_a_person_would_approve() -> None:
    """An approval opens no budget."""

    async def body(ctx: Any) -> str:
        await ctx.call_tool(look)
        try:
            await ctx.call_tool(look)
        except ActionDenied as error:
            return error.code
        return "called"

    async def scenario() -> None:
        desk = Desk()
        budget = Budget(tool_calls=1, soft=Soft(tool_calls=1))
        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, look), None, run_id="r", budget=budget)
            if isinstance(await desk.settled(handle), Waiting):
                (pending,) = [each async for each in runtime.approvals()]
                await pending.approve(by="ann")

            assert await desk.settled(handle) == Finished("E_BUDGET")

    run(scenario())


def test_a_raise_moves_the_soft_limit_too() -> None:
    """Its distance from the end is what it means."""
    soft = Soft(tool_calls=8, usd="1").limit
    before, after = Limits(tool_calls=10, fan_out=3), Limits(tool_calls=15, fan_out=9)

    (found,) = moved((soft,), before, after)

    assert found.limits == Limits(tool_calls=13, usd_micros=1_000_000)
    assert moved((soft,), before, before) == (soft,)


def test_beyond_a_soft_limit_a_model_call_goes_to_the_other_route() -> None:
    """Recorded as a change of the decision, with its patch; a replay asks for the first route."""

    async def scenario() -> None:
        desk = Desk(prices=PRICES)
        program = flow(talking, models=[DEAR, CHEAP])
        budget = Budget(usd="1", soft=Soft(usd="0.003", route=CHEAP))
        model = answers(4)
        async with desk.open(providers={"fake": model}) as runtime:
            handle = await runtime.start(program, 4, run_id="r", budget=budget)
            assert await desk.settled(handle) == Finished(["yes"] * 4)
            requests = await desk.all("r", ActionRequested)
            report = await audit(desk.journal, handle.key)

        assert [each.model for each in model.asked] == ["dear", "dear", "cheap", "cheap"]
        decisions = [each.decision for each in requests]
        assert [each.verdict for each in decisions] == ["allow", "allow", "modify", "modify"]
        assert plain(decisions[2].patch) == [
            {"op": "replace", "path": "/provider", "value": "fake"},
            {"op": "replace", "path": "/model", "value": "cheap"},
        ]
        assert decisions[2].rule == "gatebook.soft"
        assert report.ok, report.violation

    run(scenario())


@pytest.mark.parametrize("route", ["", CHEAP])
def test_a_price_that_nobody_knows_is_beyond_a_soft_limit_in_dollars(route: str) -> None:
    """It is never counted as nothing; a hard limit in dollars would refuse the call."""

    async def scenario() -> None:
        desk = Desk(prices={CHEAP: PRICES[CHEAP]})
        program, model = flow(talking, models=[DEAR, CHEAP]), answers(1)
        budget = Budget(soft=Soft(usd="5", route=route))
        async with desk.open(providers={"fake": model}) as runtime:
            handle = await runtime.start(program, 1, run_id="r", budget=budget)
            state = await desk.settled(handle)
            kind: Any = ActionRequested if route else ApprovalAsked
            found = await desk.only("r", kind)

        assert isinstance(state, Finished if route else Waiting)
        assert [each.model for each in model.asked] == (["cheap"] if route else [])
        assert "$5.00 usd may be reached: the price of the call is unknown" in found.decision.reason

    run(scenario())


def test_the_other_route_is_decided_like_any() -> None:
    """A budget opens nothing that policy keeps closed."""

    async def body(ctx: Any) -> str:
        try:
            await ctx.call_llm(DEAR, "hi")
        except ActionDenied as error:
            return error.code
        return "called"

    async def scenario() -> None:
        desk = Desk(prices=PRICES)
        program = flow(body, models=[DEAR])
        budget = Budget(soft=Soft(llm_tokens=0, route=CHEAP))
        async with desk.open(providers={"fake": answers(1)}) as runtime:
            handle = await runtime.start(program, None, run_id="r", budget=budget)

            assert await desk.settled(handle) == Finished("E_NOT_DECLARED")

    run(scenario())


def test_a_route_changes_no_tool_call() -> None:
    """There is nowhere else to call it."""

    async def scenario() -> None:
        desk = Desk(AllowDeclared(budget=Budget(soft=Soft(tool_calls=0, route=CHEAP))))
        async with desk.open() as runtime:
            handle = await runtime.start(flow(looking, look), 2, run_id="r")

            assert await desk.settled(handle) == Finished([0, 1])
            started = await desk.only("r", RunStarted)
            assert started.soft == (SoftLimit(Limits(tool_calls=0), CHEAP),)

    run(scenario())


@pytest.mark.parametrize("soft", [5, "x", {"tool_calls": 1}, [Budget()], object()])
def test_what_is_no_soft_limit_is_refused(soft: Any) -> None:
    """Before a run starts that it should have slowed."""
    with pytest.raises(InvalidInput, match="E_BUDGET_SOFT"):
        Budget(soft=soft)


def test_a_soft_limit_names_a_limit_and_a_whole_route() -> None:
    """Nothing would never be reached; half a route could not be called."""
    with pytest.raises(InvalidInput, match="E_BUDGET_SOFT"):
        Soft(route=CHEAP)
    with pytest.raises(InvalidInput, match="E_ROUTE"):
        Soft(usd="1", route="cheap")


def test_what_a_step_asks_for_beyond_its_fan_out_is_denied() -> None:
    """Each recorded, and the others go on."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            handle = await runtime.start(
                flow(at_once, look), 5, run_id="r", budget=Budget(fan_out=3)
            )

            assert await desk.settled(handle) == Finished([0, 1, 2, "E_FANOUT", "E_FANOUT"])
            denied = await desk.all("r", DeniedEvent)
            assert "ask for at most 3 at once" in denied[0].error.message

    run(scenario())


def test_the_fan_out_counts_what_one_step_asks_for() -> None:
    """Not what other steps asked for before, whose hooks have not answered yet."""
    go = asyncio.Event()

    @hook("before_tool", rights=["observe"], timeout=60, on_failure="closed")
    async def slow(call: Any) -> None:
        if call.args["n"] == 1:
            await go.wait()

    async def body(ctx: Any) -> Any:
        async def first() -> Any:
            await ctx.call_tool(look, n=0)
            return await ctx.gather(ctx.call_tool(look, n=2), ctx.call_tool(look, n=3))

        return await ctx.gather(first(), ctx.call_tool(look, n=1))

    async def scenario() -> None:
        desk = Desk()
        async with desk.open(hooks=[slow]) as runtime:
            handle = await runtime.start(
                flow(body, look), None, run_id="r", budget=Budget(fan_out=2)
            )
            await desk.clock.settle()
            go.set()

            assert await desk.settled(handle) == Finished([[2, 3], 1])

    run(scenario())


def test_the_fan_out_of_an_agent_is_that_of_a_turn() -> None:
    """Also where calls keep their place, so that few are asked for at a time."""

    @tool
    async def edit(n: int) -> int:
        return n

    def script(request: ChatRequest) -> Reply | str:
        told = [m for m in request.messages if m.role == "tool"]
        if not told:
            return Reply(call=tuple(ToolUse("edit", {"n": n}) for n in range(5)))
        return f"{sum('E_FANOUT' in str(message.content) for message in told)} denied"

    async def scenario() -> None:
        desk = Desk()
        agent = Agent(name="a", model="fake:m", tools=[edit])
        async with desk.open(agent, providers={"fake": Scripted(script)}) as runtime:
            handle = await runtime.start(agent, "hi", run_id="r", budget=Budget(fan_out=3))

            assert await desk.settled(handle) == Finished("2 denied")
            denied = await desk.all("r", DeniedEvent)
            assert [event.address for event in denied] == ["t1.3", "t1.4"]

    run(scenario())
