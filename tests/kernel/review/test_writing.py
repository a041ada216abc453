"""Policies as text: what is written reads back as what was meant."""

import tomllib
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gatebook.kernel.review.writing import comment, pair, table, toml

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS: Any = st.one_of(
    TEXTS, st.booleans(), st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
VALUES: Any = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=8,
)


@given(VALUES)
def test_every_value_reads_back_as_it_was(value: Any) -> None:
    """A rule that means something else than what was drafted is a hole or a wall."""
    assert tomllib.loads(f"value = {toml(value)}") == {"value": value}


@given(TEXTS)
def test_nothing_that_a_terminal_hides_is_written(text: str) -> None:
    """What a person reads must be what the policy says."""
    shown = toml(text) + comment(text)

    assert all(char.isprintable() or char == "\n" for char in shown)


@given(TEXTS, TEXTS)
def test_a_comment_never_ends(text: str, name: str) -> None:
    """A name that a model chose must not become a rule."""
    written = comment(f"{text} {name}") + pair("id", "x", "why")

    assert tomllib.loads(written) == {"id": "x"}


def test_a_long_where_becomes_a_table_of_its_own() -> None:
    """TOML has no line breaks within braces."""
    where = {f"args.{name * 9}": {"eq": "x" * 20} for name in "abc"}
    rules = [{"id": "one", "where": where}, {"id": "two", "where": {"user": {"eq": "ann"}}}]

    written = "\n".join(table("rule", rule) for rule in rules)

    assert "\n[rule.where]\n" in written
    assert tomllib.loads(written) == {"rule": rules}


def test_decimals_are_written_in_full() -> None:
    """1E+3 would be read as a float and compared as one."""
    assert toml(Decimal("1E+3")) == "1000"
    assert toml(Decimal("20.50")) == "20.50"
