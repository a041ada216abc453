"""Ledgers: their keys, what is declared, and what a worker knows of them after a refusal."""

from typing import Any

import pytest

from gatebook import Budget, Soft
from gatebook.errors import InvalidInput
from gatebook.kernel.budget import NOTHING, Amount, Limits
from gatebook.kernel.spending.ledgers import (
    DAY_US,
    Balance,
    Shared,
    checked_ledgers,
    key_of,
    keys_of,
    name_of,
    policy_ledgers,
    renewal,
    smallest,
)

MIDNIGHT = 1_700_006_400_000_000  # 15 November 2023, 00:00 UTC


@pytest.mark.parametrize(
    ("time", "key"),
    [
        (0, "day:1970-01-01"),
        (DAY_US - 1, "day:1970-01-01"),
        (MIDNIGHT - 1, "day:2023-11-14"),
        (MIDNIGHT, "day:2023-11-15"),
        (1_709_164_800_000_000, "day:2024-02-29"),
    ],
)
def test_a_day_begins_at_midnight_utc(time: int, key: str) -> None:
    """The same on every machine, whatever its time zone."""
    assert key_of("day", time) == key
    assert key_of("tenant", time) == "tenant"
    assert name_of(key) == "day"


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("day:2023-12-31", "it renews at 2024-01-01T00:00:00Z"),
        ("day:2024-02-28", "it renews at 2024-02-29T00:00:00Z"),
        ("tenant", "it does not renew"),
    ],
)
def test_a_refusal_says_when_the_ledger_renews(key: str, told: str) -> None:
    """Whoever waits wants to know until when."""
    assert renewal(key) == told


def test_what_reserves_nothing_is_held_by_no_ledger() -> None:
    """A sleep does not count."""
    assert keys_of({"day": Limits()}, MIDNIGHT, NOTHING) == ()
    assert keys_of({"tenant": Limits(), "day": Limits()}, MIDNIGHT, Amount(1)) == (
        "day:2023-11-15", "tenant",
    )  # fmt: skip


def test_declared_limits_are_read_by_name() -> None:
    """As a person writes them."""
    found = checked_ledgers({"day": Budget(usd="2"), "tenant": Budget()}, "ledgers=")

    assert found == {"day": Limits(usd_micros=2_000_000), "tenant": Limits()}


@pytest.mark.parametrize(
    "bad", [{"a": Budget()}, {"day": Budget(wall_clock=1)}, {"day": Budget(soft=Soft(usd=1))}, 5]
)
def test_what_is_no_ledger_is_refused(bad: Any) -> None:
    """A limit that would not hold must not look as if it did."""
    with pytest.raises(InvalidInput) as caught:
        checked_ledgers(bad, "ledgers=")

    assert caught.value.code == "E_LEDGER_CONFIG"


def test_the_smallest_limits_of_all_places_count() -> None:
    """A second place can only narrow."""
    one = {"day": Limits(tool_calls=5, llm_tokens=9)}
    two = {"day": Limits(tool_calls=7), "tenant": Limits(tool_calls=1)}

    assert smallest(one, two) == smallest(two, one) == {
        "day": Limits(tool_calls=5, llm_tokens=9), "tenant": Limits(tool_calls=1),
    }  # fmt: skip


def test_a_policy_without_ledgers_declares_none() -> None:
    """Any object with `authorize` is a policy."""
    assert policy_ledgers(object()) == {}


def test_a_worker_that_knows_nothing_leaves_it_to_the_append() -> None:
    """What it could know would be old."""
    shared = Shared({"tenant": Limits(tool_calls=1)}, MIDNIGHT, None)

    assert [shared.take(Amount(tool_calls=9)) for _ in range(2)] == [None, None]


def test_a_worker_that_was_refused_divides_what_is_left() -> None:
    """All that a step asks for at once, so that one refusal is enough."""
    known = {"tenant": Balance(spent=Amount(tool_calls=3))}
    shared = Shared({"tenant": Limits(tool_calls=5)}, MIDNIGHT, known)

    taken = [shared.take(Amount(tool_calls=1)) for _ in range(3)]

    assert taken[:2] == [None, None]
    assert taken[2] is not None
    assert (taken[2]["left"], taken[2]["used"]) == (0, 5)


def test_what_was_known_of_yesterday_says_nothing_of_today() -> None:
    """Between a refusal and the next plan it may strike twelve."""
    full = {"day:2023-11-14": Balance(spent=Amount(tool_calls=5))}
    shared = Shared({"day": Limits(tool_calls=5)}, MIDNIGHT, full)

    assert shared.take(Amount(tool_calls=5)) is None
