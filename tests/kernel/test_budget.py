"""Budgets as arithmetic: what fits, what is charged, and what a person may write."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatebook.errors import InvalidInput
from gatebook.kernel.budget import (
    MAX_TOKENS,
    METERS,
    Amount,
    Budget,
    Limits,
    Shortfall,
    Soft,
    shortfall,
    tokens_used,
)
from gatebook.kernel.messages import Usage
from gatebook.kernel.policies import AllowDeclared

amounts = st.builds(Amount, *[st.integers(0, 50)] * 3)
limits = st.builds(Limits, *[st.none() | st.integers(0, 50)] * 3)


@given(limits, amounts, amounts)
def test_what_fits_never_passes_a_limit(limit: Limits, used: Amount, want: Amount) -> None:
    """The one comparison that refuses."""
    fits = shortfall(limit, used, want) is None

    total = used + want
    for meter in METERS:
        most = getattr(limit, meter)
        if fits and most is not None and getattr(want, meter):
            assert getattr(total, meter) <= most


@given(limits, amounts, amounts)
def test_a_refusal_names_a_meter_that_is_short(limit: Limits, used: Amount, want: Amount) -> None:
    """People must see which limit to raise."""
    short = shortfall(limit, used, want)

    if short is not None:
        assert short.used + short.want > short.limit == getattr(limit, short.meter)


def test_an_overrun_blocks_only_what_asks_for_it() -> None:
    """A model's tokens are spent; a tool may still be called."""
    limit = Limits(tool_calls=5, llm_tokens=10)
    used = Amount(llm_tokens=99)

    assert shortfall(limit, used, Amount(tool_calls=1)) is None
    assert shortfall(limit, used, Amount(llm_tokens=1)) == Shortfall("llm_tokens", 10, 99, 1)


@given(amounts, amounts)
def test_adding_and_taking_away_are_inverse(a: Amount, b: Amount) -> None:
    """Reserve and settle leave nothing behind."""
    assert a + b - b == a


@given(limits, limits)
def test_the_smaller_limit_wins_whatever_the_order(a: Limits, b: Limits) -> None:
    """Nobody can widen what another set."""
    both = a.smallest(b)

    assert both == b.smallest(a)
    for meter in METERS:
        given_limits = [v for v in (getattr(a, meter), getattr(b, meter)) if v is not None]
        assert getattr(both, meter) == (min(given_limits) if given_limits else None)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (Usage(input_tokens=3, output_tokens=4), 7),
        (Usage(input_tokens=3, output_tokens=4, total_tokens=9), 9),
        (Usage(total_tokens=9), 9),
        (None, None),
        (Usage(), None),
        (Usage(input_tokens=3), None),
        (Usage(input_tokens=0, output_tokens=0), None),
        (Usage(input_tokens=-1, output_tokens=4), None),
        (Usage(total_tokens=MAX_TOKENS + 1), None),
        (Usage(input_tokens=1, output_tokens=1, total_tokens=-2), None),
    ],
)
def test_usage_counts_only_when_it_can_be_true(usage: Usage | None, tokens: int | None) -> None:
    """None means: charge what was reserved."""
    assert tokens_used(usage) == tokens


@pytest.mark.parametrize(
    ("given_budget", "limit"),
    [
        ({}, Limits()),
        ({"tool_calls": 0}, Limits(tool_calls=0)),
        ({"llm_tokens": 5}, Limits(llm_tokens=5)),
        ({"wall_clock": 1.5}, Limits(wall_ms=1_500)),
        ({"wall_clock": timedelta(hours=2)}, Limits(wall_ms=7_200_000)),
    ],
)
def test_what_a_person_writes_becomes_limits(given_budget: Any, limit: Limits) -> None:
    """What is left out is unlimited; zero is zero."""
    assert Budget(**given_budget).limits == limit


@pytest.mark.parametrize(
    "given_budget",
    [
        {"tool_calls": -1}, {"tool_calls": 1.5}, {"tool_calls": True}, {"llm_tokens": "5"},
        {"wall_clock": -1}, {"wall_clock": float("nan")}, {"wall_clock": float("inf")},
        {"wall_clock": "2h"},
    ],
)  # fmt: skip
def test_a_budget_that_makes_no_sense_is_refused(given_budget: Any) -> None:
    """A negative limit would let everything through in some comparisons and nothing in others."""
    with pytest.raises(InvalidInput) as caught:
        Budget(**given_budget)

    assert caught.value.code == "E_BUDGET_CONFIG"


def test_budgets_are_values() -> None:
    """Equal limits are the same budget."""
    assert Budget(tool_calls=1) == Budget(tool_calls=1)
    assert len({Budget(tool_calls=1), Budget(tool_calls=1), Budget()}) == 2
    assert repr(Budget(tool_calls=1)) == "Budget(tool_calls=1)"


def test_a_soft_limit_is_part_of_what_a_policy_is() -> None:
    """A changed soft limit is a changed policy; none leaves the digest as it was."""
    hard, soft = Budget(tool_calls=9), Budget(tool_calls=9, soft=Soft(tool_calls=5))

    digests = [AllowDeclared(budget=each).digest for each in (hard, soft)]

    assert digests[0] != digests[1]
    assert hard.facts() == {"tool_calls": 9}
    assert hard != soft
