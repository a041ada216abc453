"""What runs cost in dollars: reserved before the call, charged at a journaled price, or unknown."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from tests.runtime.kit import RUN, Desk, Model, flow, run, said

from gatebook import Budget
from gatebook.errors import ActionDenied, ActionError, ProviderError
from gatebook.kernel.budget import OUTPUT_TOKENS
from gatebook.kernel.events import ActionDenied as Denial
from gatebook.kernel.events import (
    ActionFailed,
    ActionRequested,
    ActionSucceeded,
    AttemptFailed,
    AttemptStarted,
)
from gatebook.kernel.messages import Usage
from gatebook.kernel.policies import AllowDeclared, RetryWithBackoffPolicy
from gatebook.kernel.spending.prices import Price
from gatebook.runtime.runs.audit import audit
from gatebook.runtime.runs.handles import RunHandle
from gatebook.runtime.runs.states import RunResult

PRICES = {"fake:m": {"input": "1", "output": "2"}}
PRICE = Price(1_000_000, 2_000_000, source="prices=")
COST = 3 + 2 * 4  # micro-USD of the kit's usual answer
BUSY = ProviderError("busy", kind="transient", category="overloaded", phase="response")
REFUSED = ProviderError("no", kind="permanent", category="invalid_request", phase="response")
UNSENT = ProviderError("no one there", kind="permanent", category="connection", phase="connect")


async def asking(ctx: Any, times: int) -> list[str]:
    answers = []
    for _ in range(times):
        try:
            answers.append((await ctx.call_llm("fake:m", "hi")).text)
        except (ActionDenied, ActionError) as exc:
            answers.append(exc.code)
    return answers


async def asked(
    desk: Desk, *attempts: Any, budget: Budget | None = None, times: int = 1, **options: Any
) -> tuple[Model, RunResult[Any]]:
    """Run model calls to their end, and check that the run verifies."""
    model = Model(*attempts)
    async with desk.open(providers={"fake": model}, **options) as runtime:
        program = flow(asking, models=["fake:m"])
        handle: RunHandle[Any] = await runtime.start(program, times, run_id="r", budget=budget)
        result = await desk.clock.until(handle.result())
    await desk.journal.open()
    report = await audit(desk.journal, RUN)
    assert report.violation is None
    return model, result


def test_an_answer_is_charged_at_the_price_it_records() -> None:
    """Whoever reads the journal later may have another table, or none."""

    async def scenario() -> None:
        desk = Desk()
        _, result = await asked(desk, said("ok"), prices=PRICES)

        done = await desk.only("r", ActionSucceeded)
        assert done.price == PRICE
        assert done.spent is not None
        assert (done.spent.usd_micros, done.spent.priced_tokens) == (COST, 7)
        assert result.cost_usd == Decimal("0.000011")

    run(scenario())


def test_a_price_that_nobody_knows_leaves_the_cost_unknown() -> None:
    """Zero would be a lie that adds up."""

    async def scenario() -> None:
        desk = Desk()
        _, result = await asked(desk, said("ok"))

        assert result.spent.llm_tokens == 7
        assert result.cost_usd is None
        assert (await desk.only("r", ActionSucceeded)).price is None

    run(scenario())


@pytest.mark.parametrize("usage", [None, Usage(), Usage(input_tokens=0, output_tokens=0)])
def test_an_unmeasured_answer_costs_what_it_could(usage: Usage | None) -> None:
    """Absent usage is unmeasured, with or without a limit, and never free."""

    async def scenario() -> None:
        desk = Desk()
        await asked(desk, said("ok", usage=usage), prices=PRICES)

        request = await desk.only("r", ActionRequested)
        done = await desk.only("r", ActionSucceeded)
        assert done.spent is not None
        size = request.reserve.llm_tokens - OUTPUT_TOKENS
        assert done.spent.usd_micros == size + 2 * OUTPUT_TOKENS
        assert done.spent.llm_tokens == request.reserve.llm_tokens

    run(scenario())


def test_a_failed_call_costs_its_reservation_and_an_unsent_one_nothing() -> None:
    """What the provider received may be on its bill."""

    async def scenario() -> None:
        for error, free in ((REFUSED, False), (UNSENT, True)):
            desk = Desk()
            await asked(desk, [error], prices=PRICES)

            failed = await desk.only("r", ActionFailed)
            assert failed.spent is not None
            assert (failed.spent.usd_micros == 0) is free

    run(scenario())


def test_an_attempt_that_is_repeated_is_charged() -> None:
    """Retries are the dearest calls of all when nobody counts them."""

    async def scenario() -> None:
        desk = Desk(RetryWithBackoffPolicy(AllowDeclared(), 1, 10))
        _, result = await asked(desk, [BUSY], said("ok"), prices=PRICES, budget=Budget(usd="1"))

        failed = await desk.only("r", AttemptFailed)
        assert failed.price == PRICE
        assert failed.spent is not None
        assert failed.spent.usd_micros > 2 * OUTPUT_TOKENS
        assert result.cost_usd == Decimal(failed.spent.usd_micros + COST).scaleb(-6)

    run(scenario())


def test_a_request_reserves_dollars_under_a_limit() -> None:
    """Two calls at once must not both spend the last cent."""

    async def scenario() -> None:
        desk = Desk()
        await asked(desk, said("ok"), prices=PRICES, budget=Budget(usd="1"))

        reserve = (await desk.only("r", ActionRequested)).reserve
        assert reserve.priced_tokens == reserve.llm_tokens
        assert reserve.usd_micros == reserve.llm_tokens + OUTPUT_TOKENS

    run(scenario())


def test_a_call_that_does_not_fit_is_refused_before_it_is_made() -> None:
    """A limit that is noticed on the bill is none."""

    async def scenario() -> None:
        desk = Desk()
        usage = Usage(input_tokens=40, output_tokens=30)  # 100 micro-USD
        answers = said("one", usage=usage), said("two", usage=usage)
        model, result = await asked(
            desk, *answers, prices=PRICES, budget=Budget(usd="0.00835"), times=3
        )

        assert result.output == ["one", "two", "E_BUDGET"]
        assert len(model.asked) == 2
        error = (await desk.only("r", Denial)).error
        assert "the 'usd' budget cannot carry 'fake:m': limit $0.00835" in error.message

    run(scenario())


def test_a_model_of_unknown_price_is_refused_under_a_limit() -> None:
    """Fail closed: what cannot be counted cannot be limited."""

    async def scenario() -> None:
        desk = Desk()
        model, result = await asked(desk, said("ok"), budget=Budget(usd="100"))

        assert result.output == ["E_PRICE_UNKNOWN"]
        assert model.asked == []
        message = (await desk.only("r", Denial)).error.message
        assert "[prices.'fake:m'] in gatebook.toml" in message
        assert "gatebook[prices]" in message

    run(scenario())


def test_a_free_model_fits_a_budget_of_nothing() -> None:
    """Its price is known."""

    async def scenario() -> None:
        desk = Desk()
        free = {"m": {"input": 0, "output": 0}}
        _, result = await asked(desk, said("ok"), prices=free, budget=Budget(usd=0))

        assert result.output == ["ok"]
        assert result.cost_usd == 0

    run(scenario())


def test_a_limit_may_come_with_the_policy() -> None:
    """Whoever is responsible for the bill is seldom who starts the run."""

    async def scenario() -> None:
        desk = Desk(AllowDeclared(budget=Budget(usd="0.001")))
        _, result = await asked(desk, said("ok"), prices=PRICES)

        assert result.output == ["E_BUDGET"]

    run(scenario())


def test_usage_above_the_estimate_blocks_the_next_call() -> None:
    """Settlement is always accepted; an overrun is recorded and nothing follows it."""

    async def scenario() -> None:
        desk = Desk()
        dear = said("long", usage=Usage(input_tokens=10, output_tokens=900_000))
        _, result = await asked(
            desk, dear, said("no"), prices=PRICES, budget=Budget(usd="1"), times=2
        )

        assert result.output == ["long", "E_BUDGET"]
        assert result.cost_usd == Decimal("1.80001")

    run(scenario())


def test_a_lost_attempt_is_charged_and_its_successor_reserved() -> None:
    """A worker that dies takes no money back."""

    async def scenario() -> None:
        desk = Desk()
        dying, waiting = asyncio.Event(), asyncio.Event()

        async def hang() -> None:
            dying.set()
            await waiting.wait()

        program = flow(asking, models=["fake:m"])
        runtime = desk.runtime(program, providers={"fake": Model([hang])}, prices=PRICES)
        await runtime.open()
        await runtime.start(program, 1, run_id="r", budget=Budget(usd="1"))
        await desk.clock.until(dying.wait())
        await desk.crash(runtime)
        desk.lapse()
        options: dict[str, Any] = {"providers": {"fake": Model(said("ok"))}, "prices": PRICES}
        async with desk.open(program, **options) as second:
            result = await desk.clock.until(second.handle("r", program).result())
        await desk.journal.open()

        again = await desk.only("r", AttemptStarted)
        assert again.reserve.usd_micros > 2 * OUTPUT_TOKENS
        assert result.spent.usd_micros == again.reserve.usd_micros + COST
        assert (await audit(desk.journal, RUN)).violation is None

    run(scenario())
