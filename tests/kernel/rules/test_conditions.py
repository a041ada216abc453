"""Conditions: per operator what is true, what is false, and what cannot be said."""

from decimal import Decimal
from typing import Any

import pytest

from gatebook.kernel.rules.conditions import OPS, OperandError, check_test, compiled
from gatebook.kernel.rules.document import Condition, Test
from gatebook.kernel.rules.facts import FACTS, FAMILIES, Request, fact, fact_names
from tests.kernel.rules.kit import History, RunFacts, ToolFacts, request

BIG = 10**40
ABSENT = object()


def asked(op: str, operand: Any, value: Any, *, opens: bool = True, optional: bool = False) -> Any:
    """The answer of a condition on `args.x`, live as a rule asks it."""
    condition = Condition("args.x", (Test(op, operand),), optional)
    args = {} if value is ABSENT else {"x": value}
    return compiled((condition,), opens=opens)(request(args=args))


@pytest.mark.parametrize(
    ("op", "operand", "value", "answer"),
    [
        ("eq", "a", "a", True),
        ("eq", "a", "A", False),
        ("eq", 1, 1.0, True),
        ("eq", 1, "1", None),
        ("eq", True, 1, None),
        ("eq", 1, True, None),
        ("eq", False, False, True),
        ("eq", Decimal("0.1"), 0.1, True),
        ("eq", "a", ["a"], None),
        ("eq", "a", {"a": 1}, None),
        ("ne", "a", "b", True),
        ("ne", "a", "a", False),
        ("ne", "a", 1, None),
        ("ne", 1, 2, True),
        ("in", ["a", "b"], "b", True),
        ("in", ["a"], "c", False),
        ("in", ["a"], 1, None),
        ("in", ["a", 1], 1.0, True),
        ("in", ["a", 1], 2, False),
        ("in", ["a", 1], True, None),
        ("in", [True], True, True),
        ("in", ["a"], ["a"], None),
        ("in", [1], "1", None),
        ("lt", 5, 4, True),
        ("lt", 5, 5, False),
        ("lt", 5, "4", None),
        ("lt", 5, True, None),
        ("le", 5, 5, True),
        ("le", Decimal("0.3"), 0.1 + 0.2, False),
        ("le", 5, "9e9", None),
        ("gt", 0, Decimal("0.01"), True),
        ("gt", 0, -1, False),
        ("gt", 0, [], None),
        ("ge", BIG, BIG, True),
        ("ge", 1, float("nan"), None),
        ("ge", 1, Decimal("NaN"), None),
        ("ge", 10**15, float("inf"), True),
        ("ge", 1, None, None),
        ("glob", "*@b.c", "a@b.c", True),
        ("glob", "*@b.c", "a@b.d", False),
        ("glob", ["x", "y*"], "yes", True),
        ("glob", "*", 1, None),
        ("glob", "*", ["a"], None),
        ("glob", "*@b.c", "a@evil.d\n@b.c", None),
        ("glob", "*", "a\x00", None),
        ("glob", "*", "a\u2028b", None),
        ("glob", "*", "x" * 5_000, None),
        ("glob", "a*", "", False),
        ("glob", "*", "a\u00adb", True),
        ("regex", "[a-z]+", "abc", True),
        ("regex", "[a-z]+", "abc1", False),
        ("regex", ["a", "b"], "b", True),
        ("regex", "a*", "a" * 5_000, None),
        ("regex", "1", 1, None),
        ("regex", "a", "a\n", False),
        ("within", "/srv", "/srv/a", True),
        ("within", "/srv", "/etc", False),
        ("within", ["/a", "/b"], "/b/c", True),
        ("within", "/srv", "/srv/../x", None),
        ("within", "/srv", ["/srv"], None),
        ("within", "/srv", "", None),
        ("host", "a.com", "https://a.com/x", True),
        ("host", ["a.com", "b.com"], "b.com", True),
        ("host", "a.com", "https://b.com", False),
        ("host", "a.com", "https://u@a.com", None),
        ("host", "a.com", 1, None),
        ("host", ["a.com", "10.0.0.1"], "http://10.0.0.1", True),
        ("host", "a.com", "http://10.0.0.1", None),
        ("has", "x", ["y", "x"], True),
        ("has", "x", ["y"], False),
        ("has", "x", [], False),
        ("has", "x", ["y", 1], None),
        ("has", "x", "x", None),
        ("has", "x", {"x": 1}, None),
        ("has", ["x", "y"], ["y", "x"], True),
        ("has", ["x", "y"], ["x"], False),
        ("has", 1, [1.0], True),
        ("size", {"le": 2}, "ab", True),
        ("size", {"le": 2}, [1, 2, 3], False),
        ("size", {"ge": 1, "le": 2}, {"a": 1}, True),
        ("size", {"le": 2}, 1, None),
        ("size", {"eq": 0}, [], True),
        ("size", {"ne": 0}, "", False),
        ("type", "string", "a", True),
        ("type", "string", 1, False),
        ("type", "integer", 1.0, True),
        ("type", "integer", 1.5, False),
        ("type", "integer", Decimal("1e50"), True),
        ("type", "number", Decimal("1.5"), True),
        ("type", "number", True, False),
        ("type", ["array", "null"], None, True),
        ("type", "string", None, False),
        ("type", "object", {}, True),
        ("type", "boolean", False, True),
        ("type", "array", [], True),
    ],
)
def test_an_operator_answers(op: str, operand: Any, value: Any, answer: bool | None) -> None:
    """Conditions are typed: a text that looks like a number is no number."""
    assert asked(op, operand, value) is answer


OPERANDS: dict[str, Any] = {
    "eq": "a", "ne": "a", "in": ["a"], "lt": 1, "le": 1, "gt": 1, "ge": 1, "glob": "*",
    "regex": ".*", "within": "/", "host": "a.com", "has": "a", "size": {"ge": 0}, "type": "string",
}  # fmt: skip


def test_every_operator_is_tried_here() -> None:
    """A new operator must answer for what is absent, too."""
    assert tuple(OPERANDS) == OPS


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("opens", [True, False])
def test_what_is_absent_is_unknown(op: str, opens: bool) -> None:
    """Nobody gets in, and nobody gets by, by leaving an argument out."""
    assert asked(op, OPERANDS[op], ABSENT, opens=opens) is None


@pytest.mark.parametrize("op", [op for op in OPS if op != "type"])
def test_null_is_unknown(op: str) -> None:
    """Null is no value; only `type` asks about it."""
    assert asked(op, OPERANDS[op], None) is None


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("value", [ABSENT, None])
def test_optional_takes_the_sting_out_of_absence_on_both_sides(op: str, value: Any) -> None:
    """The written exception: an allow is not prevented, a restriction not caused."""
    assert asked(op, OPERANDS[op], value, opens=True, optional=True) is True
    assert asked(op, OPERANDS[op], value, opens=False, optional=True) is False


def test_optional_does_not_excuse_a_wrong_type() -> None:
    """An argument that is there must be what the rule expects."""
    assert asked("le", 5, "x", optional=True) is None
    assert asked("le", 5, 6, optional=True) is False


@pytest.mark.parametrize(
    ("op", "operand"),
    [
        ("eq", [1]), ("eq", {"a": 1}), ("in", "a"), ("in", []), ("in", [[1]]), ("lt", "1"),
        ("le", True), ("glob", 1), ("glob", []), ("glob", ""), ("glob", "a" * 501), ("regex", "^a"),
        ("regex", ["a", 1]), ("within", "/a/../b"), ("within", ""), ("host", "https://a"),
        ("host", "*"), ("has", {}), ("has", []), ("size", 3), ("size", {}), ("size", {"in": [1]}),
        ("size", {"le": 1.5}), ("type", "text"), ("type", 1),
    ],
)  # fmt: skip
def test_an_operand_that_fits_nothing_is_refused(op: str, operand: Any) -> None:
    """A condition that could only ever be unknown is a mistake, found when it is read."""
    with pytest.raises(OperandError):
        check_test(Test(op, operand))


def each(op: str, operand: Any, items: Any, *, opens: bool, optional: bool = False) -> Any:
    condition = Condition("args.to.*", (Test(op, operand),), optional)
    return compiled((condition,), opens=opens)(request(args={"to": items}))


@pytest.mark.parametrize(
    ("items", "opened", "fired"),
    [
        (["a@b.c", "d@b.c"], True, True), (["a@b.c", "x@evil.d"], False, True),
        (["x@evil.d"], False, False), (["a@b.c", 1], None, True), (["x@evil.d", 1], False, None),
        ([], None, False), ("a@b.c", None, None), (None, None, None),
        ({"*": "a@b.c", "evil": "x@evil.d"}, None, None),
    ],
)  # fmt: skip
def test_a_star_means_every_element_to_an_allow_and_any_to_a_restriction(
    items: Any, opened: bool | None, fired: bool | None
) -> None:
    """One bad recipient among good ones must not pass, and must not go unseen."""
    assert each("glob", "*@b.c", items, opens=True) is opened
    assert each("glob", "*@b.c", items, opens=False) is fired


def test_an_empty_list_satisfies_an_optional_allow_only() -> None:
    """A list of nothing neither opens nor narrows, unless the rule says that it may be missing."""
    assert each("glob", "*", [], opens=True, optional=True) is True
    assert each("glob", "*", [], opens=False, optional=True) is False


def test_paths_lead_through_objects_and_lists() -> None:
    """`argv.0` is how commands are ruled, never the beginning of a text."""
    asked = request(args={"argv": ["git", "status"], "a": {"b": [{"c": 1}, {}]}, "*": 1})

    def at(name: str) -> Any:
        found = fact(name)
        assert found is not None
        return found.read(asked)

    assert at("args.argv.0") == "git"
    assert repr(at("args.argv.2")) == repr(at("args.argv.-1")) == "not known"
    assert repr(at("args.a.b.0.d")) == repr(at("args.nothing.at.all")) == "not known"
    assert repr(at("args.*")) == "not known"
    assert at("args.a.b.0.c") == 1
    assert [repr(item) for item in at("args.a.b.*.c")] == ["1", "not known"]


def test_two_conditions_are_both_needed() -> None:
    """A conjunction is false as soon as one part is, unknown or not the rest."""
    part = Condition("args.x", (Test("gt", 0), Test("le", 5)))
    other = Condition("args.y", (Test("eq", "z"),))

    def answer(**args: Any) -> Any:
        return compiled((part, other), opens=True)(request(args=args))

    assert answer(x=3, y="z") is True
    assert answer(x=3) is None
    assert answer(x=9) is False
    assert answer(y="no") is False
    assert answer(x="3", y="z") is None


FULL = Request(
    tool="mail.send", args={"to": "a"}, agent="support", user="u", tenant="t",
    about=ToolFacts(effect="read", server="s", labels=frozenset({"private"}), outbound=True),
    labels={"team": "desk"}, provider="p", model="m", est_tokens=5, est_cost_usd=Decimal("0.1"),
    max_output_tokens=7, attempt=1, deferred=2, signal="go", sleep_s=3.0, outcome="failed",
    result={"a": 1}, input={"b": 2},
    left={"tool_calls": 1, "llm_tokens": 2, "wall_s": Decimal(3), "cost_usd": Decimal("4.5")},
    history=History(seen={"untrusted"}, counts={"mail.send": 3, "mail.read": 2, "web.get": 1},
                    last="web.get", last_outcome="succeeded"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("agent", "support"),
        ("user", "u"),
        ("tenant", "t"),
        ("label.team", "desk"),
        ("tool.read_only", True),
        ("tool.effect", "read"),
        ("tool.server", "s"),
        ("tool.labels", {"private"}),
        ("tool.outbound", True),
        ("provider", "p"),
        ("model", "m"),
        ("route", "p:m"),
        ("est_tokens", 5),
        ("est_cost_usd", Decimal("0.1")),
        ("max_output_tokens", 7),
        ("attempt", 1),
        ("deferred", 2),
        ("signal", "go"),
        ("sleep_s", 3.0),
        ("budget.left.tool_calls", 1),
        ("budget.left.llm_tokens", 2),
        ("budget.left.wall_s", 3),
        ("budget.left.cost_usd", Decimal("4.5")),
        ("seen.label", {"untrusted"}),
        ("count", 3),
        ("count.mail.*", 5),
        ("count.web.get", 1),
        ("count.none", 0),
        ("last.action", "web.get"),
        ("last.outcome", "succeeded"),
        ("outcome", "failed"),
        ("result", {"a": 1}),
        ("result.a", 1),
        ("input", {"b": 2}),
        ("input.b", 2),
        ("args.to", "a"),
    ],
)
def test_a_fact_is_read_where_it_is_known(name: str, value: Any) -> None:
    """Each name says one thing."""
    found = fact(name)

    assert found is not None
    assert found.read(FULL) == value


@pytest.mark.parametrize("name", [*FACTS, "label.x", "count.x", "args.x", "result.x", "input.x"])
def test_a_fact_nobody_gave_is_unknown(name: str) -> None:
    """What the caller does not pass in must not look like a value."""
    found = fact(name)

    assert found is not None
    value = found.read(Request())
    assert repr(value) == "not known" or name in ("attempt", "deferred")


@pytest.mark.parametrize(
    "name", ["", "args", "args.", "args..x", "nope", "label", "count.", "tool"]
)
def test_a_name_that_is_no_fact_is_none(name: str) -> None:
    """The list of facts is closed."""
    assert fact(name) is None or name == "count"


def test_every_family_is_listed_for_error_messages() -> None:
    """An error lists what could have been written."""
    assert {f"{family}..." for family in FAMILIES if family not in FACTS} <= set(fact_names())


def test_history_is_a_fold() -> None:
    """Counting and labels must come out the same from the same events."""
    history = History()

    history.requested("a")
    history.requested("a")
    history.ended("a", "failed", ["untrusted"])
    history.ended("b", "succeeded", ["private"])
    history.endorsed("untrusted", 1)

    assert history == History(
        seen={"private"}, counts={"a": 2}, last="b", last_outcome="succeeded",
        brought={"untrusted": 0, "private": 0},
    )  # fmt: skip
    assert RunFacts().history is None
