"""Regular expressions of policies: the same answers as Python's, and no way to explode."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatebook.kernel.rules.regex import MAX_POSITIONS, MAX_TEXT, PatternError, Regex

ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "[a-c0]", r"\d", r"\w", r"\.", "é", r"\S"])


def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    groups = inner.map(lambda p: f"({p})")
    repeated = st.tuples(groups, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{1,}"]))
    return st.one_of(
        groups,
        repeated.map("".join),
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("|".join),
        inner.map(lambda p: f"(?:{p})"),
    )


def unless_too_large(pattern: str) -> Regex | None:
    try:
        return Regex(pattern)
    except PatternError as refused:
        if str(MAX_POSITIONS) not in str(refused):
            raise
        return None


@given(st.recursive(ATOMS, grown, max_leaves=6), st.text("abc01.é\n ", max_size=8))
def test_it_answers_as_the_standard_engine_does(pattern: str, text: str) -> None:
    """Who knows `re` must be able to trust the pattern he writes here."""
    compiled = unless_too_large(pattern)

    assert compiled is None or compiled.matches(text) == bool(re.fullmatch(pattern, text, re.ASCII))


@pytest.mark.parametrize(
    "pattern", ["(a+)+", "(a|a)*", "(a|aa)+b", "(.*a){12}", "(a*)*b", "(x+x+)+y", "([a-z]+)*[0-9]"]
)
def test_a_pattern_that_explodes_elsewhere_is_one_pass_here(pattern: str) -> None:
    """A policy decides on what a model writes; its text must not stop the worker."""
    assert Regex(pattern).matches("a" * (MAX_TEXT - 1) + "!") is False


def test_a_text_that_is_too_long_is_not_matched() -> None:
    """Bounded input is half of bounded time; unknown is the stricter side."""
    assert Regex("a*").matches("a" * (MAX_TEXT + 1)) is None


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("^a", "leave ^ out"),
        ("a$", "leave $ out"),
        (r"(a)\1", "back-references"),
        ("(?=a)", "look-around"),
        ("(?i)a", "look-around"),
        ("(?P<n>a)", "look-around"),
        ("a**", "in a row"),
        ("a+?", "in a row"),
        ("a{1}{2}", "in a row"),
        ("*a", "repeats nothing"),
        ("(a", "not closed"),
        ("a)", "closes nothing"),
        ("[a", "not closed"),
        ("[]", "not closed"),
        ("[b-a]", "range"),
        ("a{3,2}", "smaller first"),
        ("a{0}", "smaller first"),
        ("a{x}", "{n,m}"),
        ("a{129}", "128"),
        ("\\", "not in this language"),
        (r"\b", "language"),
        ("a" * 257, "256"),
        ("a" * 501, "500"),
        ("(a{20}){20}", "256"),
        ("(" * 40 + "a" + ")" * 40, "deeper"),
        ("(((((){9}){9}){9}){9}){9}", "nested too deep"),
        ("a{9999999999}", "{n,m}"),
    ],
)
def test_what_is_not_in_the_language_is_refused_when_it_is_read(pattern: str, says: str) -> None:
    """A pattern that would mean something else, or cost too much, never reaches a decision."""
    with pytest.raises(PatternError) as caught:
        Regex(pattern)

    assert says in str(caught.value)


@given(st.text("ab()[]{}*+?|\\^$.,-1\n", max_size=30), st.text(max_size=10))
def test_any_pattern_is_read_or_refused(pattern: str, text: str) -> None:
    """Nothing that stands in a file may crash the reader or the decision."""
    try:
        compiled = Regex(pattern)
    except PatternError:
        return

    assert compiled.matches(text) in (True, False)


def test_a_full_memory_of_steps_changes_no_answer() -> None:
    """Remembered steps are bounded, and only remembered."""
    pattern = Regex(".*z")

    answers = [pattern.matches(chr(0x4E00 + n) + "z") for n in range(5_000)]

    assert all(answers)
    assert pattern.matches("zy") is False
