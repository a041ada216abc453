"""Laws of the language, over policies and requests nobody thought of."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatebook.kernel.records import STRICTNESS
from gatebook.kernel.rules.document import (
    Change,
    Condition,
    Document,
    Rule,
    Selector,
    Test,
    merge,
)
from gatebook.kernel.rules.facts import History, Request, ToolFacts
from gatebook.kernel.rules.match import Rulebook

MANY = 20_000  # requests of a law in `make soak`
NAMES = ["a", "b", "a.x"]
OPERANDS: dict[str, Any] = {
    "eq": ["x", 1, True],
    "ne": ["x", 1],
    "in": [["x", "y"], [1, 2]],
    "lt": [2],
    "le": [1],
    "gt": [0],
    "ge": [1],
    "glob": ["*x*", "y"],
    "regex": ["[xy]+"],
    "within": ["/srv"],
    "host": ["x.com"],
    "has": ["x", ["x", "y"]],
    "size": [{"le": 1}],
    "type": ["string", ["null", "array"]],
}
FACTS = ["args.p", "args.q", "args.l.*", "seen.label", "count", "user", "tool.read_only", "agent"]

TESTS = st.sampled_from(sorted(OPERANDS)).flatmap(
    lambda op: st.sampled_from(OPERANDS[op]).map(lambda operand: Test(op, operand))
)
CONDITIONS = st.builds(
    Condition,
    st.sampled_from(FACTS),
    st.lists(TESTS, min_size=1, max_size=2).map(tuple),
    st.booleans(),
)
SELECTORS = st.builds(
    lambda tools, agents: Selector(kinds=("call_tool",), tools=tools, agents=agents),
    st.sampled_from([("*",), ("a",), ("a*",), ("b", "a.x")]),
    st.sampled_from([(), ("one",), ("o*", "two")]),
)
CHANGES = st.sampled_from(
    [Change("set", "args.p", "x"), Change("drop", "args.q"), Change("redact", "args.p", "all")]
)


def rules(*verdicts: str) -> st.SearchStrategy[Rule]:
    def built(then: str) -> st.SearchStrategy[Rule]:
        return st.builds(
            lambda number, select, where, change: Rule(
                id=f"r{number}",
                then=then,  # type: ignore[arg-type]
                select=select,
                where=tuple(where),
                after_ms=1,
                changes=(change,) if then == "modify" else (),
            ),
            st.integers(0, 10**6),
            SELECTORS,
            st.lists(CONDITIONS, max_size=2),
            CHANGES,
        )

    return st.sampled_from(verdicts).flatmap(built)


POLICIES = st.lists(rules(*STRICTNESS), max_size=6, unique_by=lambda rule: rule.id)
NARROWING = rules(*STRICTNESS[1:])
SCALARS: Any = st.one_of(
    st.none(), st.booleans(), st.integers(0, 3), st.sampled_from(["x", "y", "/srv/a", "x.com", "2"])
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(st.just("k"), SCALARS))
ARGS = st.dictionaries(st.sampled_from("pql"), VALUES)
HISTORIES: Any = st.none() | st.builds(
    lambda seen, count: History(seen=set(seen), counts=dict.fromkeys(NAMES, count or 0)),
    st.lists(st.sampled_from("xyz")),
    st.integers(0, 3),
)
REQUESTS = st.builds(
    lambda tool, args, agent, user, history, effect: Request(
        tool=tool,
        args=args,
        agent=agent,
        user=user,
        history=history,
        about=ToolFacts(effect=effect),
    ),
    st.sampled_from(NAMES),
    ARGS,
    st.sampled_from([None, "one", "two"]),
    st.sampled_from([None, "x"]),
    HISTORIES,
    st.sampled_from([None, "read", "at_most_once"]),
)


def policy(given: list[Rule]) -> Document:
    return Document(rules=tuple(given))


def strictness(verdict: Any) -> int:
    return STRICTNESS.index(verdict)


@settings(max_examples=500)
@given(POLICIES, NARROWING, REQUESTS)
def test_a_rule_that_does_not_allow_never_widens(
    given_rules: list[Rule], more: Rule, request: Request
) -> None:
    """Whoever adds a restriction must be able to trust that it only restricts."""
    others = [rule for rule in given_rules if rule.id != more.id]

    before = Rulebook(policy(others)).decide(request).verdict
    after = Rulebook(policy([*others, more])).decide(request).verdict

    assert strictness(after) >= strictness(before)


@settings(max_examples=300)
@given(POLICIES, rules("deny", "interrupt", "ask", "defer"), REQUESTS)
def test_it_never_widens_what_is_decided_to_the_end_either(
    given_rules: list[Rule], more: Rule, request: Request
) -> None:
    """The same with everything that modify rules change on the way."""
    others = [rule for rule in given_rules if rule.id != more.id]

    before = Rulebook(policy(others)).settle(request).verdict
    after = Rulebook(policy([*others, more])).settle(request).verdict

    assert strictness(after) >= strictness(before)


@settings(max_examples=300)
@given(POLICIES, REQUESTS)
def test_what_runs_in_the_end_was_itself_decided(given_rules: list[Rule], request: Request) -> None:
    """A modify makes another call of a call; nothing lets it skip the rules about that one."""
    book = Rulebook(policy(given_rules))

    settled = book.settle(request)
    final = book.decide(settled.request)

    assert strictness(settled.verdict) >= strictness(book.decide(request).verdict)
    if settled.verdict != "deny":
        assert final.verdict not in ("deny", "modify")


@settings(max_examples=300)
@given(POLICIES, REQUESTS, st.randoms(use_true_random=False), st.integers(0, 6))
def test_neither_the_order_of_rules_nor_of_files_matters(
    given_rules: list[Rule], request: Request, random: Any, cut: int
) -> None:
    """A rule may be moved to another line or file without a thought."""
    shuffled = list(given_rules)
    random.shuffle(shuffled)
    one, two = policy(shuffled[:cut]), policy(shuffled[cut:])

    straight = Rulebook(policy(given_rules)).decide(request)

    for document in (policy(shuffled), merge([one, two]), merge([two, one])):
        assert Rulebook(document).decide(request) == straight
        assert document.digest == policy(given_rules).digest


@settings(max_examples=300)
@given(POLICIES, REQUESTS)
def test_not_knowing_never_allows(given_rules: list[Rule], request: Request) -> None:
    """What is allowed without a fact is allowed with whatever that fact turns out to be.

    It may be changed then: a modify rule has nothing to change in an argument that is not there.
    Rules with `optional` are the written exception and left out.
    """
    sure = [r for r in given_rules if not any(c.optional for c in r.where)]
    less = Request(tool=request.tool, args={})
    known = Request(
        tool=request.tool, args=request.args, agent=request.agent or "one",
        user=request.user or "x", history=request.history or History(),
        about=ToolFacts(effect=request.about.effect or "read"),
    )  # fmt: skip

    if Rulebook(policy(sure)).decide(less).verdict == "allow":
        assert Rulebook(policy(sure)).decide(known).verdict in ("allow", "modify")


@settings(max_examples=300)
@given(POLICIES, REQUESTS)
def test_only_an_allow_that_is_surely_true_opens(given_rules: list[Rule], request: Request) -> None:
    """Anything but a deny needs such a rule."""
    book = Rulebook(policy(given_rules))
    opens = [
        part
        for part in book.candidates(request)
        if part.rule.then == "allow" and part.truth(request) is True
    ]

    assert opens or book.decide(request).verdict == "deny"


@settings(max_examples=300)
@given(POLICIES, REQUESTS)
def test_shadow_says_the_same_and_does_nothing(given_rules: list[Rule], request: Request) -> None:
    """Watching a policy must not change what it would say."""
    enforced = Rulebook(policy(given_rules)).decide(request)
    shadow = Rulebook(Document(rules=tuple(given_rules), mode="shadow")).decide(request)

    assert (shadow.verdict, shadow.rules, shadow.reason) == (
        enforced.verdict, enforced.rules, enforced.reason,
    )  # fmt: skip
    assert shadow.enforced == "allow"
    assert enforced.enforced == enforced.verdict


@pytest.mark.soak
@pytest.mark.parametrize(
    ("law", "drawn"),
    [
        (test_a_rule_that_does_not_allow_never_widens, (POLICIES, NARROWING, REQUESTS)),
        (
            test_neither_the_order_of_rules_nor_of_files_matters,
            (POLICIES, REQUESTS, st.randoms(use_true_random=False), st.integers(0, 6)),
        ),
        (test_not_knowing_never_allows, (POLICIES, REQUESTS)),
    ],
)
def test_a_law_holds_for_many_more_requests(law: Any, drawn: tuple[Any, ...]) -> None:
    """What decides about money should have met more than a coffee break's worth of requests."""
    drawing: Any = given(*drawn)
    many: Any = settings(max_examples=MANY)(drawing(law.hypothesis.inner_test))

    many()
