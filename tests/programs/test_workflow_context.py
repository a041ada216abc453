"""What a workflow is given: actions, branches, time, chance and log lines."""

from contextvars import Context, ContextVar
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from gatebook.errors import (
    SignalTimeout,
)
from gatebook.kernel.actions import CallTool, Sleep, WaitSignal
from gatebook.kernel.codec import Raw, plain
from gatebook.kernel.events import ErrorRecord
from gatebook.programs import Workflow, WorkflowContext
from tests.programs.play import (
    START,
    Echo,
    action,
    addresses,
    begin,
    failed,
    failure,
    flow,
    ok,
    output,
    read,
    tool_args,
    write,
)

tenant: ContextVar[str] = ContextVar("tenant", default="none")


class Order(BaseModel):
    """An input of a workflow."""

    item: str
    price: Decimal
    count: int = 1


def test_an_action_is_wanted_when_it_is_awaited() -> None:
    """Making an awaitable must not act: the address is that of the await."""

    async def f(ctx: WorkflowContext) -> list[Any]:
        first, second = ctx.call_tool(read, n=1), ctx.call_tool(read, n=2)
        return [await second, await first]

    stepper, step = begin(flow(f))
    later = stepper.step([ok("0", "b")])

    assert (addresses(step), tool_args(action(step))) == (["0"], {"n": 2})
    assert (addresses(later), tool_args(action(later))) == (["1"], {"n": 1})
    assert output(stepper.step([ok("1", "a")])) == ["b", "a"]


def test_results_are_read_by_the_tools_declared_type() -> None:
    """A workflow sees what a replay would see: the journaled JSON, decoded."""

    class Money(Echo):
        def decode(self, output: bytes) -> Decimal:
            return Decimal(plain(output))

    pay = Money("pay")

    async def f(ctx: WorkflowContext) -> str:
        paid = await ctx.call_tool(pay)
        return str(paid * 2)

    stepper, _ = begin(Workflow(f, tools=[pay]))

    assert output(stepper.step([ok("0", "1.10")])) == "2.20"


def test_arguments_may_be_rich_values() -> None:
    """Decimals, datetimes and models become the JSON that the tool's schema expects."""

    async def f(ctx: WorkflowContext) -> None:
        when = datetime(2026, 1, 2, tzinfo=UTC)
        order = Order(item="x", price=Decimal("1.5"))
        await ctx.call_tool(read, when=when, price=Decimal("2.50"), order=order, ids={3, 1, 2})

    _, step = begin(flow(f))

    assert tool_args(action(step)) == {
        "when": "2026-01-02T00:00:00Z",
        "price": "2.50",
        "order": {"item": "x", "price": "1.5", "count": 1},
        "ids": [1, 2, 3],
    }


@pytest.mark.parametrize("value", [b"x", SecretStr("x")])
def test_what_would_be_changed_is_no_argument(value: Any) -> None:
    """JSON has no bytes, and guesses change what the tool gets; a SecretStr becomes asterisks."""

    async def f(ctx: WorkflowContext) -> None:
        await ctx.call_tool(read, body=value)

    _, step = begin(flow(f))

    assert failure(step).error.code == "E_JSON_TYPE"


def test_options_of_a_call_travel_with_it() -> None:
    """`tool.options(timeout=)` concerns one call; without it the tool's own limits hold."""
    quick = Echo("read", timeout_ms=5_000, retries=2)

    async def f(ctx: WorkflowContext) -> None:
        await ctx.gather(ctx.call_tool(quick), ctx.call_tool(read))

    _, step = begin(flow(f))

    assert action(step, 0) == CallTool("read", Raw(b"{}"), None, 5_000, 2)
    assert action(step, 1) == CallTool("read", Raw(b"{}"))


def test_another_tool_of_a_declared_name_is_refused() -> None:
    """The executor would run the declared one, and the result would be read by the other."""
    impostor = Echo("read", "at_most_once")

    async def f(ctx: WorkflowContext) -> None:
        await ctx.call_tool(impostor)

    _, step = begin(flow(f))

    assert failure(step).error.code == "E_PROGRAM_DECLARATION"


def test_a_tool_named_by_text_is_refused() -> None:
    """A name has no declared type to read the result by."""

    async def f(ctx: Any) -> None:
        await ctx.call_tool("read")

    _, step = begin(flow(f))

    assert "ctx.call_tool was given read" in failure(step).error.message


def test_an_undeclared_tool_is_asked_for() -> None:
    """The gate refuses it, so that the refusal is in the journal."""

    async def f(ctx: WorkflowContext) -> None:
        await ctx.call_tool(Echo("other"))

    _, step = begin(flow(f))

    assert action(step).tool == "other"


def test_gathered_branches_have_causal_addresses() -> None:
    """An address says where in the program an action stands, never when it happened."""

    async def twice(ctx: WorkflowContext, n: int) -> list[Any]:
        return [await ctx.call_tool(read, n=n), await ctx.call_tool(read, n=n + 10)]

    async def f(ctx: WorkflowContext) -> list[Any]:
        await ctx.sleep(1)
        return await ctx.gather(twice(ctx, 0), twice(ctx, 1), ctx.call_tool(write))

    stepper, first = begin(flow(f))
    fork = stepper.step([ok("0")])
    one = stepper.step([ok("1.b1.s0", "b")])

    assert addresses(first) == ["0"]
    assert addresses(fork) == ["1.b0.s0", "1.b1.s0", "1.b2.s0"]
    assert addresses(one) == ["1.b1.s1"]


def test_gather_gives_results_in_order() -> None:
    """Which branch ended first must not show in the result."""

    async def f(ctx: WorkflowContext) -> list[Any]:
        return await ctx.gather(*(ctx.call_tool(read, n=n) for n in range(3)))

    stepper, _ = begin(flow(f))
    step = stepper.step([ok("0.b2.s0", "c"), ok("0.b0.s0", "a"), ok("0.b1.s0", "b")])

    assert output(step) == ["a", "b", "c"]


def test_gathering_nothing_gives_nothing() -> None:
    """A comprehension over no items is an everyday gather."""

    async def f(ctx: WorkflowContext) -> list[Any]:
        return await ctx.gather(*(ctx.call_tool(read) for _ in ()))

    _, step = begin(flow(f))

    assert output(step) == []


def test_gather_waits_for_all_and_raises_the_first_by_order() -> None:
    """No action may be left in flight when a run ends, and replay must raise the same error."""

    async def f(ctx: WorkflowContext) -> None:
        await ctx.gather(*(ctx.call_tool(read, n=n) for n in range(3)))

    stepper, _ = begin(flow(f))
    late = stepper.step([failed("0.b2.s0", ErrorRecord("E_ACTION", "late"))])
    early = stepper.step([failed("0.b1.s0", ErrorRecord("E_ACTION", "early"))])
    end = stepper.step([ok("0.b0.s0")])

    assert (late.end, early.end) == (None, None)
    assert failure(end).error.message == "early"


def test_a_sleep_takes_seconds_or_a_timedelta() -> None:
    """Both are how people write durations."""

    async def f(ctx: WorkflowContext) -> None:
        await ctx.gather(ctx.sleep(1.5), ctx.sleep(timedelta(hours=1)))

    _, step = begin(flow(f))

    assert [want.action for want in step.wants] == [Sleep(1_500), Sleep(3_600_000)]


def test_a_signal_is_read_as_its_type() -> None:
    """The payload comes from outside, so it is checked before the workflow uses it."""

    async def f(ctx: WorkflowContext) -> str:
        order = await ctx.wait_signal("go", Order, timeout=timedelta(days=1))
        return f"{order.count} {order.item}"

    stepper, step = begin(flow(f))
    end = stepper.step([ok("0", {"item": "tea", "price": "2"})])

    assert action(step) == WaitSignal("go", 86_400_000)
    assert output(end) == "1 tea"


def test_a_signal_of_another_type_fails_the_wait() -> None:
    """Passing a wrong payload on would fail later, at a place that says less."""

    async def f(ctx: WorkflowContext) -> None:
        await ctx.wait_signal("go", Order)

    stepper, _ = begin(flow(f))

    assert failure(stepper.step([ok("0", {"item": 1})])).error.code == "E_SIGNAL_TYPE"


def test_a_signal_timeout_can_be_caught() -> None:
    """Going on without the signal is the usual reason to give a timeout."""

    async def f(ctx: WorkflowContext) -> str:
        try:
            await ctx.wait_signal("go", timeout=1)
        except SignalTimeout:
            return "nobody"
        return "somebody"

    stepper, _ = begin(flow(f))
    record = ErrorRecord("E_SIGNAL_TIMEOUT", "nobody sent it")

    assert output(stepper.step([failed("0", record)])) == "nobody"


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 129, None])
def test_a_signal_name_is_checked(name: Any) -> None:
    """A wait on a name that nobody can send would never end."""

    async def f(ctx: WorkflowContext) -> None:
        await ctx.wait_signal(name)

    _, step = begin(flow(f))

    assert failure(step).error.code == "E_SIGNAL_NAME"


def test_now_is_the_stamp_of_the_event_that_resumed() -> None:
    """Time that comes from the journal is the same on every replay."""

    async def f(ctx: WorkflowContext) -> list[str]:
        before = ctx.now()
        await ctx.sleep(1)
        return [before.isoformat(), ctx.now().isoformat()]

    stepper, _ = begin(flow(f))
    step = stepper.step([ok("0", time=START + 1_500_001)])

    assert output(step) == ["2023-11-14T22:13:20+00:00", "2023-11-14T22:13:21.500001+00:00"]


def test_random_and_uuid_derive_from_the_nonce_and_the_branch() -> None:
    """They must repeat on replay, and differ between runs, branches and draws."""

    async def draw(ctx: WorkflowContext) -> list[Any]:
        return [ctx.random(), ctx.random(), ctx.uuid(), ctx.uuid()]

    async def f(ctx: WorkflowContext) -> list[Any]:
        return [await draw(ctx), *await ctx.gather(draw(ctx), draw(ctx))]

    once, again = output(begin(flow(f))[1]), output(begin(flow(f))[1])
    other = output(begin(flow(f), nonce="01" * 16)[1])

    drawn = [value for part in once + other for value in part]
    assert once == again
    assert len(set(drawn)) == len(drawn)
    assert all(0 <= value < 1 for value in drawn if isinstance(value, float))


def test_a_uuid_is_of_version_8() -> None:
    """Version 8 says: made by other rules than time or chance."""

    async def f(ctx: WorkflowContext) -> str:
        return ctx.uuid()

    text = output(begin(flow(f))[1])

    assert [len(part) for part in text.split("-")] == [8, 4, 4, 4, 12]
    assert text[14] == "8"
    assert text[19] in "89ab"


def test_log_lines_become_notes_of_their_step() -> None:
    """The driver journals a step's notes when it commits the step, hence once."""

    async def f(ctx: WorkflowContext) -> None:
        ctx.log.info("begin")
        await ctx.sleep(0)
        ctx.log.info("\ud800")

    stepper, step = begin(flow(f))

    assert step.notes == ("begin",)
    assert stepper.step([ok("0")]).notes == ("?",)


def test_context_is_what_the_run_was_started_with() -> None:
    """Who a run acts for is a fact of the journal; changing the copy changes nothing."""

    async def f(ctx: WorkflowContext) -> Any:
        ctx.context["user"] = "evil"
        return ctx.context

    _, step = begin(flow(f), context=Raw(b'{"user":"u7"}'))

    assert output(step) == {"user": "u7"}


def test_context_variables_of_a_workflow_are_its_own() -> None:
    """A library that sets one goes on where it was after each await, and leaves none behind."""

    async def part(ctx: WorkflowContext) -> str:
        await ctx.call_tool(read)
        return tenant.get()

    async def f(ctx: WorkflowContext) -> list[str]:
        found = [tenant.get()]
        token = tenant.set("a")
        found += await ctx.gather(part(ctx), part(ctx))
        tenant.reset(token)
        return [*found, tenant.get()]

    token = tenant.set("driver")
    stepper, _ = begin(flow(f))
    beside = tenant.get()
    tenant.reset(token)
    stepper.step([ok("0.b0.s0")])
    after = stepper.step([ok("0.b1.s0")])

    assert beside == "driver"
    assert output(after) == ["driver", "a", "a", "driver"]
    assert tenant.get() == "none"


def test_a_workflow_that_is_closed_elsewhere_may_reset_its_variables() -> None:
    """A `finally` block that resets one must not fail because another task lets the run go."""
    ended: list[str] = []

    async def f(ctx: WorkflowContext) -> None:
        token = tenant.set("a")
        try:
            await ctx.call_tool(read)
        finally:
            tenant.reset(token)
            ended.append(tenant.get())

    stepper, _ = begin(flow(f))
    Context().run(stepper.close)

    assert ended == ["none"]
