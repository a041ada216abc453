"""The narrowest rule for a denial: it allows that very action, and nothing that is like it."""

import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gatebook.kernel.actions import CallTool, Sleep
from gatebook.kernel.codec import Raw, canonical
from gatebook.kernel.events import DecisionRecord
from gatebook.kernel.review.again import answer
from gatebook.kernel.review.decisions import Decided, Told, decisions
from gatebook.kernel.review.narrowest import Unfit, narrowest
from gatebook.kernel.rules.match import Rulebook
from gatebook.kernel.rules.reading import load
from tests.kernel.review.kit import ask_model, begun, call, denied, found, spec, tools

RECORD = DecisionRecord("deny", reason="no rule allows it", code="E_POLICY_NO_RULE")

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="."), min_size=1,
                max_size=5).filter(lambda name: name != "*")  # fmt: skip
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS: Any = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False), TEXTS,
)  # fmt: skip
VALUES: Any = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)
ARGS = st.dictionaries(NAMES, VALUES, max_size=4)


def refused(action: Any, **told: Any) -> Decided:
    (decided,) = found(denied("0", action, RECORD), **told)
    return decided


def book(decided: Decided) -> Rulebook:
    return Rulebook(load(f"version = 1\n{narrowest(decided).text}"))


def tool_call(args: dict[str, Any]) -> CallTool:
    return CallTool("t", Raw(canonical(args)))


@given(ARGS)
def test_it_allows_what_was_denied(args: dict[str, Any]) -> None:
    """A suggestion that does not help is worse than none."""
    decided = refused(tool_call(args))

    assert answer(book(decided), decided).verdict == "allow"


@given(ARGS, ARGS)
def test_it_allows_no_other_arguments(args: dict[str, Any], others: dict[str, Any]) -> None:
    """The narrowest rule is about one call, not about a kind of call."""
    names = {*args, *others} - {"name", "effect", "sends"}
    known = tools(spec("t", sends=False, **{name: {} for name in names}))
    one, other = (refused(tool_call(each), tools=known) for each in (args, others))
    assume(not alike(args, others))

    assert answer(book(one), other).verdict == "deny"


def alike(one: Any, other: Any) -> bool:
    """Whether two values are one to the language: 1 and 1.0 are, and so are null and nothing."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(alike(one.get(name), other.get(name)) for name in {*one, *other})
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def test_it_is_about_one_agent() -> None:
    """Another program's call is another decision."""
    decided = refused(call("refund", order="17"))

    text = narrowest(decided).text

    assert 'agent = "pay"' in text
    assert 'where = { "args.order" = { eq = "17" } }' in text


def test_it_is_about_one_user() -> None:
    """What one person asked for says nothing about what another may."""

    def of(user: str) -> Decided:
        began = begun(context=Raw(canonical({"user": user})))
        *_, decided = decisions([began, denied("0", call(), RECORD)], Told(run_id="r"))
        return decided

    rules = book(of("ann"))

    assert answer(rules, of("ann")).verdict == "allow"
    assert answer(rules, of("bob")).verdict == "deny"


def test_a_longer_list_is_another_argument() -> None:
    """Twenty more recipients are not the mail that was refused."""
    known = tools(spec("mail", to={}))
    one, more = (refused(call("mail", to=to), tools=known) for to in (["a"], ["a", "b"]))

    rules = book(one)

    assert answer(rules, one).verdict == "allow"
    assert answer(rules, more).verdict == "deny"


def test_an_argument_that_was_left_out_stays_out() -> None:
    """What the tool declares and the call did not say could say anything the next time."""
    known = tools(spec("refund", order={}, to={}))
    decided = refused(call("refund", order="17"), tools=known)
    other = refused(call("refund", order="17", to="me"), tools=known)

    rules = book(decided)

    assert answer(rules, decided).verdict == "allow"
    assert answer(rules, other).verdict == "deny"


def test_a_model_call_is_allowed_on_its_routes_up_to_its_size() -> None:
    """A prompt has no arguments: its size is what a rule can name."""
    decided = refused(ask_model("other:big"))
    larger = refused(ask_model("other:huge"))

    rules = book(decided)

    assert answer(rules, decided).verdict == "allow"
    assert answer(rules, larger).verdict == "deny"
    assert "est_tokens = { le = 150 }" in narrowest(decided).text


def test_ids_are_never_taken_twice() -> None:
    """Two files with one id cannot be merged."""
    decided = refused(call("refund", order="17"))

    assert narrowest(decided, ["allow-refund"]).id == "allow-refund-2"


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (Sleep(1), "only tool calls and model calls need an allow"),
        (call("t", **{"a.b": 1}), "no condition can name the member 'a.b' of args"),
        (call("t", **{"*": 1}), "no condition can name the member '*' of args"),
        (
            call("t", key="[redacted:api-key]"),
            "args.key held a secret, which is not in the journal",
        ),
    ],
)
def test_what_no_rule_can_name_is_said_so(action: Any, why: str) -> None:
    """A wider rule, printed in its place, would be trusted as the narrow one."""
    with pytest.raises(Unfit, match=re.escape(why)):
        narrowest(refused(action))
