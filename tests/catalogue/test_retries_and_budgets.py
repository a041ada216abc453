"""Section E: retries, hints and budgets."""

import logging
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from gatebook import (
    ActionDenied,
    Agent,
    AllowDeclared,
    Budget,
    Finished,
    InvalidInput,
    OpenAICompatible,
    Policy,
    ProviderError,
    RateLimited,
    Retry,
    RetryWithBackoffPolicy,
    Transient,
    tool,
)
from gatebook.kernel.backoff import MAX_ATTEMPTS
from gatebook.kernel.budget import MAX_LIMIT
from gatebook.kernel.classify import classify_response
from gatebook.kernel.events import ActionDenied as DeniedEvent
from gatebook.kernel.events import (
    ActionFailed,
    ActionRequested,
    ActionSucceeded,
    AttemptFailed,
    BudgetRaised,
    Note,
)
from gatebook.kernel.messages import Usage
from gatebook.testing.fault_server import FaultServer, answer
from tests.catalogue.kit import Desk, failure, legible, refused, told
from tests.providers.calls import CALL, asking
from tests.runtime.kit import Model, flow, run, said

CALLED: list[Any] = []
TEN_YEARS_S = 10 * 365 * 86_400


@pytest.fixture(autouse=True)
def _nothing_called() -> None:
    CALLED.clear()


@tool(effect="read")
async def look(n: int = 0) -> int:
    """Look."""
    CALLED.append(n)
    return n


def retrying(*args: Any, **options: Any) -> RetryWithBackoffPolicy:
    return RetryWithBackoffPolicy(AllowDeclared(), *args, **options)


@pytest.mark.parametrize("value", [-1, 100, 1.5, True, "3", None, 2**70])
def test_a_number_of_retries_that_makes_no_sense_is_refused(value: Any) -> None:
    """E66: minus one must not mean for ever."""
    with pytest.raises(InvalidInput) as caught:
        retrying(value, 10)

    told(caught.value, "E_RETRY_CONFIG", "'max_retries'", "a whole number from 0 to 99")


@pytest.mark.parametrize("value", [-1, 101, 1.5, True, "3"])
def test_a_tools_number_of_retries_is_checked_where_it_is_written(value: Any) -> None:
    """E66: the same for @tool(retries=)."""

    async def act() -> None: ...

    with pytest.raises(InvalidInput) as caught:
        tool(retries=value)(act)

    told(caught.value, "E_RETRY_CONFIG", "'retries'", "from 0 to 100")


def test_seventy_tries_stay_below_the_cap() -> None:
    """E67: doubling seventy times overflows nothing."""
    policy = retrying(99, 1_000, cap_ms=60_000)
    action: Any = None
    waits = [policy.retry(Transient("x"), action, attempt) for attempt in range(99)]

    assert waits[:3] == [Retry(1_000), Retry(2_000), Retry(4_000)]
    assert set(waits[6:]) == {Retry(60_000)}

    widest = retrying(99, 2**53, cap_ms=2**53).retry(Transient("x"), action, 98)
    assert widest == Retry(2**53)


def test_a_run_of_seventy_tries_ends_well() -> None:
    """E67: through the runtime, on a clock that is told the waits."""

    @tool(effect="read")
    async def flaky() -> int:
        CALLED.append(1)
        if len(CALLED) <= 70:
            raise Transient("again")
        return len(CALLED)

    async def body(ctx: Any) -> int:
        return await ctx.call_tool(flaky)

    async def scenario() -> None:
        desk = Desk(retrying(99, 1_000, cap_ms=4_000))
        program = flow(body, flaky)
        async with desk.open(program) as runtime:
            handle = await runtime.start(program, None, run_id="r")
            result = await desk.clock.until(handle.result())
        delays = [event.delay_ms for event in await desk.all("r", AttemptFailed)]

        assert result.output == 71
        assert len(delays) == 70 < MAX_ATTEMPTS
        assert max(delays) == 4_000

    run(scenario())


def test_a_hint_of_ten_years_gives_up_and_is_kept() -> None:
    """E68: waiting so long in a retry would look like hanging; a program may sleep instead."""

    @tool(effect="read")
    async def slow() -> None:
        CALLED.append(1)
        raise RateLimited("come back later", retry_after=TEN_YEARS_S)

    async def body(ctx: Any) -> Any:
        try:
            await ctx.call_tool(slow)
        except RateLimited as error:
            return [error.code, error.retry_after_ms]

    async def scenario() -> None:
        desk = Desk(retrying(5, 10, cap_ms=60_000))
        program = flow(body, slow)
        async with desk.open(program) as runtime:
            state = await desk.settled(await runtime.start(program, None, run_id="r"))
        error = (await desk.only("r", ActionFailed)).error

        assert isinstance(state, Finished)
        assert state.output[0] == error.code == "E_RETRY_AFTER_EXCEEDS"
        assert state.output[1] > 60_000
        assert len(CALLED) == 1
        assert "come back later; the server asks to wait" in error.message
        legible(error.message.partition("; ")[2], "E_RETRY_AFTER_EXCEEDS", "60000", "sleep durably")

    run(scenario())


NO_HINTS: tuple[Any, ...] = (-5, "5", float("nan"), float("inf"), -float("inf"), True, [], object())


@pytest.mark.parametrize(
    ("spelling", "hint"),
    [
        ("retry_after_ms", 1.5),
        ("retry_after", 1e308),
        ("retry_after", Decimal("sNaN")),
        *((spelling, hint) for spelling in ("retry_after", "retry_after_ms") for hint in NO_HINTS),
    ],
)
def test_a_hint_that_is_no_hint_is_told_and_ignored(
    spelling: str, hint: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """E69: the own back-off counts then; the record holds no hint."""
    given = {spelling: hint}

    @tool(effect="read")
    async def odd() -> None:
        CALLED.append(1)
        raise RateLimited("slow down", **given)

    async def body(ctx: Any) -> None:
        await ctx.call_tool(odd)

    async def scenario() -> None:
        desk = Desk(retrying(1, 20))
        await failure(desk, flow(body, odd))
        tried = await desk.only("r", AttemptFailed)

        assert len(CALLED) == 2
        assert (tried.delay_ms, tried.error.retry_after_ms) == (20, None)

    with caplog.at_level(logging.WARNING):
        run(scenario())

    warned = [r.getMessage() for r in caplog.records if "W_RETRY_AFTER_INVALID" in r.getMessage()]
    legible(warned[0], "W_RETRY_AFTER_INVALID", "of 'odd'", "it was ignored")


@pytest.mark.parametrize("seconds", [1.5, Decimal("1.5"), Fraction(3, 2)])
def test_a_hint_in_seconds_is_kept_in_milliseconds(seconds: Any) -> None:
    """E69: what can be waited is waited, whatever kind of number it is."""
    assert RateLimited("slow down", retry_after=seconds).retry_after_ms == 1_500


@pytest.mark.parametrize(
    "header", ["-5", "soon", "", "1e9", "nan", "Wed, 21 Oct 1015 07:28:00 GMT", "99/99/9999"]
)
def test_a_providers_hint_that_is_no_hint_is_absent(header: str) -> None:
    """E69: what a server writes is not trusted to be a number."""
    error = classify_response(429, {"Retry-After": header}, b"", now=1_700_000_000.0)

    assert error.kind == "rate_limited"
    assert error.retry_after_ms is None


def test_a_servers_hint_that_is_no_hint_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """E69: an operator should learn that a server's hints are not followed, and why."""

    async def scenario() -> None:
        refusal = answer(429, {"error": {"message": "slow"}}, retry_after="-5")
        async with FaultServer(refusal) as server:
            provider = OpenAICompatible(server.url, "key-for-tests")
            with pytest.raises(ProviderError) as caught:
                await provider.complete(asking(), CALL)
            await provider.aclose()
        assert caught.value.retry_after_ms is None

    with caplog.at_level(logging.WARNING):
        run(scenario())

    (warned,) = [r.getMessage() for r in caplog.records if r.name.startswith("gatebook")]
    legible(warned, "W_RETRY_AFTER_INVALID", "'-5'", "'HTTP 429'", "it was ignored")


@pytest.mark.parametrize("value", [1.01, -0.1, float("nan"), True, "half", None])
def test_a_jitter_beyond_the_wait_is_refused(value: Any) -> None:
    """E70: more than all of a wait would be a negative one."""
    with pytest.raises(InvalidInput) as caught:
        retrying(3, 10, jitter_ratio=value)

    told(caught.value, "E_RETRY_CONFIG", "'jitter_ratio'", "a number from 0 to 1")


@pytest.mark.parametrize("name", ["base_ms", "cap_ms"])
@pytest.mark.parametrize("value", [-1, 2**53 + 1, 0.5, True])
def test_a_wait_that_makes_no_sense_is_refused(name: str, value: Any) -> None:
    """E66, E67: milliseconds are whole, and every JSON reader keeps them exactly."""
    settings: dict[str, Any] = {"base_ms": 10} | {name: value}
    with pytest.raises(InvalidInput) as caught:
        retrying(3, **settings)

    told(caught.value, "E_RETRY_CONFIG", repr(name), "a whole number from 0 to")


@pytest.mark.parametrize(
    "verdict", [None, True, Retry(-1), Retry(2**80), Retry(1, 7.0), "Retry", object()]
)
def test_a_policy_whose_answer_cannot_be_followed_retries_nothing(verdict: Any) -> None:
    """E66: fail closed, and say whose answer it was."""

    class Odd(AllowDeclared):
        def retry(self, error: Any, action: Any, attempt: int) -> Any:
            return verdict

    @tool(effect="read")
    async def fails() -> None:
        CALLED.append(1)
        raise Transient("again")

    async def body(ctx: Any) -> None:
        await ctx.call_tool(fails)

    async def scenario() -> None:
        desk = Desk(Odd())
        state = await failure(desk, flow(body, fails))

        assert state.error.code == "E_POLICY_RETRY"
        legible(state.error.message.partition("; ")[2], "E_POLICY_RETRY", "retry()", "Retry(after")
        assert len(CALLED) == 1

    run(scenario())


def test_a_budget_of_nothing_denies_the_first_action() -> None:
    """E71: zero is a limit like any other, not "none given"."""

    async def body(ctx: Any) -> None:
        await ctx.call_tool(look)

    async def scenario() -> None:
        desk = Desk()
        state = await failure(desk, flow(body, look), budget=Budget(tool_calls=0))

        assert state.denied
        assert state.error.code == "E_BUDGET"
        legible(
            state.error.message, "E_BUDGET", "'tool_calls'", "'look'", "limit 0, used 0, asked 1"
        )
        assert await desk.all("r", ActionRequested) == []
        assert CALLED == []

    run(scenario())


def test_a_budget_of_no_tokens_denies_the_first_question() -> None:
    """E71: the same for models; nothing is sent."""

    async def scenario() -> None:
        model, desk = Model(), Desk()
        agent = Agent(name="helper", model="fake:m")
        async with desk.open(agent, providers={"fake": model}) as runtime:
            handle = await runtime.start(agent, "hi", run_id="r", budget=Budget(llm_tokens=0))
            await desk.settled(handle)
        (denied,) = await desk.all("r", DeniedEvent)

        legible(denied.error.message, "E_BUDGET", "'llm_tokens'", "'fake:m'", "limit 0, used 0")
        assert model.asked == []

    run(scenario())


@pytest.mark.parametrize("meter", ["tool_calls", "llm_tokens"])
@pytest.mark.parametrize("value", [-1, 1.5, True, "5", 2**70, float("nan")])
def test_a_budget_that_makes_no_sense_is_refused(meter: str, value: Any) -> None:
    """E72: it would deny everything or nothing, and nobody meant that."""
    limits: dict[str, Any] = {meter: value}
    with pytest.raises(InvalidInput) as caught:
        Budget(**limits)

    told(caught.value, "E_BUDGET_CONFIG", meter, "a whole number from 0", MAX_LIMIT)


@pytest.mark.parametrize("value", [-1, timedelta(days=-1), float("nan"), True, "5", 1e300])
def test_a_time_budget_that_makes_no_sense_is_refused(value: Any) -> None:
    """E72: the same for time."""
    with pytest.raises(InvalidInput) as caught:
        Budget(wall_clock=value)

    told(caught.value, "E_BUDGET_CONFIG", "wall_clock", "a whole number from 0")


def test_what_is_no_budget_is_refused_everywhere() -> None:
    """E72: a limit that is silently none is the worst answer."""

    class Generous(AllowDeclared):
        def budget(self) -> Any:
            return 5

    async def body(ctx: Any) -> None:
        await ctx.wait_signal("go")

    async def scenario() -> None:
        desk = Desk()
        bad: Any
        program = flow(body)
        async with desk.open(program) as runtime:
            handle = await runtime.start(program, None, run_id="r")
            await desk.settled(handle)
            for bad in (5, {"tool_calls": 5}, "5"):
                async with refused(desk.journal, "E_BUDGET_TYPE", "not a Budget", "Budget(tool"):
                    await runtime.start(program, None, budget=bad)
                async with refused(desk.journal, "E_BUDGET_TYPE", "not a Budget", "Budget(tool"):
                    await handle.raise_budget(bad)
            runtime.policy = Generous()
            async with refused(desk.journal, "E_BUDGET_TYPE", "budget()", "Budget(tool"):
                await runtime.start(program, None)

    run(scenario())


async def one_answer(usage: Usage | None) -> tuple[Desk, Any]:
    """Ask a model that reports this usage; return the desk and the request's reservation."""
    desk = Desk()
    agent = Agent(name="helper", model="fake:m", max_output_tokens=1_000)
    model = Model(said("hello", usage=usage))
    async with desk.open(agent, providers={"fake": model}) as runtime:
        state = await desk.settled(await runtime.start(agent, "hi", run_id="r"))
        row = await runtime.handle("r").row()
    assert state == Finished("hello")
    reserved = (await desk.only("r", ActionRequested)).reserve
    assert row.head.spent.llm_tokens == reserved.llm_tokens > 1_000
    return desk, row


@pytest.mark.parametrize(
    "usage", [None, Usage(), Usage(input_tokens=0, output_tokens=0), Usage(output_tokens=7)]
)
def test_a_call_without_usage_is_charged_what_was_reserved(
    usage: Usage | None, caplog: pytest.LogCaptureFixture
) -> None:
    """E73: unmeasured is never free; whoever reads the log learns why."""
    with caplog.at_level(logging.WARNING):
        run(one_answer(usage))

    (warning,) = [r.getMessage() for r in caplog.records if r.name.startswith("gatebook")]
    legible(warning, "W_USAGE_MISSING", "'fake:m'", "reservation was charged")


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input_tokens=-5, output_tokens=3),
        Usage(input_tokens=5, output_tokens=10**12),
        Usage(total_tokens=10**30),
        Usage(input_tokens=3, output_tokens=4, cache_read_tokens=-(2**70)),
    ],
)
def test_impossible_usage_is_charged_what_was_reserved(usage: Usage) -> None:
    """E74: a negative count would give budget back; the journal says what was reported."""

    async def scenario() -> None:
        desk, _ = await one_answer(usage)
        note = await desk.only("r", Note)

        legible(note.text, "E_USAGE_INVALID", "'fake:m'", "_tokens", "reservation was charged")
        assert (await desk.only("r", ActionSucceeded)).usage is None

    run(scenario())


def test_a_raised_budget_counts_from_the_next_request() -> None:
    """E75: it is recorded who raised it, and what was denied stays denied."""

    async def body(ctx: Any) -> list[Any]:
        results: list[Any] = []
        for n in range(3):
            try:
                results.append(await ctx.call_tool(look, n=n))
            except ActionDenied as error:
                results.append(error.code)
                await ctx.wait_signal("go")
        return results

    async def scenario() -> None:
        desk = Desk()
        program = flow(body, look)
        async with desk.open(program) as runtime:
            handle = await runtime.start(program, None, run_id="r", budget=Budget(tool_calls=1))
            await desk.settled(handle)
            await handle.raise_budget(Budget(tool_calls=2), by="ann")
            assert await desk.kinds("r") == [
                "run_started", "action_requested", "action_succeeded", "action_denied",
                "action_requested", "budget_raised",
            ]  # fmt: skip
            await handle.signal("go")
            state = await desk.settled(handle)
        raised = await desk.only("r", BudgetRaised)

        assert state == Finished([0, "E_BUDGET", 2])
        assert (raised.limits.tool_calls, raised.by) == (2, "ann")
        assert CALLED == [0, 2]

    run(scenario())


def test_a_policy_that_decides_no_retry_leaves_the_edge_in_charge() -> None:
    """E66: a policy without `retry` is not a policy of no retries."""

    class Plain:
        def authorize(self, action: Any, context: Any) -> Any:
            return AllowDeclared().authorize(action, context)

    @tool(effect="read")
    async def flaky() -> int:
        CALLED.append(1)
        if len(CALLED) == 1:
            raise Transient("again")
        return 1

    async def body(ctx: Any) -> int:
        return await ctx.call_tool(flaky)

    async def scenario() -> None:
        policy: Any = Plain()
        assert not isinstance(policy, Policy)
        desk = Desk(policy)
        program = flow(body, flaky)
        async with desk.open(program) as runtime:
            state = await desk.settled(await runtime.start(program, None))
        assert state == Finished(1)

    run(scenario())
