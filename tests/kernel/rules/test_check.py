"""Static checks: what is written but cannot mean anything is found, with its line."""

from typing import Any

import msgspec
import pytest

from gatebook.kernel.rules.check import check, types_at
from gatebook.kernel.rules.reading import load
from gatebook.kernel.tools import ToolSpec
from tests.kernel.rules.kit import policy, rule, text

ALLOW = rule("open", "allow", tool='"*"')


def tool(name: str, **properties: Any) -> ToolSpec:
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return ToolSpec(name=name, description="", schema=msgspec.Raw(msgspec.json.encode(schema)))


TOOLS = {
    spec.name: spec
    for spec in (
        tool(
            "fs.read",
            path={"type": "string"},
            limit={"anyOf": [{"type": "integer"}, {"type": "null"}]},
        ),
        tool("fs.list", folder={"type": "string"}),
        tool(
            "pay",
            amount={"anyOf": [{"type": "number"}, {"type": "string"}]},
            to={
                "type": "array",
                "items": {"type": "object", "properties": {"iban": {"type": "string"}}},
            },
        ),
        ToolSpec(name="open.end", description="", schema=msgspec.Raw(b'{"type":"object"}')),
    )
}


def found(*rules: str, tools: Any = None) -> list[tuple[str, int]]:
    return [(error.code, error.fields["line"]) for error in check(policy(*rules), tools)]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (rule("a", "allow", "", 'on = "result"'), "a result passes"),
        ('id = "a"\nthen = "allow"\non = "start"', "a start passes"),
        ('id = "a"\nthen = "allow"\naction = ["sleep", "wait_signal"]', "waits pass"),
        (rule("a", "allow", '"args.x" = { gt = 5, lt = 3 }'), "no value fits"),
        (rule("a", "allow", '"args.x" = { gt = 5, le = 5 }'), "no value fits"),
        (rule("a", "allow", '"args.x" = { eq = "a", in = ["b"] }'), "no value fits"),
        (rule("a", "deny", '"args.x" = { in = ["a", "b"], glob = "c*" }'), "no value fits"),
        (rule("a", "allow", '"args.x" = { eq = 3, lt = 3 }'), "no value fits"),
    ],
)
def test_a_rule_that_can_never_decide_is_found(lines: str, says: str) -> None:
    """A rule that looks like protection and is none is worse than no rule."""
    (error,) = check(policy(lines))

    assert error.code == "E_POLICY_UNREACHABLE"
    assert says in str(error)


@pytest.mark.parametrize(
    "where",
    ['"args.x" = { ge = 5, le = 5 }', '"args.x" = { eq = 5, in = [5, 6] }',
     '"args.x" = { eq = "5", regex = "[0-9]" }', '"args.x" = { type = "null", optional = true }'],
)  # fmt: skip
def test_a_rule_that_can_decide_is_left_alone(where: str) -> None:
    """A check that cries wolf is switched off."""
    assert found(rule("a", "allow", where)) == []


@pytest.mark.parametrize(
    ("wide", "narrow", "hit"),
    [
        (rule("d", "deny", tool='"a.*"'), rule("x", "allow", tool='"a.b"'), True),
        (rule("d", "deny", tool='"a.*"'), rule("x", "ask", tool='["a.b", "a.c.*"]'), True),
        (rule("d", "deny", tool='"a.*"'), rule("x", "deny", tool='"a.b"'), True),
        (rule("d", "deny", tool='"a.*"'), rule("x", "allow", tool='["a.b", "b"]'), False),
        (
            rule("d", "deny", '"args.x" = { eq = 1 }', tool='"a.*"'),
            rule("x", "allow", tool='"a.b"'),
            False,
        ),
        (
            rule("d", "deny", "", 'agent = "y"', tool='"a.*"'),
            rule("x", "allow", tool='"a.b"'),
            False,
        ),
        (
            rule("d", "deny", "", 'agent = "y*"', tool='"a.*"'),
            rule("x", "allow", "", 'agent = "y1"', tool='"a.b"'),
            True,
        ),
        (
            rule("d", "deny", tool='"a.*"'),
            rule("x", "deny", "", "hide = true", tool='"a.b"'),
            False,
        ),
        (
            rule("d", "deny", "", 'on = "result"', tool='"a.*"'),
            rule("x", "allow", tool='"a.b"'),
            False,
        ),
    ],
)
def test_a_rule_behind_a_wider_deny_is_found(wide: str, narrow: str, hit: bool) -> None:
    """Whoever wrote it believes that it does something."""
    for rules in ((wide, narrow), (narrow, wide)):
        errors = [e for e in check(policy(*rules, ALLOW)) if e.fields["value"] == "x"]

        assert bool(errors) is hit
        assert not hit or "rule d at policy.toml:" in str(errors[0])


def test_of_two_equal_denies_one_is_found() -> None:
    """Both are the wider one; removing both would open the door."""
    errors = check(policy(rule("a", "deny"), rule("b", "deny"), ALLOW))

    assert [error.fields["value"] for error in errors] == ["b"]


def test_a_restriction_on_what_nothing_allows_is_found() -> None:
    """Its calls are denied before it is looked at; its author expects to be asked."""
    errors = check(policy(rule("a", "ask", tool='"mail.*"'), rule("open", "allow", tool='"fs.*"')))

    assert [(e.code, e.fields["value"]) for e in errors] == [("E_POLICY_UNREACHABLE", "a")]
    assert found(rule("a", "deny", tool='"mail.*"')) == []
    assert found(rule("a", "ask", tool='"m*"'), rule("open", "allow", tool='"*l.send"')) == []


def test_a_tool_that_is_not_declared_is_found() -> None:
    """A typo in a tool's name opens nothing and protects nothing."""
    (error,) = check(policy(rule("a", "allow", tool='["fs.read", "fs.raed"]')), TOOLS)

    assert str(error) == (
        "policy.toml:3: there is no tool 'fs.raed' (did you mean: fs.read); "
        "correct the name, or declare the tool [E_POLICY_TOOL]"
    )


@pytest.mark.parametrize(
    ("tools", "there"),
    [
        (TOOLS, "(there are: fs.list, fs.read, open.end, pay)"),
        ({f"t{n}": TOOLS["pay"] for n in range(7)}, "(there are: t0, t1, t2, t3, t4 and 2 more)"),
        ({}, "(there are none)"),
    ],
)
def test_where_no_tool_is_close_the_message_says_which_there_are(tools: Any, there: str) -> None:
    """The file may be meant for another app."""
    (error,) = check(policy(rule("a", "allow", tool='"weather"')), tools)

    assert f"there is no tool 'weather' {there}; correct the name" in str(error)


def test_a_pattern_without_tools_is_a_warning() -> None:
    """A deny for tools that may come is wise; the same as an allow is at least worth a look."""
    assert found(rule("a", "deny", tool='"admin.*"'), tools=TOOLS) == [("W_POLICY_TOOL", 3)]


def test_labels_are_checked_like_rules() -> None:
    """A label on a tool that does not exist never sticks."""
    document = load("version = 1\n[[label]]\ntool = 'wbe'\nadd = 'untrusted'")

    assert [e.code for e in check(document, TOOLS)] == ["E_POLICY_TOOL"]


def test_a_counted_tool_must_exist() -> None:
    """A count of nothing is always zero."""
    lines = rule("a", "allow", '"count.fs.raed" = { lt = 3 }', tool='"fs.read"')

    assert found(lines, tools=TOOLS) == [("E_POLICY_TOOL", 7)]


@pytest.mark.parametrize(
    ("tools", "where", "code"),
    [
        ('"fs.read"', '"args.path" = { within = "/srv" }', None),
        ('"fs.read"', '"args.pth" = { within = "/srv" }', "E_POLICY_PATH"),
        ('"fs.read"', '"args.pth" = { within = "/srv", optional = true }', "E_POLICY_PATH"),
        ('"fs.*"', '"args.path" = { within = "/srv" }', "E_POLICY_PATH"),
        ('"fs.*"', '"args.path" = { within = "/srv", optional = true }', None),
        ('"pay"', '"args.to.*.iban" = { glob = "DE*" }', None),
        ('"pay"', '"args.to.0.ibn" = { glob = "DE*" }', "E_POLICY_PATH"),
        ('"pay"', '"args.amount" = { le = 5 }', None),
        ('"fs.read"', '"args.path" = { le = 5 }', "E_POLICY_PATH"),
        ('"fs.read"', '"args.path" = { eq = 5 }', "E_POLICY_PATH"),
        ('"fs.read"', '"args.limit" = { le = 5 }', None),
        ('"fs.read"', '"args.limit" = { glob = "5" }', "E_POLICY_PATH"),
        ('"open.end"', '"args.whatever" = { eq = 5 }', None),
        ('"fs.read"', '"budget.left.tool_calls" = { glob = "x" }', "E_POLICY_PATH"),
        ('"fs.read"', "user = { lt = 5 }", "E_POLICY_PATH"),
        ('"fs.read"', '"seen.label" = { eq = "x" }', "E_POLICY_PATH"),
    ],
)
def test_argument_paths_and_types_are_checked(tools: str, where: str, code: str | None) -> None:
    """A condition on an argument that does not exist is always unknown."""
    errors = found(rule("a", "allow", where, tool=tools), tools=TOOLS)

    assert errors == ([] if code is None else [(code, 7)])


def test_a_path_error_says_what_there_is() -> None:
    """The next thing a reader wants to know."""
    (error,) = check(
        policy(rule("a", "allow", '"args.pth" = { eq = "x" }', tool='"fs.read"')), TOOLS
    )

    assert str(error) == (
        "policy.toml:7: 'args.pth' does not fit the tools: no tool it is about (fs.read) has such "
        "an argument; write one of: args.path [E_POLICY_PATH]"
    )


@pytest.mark.parametrize("more", ['set = { "args.pth" = 1 }', 'drop = "args.pth"'])
def test_changes_and_messages_are_checked_too(more: str) -> None:
    """A change of nothing protects nothing; a message with a hole helps nobody."""
    lines = rule("a", "modify", "", more, 'message = "{args.pht}"', tool='"fs.read"')

    assert found(ALLOW, lines, tools=TOOLS) == [("E_POLICY_PATH", 8), ("E_POLICY_PATH", 8)]


def test_errors_come_by_file_and_line() -> None:
    """Read from top to bottom."""
    lines = text(
        rule("a", "allow", '"args.x" = { gt = 5, lt = 3 }'), rule("b", "ask", tool='"zzz"')
    )

    errors = check(load(lines, "p.toml"))

    assert [error.fields["path"] for error in errors] == ["p.toml:7", "p.toml:9"]


@pytest.mark.parametrize(
    ("schema", "path", "types"),
    [
        (
            {"type": "object", "properties": {"a": {"enum": ["x", 1]}}},
            "args.a",
            {"string", "integer", "number"},
        ),
        ({"type": "object", "properties": {"a": {"const": None}}}, "args.a", {"null"}),
        ({"type": "object", "properties": {"a": {}}}, "args.a.b", None),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "args.z", {"string"}),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "args.*", set()),
        (
            {
                "$defs": {
                    "P": {"type": "object", "properties": {"b": {"type": ["string", "null"]}}}
                },
                "properties": {"a": {"$ref": "#/$defs/P"}},
            },
            "args.a.b",
            {"string", "null"},
        ),
        (
            {"$defs": {"P": {"$ref": "#/$defs/P"}}, "properties": {"a": {"$ref": "#/$defs/P"}}},
            "args.a",
            set(),
        ),
        (True, "args.a", set()),
    ],
)
def test_types_are_found_in_schemas(schema: Any, path: str, types: set[str] | None) -> None:
    """References, unions, constants and open objects are all in use."""
    assert types_at(schema, path) == types
