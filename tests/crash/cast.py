"""The programs, tools and models that crash tests run; tools act on the test's `Place`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gatebook import (
    ActionError,
    Agent,
    AllowDeclared,
    Permanent,
    RateLimited,
    RetryWithBackoffPolicy,
    Scripted,
    ToolContext,
    Transient,
    WorkflowContext,
    tool,
    workflow,
)
from gatebook.kernel.messages import Call, ChatRequest, ChatResponse, StreamEvent
from gatebook.providers.script import Reply, ToolUse
from tests.crash.place import Place

CLERK = "scripted:clerk"
SLOW = "slow:clerk"
POLICY = RetryWithBackoffPolicy(AllowDeclared(), max_retries=3, base_ms=30, cap_ms=60_000)


@tool
async def pay(ctx: ToolContext[Place], item: str) -> str:
    """Pay for something; paying twice costs twice."""
    ctx.deps.act("pay", ctx)
    return f"paid {item}"


@tool(effect="idempotent")
async def reserve(ctx: ToolContext[Place], item: str) -> str:
    """Reserve something under the key of the call."""
    ctx.deps.act("reserve", ctx)
    return f"reserved {item}"


@tool(effect="read")
async def look_up(ctx: ToolContext[Place], item: str) -> str:
    """Look something up."""
    ctx.deps.started("look_up", ctx)
    return f"{item} is there"


@tool(effect="read")
async def flaky(ctx: ToolContext[Place]) -> int:
    """Fail twice, then answer."""
    ctx.deps.started("flaky", ctx)
    if ctx.attempt < 2:
        raise Transient("not yet")
    return 7


@tool
async def refused(ctx: ToolContext[Place]) -> int:
    """Say no, for good, before anything has happened."""
    ctx.deps.started("refused", ctx)
    raise Permanent("never")


@tool
async def slow_pay(ctx: ToolContext[Place]) -> str:
    """Pay, and answer when the gate opens."""
    ctx.deps.act("slow_pay", ctx)
    await ctx.deps.pass_gate()
    return "paid"


@tool(effect="idempotent")
async def slow_reserve(ctx: ToolContext[Place]) -> str:
    """Reserve, and answer when the gate opens."""
    ctx.deps.act("slow_reserve", ctx)
    await ctx.deps.pass_gate()
    return "reserved"


@tool(effect="read")
async def slow_read(ctx: ToolContext[Place]) -> str:
    """Answer when the gate opens."""
    ctx.deps.started("slow_read", ctx)
    await ctx.deps.pass_gate()
    return "read"


@tool(effect="read")
async def busy(ctx: ToolContext[Place], wait_ms: int) -> int:
    """Ask for a wait the first time, then answer with the attempt that did it."""
    ctx.deps.started("busy", ctx)
    if ctx.attempt == 0:
        raise RateLimited("come back later", retry_after_ms=wait_ms)
    return ctx.attempt


async def _paid(ctx: WorkflowContext, item: str) -> str:
    try:
        return await ctx.call_tool(pay, item=item)
    except ActionError:
        return f"{item} is not paid"


@workflow(version="1", tools=[pay, reserve, look_up, flaky, refused], models=[CLERK])
async def order(ctx: WorkflowContext, number: int) -> list[str]:
    """Every kind of action once: what a crash could hit."""
    plan = await ctx.call_llm(CLERK, f"Order {number}")
    ctx.log.info(f"the plan is {plan.text}")
    said = [await _paid(ctx, "fee")]
    said.append(await ctx.call_tool(reserve, item="room"))
    await ctx.sleep(0.02)
    said.append(str(await ctx.wait_signal("go")))
    said += await ctx.gather(ctx.call_tool(look_up, item="room"), _paid(ctx, "room"))
    said.append(str(await ctx.call_tool(flaky)))
    try:
        await ctx.call_tool(refused)
    except ActionError:
        said.append("refused")
    return said


@workflow(version="1", tools=[slow_pay])
async def slow_payment(ctx: WorkflowContext, number: int) -> str:
    """One payment that takes its time."""
    try:
        return await ctx.call_tool(slow_pay)
    except ActionError:
        return "not paid"


@workflow(version="1", tools=[slow_reserve])
async def slow_reservation(ctx: WorkflowContext, number: int) -> str:
    """One reservation that takes its time."""
    return await ctx.call_tool(slow_reserve)


@workflow(version="1", tools=[slow_read])
async def slow_reading(ctx: WorkflowContext, number: int) -> str:
    """One read that takes its time."""
    return await ctx.call_tool(slow_read)


@workflow(version="1", models=[SLOW])
async def slow_talk(ctx: WorkflowContext, number: int) -> str:
    """One model call whose stream falls silent."""
    return (await ctx.call_llm(SLOW, f"Order {number}")).text


@workflow(version="1", tools=[busy])
async def patient(ctx: WorkflowContext, number: int) -> int:
    """One read that is told to come back after `number` milliseconds."""
    return await ctx.call_tool(busy, wait_ms=number)


def _clerk(request: ChatRequest) -> Reply:
    """Answer by how often the model has answered before."""
    turn = sum(message.role == "assistant" for message in request.messages)
    if not request.tools:
        return Reply(say="pay, then reserve")
    turns = [
        Reply(call=(ToolUse("look_up", {"item": "room"}), ToolUse("pay", {"item": "fee"}),
                    ToolUse("look_up", {"item": "fee"}))),
        Reply(call=(ToolUse("reserve", {"item": "room"}), ToolUse("pay", {"item": "room"}))),
        Reply(call=(ToolUse("flaky"),)),
        Reply(say="all done"),
    ]  # fmt: skip
    return turns[turn]


agent = Agent(name="agent", model=CLERK, tools=[pay, reserve, look_up, flaky])


class SlowModel:
    """A scripted model whose stream says half of its answer and waits for the gate."""

    name = "slow"

    def __init__(self, place: Place) -> None:
        self._place = place
        self._inner = Scripted(lambda request: "one two three four")
        self.capabilities = self._inner.capabilities

    @asynccontextmanager
    async def stream(
        self, request: ChatRequest, call: Call
    ) -> AsyncIterator[AsyncIterator[StreamEvent]]:
        """Open a stream."""
        async with self._inner.stream(request, call) as events:
            yield self._slowly(events)

    async def _slowly(self, events: AsyncIterator[StreamEvent]) -> AsyncIterator[StreamEvent]:
        said = 0
        async for event in events:
            said += 1
            if said == 4:
                await self._place.pass_gate()
            yield event

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Answer at once."""
        return await self._inner.complete(request, call)

    async def aclose(self) -> None:
        """Do nothing: nothing is open."""


PROGRAMS: dict[str, Any] = {
    program.name: program
    for program in (order, agent, slow_payment, slow_reservation, slow_reading, slow_talk, patient)
}


def providers(place: Place) -> dict[str, Any]:
    """Return the models that the programs name."""
    return {"scripted": Scripted(_clerk), "slow": SlowModel(place)}


def value_of(program: str, number: int) -> Any:
    """Return a program's input."""
    return f"Order {number}" if program == "agent" else number
