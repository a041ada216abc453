"""Retries: who decides, how often at most, and how long is waited in between."""

from typing import Any

import pytest
from tests.programs.play import Echo, write
from tests.runtime.failing import Effect, outcome, request
from tests.runtime.kit import Desk, flow, run

from gatebook import ToolContext, tool
from gatebook.errors import ActionError, Permanent, RateLimited, ToolRetry, Transient
from gatebook.kernel.events import ActionFailed, ActionUnknown, AttemptFailed, ErrorRecord
from gatebook.kernel.policies import AllowDeclared, RetryWithBackoffPolicy
from gatebook.kernel.policy import Fail, Policy, Retry
from gatebook.runtime.driving.outcomes import NEVER, retry_verdict
from gatebook.runtime.performing.ended import Ended
from gatebook.runtime.runs.states import Finished


class Stubborn(Policy):
    """Retries whatever failed, at once."""

    def retry(self, error: ActionError, action: Any, attempt: int) -> Any:
        return Retry(0)


class Eager(AllowDeclared, Stubborn):
    """Allows what is declared, and retries whatever failed."""

    retry = Stubborn.retry


def test_no_policy_can_restart_what_may_have_happened() -> None:
    """A policy that retries everything must not pay a refund twice."""
    event = outcome(
        "at_most_once", Ended(error=Transient("sent?"), doubtful=True), doubted=False,
        policy=Stubborn(),
    )  # fmt: skip

    assert isinstance(event, ActionUnknown)


def test_no_policy_can_restart_an_at_most_once_action_that_crashed() -> None:
    """A crash does not state that nothing happened."""
    crash = Permanent("act failed: ValueError", code="E_ACTION_FAILED")

    verdict = retry_verdict(crash, request("at_most_once"), 0, Stubborn(), write.spec)

    assert verdict == Fail()


def test_an_at_most_once_action_that_stated_nothing_happened_may_be_retried() -> None:
    """That is the only case in which it may."""
    verdict = retry_verdict(Transient("busy"), request("at_most_once"), 0, Stubborn(), write.spec)

    assert verdict == Retry(0)


def test_no_policy_repeats_for_ever() -> None:
    """However wrong a policy is, there is an end."""
    verdict = retry_verdict(Transient("x"), request("read"), 99, Stubborn(), Echo("t").spec)

    assert isinstance(verdict, Fail)


@pytest.mark.parametrize(
    "answer",
    [
        None, True, "yes", Retry(-1), Retry(1.5), Retry(10**30),  # type: ignore[arg-type]
        Retry(1, 2.0), Retry(1, float("nan")),
    ],
)  # fmt: skip
def test_a_retry_answer_that_makes_no_sense_retries_nothing(answer: Any) -> None:
    """What cannot be waited must not be journaled as a wait."""

    class Odd(Policy):
        def retry(self, error: ActionError, action: Any, attempt: int) -> Any:
            return answer

    verdict = retry_verdict(Transient("x"), request("read"), 0, Odd(), Echo("t").spec)

    assert isinstance(verdict, Fail)


def test_a_policy_that_raises_retries_nothing() -> None:
    """Fail closed, and say whose fault it was."""

    class Broken(Policy):
        def retry(self, error: ActionError, action: Any, attempt: int) -> Any:
            raise ZeroDivisionError

    verdict = retry_verdict(Transient("x"), request("read"), 0, Broken(), Echo("t").spec)

    assert verdict == Fail("E_POLICY_ERROR", "ZeroDivisionError")


@pytest.mark.parametrize(("effect", "tries"), [("read", 4), ("idempotent", 4), ("at_most_once", 1)])
def test_the_edge_retries_what_may_be_repeated_three_times(effect: Effect, tries: int) -> None:
    """A policy without an opinion gets a sensible one."""

    async def scenario() -> None:
        desk, calls = Desk(), list[int]()

        @tool(effect=effect)
        async def act(ctx: ToolContext[Any]) -> str:
            calls.append(ctx.attempt)
            raise Transient("busy")

        async def body(ctx: Any) -> str:
            try:
                return await ctx.call_tool(act)
            except Transient:
                return "gave up"

        state = await desk.ran(flow(body, act))

        assert (state, calls) == (Finished("gave up"), list(range(tries)))

    run(scenario())


def test_a_tools_own_limit_bounds_the_policy() -> None:
    """Who wrote the tool knows how often it bears repeating."""

    async def scenario() -> None:
        desk, calls = Desk(RetryWithBackoffPolicy(AllowDeclared(), 9, 10)), list[int]()

        @tool(effect="read", retries=1)
        async def act(ctx: ToolContext[Any]) -> None:
            calls.append(ctx.attempt)
            raise Transient("busy")

        async def body(ctx: Any) -> str:
            try:
                return str(await ctx.call_tool(act))
            except Transient:
                return "gave up"

        state = await desk.ran(flow(body, act))

        assert (state, calls) == (Finished("gave up"), [0, 1])

    run(scenario())


async def backed_off(policy: Policy, error: Exception) -> tuple[list[int], ErrorRecord]:
    """The journaled delays of an action that always fails, and its last error."""
    desk = Desk(policy=policy)

    @tool(effect="read")
    async def act() -> None:
        raise error

    async def body(ctx: Any) -> None:
        try:
            await ctx.call_tool(act)
        except ActionError:
            return

    await desk.ran(flow(body, act))
    delays = [event.delay_ms for event in await desk.all("r", AttemptFailed)]
    return delays, (await desk.only("r", ActionFailed)).error


def test_delays_double_up_to_the_cap_and_are_journaled() -> None:
    """The wait a run took can be read from its journal."""
    policy = RetryWithBackoffPolicy(AllowDeclared(), 6, 50, 500)

    delays, _ = run(backed_off(policy, Transient("busy")))

    assert delays == [50, 100, 200, 400, 500, 500]


def test_n_retries_are_n_plus_one_attempts() -> None:
    """Zero retries is one attempt."""
    delays, _ = run(backed_off(RetryWithBackoffPolicy(AllowDeclared(), 0, 50), Transient("x")))

    assert delays == []


def test_a_hint_within_the_cap_is_waited_exactly() -> None:
    """The server knows when it will be ready."""
    policy = RetryWithBackoffPolicy(AllowDeclared(), 2, 50, 500, jitter_ratio=1.0)

    delays, _ = run(backed_off(policy, RateLimited("slow down", retry_after_ms=500)))

    assert delays == [500, 500]


def test_a_hint_above_the_cap_gives_up_and_stays_in_the_error() -> None:
    """The program may sleep that long durably; the worker will not."""
    policy = RetryWithBackoffPolicy(AllowDeclared(), 2, 50, 500)

    delays, error = run(backed_off(policy, RateLimited("slow down", retry_after_ms=501)))

    assert (delays, error.retry_after_ms, error.kind) == ([], 501, "rate_limited")


@pytest.mark.parametrize("error", [Permanent("no"), ToolRetry("use ISO dates"), ValueError("x")])
def test_a_permanent_error_is_never_retried(error: Exception) -> None:
    """No wait mends it."""
    delays, _ = run(backed_off(RetryWithBackoffPolicy(AllowDeclared(), 5, 50), error))

    assert delays == []


@pytest.mark.parametrize("effect", ["read", "idempotent", "at_most_once"])
@pytest.mark.parametrize("error", [Permanent("no"), ToolRetry("use ISO dates"), ValueError("x")])
def test_no_policy_can_repeat_what_failed_for_good(effect: Effect, error: Exception) -> None:
    """A tool that says that no retry helps is not called a hundred times, whoever asks for it."""

    async def scenario() -> ErrorRecord:
        desk = Desk(policy=Eager())

        @tool(effect=effect)
        async def act(ctx: ToolContext[Any]) -> None:
            raise error

        async def body(ctx: Any) -> None:
            await ctx.call_tool(act)

        await desk.ran(flow(body, act))
        assert await desk.all("r", AttemptFailed) == []
        return (await desk.only("r", ActionFailed)).error

    told = run(scenario())
    code = error.code if isinstance(error, ActionError) else "E_ACTION_FAILED"

    assert (told.code, told.kind) == (code, "permanent")
    assert str(error) in told.message
    if effect != "at_most_once":  # of which the policy is not even asked
        assert told.message.endswith("; " + NEVER)
