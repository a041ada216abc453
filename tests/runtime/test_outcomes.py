"""What the end of an attempt means: failed, repeated or unknown, by effect class."""

import asyncio
import threading
from typing import Any, Literal

import httpx2
import pytest
from tests.programs.play import Echo, write
from tests.runtime.kit import Desk, eventually, flow, run

from gatebook import ToolContext, tool
from gatebook.errors import ActionError, Permanent, RateLimited, ToolRetry, Transient
from gatebook.kernel.actions import CallTool
from gatebook.kernel.budget import Amount
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import (
    ActionFailed,
    ActionRequested,
    ActionSucceeded,
    ActionUnknown,
    AttemptFailed,
    ErrorRecord,
)
from gatebook.kernel.opened import Open
from gatebook.kernel.policies import AllowDeclared, RetryWithBackoffPolicy
from gatebook.kernel.policy import Fail, Policy, Retry
from gatebook.runtime.driving.outcomes import failed, retry_verdict
from gatebook.runtime.performing.executor import Ended
from gatebook.runtime.runs.states import Finished, Waiting

Effect = Literal["read", "idempotent", "at_most_once"]
Final = ActionSucceeded | ActionFailed | ActionUnknown


class Net(Exception):
    """Stands for an error class of an HTTP client; only its name counts."""


class ReadTimeout(Net):
    """As httpx raises it after the request was sent."""


async def ending(error: Any, effect: Effect = "at_most_once", **options: Any) -> Any:
    """The final event of a tool that raises `error`, or that never ends."""
    desk = Desk()

    @tool(effect=effect, retries=0, **options)
    async def act(ctx: ToolContext[Any]) -> str:
        if error is None:
            await asyncio.Event().wait()
        raise error

    async def body(ctx: Any) -> str:
        try:
            return await ctx.call_tool(act)
        except ActionError as exc:
            return exc.code

    async with desk.open() as runtime:
        handle = await runtime.start(flow(body, act), None, run_id="r")
        await desk.settled(handle)
        (event,) = [e for e in await desk.events("r") if isinstance(e, Final)]
        return event


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("reset"), OSError("broken"), ReadTimeout("slow"),
        httpx2.ReadTimeout("slow"), asyncio.CancelledError(), TimeoutError("slow"),
    ],
)  # fmt: skip
def test_an_at_most_once_action_that_may_have_happened_is_unknown(error: Any) -> None:
    """The bytes may have left; the answer did not come."""
    event = run(ending(error))

    assert isinstance(event, ActionUnknown)


def test_an_at_most_once_action_that_outlives_its_deadline_is_unknown() -> None:
    """It was told to stop, and nobody knows how far it came."""
    event = run(ending(None, timeout=0.01))

    assert isinstance(event, ActionUnknown)
    assert event.error.code == "E_UNKNOWN_TIMEOUT"


@pytest.mark.parametrize("error", [Permanent("no"), Transient("busy"), RateLimited("later")])
def test_an_action_error_states_that_nothing_happened(error: Any) -> None:
    """The tool's author says so; that is what these classes are for."""
    event = run(ending(error))

    assert isinstance(event, ActionFailed)
    assert event.error.message == str(error)


def test_any_other_exception_is_a_failure() -> None:
    """Most bugs in tools come before the effect."""
    event = run(ending(ValueError("bad")))

    assert isinstance(event, ActionFailed)
    assert event.error.message == "act failed: ValueError: bad"


def test_a_tool_may_say_that_its_exceptions_leave_doubt() -> None:
    """`on_error="unknown"` is for tools that act first and compute later."""
    event = run(ending(ValueError("bad"), on_error="unknown"))

    assert isinstance(event, ActionUnknown)


@pytest.mark.parametrize("error", [OSError("x"), None])
def test_a_read_that_breaks_has_failed(error: Any) -> None:
    """Reading changes nothing, so there is nothing to doubt."""
    event = run(ending(error, "read", timeout=0.01))

    assert isinstance(event, ActionFailed)


def test_an_idempotent_action_that_breaks_is_unknown_when_no_attempt_is_left() -> None:
    """It may have happened once; it cannot have happened twice."""
    event = run(ending(OSError("x"), "idempotent"))

    assert isinstance(event, ActionUnknown)


def request(effect: Effect) -> ActionRequested:
    return ActionRequested(address="a", action=CallTool("t", Raw(b"{}")), effect=effect)


def outcome(effect: Effect, ended: Ended, *, doubted: bool, policy: Policy | None = None) -> Any:
    decide = (policy or AllowDeclared(), Echo("t", effect, retries=0).spec)
    return failed("r", request(effect), Open(), ended, decide=decide, doubted=doubted)


def test_a_permanent_error_after_a_doubtful_attempt_is_unknown() -> None:
    """That the second call was refused says nothing about the first."""
    ended = Ended(error=Permanent("closed"))

    event = outcome("idempotent", ended, doubted=True)

    assert isinstance(event, ActionUnknown)


def test_a_permanent_error_without_doubt_is_a_failure() -> None:
    """Every attempt said that nothing happened."""
    ended = Ended(error=Permanent("closed"))

    event = outcome("idempotent", ended, doubted=False)

    assert isinstance(event, ActionFailed)


def test_doubt_survives_a_later_attempt_that_had_none() -> None:
    """Timed out, refused, refused for good: of the first attempt still nobody knows."""

    async def scenario() -> None:
        desk = Desk()
        errors = [OSError("sent?"), Transient("busy"), Permanent("closed")]

        @tool(effect="idempotent")
        async def act(ctx: ToolContext[Any]) -> str:
            raise errors[ctx.attempt]

        async def body(ctx: Any) -> Any:
            return await ctx.call_tool(act)

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, act), None, run_id="r")
            await eventually_unknown(desk, handle)
            categories = [event.error.category for event in await desk.all("r", AttemptFailed)]

        assert categories == ["doubtful", ""]

    async def eventually_unknown(desk: Desk, handle: Any) -> None:
        while not await desk.all("r", ActionUnknown):
            state = await desk.settled(handle)
            assert isinstance(state, Waiting), state
            desk.clock.advance(60)

    run(scenario())


class Stubborn(Policy):
    """Retries whatever failed, at once."""

    def retry(self, error: ActionError, action: Any, attempt: int) -> Any:
        return Retry(0)


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

    async def scenario() -> int:
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

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, act), None, run_id="r")
            result = await desk.clock.until(handle.result())

        assert result.output == "gave up"
        assert calls == list(range(tries))
        return len(calls)

    assert run(scenario()) == tries


def test_a_tools_own_limit_bounds_the_policy() -> None:
    """Who wrote the tool knows how often it bears repeating."""

    async def scenario() -> None:
        desk, calls = Desk(policy=Stubborn()), list[int]()
        desk.policy = RetryWithBackoffPolicy(AllowDeclared(), 9, 10)

        @tool(effect="read", retries=1)
        async def act(ctx: ToolContext[Any]) -> None:
            calls.append(ctx.attempt)
            raise Transient("busy")

        async def body(ctx: Any) -> str:
            try:
                await ctx.call_tool(act)
            except Transient:
                return "gave up"
            return ""

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, act), None)
            await desk.clock.until(handle.result())

        assert calls == [0, 1]

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

    async with desk.open() as runtime:
        handle = await runtime.start(flow(body, act), None, run_id="r")
        await desk.clock.until(handle.result())
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


def test_a_sync_tool_that_outlives_its_deadline_is_unknown() -> None:
    """Python cannot kill its thread; what it does later is nobody's answer."""

    async def scenario() -> None:
        desk = Desk()
        release = threading.Event()
        told: list[bool] = []

        @tool(timeout=0.01)
        def act(ctx: ToolContext[Any]) -> str:
            release.wait(20)
            told.append(ctx.cancelled)
            return "late"

        async def body(ctx: Any) -> str:
            return await ctx.call_tool(act)

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, act), None, run_id="r")
            state = await desk.settled(handle)
            threads = act.running_threads()
            release.set()
            await eventually(lambda: not act.running_threads(), "the thread ended")

        assert state == Waiting(("resolve 0",))
        assert (len(threads), told) == (1, [True])

    run(scenario())


@pytest.mark.parametrize(
    "error", [Transient("a\nb\x1b[31mred"), ValueError("a\nb\x1b[31mred"), OSError("a\nb\x1b[31m")]
)
def test_error_texts_cannot_forge_log_lines(error: Exception) -> None:
    """Texts of tools end up in terminals and logs."""
    event = run(ending(error))

    assert "\n" not in event.error.message
    assert "\x1b" not in event.error.message
    assert "\\n" in event.error.message


class Mute(Exception):
    """An exception whose text cannot be read."""

    def __str__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "error",
    [
        Mute(), Transient("", code="MY_CODE"), RateLimited("x", retry_after_ms="soon"),  # type: ignore[arg-type]
        RateLimited("x", retry_after_ms=-5), Transient("\udc80"), ValueError("\udc80"),
        Transient("x", code=7, status="bad", category=3),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_whatever_a_tool_raises_can_be_recorded_and_read_back(error: Any) -> None:
    """A record that cannot be read would cost the whole run."""
    event = run(ending(error))

    assert isinstance(event, ActionFailed)
    assert event.error.retry_after_ms is None


@pytest.mark.parametrize(
    ("result", "options", "code"),
    [(object(), {}, "E_RESULT_TYPE"), ("x" * 9_000_000, {}, "E_RESULT_TOO_LARGE")],
)
def test_a_result_that_cannot_be_used_is_a_failure(result: Any, options: Any, code: str) -> None:
    """It ran; running it again would give the same."""

    async def scenario() -> None:
        desk, calls = Desk(), list[int]()

        @tool(effect="read", **options)
        async def act() -> Any:
            calls.append(1)
            return result

        async def body(ctx: Any) -> str:
            try:
                await ctx.call_tool(act)
            except ActionError as exc:
                return exc.code
            return ""

        async with desk.open() as runtime:
            state = await desk.settled(await runtime.start(flow(body, act), None))

        assert (state, calls) == (Finished(code), [1])

    run(scenario())


@pytest.mark.parametrize("leave", [SystemExit, KeyboardInterrupt])
def test_a_tool_that_ends_the_process_is_recorded_first(leave: type[BaseException]) -> None:
    """The exit is obeyed, and the journal says who asked for it."""
    desk = Desk()

    @tool
    async def act() -> None:
        raise leave

    async def body(ctx: Any) -> None:
        await ctx.call_tool(act)

    async def scenario() -> None:
        async with desk.open() as runtime:
            await desk.settled(await runtime.start(flow(body, act), None, run_id="r"))

    async def look() -> ActionFailed:
        await desk.journal.open()
        return await desk.only("r", ActionFailed)

    with pytest.raises(leave):
        asyncio.run(scenario())

    assert asyncio.run(look()).error.code == "E_TOOL_EXIT"


def test_a_refusal_of_the_permit_charges_nothing() -> None:
    """What did not begin costs nothing."""
    ended = Ended(error=Transient("stale", code="E_PERMIT"), spent=Amount())

    event = outcome("at_most_once", ended, doubted=False)

    assert isinstance(event, ActionFailed)
    assert event.spent == Amount()
