"""How long a server asks to wait: honoured in every form, capped, and doubted when it is odd."""

import email.utils
import time

import pytest

from gatebook.kernel.events import AttemptFailed, AttemptStarted
from gatebook.runtime.runs.states import Failed, Finished
from gatebook.testing.dialects.gemini import DAILY, exhausted, retry_info
from gatebook.testing.fault_server import Chunk, EndOfBody, Play, answer, stream_head
from tests.conformance.adapters import GOOGLE_ADAPTER, Adapter, every_adapter, on
from tests.conformance.cases import case
from tests.conformance.kit import (
    CAP_MS,
    POLICY,
    Driven,
    answering,
    driven,
    failing_with,
    refuses,
    run,
    served,
)
from tests.providers.calls import CALL, asking, attempt, failing, failing_whole


def date_in(seconds: float) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


async def waited(it: Driven) -> int:
    """Run to an answer; return the one journaled wait after checking that it was kept."""
    state = await it.end(await it.start())

    assert state == Finished("hello")
    failed, started = await it.attempts()
    assert isinstance(failed, AttemptFailed)
    assert isinstance(started, AttemptStarted)
    assert started.time - failed.time >= failed.delay_ms * 1_000
    assert it.server.count == 2
    return failed.delay_ms


@case(5)
@every_adapter
@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"retry_after": "1"}, 1_000, 1_000),
        ({"retry_after": "1.5"}, 1_500, 1_500),
        ({"retry_after_ms": "250"}, 250, 250),
        ({"retry_after": "in 30 s"}, 1, 30_000),
        ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "6s"}, 6_000, 6_000),
        ({"x_ratelimit_remaining_tokens": "9", "x_ratelimit_reset_tokens": "6s"}, 100, 100),
    ],
    ids=["seconds", "decimals", "milliseconds", "date", "empty bucket", "full bucket"],
)
def test_a_hint_is_waited_for(
    adapter: Adapter, headers: dict[str, str], low: int, high: int
) -> None:
    """Case 5: as long as the server asked, from its own words."""

    async def scenario() -> None:
        told = {k: date_in(30) if v == "in 30 s" else v for k, v in headers.items()}
        play = failing_with(adapter, "rate_limited", **told)
        async with driven(adapter, play, answering(adapter)) as it:
            assert low <= await waited(it) <= high

    run(scenario())


@case(5)
@every_adapter
def test_a_hint_is_never_early(adapter: Adapter) -> None:
    """Case 5: a millisecond before its time nothing has been sent."""

    async def scenario() -> None:
        play = failing_with(adapter, "rate_limited", retry_after="1.5")
        async with driven(adapter, play, answering(adapter)) as it:
            handle = await it.start()
            await it.back_off()
            it.clock.advance(1.499)
            await it.clock.settle()
            early = [type(event) for event in await it.attempts()], it.server.count
            state = await it.end(handle)

            assert early == ([AttemptFailed], 1)
            assert (state, it.server.count) == (Finished("hello"), 2)

    run(scenario())


@case(6)
@every_adapter
def test_a_hint_of_the_longest_wait_is_waited_for(adapter: Adapter) -> None:
    """Case 6: compared before anything is added, or every 60 s hint would be refused."""

    async def scenario() -> None:
        play = failing_with(adapter, "rate_limited", retry_after="60")
        async with driven(adapter, play, answering(adapter)) as it:
            assert await waited(it) == CAP_MS

    run(scenario())


@case(6)
@every_adapter
def test_a_longer_hint_gives_up_at_once_and_is_kept(adapter: Adapter) -> None:
    """Case 6: clamped, it would burn every attempt; kept, a workflow can sleep durably."""

    async def scenario() -> None:
        play = failing_with(adapter, "rate_limited", retry_after_ms="60001")
        async with driven(adapter, play) as it:
            slept = len(it.clock.slept)
            state = await it.end(await it.start())

            assert isinstance(state, Failed)
            assert state.error.code == "E_RETRY_AFTER_EXCEEDS"
            assert (await it.failure()).error.retry_after_ms == CAP_MS + 1
            assert await it.failures() == []
            assert it.server.count == 1
            assert max(it.clock.slept[slept:], default=0.0) < 60

    run(scenario())


@case(7)
@every_adapter
def test_zero_milliseconds_beside_one_second_is_one_second(adapter: Adapter) -> None:
    """Case 7: as real servers send it; taken literally, it would hammer."""

    async def scenario() -> None:
        play = failing_with(adapter, "rate_limited", retry_after_ms="0", retry_after="1")
        async with driven(adapter, play, answering(adapter)) as it:
            assert await waited(it) == 1_000

    run(scenario())


@case(8)
@every_adapter
@pytest.mark.parametrize(
    "value", ["0", "-5", "NaN", "inf", "soon", "", "1e9", "Mon, 01 Jan 2001 00:00:00 GMT"]
)
def test_a_hint_that_makes_no_sense_is_a_plain_back_off(adapter: Adapter, value: str) -> None:
    """Case 8: the wait is then ours, never zero and never for ever."""

    async def scenario() -> None:
        play = failing_with(adapter, "rate_limited", retry_after=value)
        async with driven(adapter, play, answering(adapter)) as it:
            assert await waited(it) == POLICY.base_ms

    run(scenario())


@case(9)
@on(GOOGLE_ADAPTER)
@pytest.mark.parametrize(
    ("play", "wait_ms"),
    [
        (answer(429, exhausted(retry_info("48s"))), 48_000),
        (answer(429, exhausted(retry_info("45.83s"))), 45_830),
        (answer(429, exhausted(retry_info("48s")), retry_after="2"), 2_000),
        (answer(429, exhausted()), POLICY.base_ms),
    ],
    ids=["seconds", "decimals", "header wins", "none"],
)
def test_a_hint_in_the_body_is_waited_for(adapter: Adapter, play: Play, wait_ms: int) -> None:
    """Case 9: the vendor's own client ignores it."""

    async def scenario() -> None:
        async with driven(adapter, play, answering(adapter)) as it:
            assert await waited(it) == wait_ms

    run(scenario())


@case(9)
@on(GOOGLE_ADAPTER)
@pytest.mark.parametrize("details", [[DAILY], [DAILY, retry_info("38s")]])
def test_a_daily_quota_is_final(adapter: Adapter, details: list[dict[str, object]]) -> None:
    """Case 9: no wait within a run helps, whatever hint stands beside it."""

    async def scenario() -> None:
        async with driven(adapter, answer(429, exhausted(*details))) as it:
            state = await it.end(await it.start())

            assert isinstance(state, Failed)
            assert (state.error.kind, state.error.category) == ("permanent", "quota")
            assert it.server.count == 1

    run(scenario())


@case(10)
@every_adapter
def test_a_hint_on_a_server_error_counts(adapter: Adapter) -> None:
    """Case 10: some servers hint on a 500."""

    async def scenario() -> None:
        play = failing_with(adapter, "server", retry_after="2")
        async with driven(adapter, play, answering(adapter)) as it:
            assert await waited(it) == 2_000

    run(scenario())


@case(11)
@every_adapter
def test_a_hint_on_a_success_is_nothing(adapter: Adapter) -> None:
    """Case 11: recorded answers carry retry-after 59 beside a 200."""

    async def scenario() -> None:
        async with served(adapter, answering(adapter, retry_after="59")) as it:
            streamed, _ = await attempt(it.provider, asking())
            whole = await it.provider.complete(asking(), CALL)

            assert (streamed.text, whole.text) == ("hello", "hello")
            assert it.server.count == 2

    run(scenario())


@case(11)
@every_adapter
def test_the_hint_of_a_200_does_not_become_that_of_an_error_inside(adapter: Adapter) -> None:
    """Case 11: the headers of a stream are those of its 200, whatever comes later."""

    async def scenario() -> None:
        event = adapter.dialect.error_event("overloaded")
        play = Play(*stream_head(retry_after="59"), Chunk(event), EndOfBody())
        async with served(adapter, play) as it:
            error = await failing(it.provider, asking())

            assert (error.kind, error.retry_after_ms) == ("transient", None)

    run(scenario())


@case(5)
@every_adapter
def test_streamed_and_whole_answers_read_the_same_hint(adapter: Adapter) -> None:
    """Case 5: which of the two is asked must not change how long a run waits."""

    async def scenario() -> None:
        async with served(adapter, failing_with(adapter, "rate_limited", retry_after="7")) as it:
            one = await failing(it.provider, asking())
            other = await failing_whole(it.provider, asking())

            assert refuses(one) == refuses(other) == ("rate_limited", "rate_limited")
            assert one.retry_after_ms == other.retry_after_ms == 7_000

    run(scenario())
