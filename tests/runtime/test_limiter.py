"""Rate limits: who waits how long, in which order, and what is put right afterwards."""

import asyncio
from typing import Any

import pytest
from tests.runtime.kit import Desk, Model, flow, run, said

from gatebook.errors import ActionError, ConfigError, ProviderError
from gatebook.kernel.events import ActionFailed, ActionSucceeded, AttemptFailed
from gatebook.kernel.messages import Usage
from gatebook.kernel.policies import AllowDeclared
from gatebook.runtime.models.limiter import Limiter, Rate, checked_rates
from gatebook.runtime.runs.states import Cancelled, Finished
from gatebook.runtime.settings import load_settings
from gatebook.testing.clock import VirtualClock


def limiter(clock: VirtualClock, **rate: Any) -> Limiter:
    return Limiter("a", Rate(**rate), clock)


async def comes(line: Limiter, clock: VirtualClock, tokens: int = 1) -> float:
    """How long a caller waited for its turn."""
    began = clock.monotonic()
    await line.enter(tokens)
    return clock.monotonic() - began


async def entering(line: Limiter, clock: VirtualClock, *tokens: int) -> list[float]:
    """How long each of several callers that come at once waited, in their order."""
    return await clock.until(asyncio.gather(*(comes(line, clock, n) for n in tokens)))


def test_a_minutes_worth_goes_at_once_and_the_rest_evenly() -> None:
    """As vendors count: a bucket that refills all the time."""

    async def scenario() -> None:
        clock = VirtualClock()
        line = limiter(clock, requests_per_minute=4, max_wait_s=60)

        assert await entering(line, clock, *[1] * 7) == [0, 0, 0, 0, 15, 30, 45]

    run(scenario())


def test_tokens_are_counted_beside_requests() -> None:
    """The scarcer of the two decides."""

    async def scenario() -> None:
        clock = VirtualClock()
        line = limiter(clock, requests_per_minute=3, tokens_per_minute=600, max_wait_s=600)

        assert await entering(line, clock, 500, 200, 10, 10) == [0, 10, 11, 20]

    run(scenario())


def test_a_call_above_the_whole_limit_waits_for_a_full_bucket() -> None:
    """It could never fit; those after it wait until its tokens have flowed back."""

    async def scenario() -> None:
        clock = VirtualClock()
        line = limiter(clock, tokens_per_minute=600, max_wait_s=600)

        assert await entering(line, clock, 10, 1_200, 10) == [0, 1, 62]

    run(scenario())


def test_nobody_overtakes() -> None:
    """A small call behind a large one waits its turn, or large ones would never come."""

    async def scenario() -> None:
        clock = VirtualClock()
        line = limiter(clock, tokens_per_minute=600, max_wait_s=600)

        assert await entering(line, clock, 600, 300, 1, 1) == [0, 30, 30.1, 30.2]

    run(scenario())


def test_a_long_wait_is_refused_with_the_wait_as_its_hint() -> None:
    """What follows is decided where every rate limit is: another route, or a durable sleep."""

    async def scenario() -> None:
        clock = VirtualClock()
        line = limiter(clock, requests_per_minute=1, max_wait_s=59)
        await line.enter(1)

        with pytest.raises(ProviderError) as caught:
            await line.enter(1)

        error = caught.value
        assert (error.kind, error.category) == ("rate_limited", "rate_limited")
        assert (error.retry_after_ms, error.sent) == (60_000, False)

    run(scenario())


def test_whoever_is_refused_takes_nothing() -> None:
    """The next one's turn comes as if nobody had asked."""

    async def scenario() -> None:
        clock = VirtualClock()
        line = limiter(clock, tokens_per_minute=60, max_wait_s=10)
        await line.enter(60)
        with pytest.raises(ProviderError):
            await line.enter(60)

        assert await entering(line, clock, 5) == [5]

    run(scenario())


def test_less_usage_than_estimated_lets_the_next_go_sooner() -> None:
    """The estimate reserves the largest answer; most are small."""

    async def scenario() -> None:
        clock = VirtualClock()
        line = limiter(clock, tokens_per_minute=60, max_wait_s=60)
        turn = await line.enter(60)
        waiting = asyncio.ensure_future(comes(line, clock, 20))
        await clock.settle()

        line.leave(turn, 45)

        assert await clock.until(waiting) == 5

    run(scenario())


def test_more_usage_than_estimated_makes_the_next_wait_longer() -> None:
    """What was used was used, also beyond what was there."""

    async def scenario() -> None:
        clock = VirtualClock()
        line = limiter(clock, tokens_per_minute=60, max_wait_s=60)
        line.leave(await line.enter(60), 90)

        assert await entering(line, clock, 20) == [50]

    run(scenario())


def test_unmeasured_usage_stays_as_estimated() -> None:
    """Not reported is not nothing."""

    async def scenario() -> None:
        clock = VirtualClock()
        line = limiter(clock, tokens_per_minute=60, max_wait_s=60)
        line.leave(await line.enter(60), None)

        assert await entering(line, clock, 20) == [20]

    run(scenario())


def test_a_turn_given_back_is_the_next_ones() -> None:
    """A call that was not sent used nothing."""

    async def scenario() -> None:
        clock = VirtualClock()
        line = limiter(clock, requests_per_minute=1, tokens_per_minute=60, max_wait_s=60)
        turn = await line.enter(60)
        waiting = asyncio.ensure_future(comes(line, clock, 60))
        await clock.settle()

        line.give_back(turn)

        assert await clock.until(waiting) == 0

    run(scenario())


def test_a_cancelled_wait_ends_at_once_and_the_line_moves_up() -> None:
    """Its turn goes to those behind it."""

    async def scenario() -> None:
        clock = VirtualClock()
        line = limiter(clock, requests_per_minute=2, max_wait_s=600)
        await line.enter(1)
        await line.enter(1)
        first = asyncio.ensure_future(line.enter(1))
        second = asyncio.ensure_future(comes(line, clock))
        await clock.settle()

        first.cancel()
        await asyncio.wait({first})

        assert clock.monotonic() == 0
        assert line.waiting == 1
        assert await clock.until(second) == 30

    run(scenario())


def test_a_wait_cancelled_as_its_turn_comes_gives_the_turn_back() -> None:
    """Both happen in one moment of the loop; nothing may be lost."""

    async def scenario() -> None:
        clock = VirtualClock()
        line = limiter(clock, requests_per_minute=1, max_wait_s=600)
        await line.enter(1)
        first = asyncio.ensure_future(line.enter(1))
        await clock.settle()

        clock.advance(60)
        first.cancel()
        await asyncio.wait({first})

        assert await entering(line, clock, 1) == [0]

    run(scenario())


def test_nothing_is_left_when_everybody_left() -> None:
    """An idle limiter has no timer."""

    async def scenario() -> None:
        clock = VirtualClock()
        line = limiter(clock, requests_per_minute=1, max_wait_s=600)
        await line.enter(1)
        waiting = asyncio.ensure_future(line.enter(1))
        await clock.settle()

        waiting.cancel()
        await clock.settle()

        assert (line.waiting, clock.next_due) == (0, None)

    run(scenario())


@pytest.mark.parametrize(
    "wrong",
    [
        {"requests_per_minute": 0}, {"requests_per_minute": True}, {"tokens_per_minute": 1.5},
        {"tokens_per_minute": "1"}, {"max_wait_s": -1}, {"rpm": 5}, 500,
    ],
)  # fmt: skip
def test_what_is_no_rate_is_refused(wrong: Any) -> None:
    """A limit that limits nothing would be found out at the bill."""
    with pytest.raises(ConfigError, match="rates="):
        checked_rates({"a": wrong})


def test_rates_are_read_from_provider_tables(tmp_path: Any) -> None:
    """Beside an address, or alone: then the provider is made as without a table."""
    (tmp_path / "gatebook.toml").write_text(
        '[providers.mine]\nbase_url = "http://x"\ntokens_per_minute = 9\n'
        "[providers.openai]\nrequests_per_minute = 500\n"
        '[providers."openai:m"]\nrequests_per_minute = 5\nmax_wait_s = 90\n'
    )

    settings = load_settings(folder=tmp_path, environ={})

    assert settings.rates == {
        "mine": Rate(tokens_per_minute=9),
        "openai": Rate(requests_per_minute=500),
        "openai:m": Rate(requests_per_minute=5, max_wait_s=90),
    }
    assert list(settings.providers) == ["mine"]


def test_a_wrong_rate_is_refused_with_its_line(tmp_path: Any) -> None:
    """Like every setting."""
    (tmp_path / "gatebook.toml").write_text("[providers.openai]\nrequests_per_minute = 0\n")

    with pytest.raises(ConfigError, match=r"gatebook.toml:2.*no whole number"):
        load_settings(folder=tmp_path, environ={})


class Counted(Model):
    """A model that always answers, and knows when it was asked."""

    def __init__(self, clock: VirtualClock, usage: Usage | None = None) -> None:
        super().__init__()
        self.clock = clock
        self.at: list[float] = []
        self.usage = usage

    def stream(self, request: Any, call: Any) -> Any:
        self.at.append(self.clock.monotonic())
        self.attempts.append(said("ok", usage=self.usage))
        return super().stream(request, call)


async def asking(ctx: Any) -> str:
    try:
        return str((await ctx.call_llm("a:m", "hi", timeout=1)).text)
    except ActionError as exc:
        return f"{exc.code} {exc.fields.get('category')}"


PROGRAM = flow(asking, models=["a:m"])


@pytest.mark.parametrize("name", ["a", "a:m"])
def test_a_hundred_runs_keep_to_the_rate_of_a_provider_or_route(name: str) -> None:
    """All get their answer; none is sent before its turn, and none waits longer than it must."""

    async def scenario() -> None:
        desk = Desk()
        model = Counted(desk.clock)
        rates = {name: {"requests_per_minute": 60, "max_wait_s": 60}}

        async with desk.open(providers={"a": model}, rates=rates) as runtime:
            handles = [await runtime.start(PROGRAM, None) for _ in range(100)]
            states = await desk.clock.until(asyncio.gather(*(h.settled() for h in handles)))

        assert states == [Finished("ok")] * 100
        assert [at - model.at[0] for at in model.at] == [0] * 60 + [n + 1 for n in range(40)]

    run(scenario())


def test_measured_usage_corrects_what_a_run_reserved() -> None:
    """4,096 tokens are reserved for an answer of one."""

    async def scenario() -> None:
        desk = Desk()
        model = Counted(desk.clock, Usage(input_tokens=9, output_tokens=1))
        rates = {"a": {"tokens_per_minute": 5_000}}

        async with desk.open(providers={"a": model}, rates=rates) as runtime:
            for _ in range(50):
                await desk.settled(await runtime.start(PROGRAM, None))

        assert model.at[-1] == model.at[0]

    run(scenario())


def test_waiting_is_not_time_of_the_provider() -> None:
    """Neither its deadline (1 s here) nor the wall clock of a budget counts it."""

    async def scenario() -> None:
        desk = Desk()
        model = Counted(desk.clock)
        rates = {"a": {"requests_per_minute": 2}}

        async with desk.open(providers={"a": model}, rates=rates) as runtime:
            handles = [await runtime.start(PROGRAM, None, run_id=f"r{n}") for n in range(3)]
            states = await desk.clock.until(asyncio.gather(*(h.settled() for h in handles)))
            answered = await desk.only("r2", ActionSucceeded)

        assert states == [Finished("ok")] * 3
        assert model.at[2] - model.at[0] == 30
        assert answered.spent is not None
        assert answered.spent.wall_ms == 0

    run(scenario())


def test_a_run_cancelled_while_it_waits_ends_at_once() -> None:
    """Nothing was sent, so nothing is charged and nothing is in doubt."""

    async def scenario() -> None:
        desk = Desk()
        model = Counted(desk.clock)
        rates = {"a": {"requests_per_minute": 2}}

        async with desk.open(providers={"a": model}, rates=rates) as runtime:
            for _ in range(2):
                await desk.settled(await runtime.start(PROGRAM, None))
            handle = await runtime.start(PROGRAM, None, run_id="r")
            await desk.clock.settle()
            before = desk.clock.monotonic()
            await handle.cancel()
            state = await handle.settled()
            failed = await desk.only("r", ActionFailed)

        assert isinstance(state, Cancelled)
        assert desk.clock.monotonic() == before
        assert failed.error.code == "E_ACTION_CANCELLED"
        assert failed.spent is not None
        assert failed.spent.llm_tokens == 0
        assert len(model.asked) == 2

    run(scenario())


def test_a_run_that_would_wait_too_long_fails_and_says_for_how_long() -> None:
    """A workflow may then sleep durably and ask again."""

    async def scenario() -> None:
        desk = Desk(policy=AllowDeclared())
        model = Counted(desk.clock)
        rates = {"a": {"requests_per_minute": 1}}

        async with desk.open(providers={"a": model}, rates=rates) as runtime:
            await desk.settled(await runtime.start(PROGRAM, None))
            state = await desk.settled(await runtime.start(PROGRAM, None, run_id="r"))
            failed = await desk.only("r", ActionFailed)
            retried = await desk.all("r", AttemptFailed)

        assert state == Finished("E_RETRY_AFTER_EXCEEDS rate_limited")
        assert (failed.error.retry_after_ms, retried) == (60_000, [])
        assert len(model.asked) == 1

    run(scenario())
