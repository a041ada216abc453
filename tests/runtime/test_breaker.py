"""Circuit breakers: when a route is left alone, who may try it, and what callers are told."""

from typing import Any

import pytest
from tests.runtime.kit import Desk, Model, flow, run, said

from gatebook.errors import ActionError, ConfigError, Permanent, ProviderError, Transient
from gatebook.kernel.events import AttemptFailed
from gatebook.kernel.policies import AllowDeclared, RetryWithBackoffPolicy
from gatebook.runtime.models.breaker import (
    Breaker,
    BreakerSettings,
    State,
    open_error,
    tells,
)
from gatebook.runtime.runs.states import Finished

THREE = BreakerSettings(failures=3, window_s=60, open_s=30)


def broken() -> ProviderError:
    return ProviderError("broken", kind="transient", category="server", phase="response")


def failing(breaker: Breaker, *times: float) -> None:
    for now in times:
        breaker.leave(now, "failed", tried=breaker.enter(now))


def opened() -> Breaker:
    """A breaker that opened at 2 s and stays so to 32 s."""
    breaker = Breaker(THREE)
    failing(breaker, 0, 1, 2)
    return breaker


def test_enough_failures_in_a_row_open_it() -> None:
    """A provider that is down is not asked a thousand times more."""
    breaker = Breaker(THREE)

    failing(breaker, 0, 1)
    before = breaker.refuses(2)
    failing(breaker, 2)

    assert (before, breaker.refuses(2)) == (None, 30)


def test_an_answer_between_them_begins_the_count_anew() -> None:
    """In a row: a route that answers now and then is no dead one."""
    breaker = Breaker(THREE)

    failing(breaker, 0, 1)
    breaker.leave(2, "alive", tried=False)
    failing(breaker, 3, 4)

    assert breaker.refuses(5) is None


def test_failures_far_apart_do_not_open_it() -> None:
    """Three hiccups in a day are none of an outage."""
    breaker = Breaker(THREE)

    failing(breaker, 0, 50, 100, 150)

    assert breaker.refuses(150) is None


def test_what_tells_nothing_of_the_route_does_not_count() -> None:
    """A cancelled call is neither a failure nor a sign of life."""
    breaker = Breaker(THREE)

    failing(breaker, 0, 1)
    breaker.leave(1, "nothing", tried=False)
    failing(breaker, 2)

    assert breaker.state is State.OPEN


def test_one_call_tries_and_the_others_are_refused() -> None:
    """A crowd that comes back at once would knock a provider down again."""
    breaker = opened()

    tries = breaker.enter(32)

    assert tries
    assert breaker.refuses(32) == 0


@pytest.mark.parametrize(("word", "refused"), [("alive", None), ("failed", 30), ("nothing", None)])
def test_the_call_that_tries_decides(word: Any, refused: float | None) -> None:
    """Closed after an answer, open again after a failure; without a word the next one tries."""
    breaker = opened()

    breaker.leave(40, word, tried=breaker.enter(40))

    assert breaker.refuses(40) == refused


def test_calls_from_before_it_opened_decide_nothing() -> None:
    """Their ends tell of the time before."""
    breaker = opened()

    breaker.leave(3, "alive", tried=False)

    assert breaker.state is State.OPEN


def test_a_try_that_never_ends_is_forgotten() -> None:
    """A hung call must not keep a route closed for ever."""
    breaker = opened()

    breaker.enter(32)

    assert (breaker.refuses(61), breaker.refuses(62)) == (0, None)


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (None, "alive"),
        (broken(), "failed"),
        (ProviderError("slow down", kind="rate_limited", category="rate_limited"), "alive"),
        (ProviderError("no", kind="permanent", category="invalid_request"), "alive"),
        (ProviderError("stopped", kind="permanent", category="cancelled"), "nothing"),
        (Transient("the lease was not renewed"), "nothing"),
        (Permanent("there is no key"), "nothing"),
    ],
)
def test_only_transient_failures_of_the_route_count(error: Any, word: str) -> None:
    """Who is told no is told it by somebody."""
    assert tells(error) == word


def test_whoever_is_refused_is_told_when_to_come_back() -> None:
    """The retry waits for exactly that; while one tries nobody knows, and it backs off."""
    known, unknown = open_error("a:m", 1.5), open_error("a:m", 0)

    assert (known.retry_after_ms, unknown.retry_after_ms) == (1_500, None)
    assert (known.kind, known.category, known.sent) == ("transient", "overloaded", False)


@pytest.mark.parametrize("wrong", [{"failures": 0}, {"window_s": 0}, {"open_s": -1}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    """Switching it off has a word of its own."""
    with pytest.raises(ConfigError, match="breaker=None"):
        BreakerSettings(**wrong)


async def asking(ctx: Any) -> str:
    try:
        return str((await ctx.call_llm("a:m", "hi")).text)
    except ActionError as exc:
        return str(exc.fields.get("category"))


def test_an_open_breaker_sends_nothing_and_the_retry_waits_it_out() -> None:
    """Its refusals are attempts in the journal, not sent and not charged."""

    async def scenario() -> None:
        policy = RetryWithBackoffPolicy(AllowDeclared(), 3, 0)
        desk, model = Desk(policy=policy), Model([broken()], [broken()], said("hello"))
        program = flow(asking, models=["a:m"])
        settings = BreakerSettings(failures=2, open_s=20)

        async with desk.open(providers={"a": model}, breaker=settings) as runtime:
            began = desk.clock.monotonic()
            handle = await runtime.start(program, None, run_id="r")
            output = await desk.clock.until(handle.result())
            waited = desk.clock.monotonic() - began
            failed = await desk.all("r", AttemptFailed)

        assert output.output == "hello"
        assert (len(model.asked), waited) == (3, 20)
        assert [event.error.category for event in failed] == ["server", "server", "overloaded"]
        assert failed[2].spent is not None
        assert (failed[2].delay_ms, failed[2].spent.llm_tokens) == (20_000, 0)

    run(scenario())


def test_runs_share_the_breaker_of_a_route() -> None:
    """What one run learnt of a provider spares the others the same."""

    async def scenario() -> None:
        desk = Desk(policy=RetryWithBackoffPolicy(AllowDeclared(), 0, 0))
        model, other = Model([broken()], [broken()]), Model(said("hello"))
        settings = BreakerSettings(failures=2)

        async with desk.open(providers={"a": model, "b": other}, breaker=settings) as runtime:
            program = flow(asking, models=["a:m"])
            seen = [await desk.settled(await runtime.start(program, None)) for _ in range(3)]

        assert seen == [Finished("server"), Finished("server"), Finished("overloaded")]
        assert len(model.asked) == 2

    run(scenario())


def test_without_a_breaker_every_attempt_is_sent() -> None:
    """`breaker=None` is for those who count requests themselves."""

    async def scenario() -> None:
        desk = Desk(policy=RetryWithBackoffPolicy(AllowDeclared(), 29, 0))
        model = Model(*[[broken()]] * 30)

        async with desk.open(providers={"a": model}, breaker=None) as runtime:
            await desk.settled(await runtime.start(flow(asking, models=["a:m"]), None))

        assert len(model.asked) == 30

    run(scenario())
