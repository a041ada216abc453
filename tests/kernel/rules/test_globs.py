"""Globs: matching against a plain model, and the two questions the checks ask."""

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatebook.kernel.rules.globs import any_glob, covers, glob, overlap

PATTERNS = st.text("ab.*?", max_size=7)
TEXTS = st.text("ab.", max_size=7)
SHORT = st.text("ab*?", max_size=3)
ALL = ["".join(chars) for size in range(7) for chars in product("ab", repeat=size)]


def model(pattern: str, text: str) -> bool:
    parts = {"*": ".*", "?": "."}
    spelt = "".join(parts.get(char, re.escape(char)) for char in pattern)
    return bool(re.fullmatch(spelt, text, re.DOTALL))


@given(PATTERNS, TEXTS)
def test_a_glob_matches_what_its_model_matches(pattern: str, text: str) -> None:
    """`*` any run, `?` one character, nothing else special."""
    assert glob(pattern)(text) == model(pattern, text)


def test_many_stars_cost_little() -> None:
    """A text of a model must not stop the worker."""
    assert glob("*a" * 200 + "b")("a" * 4_000) is False


def test_one_of_several_is_enough() -> None:
    """Lists mean any of."""
    matches = any_glob(["fs.read", "kb.*"])

    assert [matches(name) for name in ("fs.read", "kb.x", "fs.write")] == [True, True, False]


@given(SHORT, SHORT)
def test_patterns_overlap_when_they_share_a_text(one: str, other: str) -> None:
    """An unopened rule is only reported when really nothing opens it."""
    shared = any(model(one, text) and model(other, text) for text in ALL)

    assert overlap(one, other) is shared


@pytest.mark.parametrize(
    ("one", "other", "meets"),
    [("a*", "*b", True), ("a*", "b*", False), ("fs.*", "fs.read", True), ("a?", "a", False),
     ("*", "", True), ("a.*", "a?b", True), ("*x*", "y*", True), ("ab", "a", False)],
)  # fmt: skip
def test_overlap_is_exact(one: str, other: str, meets: bool) -> None:
    """Both ways round."""
    assert overlap(one, other) is meets
    assert overlap(other, one) is meets


@given(SHORT, SHORT)
def test_a_pattern_covers_only_what_it_holds(wide: str, narrow: str) -> None:
    """A rule called shadowed must really be shadowed."""
    held = all(model(wide, text) for text in ALL if model(narrow, text))

    assert held or not covers(wide, narrow)


def test_the_usual_shapes_are_seen_to_cover() -> None:
    """A check that never says covered would find no shadowed rule."""
    assert covers("admin.*", "admin.users.*")
    assert covers("*", "x")
    assert covers("fs.r?ad", "fs.read")
    assert not covers("admin.?", "admin.*")
