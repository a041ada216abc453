"""How workflows fail: failed actions, their own exceptions, and what they must not await."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from gatebook.errors import (
    ActionDenied,
    ActionError,
    ConfigError,
    Diverged,
    InvalidInput,
    ProviderError,
    RateLimited,
)
from gatebook.kernel.events import ErrorRecord
from gatebook.ports import Outcome
from gatebook.programs import WorkflowContext
from gatebook.programs.generators import MANY
from gatebook.programs.scheduler import MAX_CLOSING, MAX_REFUSALS, Scheduler
from tests.programs.play import (
    START,
    addresses,
    begin,
    denied,
    failed,
    failure,
    flow,
    ok,
    output,
    read,
    started,
    write,
)


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (ErrorRecord("E_ACTION", "m", "transient", retry_after_ms=5), "Transient"),
        (ErrorRecord("E_ACTION", "m", "rate_limited", retry_after_ms=5), "RateLimited"),
        (ErrorRecord("E_ACTION_TIMEOUT", "m"), "Permanent"),
        (ErrorRecord("E_TOOL_RETRY", "m"), "ToolRetry"),
        (
            ErrorRecord("E_PROVIDER", "m", "transient", "server", 7, 503, "partial"),
            "ProviderError",
        ),
    ],
)
def test_a_failed_action_raises_what_its_record_says(record: ErrorRecord, kind: str) -> None:
    """User code handles errors by class and code; the record must come back whole."""
    seen: list[ActionError] = []

    async def f(ctx: WorkflowContext) -> None:
        try:
            await ctx.call_tool(read)
        except ActionError as exc:
            seen.append(exc)
            raise

    stepper, _ = begin(flow(f))
    end = stepper.step([failed("0", record)])

    assert type(seen[0]).__name__ == kind
    assert (seen[0].code, seen[0].retry_after_ms) == (record.code, record.retry_after_ms)
    assert failure(end).error == record


def test_a_denied_action_can_be_handled() -> None:
    """A denial is an outcome the program sees, not the end of the run."""

    async def f(ctx: WorkflowContext) -> str:
        try:
            await ctx.call_tool(write)
        except ActionDenied as exc:
            return exc.code
        return ""

    stepper, _ = begin(flow(f))

    assert output(stepper.step([denied("0")])) == "E_POLICY_DENIED"


def test_an_uncaught_denial_ends_the_run_as_denied() -> None:
    """`RunDenied` tells the caller to look at policy or budget, not at the code."""

    async def f(ctx: WorkflowContext) -> None:
        await ctx.call_tool(write)

    stepper, _ = begin(flow(f))
    end = failure(stepper.step([denied("0", "E_BUDGET", "too much")]))

    assert (end.denied, end.error) == (True, ErrorRecord("E_BUDGET", "too much"))


def test_an_exception_of_the_workflow_fails_the_run() -> None:
    """The record has the type and text; a stack trace may hold secrets and paths."""

    async def f(ctx: WorkflowContext) -> None:
        raise LookupError("no such page")

    end = failure(begin(flow(f))[1])

    assert end.error.code == "E_WORKFLOW"
    assert "LookupError: no such page" in end.error.message
    assert "Traceback" not in end.error.message


def test_an_exception_without_readable_text_fails_the_run_all_the_same() -> None:
    """A user's __str__ may raise; the run must still end."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    async def f(ctx: WorkflowContext) -> None:
        raise Mute

    assert "Mute" in failure(begin(flow(f))[1]).error.message


def test_exiting_in_a_workflow_fails_the_run() -> None:
    """A program must not end the process that drives other runs."""

    async def f(ctx: WorkflowContext) -> None:
        raise SystemExit(3)

    assert "SystemExit: 3" in failure(begin(flow(f))[1]).error.message


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_the_trouble_of_the_process_is_not_the_runs(error: type[BaseException]) -> None:
    """Ctrl-C or a full memory says nothing of the run: it is driven again later."""

    async def f(ctx: WorkflowContext) -> None:
        raise error

    stepper = flow(f).begin(started())

    with pytest.raises(error):
        stepper.step(())


def test_awaiting_a_foreign_thing_is_refused() -> None:
    """What is not an action would not be journaled, so it cannot be awaited."""

    class Foreign:
        def __await__(self) -> Any:
            yield "something"

    async def f(ctx: WorkflowContext) -> None:
        await Foreign()

    end = failure(begin(flow(f))[1])

    assert end.error.code == "E_WORKFLOW_AWAIT"
    assert "builtins.str" in end.error.message


@pytest.mark.parametrize("seconds", [0, 1])
def test_awaiting_asyncio_is_refused(seconds: int) -> None:
    """`asyncio.sleep` is the most common mistake; the error names the way out."""

    async def f(ctx: WorkflowContext) -> None:
        await asyncio.sleep(seconds)

    end = failure(begin(flow(f))[1])

    assert end.error.code == "E_WORKFLOW_AWAIT"


def test_awaiting_a_future_of_a_running_loop_is_refused() -> None:
    """Even where a loop runs, its futures are none of the journal's."""

    async def f(ctx: WorkflowContext) -> None:
        await asyncio.get_running_loop().create_future()

    async def scenario() -> str:
        return failure(begin(flow(f))[1]).error.message

    assert "_asyncio.Future" in asyncio.run(scenario())


def test_a_queue_of_asyncio_is_refused() -> None:
    """It asks for no loop until it must wait, and then it finds none and says so in no words."""

    async def f(ctx: WorkflowContext) -> None:
        await asyncio.Queue().get()

    end = failure(begin(flow(f))[1])

    assert end.error.code == "E_WORKFLOW_AWAIT"


def test_a_refused_gather_of_asyncio_leaves_no_complaint_behind() -> None:
    """The run says what is wrong; the loop must not add that nobody heard of it."""
    complaints: list[Any] = []

    async def f(ctx: Any) -> None:
        await asyncio.gather(ctx.sleep(0), ctx.sleep(0))

    async def scenario() -> str:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context["message"]))
        stepper, step = begin(flow(f))
        code = failure(step).error.code
        stepper.close()
        del stepper, step
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()
        return code

    assert asyncio.run(scenario()) == "E_WORKFLOW_AWAIT"
    assert complaints == []


def test_a_refused_await_can_be_seen_by_the_code_that_did_it() -> None:
    """The error is raised at the await, so the traceback shows the line."""

    async def f(ctx: WorkflowContext) -> str:
        try:
            await asyncio.sleep(0)
        except ConfigError as exc:
            return exc.code
        return ""

    assert output(begin(flow(f))[1]) == "E_WORKFLOW_AWAIT"


def test_awaiting_twice_is_refused() -> None:
    """The second await would be another action at another address."""

    async def f(ctx: WorkflowContext) -> None:
        once = ctx.sleep(0)
        await once
        await once

    stepper, _ = begin(flow(f))

    assert "a second time" in failure(stepper.step([ok("0")])).error.message


def test_gathering_a_coroutine_twice_is_refused() -> None:
    """Two branches would drive it, and each would take the outcomes of the other."""

    async def helper(ctx: WorkflowContext) -> None:
        await ctx.sleep(0)

    async def f(ctx: Any) -> None:
        once = helper(ctx)
        await ctx.gather(once, once)

    assert "a second time" in failure(begin(flow(f))[1]).error.message


def test_the_awaitable_of_another_run_is_refused() -> None:
    """A ctx kept from another run would act under that run's addresses."""
    kept: list[WorkflowContext] = []

    async def f(ctx: WorkflowContext) -> None:
        kept.append(ctx)
        await kept[0].sleep(0)

    begin(flow(f))

    assert "of another run" in failure(begin(flow(f))[1]).error.message


def test_gathering_something_else_is_refused() -> None:
    """The coroutine beside it is closed, so that Python does not warn of it."""

    async def helper(ctx: WorkflowContext) -> None:
        await ctx.sleep(0)

    async def f(ctx: Any) -> None:
        await ctx.gather(helper(ctx), 3)

    assert failure(begin(flow(f))[1]).error.code == "E_WORKFLOW_AWAIT"


def test_a_forgotten_await_fails_the_run() -> None:
    """An effect that silently never happened is the worst outcome."""

    async def f(ctx: WorkflowContext) -> str:
        ctx.call_tool(write)
        return "done"

    end = failure(begin(flow(f))[1])

    assert end.error.code == "E_WORKFLOW_UNAWAITED"
    assert "ctx.call_tool(write, ...)" in end.error.message


def test_an_outcome_nobody_asked_for_is_a_divergence() -> None:
    """The code is not the code that wrote this journal."""

    async def f(ctx: WorkflowContext) -> None:
        await ctx.sleep(0)

    stepper, _ = begin(flow(f))

    with pytest.raises(Diverged, match="E_NONDETERMINISM"):
        stepper.step([ok("7", seq=12)])


def test_closing_runs_finally_blocks_with_actions_refused() -> None:
    """A parked run is let go of: its clean-up may tidy memory, and must not act."""
    seen: list[str] = []

    async def branch(ctx: WorkflowContext, name: str) -> None:
        try:
            await ctx.sleep(9)
        finally:
            seen.append(name)
            ctx.log.info("lost")
            try:
                await ctx.call_tool(write)
                seen.append("acted")
            finally:
                seen.append(f"tidied {name}")

    async def f(ctx: WorkflowContext) -> None:
        try:
            await ctx.gather(branch(ctx, "a"), branch(ctx, "b"))
        except Exception:  # noqa: BLE001  even this must not see the end
            seen.append("caught")

    stepper, _ = begin(flow(f))
    stepper.close()

    assert seen == ["b", "tidied b", "a", "tidied a"]


def test_an_async_generator_that_is_left_early_ends_with_the_workflow() -> None:
    """Else it would end when it is collected: in an event loop, or on a replay in none."""
    seen: list[str] = []

    async def pages(ctx: WorkflowContext) -> AsyncIterator[int]:
        try:
            yield await ctx.call_tool(read)
        finally:
            seen.append("left")
            await ctx.call_tool(write)
            seen.append("acted")

    async def f(ctx: WorkflowContext) -> None:
        async for _ in pages(ctx):
            break
        await ctx.sleep(0)
        seen.append("went on")

    async def scenario() -> None:
        stepper, _ = begin(flow(f))
        stepper.step([ok("0", 1)])
        for _ in range(5):
            await asyncio.sleep(0)  # what the loop was given to do is done by then
        stepper.step([ok("1")])
        assert seen == ["went on"]
        stepper.close()

    asyncio.run(scenario())

    assert seen == ["went on", "left"]


def test_async_generators_that_have_ended_are_let_go_of() -> None:
    """A workflow that goes through a thousand of them must not keep a thousand."""
    alive = weakref.WeakSet[Any]()

    async def pages() -> AsyncIterator[int]:
        yield 1

    async def f(ctx: WorkflowContext) -> None:
        for _ in range(10 * MANY):
            each = pages()
            alive.add(each)
            async for _ in each:
                pass
        assert len(alive) <= 2 * MANY

    assert output(begin(flow(f))[1]) is None


class Odd(BaseException):
    """What nobody raises, and a library did."""


@pytest.mark.parametrize("error", [SystemExit(3), Odd(), asyncio.CancelledError()])
def test_closing_ends_with_the_workflow_whatever_that_raises(error: BaseException) -> None:
    """A run that is let go of must not end the process, nor what else its worker drives."""
    closed: list[str] = []

    async def branch(ctx: WorkflowContext, name: str) -> None:
        try:
            await ctx.sleep(9)
        finally:
            closed.append(name)
            raise error

    async def f(ctx: WorkflowContext) -> None:
        await ctx.gather(branch(ctx, "a"), branch(ctx, "b"))

    stepper, _ = begin(flow(f))
    stepper.close()

    assert closed == ["b", "a"]


def test_closing_ends_with_a_workflow_that_swallows_its_end() -> None:
    """`except BaseException: pass` around a wait, in a loop, must not hang its worker."""
    swallowed = 0

    async def f() -> None:
        nonlocal swallowed
        while swallowed < 5 * MAX_CLOSING:
            try:
                await ctx.wait_signal("go")
                return
            except BaseException:  # noqa: BLE001
                swallowed += 1

    scheduler = Scheduler("p", time=START)
    ctx = WorkflowContext(scheduler, started(), tools={}, notes=[])
    steps = f()
    scheduler.start(steps)
    scheduler.close()
    given_up_after, swallowed = swallowed, 5 * MAX_CLOSING
    steps.close()

    assert MAX_CLOSING < given_up_after < 2 * MAX_CLOSING


def test_a_workflow_that_awaits_foreign_things_for_ever_fails() -> None:
    """It holds up every run of its worker; what it swallows is then its failure."""
    ended: list[str] = []

    async def f(ctx: WorkflowContext) -> None:
        try:
            for _ in range(3 * MAX_REFUSALS):
                with suppress(ConfigError):
                    await asyncio.sleep(0)
            await ctx.wait_signal("go")
        finally:
            ended.append("f")
            await ctx.call_tool(write)

    stepper, step = begin(flow(f))

    assert failure(step).error.code == "E_WORKFLOW_AWAIT"
    assert (step.wants, ended) == ((), ["f"])
    stepper.close()


def test_a_branch_that_awaits_foreign_things_for_ever_fails_alone() -> None:
    """The others of its gather have their ends first, as with any error."""

    async def bad() -> None:
        for _ in range(3 * MAX_REFUSALS):
            with suppress(ConfigError):
                await asyncio.sleep(0)

    async def f(ctx: WorkflowContext) -> str:
        try:
            await ctx.gather(bad(), ctx.call_tool(read))
        except ConfigError as exc:
            return exc.code
        return ""

    stepper, step = begin(flow(f))

    assert addresses(step) == ["0.b1.s0"]
    assert output(stepper.step([ok("0.b1.s0")])) == "E_WORKFLOW_AWAIT"


def test_many_refused_calls_in_one_step_are_fine() -> None:
    """A workflow may try what it was given, one by one, and go on with what is left."""

    async def f(ctx: WorkflowContext) -> int:
        refused = 0
        for _ in range(500):
            try:
                await ctx.sleep(-1)
            except InvalidInput:
                refused += 1
        return refused

    assert output(begin(flow(f))[1]) == 500


def test_no_outcome_is_folded_after_the_end() -> None:
    """One batch may hold outcomes that came after the one that ended the run."""

    async def f(ctx: WorkflowContext) -> int:
        await ctx.sleep(0)
        return 1

    stepper, _ = begin(flow(f))

    assert output(stepper.step([ok("0"), ok("1")])) == 1


def test_provider_errors_keep_what_they_know() -> None:
    """A workflow may choose another model by the category of the failure."""

    async def f(ctx: WorkflowContext) -> list[Any]:
        try:
            await ctx.call_llm("a:b", "hi")
        except ProviderError as exc:
            return [exc.category, exc.kind, exc.fields["status"]]
        return []

    stepper, _ = begin(flow(f))
    record = ErrorRecord("E_PROVIDER", "m", "transient", "overloaded", None, 529)

    assert output(stepper.step([failed("0", record)])) == ["overloaded", "transient", 529]


def test_a_user_may_raise_action_errors() -> None:
    """A workflow ends with an error of its own choice and code."""

    async def f(ctx: WorkflowContext) -> None:
        raise RateLimited("later", retry_after_ms=9)

    error = failure(begin(flow(f))[1]).error

    assert error == ErrorRecord("E_ACTION", "later", "rate_limited", retry_after_ms=9)


def test_an_outcome_without_a_record_still_raises() -> None:
    """A resolution by a person may carry no error."""

    async def f(ctx: WorkflowContext) -> None:
        await ctx.call_tool(read)

    stepper, _ = begin(flow(f))

    assert failure(stepper.step([Outcome("0", "failed", 1, 1)])).error.code == "E_ACTION"
