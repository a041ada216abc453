"""Differences of JSON values, as people read them."""

from typing import Any

import pytest

from gatebook.testing.differences import differences


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"a": 1}, {"a": 2}, "a: 1 -> 2"),
        ({"a": [{"b": "x"}]}, {"a": [{"b": "y"}]}, "a[0].b: 'x' -> 'y'"),
        ({"a": 1}, {}, "a: 1 -> (nothing)"),
        ([1], [1, 2], "[1]: (nothing) -> 2"),
        ({"a": 1}, {"a": True}, "a: 1 -> True"),
        ({"a": None}, {}, "a: None -> (nothing)"),
        (1, 2, "$: 1 -> 2"),
    ],
)
def test_a_difference_has_a_path_and_both_values(before: Any, after: Any, told: str) -> None:
    """Whoever reads it should find the place without counting brackets."""
    assert [str(each) for each in differences(before, after)] == [told]


def test_equal_values_do_not_differ() -> None:
    """A difference that is none would send somebody searching."""
    assert differences({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}) == []


def test_a_long_text_is_shown_around_its_first_difference() -> None:
    """Both would begin alike for pages."""
    before, after = f"{'x' * 500}17 please{'y' * 90}", f"{'x' * 500}18 please{'y' * 90}"

    told = str(differences(before, after)[0])

    assert told.startswith(f"$: ...'{'x' * 19}17 please")
    assert f" -> ...'{'x' * 19}18 please" in told
    assert len(told) < 200


def test_a_text_that_is_nearly_the_same_weighs_less() -> None:
    """The nearest of several recordings is the one that was meant."""
    near = differences("Refund order 17", "Refund order 18")[0]
    far = differences("Where is order 16?", "Refund order 18")[0]

    assert near.weight < far.weight
