"""Money: what tokens cost, exactly and in whole numbers, and what a limit in dollars refuses."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatebook.errors import GatebookError, IntegrityError, InvalidInput
from gatebook.kernel.actions import CallLLM, Prompt
from gatebook.kernel.budget import OUTPUT_TOKENS, Amount, Budget, Limits, charged, shortfall
from gatebook.kernel.events import (
    ActionFailed,
    ActionRequested,
    ActionSucceeded,
    AnyEvent,
    AttemptFailed,
    AttemptStarted,
    ErrorRecord,
    RunCompleted,
)
from gatebook.kernel.head import Head
from gatebook.kernel.messages import Usage
from gatebook.kernel.spending.prices import MICRO, Price, cost, dollars_text, micro_usd
from gatebook.kernel.stored import decode, stamp, written
from gatebook.kernel.verify import verify_facts
from gatebook.testing.journal_facts.kit import started

CORPUS = Path(__file__).parents[1] / "corpus"
PRICE = Price(250_000, 2_000_000, 25_000, 312_500, "a table")  # $0.25, $2, $0.025, $0.3125
CALL = CallLLM("openai", "m", Prompt("d", size=400), max_output_tokens=50)  # 100 + 50 tokens
RESERVED = Amount(llm_tokens=150, usd_micros=125, priced_tokens=150)
USAGE = Usage(input_tokens=100, output_tokens=10)  # 25 + 20 micro-USD
SPENT = Amount(llm_tokens=110, usd_micros=45, priced_tokens=110)
ERROR = ErrorRecord("E_PROVIDER", "no")
FUNDED = started(limits=Limits(usd_micros=1_000))

counts = st.integers(0, 10**7)
usages = st.builds(
    lambda fresh, read, written, out: Usage(
        input_tokens=fresh + read + written,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=out,
    ),
    counts, counts, counts, counts,
)  # fmt: skip


@pytest.mark.parametrize(
    ("usage", "micros"),
    [
        (Usage(input_tokens=1_000_000, output_tokens=0), 250_000),
        (Usage(input_tokens=0, output_tokens=1_000_000), 2_000_000),
        (Usage(input_tokens=1_220, cache_read_tokens=1_000, output_tokens=10), 100),
        (Usage(input_tokens=1_000, cache_write_tokens=1_000, output_tokens=0), 313),
        (Usage(input_tokens=1_000, output_tokens=500, reasoning_tokens=400), 1_250),
        (Usage(input_tokens=100, total_tokens=110), 45),
        (Usage(output_tokens=10, total_tokens=110), 45),
        (Usage(input_tokens=1, output_tokens=0), 1),
    ],
)
def test_a_call_costs_its_tokens_at_their_prices(usage: Usage, micros: int) -> None:
    """Input holds what the cache read and wrote, output holds reasoning: nothing is paid twice."""
    assert cost(PRICE, usage) == micros


@pytest.mark.parametrize(
    "usage",
    [Usage(), Usage(total_tokens=9), Usage(input_tokens=9), Usage(input_tokens=9, total_tokens=3)],
)
def test_tokens_that_are_not_known_well_enough_have_no_cost(usage: Usage) -> None:
    """What is missing is not zero."""
    assert cost(PRICE, usage) is None


@given(usages)
def test_a_cost_is_never_below_its_exact_amount(usage: Usage) -> None:
    """A budget that undercounts by fractions undercounts without end."""
    read, written = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    fresh = (usage.input_tokens or 0) - read - written
    exact = Decimal(fresh * 250_000 + read * 25_000 + written * 312_500)
    exact = (exact + (usage.output_tokens or 0) * 2_000_000) / MICRO

    found = cost(PRICE, usage)

    assert found is not None
    assert 0 <= found - exact < 1


def test_cache_tokens_without_a_price_of_their_own_are_input() -> None:
    """A table that says nothing about the cache must not make it free."""
    assert (
        cost(Price(1_000_000, 0), Usage(input_tokens=9, cache_read_tokens=9, output_tokens=0)) == 9
    )


@pytest.mark.parametrize("usage", [None, Usage(), Usage(total_tokens=9), Usage(input_tokens=-1)])
def test_an_unmeasured_call_is_charged_what_it_reserved(usage: Usage | None) -> None:
    """A provider that reports nothing would be free otherwise."""
    assert charged(CALL, PRICE, usage) == RESERVED.usd_micros


def test_a_call_without_a_maximum_reserves_the_usual_answer() -> None:
    """The estimate of money is that of tokens."""
    action = CallLLM("openai", "m", Prompt("d", size=0))

    assert charged(action, PRICE, None) == OUTPUT_TOKENS * 2


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        ("2.50", 2_500_000), (Decimal("0.000001"), 1), (1, 1_000_000), (0.1, 100_000), ("0", 0),
        ("1e-6", 1), ("0.0000001", None), (-1, None), ("-0.5", None), (True, None), (None, None),
        ("x", None), ("", None), (float("nan"), None), ("inf", None), (10**10, None), ([], None),
    ],
)  # fmt: skip
def test_an_amount_of_dollars_is_exact_or_refused(value: Any, micros: int | None) -> None:
    """0.1 is ten cents, and never a little more."""
    assert micro_usd(value) == micros


@pytest.mark.parametrize(
    ("micros", "text"),
    [(0, "$0.00"), (1_500_000, "$1.50"), (315, "$0.000315"), (1_234_560_000, "$1,234.56")],
)
def test_money_is_shown_to_the_cent_or_finer(micros: int, text: str) -> None:
    """A call may cost less than a cent, and a bill has two digits."""
    assert dollars_text(micros) == text


@pytest.mark.parametrize(("usd", "micros"), [("0.50", 500_000), (Decimal(2), 2_000_000), (0, 0)])
def test_a_budget_takes_dollars(usd: Any, micros: int) -> None:
    """Zero is a limit, too."""
    assert Budget(usd=usd).limits == Limits(usd_micros=micros)


def test_a_budget_shows_its_dollars() -> None:
    """What is shown can be written."""
    assert eval(repr(Budget(usd="0.5", tool_calls=1))) == Budget(usd="0.5", tool_calls=1)


@pytest.mark.parametrize("usd", ["much", -1, "0.0000001", True])
def test_a_budget_that_is_no_money_is_refused(usd: Any) -> None:
    """A limit that was misread would be found out by the bill."""
    with pytest.raises(InvalidInput) as caught:
        Budget(usd=usd)

    assert caught.value.code == "E_BUDGET_USD"


def test_a_short_budget_is_told_in_dollars() -> None:
    """Nobody thinks in millionths."""
    short = shortfall(Limits(usd_micros=10_000), Amount(usd_micros=9_000), Amount(usd_micros=1_001))
    assert short is not None

    error = GatebookError("E_BUDGET", tool="openai:m", **short.told())

    assert "the 'usd' budget cannot carry 'openai:m': limit $0.01, used $0.009" in str(error)


def test_a_cost_is_known_when_every_token_has_a_price() -> None:
    """Free is a price; no price is none."""
    free = Amount(llm_tokens=10, priced_tokens=10)

    assert (SPENT + free).cost_usd == Decimal("0.000045")
    assert (SPENT + Amount(llm_tokens=1)).cost_usd is None
    assert Amount(tool_calls=3).cost_usd == 0


def asked(**fields: Any) -> ActionRequested:
    facts: dict[str, Any] = {"address": "a", "action": CALL, "reserve": RESERVED}
    return ActionRequested(**facts | fields)


def answered(**fields: Any) -> ActionSucceeded:
    facts: dict[str, Any] = {"address": "a", "usage": USAGE, "spent": SPENT, "price": PRICE}
    return ActionSucceeded(**facts | fields)


def refusal(*events: AnyEvent) -> str:
    """Return why events are refused that a store without guards accepted; "" when they hold."""
    head = Head()
    for event in events:
        head.apply(event)
    head.epoch = max(event.epoch for event in events)
    try:
        verify_facts("r", events, head)
    except IntegrityError as exc:
        return str(exc)
    return ""


def test_an_outcome_keeps_its_price_in_whole_numbers() -> None:
    """The bytes must say the same on any machine, with any table."""
    body = written(answered(), stamp(time=1, epoch=1))

    assert decode(body, run="r", seq=1) == answered(time=1, epoch=1)
    assert b'"usd_micros":45' in body
    assert b'"price":{"input":250000,"output":2000000,"cache_read":25000' in body
    assert msgspec.json.decode(body)["spent"]["usd_micros"].__class__ is int


def test_a_priced_run_verifies() -> None:
    """A check that cries wolf is switched off."""
    failed = AttemptFailed(
        address="a", attempt=0, error=ERROR, delay_ms=1, spent=RESERVED, price=PRICE
    )
    again = AttemptStarted(address="a", attempt=1, reserve=RESERVED)

    assert refusal(FUNDED, asked(), failed, again, answered(), RunCompleted()) == ""


@pytest.mark.parametrize(
    ("spent", "price"),
    [
        (Amount(llm_tokens=110), None),
        (Amount(llm_tokens=150), None),
    ],
)
def test_a_run_whose_price_nobody_knew_verifies(spent: Amount, price: Price | None) -> None:
    """Without a limit in dollars an unknown price is no error, and not a price of nothing."""
    events = (
        started(limits=Limits()),
        asked(reserve=Amount(llm_tokens=150)),
        answered(spent=spent, price=price),
    )

    assert refusal(*events) == ""


def test_a_call_whose_price_got_lost_is_charged_its_reservation() -> None:
    """A worker without a table takes over a run of one that had one."""
    spent = Amount(llm_tokens=110, usd_micros=RESERVED.usd_micros, priced_tokens=110)

    assert refusal(FUNDED, asked(), answered(spent=spent, price=None)) == ""


def test_a_call_that_never_left_costs_nothing() -> None:
    """A refused connection is no call."""
    failed = ActionFailed(address="a", error=ERROR, spent=Amount())

    assert refusal(FUNDED, asked(), failed) == ""


@pytest.mark.parametrize(
    "outcome",
    [
        answered(spent=msgspec.structs.replace(SPENT, usd_micros=44)),
        answered(spent=msgspec.structs.replace(SPENT, priced_tokens=0)),
        answered(price=msgspec.structs.replace(PRICE, output=2_000_001)),
        answered(price=None),
        ActionFailed(address="a", error=ERROR, spent=SPENT, price=PRICE),
        AttemptFailed(address="a", attempt=0, error=ERROR, delay_ms=1, spent=SPENT, price=PRICE),
    ],
    ids=["less", "unknown", "another price", "no price", "failed", "attempt"],
)
def test_money_that_does_not_follow_from_its_price_is_found(outcome: AnyEvent) -> None:
    """Whoever audits a bill computes it again."""
    assert "a was charged" in refusal(FUNDED, asked(), outcome)


def test_a_call_of_unknown_price_under_a_limit_is_found() -> None:
    """The promise of a limit in dollars is that no such call was made."""
    assert "reserved tokens of unknown price" in refusal(
        FUNDED, asked(reserve=Amount(llm_tokens=150))
    )


def test_a_further_attempt_of_unknown_price_is_found() -> None:
    """Each attempt is reserved anew."""
    failed = AttemptFailed(
        address="a", attempt=0, error=ERROR, delay_ms=1, spent=RESERVED, price=PRICE
    )
    again = AttemptStarted(address="a", attempt=1, reserve=Amount(llm_tokens=150))

    assert "reserved tokens of unknown price" in refusal(FUNDED, asked(), failed, again)


def test_dollars_that_do_not_fit_are_found() -> None:
    """Nothing may be reserved above a limit."""
    assert "is above the limit of 100 usd_micros" in refusal(
        started(limits=Limits(usd_micros=100)), asked()
    )


def test_an_older_head_reads_and_has_an_unknown_cost() -> None:
    """Journals from before prices were known hold tokens, and no money."""
    head = msgspec.json.decode(b'{"spent":{"llm_tokens":42}}', type=Head)

    assert head.spent.cost_usd is None
    assert msgspec.json.encode(head.spent) == b'{"llm_tokens":42}'


@pytest.mark.parametrize("path", sorted(CORPUS.glob("v0.1/*.jsonl")), ids=lambda path: path.stem)
def test_journals_from_before_prices_verify(path: Path) -> None:
    """Their outcomes hold no money, and nothing is wrong with that."""
    bodies = path.read_bytes().splitlines()

    assert refusal(*(decode(body, run="r", seq=seq) for seq, body in enumerate(bodies, 1))) == ""
