"""How long an answer may be: what was reserved for it, where there is a limit to keep to."""

from collections.abc import Mapping
from typing import Any

import pytest
from tests.runtime.kit import RUN, Desk, Model, flow, run, said

from gatebook import Budget
from gatebook.errors import ProviderError
from gatebook.kernel.actions import CallLLM, Prompt
from gatebook.kernel.budget import NO_LIMITS, OUTPUT_TOKENS, Limits, most_output
from gatebook.kernel.events import ActionRequested
from gatebook.kernel.policies import AllowDeclared, RetryWithBackoffPolicy
from gatebook.runtime.runs.audit import audit

BUSY = ProviderError("busy", kind="transient", category="overloaded", phase="response")
PRICES = {"fake:m": {"input": "1", "output": "2"}}


async def asked(
    *attempts: Any,
    budget: Budget | None = None,
    prices: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[list[int | None], int]:
    """Return the output limit of each request that was sent, and the tokens reserved first."""
    desk = Desk(policy=RetryWithBackoffPolicy(AllowDeclared(), 3, 0))
    model = Model(*attempts)

    async def body(ctx: Any) -> str:
        return str((await ctx.call_llm("fake:m", "hi", **options)).text)

    async with desk.open(providers={"fake": model}, prices=prices) as runtime:
        handle = await runtime.start(flow(body, models=["fake:m"]), None, run_id="r", budget=budget)
        await desk.clock.until(handle.result())
        request = await desk.only("r", ActionRequested)
    await desk.journal.open()
    assert (await audit(desk.journal, RUN)).ok
    return [each.max_output_tokens for each in model.asked], request.reserve.llm_tokens


@pytest.mark.parametrize(
    ("budget", "prices"),
    [(Budget(llm_tokens=100_000), None), (Budget(usd="1"), PRICES)],
)
def test_under_a_limit_an_answer_may_have_what_was_reserved(
    budget: Budget, prices: Mapping[str, Any] | None
) -> None:
    """Else one long answer would pass a limit that every request was checked against."""
    sent, reserved = run(asked(said("hello"), budget=budget, prices=prices))

    assert sent == [OUTPUT_TOKENS]
    assert reserved > OUTPUT_TOKENS


@pytest.mark.parametrize("budget", [None, Budget(tool_calls=3)])
def test_without_such_a_limit_no_cap_is_made_up(budget: Budget | None) -> None:
    """It would cut long answers, and the thoughts before them, for nothing."""
    sent, _ = run(asked(said("hello"), budget=budget))

    assert sent == [None]


@pytest.mark.parametrize("budget", [None, Budget(llm_tokens=100_000)])
def test_a_cap_that_was_asked_for_is_sent_and_reserved(budget: Budget | None) -> None:
    """It is the caller's, whatever else holds."""
    sent, reserved = run(asked(said("hello"), budget=budget, max_output_tokens=50))

    assert sent == [50]
    assert 50 < reserved < OUTPUT_TOKENS


def test_every_attempt_is_sent_what_was_reserved_for_it() -> None:
    """A retry reserves anew, and the same."""
    sent, _ = run(asked([BUSY], said("hello"), budget=Budget(llm_tokens=100_000)))

    assert sent == [OUTPUT_TOKENS, OUTPUT_TOKENS]


def test_a_limit_that_other_runs_share_counts_too() -> None:
    """A tenant's budget must hold where the run has none of its own."""
    call = CallLLM("fake", "m", Prompt("d"))

    assert most_output(call, NO_LIMITS, Limits(llm_tokens=5)) == OUTPUT_TOKENS
    assert most_output(call, NO_LIMITS, Limits(tool_calls=5)) is None
