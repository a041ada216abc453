"""Reading a policy: what stands in it, and errors that name their lines."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatebook.errors import ConfigError
from gatebook.kernel.rules.document import Change, Limited, Retries, merge
from gatebook.kernel.rules.reading import load, read
from tests.kernel.rules.kit import policy, problems, rule, text

WHOLE = """
version = 1
name = "desk"
default = "deny"
mode = "shadow"

[budgets]
tool_calls = 60
llm_tokens = 400_000
cost_usd = "1.50"
wall_clock = "1h30m"

[retry]
max = 2
base = "1s"
cap = "10s"
jitter = 0.5

[[label]]
tool = "web.*"
add = "untrusted"
where = { outcome = { eq = "succeeded" } }

[[rule]]
id = "ask"
then = "ask"
tool = ["a", "b.*"]
agent = "desk-*"
where = { "args.x" = { gt = 0.5, optional = true } }
message = "{tool} with {args.x}?"
approvers = "team:x"
choices = ["approve", "edit"]
expires = "8h"
on_expiry = "interrupt"

[[rule]]
id = "later"
then = "defer"
action = ["call_tool", "call_llm"]
after = "10m"
signal = "go"

[[rule]]
id = "cut"
then = "modify"
on = "result"
tool = "crm.*"
redact = { "result.email" = "all", "result" = "secrets" }
drop = ["result.phone"]
set = { "result.price" = 1.5 }
"""


def test_everything_in_a_file_arrives() -> None:
    """A key that is read but forgotten would be a rule that does nothing."""
    found = load(WHOLE)

    ask, later, cut = found.rules
    assert (found.name, found.mode) == ("desk", "shadow")
    assert found.budgets == Limited(
        tool_calls=60, llm_tokens=400_000, cost_usd=Decimal("1.50"), wall_ms=5_400_000
    )
    assert found.retry == Retries(max=2, base_ms=1_000, cap_ms=10_000, jitter=Decimal("0.5"))
    assert found.labels[0].add == ("untrusted",)
    assert found.labels[0].select.on == "result"
    assert (ask.select.tools, ask.select.agents) == (("a", "b.*"), ("desk-*",))
    assert (ask.approvers, ask.choices) == (("team:x",), ("approve", "edit"))
    assert (ask.expires_ms, ask.on_expiry, ask.line) == (28_800_000, "interrupt", 24)
    assert ask.where[0].optional
    assert (later.after_ms, later.signal) == (600_000, "go")
    assert later.select.kinds == ("call_tool", "call_llm")
    assert cut.changes == (
        Change("redact", "result", "secrets"),
        Change("redact", "result.email", "all"),
        Change("drop", "result.phone"),
        Change("set", "result.price", 1.5),
    )


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("version = 1\n\n\nrule = \n", ("E_POLICY_SYNTAX", 4)),
        ("version = 1\na = 1\na = 2", ("E_POLICY_SYNTAX", 3)),
        ('version = 1\n[x', ("E_POLICY_SYNTAX", 2)),
        ("name = 'x'", ("E_POLICY_VALUE", 1)),
        ("# one\nversion = 2", ("E_POLICY_VALUE", 2)),
        ("version = true", ("E_POLICY_VALUE", 1)),
        ("version = 1\nmdoe = 'shadow'", ("E_POLICY_KEY", 2)),
        ("version = 1\ndefault = 'allow'", ("E_POLICY_VALUE", 2)),
        ("version = 1\nmode = 'audit'", ("E_POLICY_VALUE", 2)),
        ("version = 1\nrule = 3", ("E_POLICY_VALUE", 2)),
        ("version = 1\n[rule]\nid = 'a'", ("E_POLICY_VALUE", 2)),
        ("version = 1\n[budgets]\n\ntokens = 3", ("E_POLICY_KEY", 4)),
        ("version = 1\n[budgets]\nfan_out = -1", ("E_POLICY_VALUE", 3)),
        ("version = 1\n[budgets]\nday = 5", ("E_POLICY_VALUE", 3)),
        ("version = 1\n[budgets.day]\nwall_clock = '2h'", ("E_POLICY_KEY", 3)),
        ("version = 1\n[budgets.week]\ntool_calls = 1", ("E_POLICY_KEY", 2)),
        ("version = 1\n[budgets.tenant]\ncost_usd = 1.5", ("E_POLICY_VALUE", 3)),
        ("version = 1\n[budgets]\ntool_calls = -1", ("E_POLICY_VALUE", 3)),
        ("version = 1\n[budgets]\ncost_usd = 1.5", ("E_POLICY_VALUE", 3)),
        ("version = 1\n[budgets]\nwall_clock = '2 hours'", ("E_POLICY_VALUE", 3)),
        ("version = 1\n[budgets]\nwall_clock = '0s'", ("E_POLICY_VALUE", 3)),
        ("version = 1\n[budgets]\nwall_clock = '1h!'", ("E_POLICY_VALUE", 3)),
        ("version = 1\n[budgets]\nwall_clock = '99999999d'", ("E_POLICY_VALUE", 3)),
        ("version = 1\n[retry]\njitter = 2", ("E_POLICY_VALUE", 3)),
        ("version = 1\n[retry]\nmax = 100", ("E_POLICY_VALUE", 3)),
        ("version = 1\n[[label]]\ntool = 'x'", ("E_POLICY_VALUE", 2)),
        ("version = 1\n[[label]]\nadd = 'x'", ("E_POLICY_VALUE", 2)),
        ("version = 1\n[[test]]\nexpect = 'deny'", ("E_POLICY_VALUE", 2)),
        ("version = 1\n[[test]]\ncall = { tool = 'x' }\nexpect = 'ok'", ("E_POLICY_VALUE", 4)),
        ("version = 1\n[[test]]\ncall = { tol = 'x' }\nexpect = 'deny'", ("E_POLICY_KEY", 3)),
    ],
)  # fmt: skip
def test_an_error_names_its_line(given: str, found: tuple[str, int]) -> None:
    """A policy is corrected by whoever reads the message, not by who knows the parser."""
    assert found in problems(given)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (rule("a", "alow"), ("E_POLICY_VALUE", 5)),
        (rule("a b", "deny"), ("E_POLICY_VALUE", 4)),
        (rule("gatebook.x", "deny"), ("E_POLICY_VALUE", 4)),
        ('then = "deny"\ntool = "x"', ("E_POLICY_VALUE", 3)),
        ('id = "a"\ntool = "x"', ("E_POLICY_VALUE", 3)),
        ('id = "a"\nthen = "deny"', ("E_POLICY_VALUE", 3)),
        (rule("a", "deny", tool="[]"), ("E_POLICY_VALUE", 6)),
        (rule("a", "deny", tool="3"), ("E_POLICY_VALUE", 6)),
        (rule("a", "deny", "", 'action = "call_llm"'), ("E_POLICY_VALUE", 7)),
        (rule("a", "deny", "", 'action = "call"'), ("E_POLICY_VALUE", 7)),
        (rule("a", "deny", "", 'on = "start"'), ("E_POLICY_VALUE", 6)),
        (rule("a", "deny", "", 'on = "end"'), ("E_POLICY_VALUE", 7)),
        (rule("a", "allow", "", "hide = true"), ("E_POLICY_KEY", 7)),
        (rule("a", "deny", "", 'approvers = "x"'), ("E_POLICY_KEY", 7)),
        (rule("a", "deny", '"args.x" = { eq = 1 }', "hide = true"), ("E_POLICY_VALUE", 7)),
        (rule("a", "ask", "", 'choices = ["allow"]'), ("E_POLICY_VALUE", 7)),
        (rule("a", "ask", "", 'on_expiry = "allow"'), ("E_POLICY_VALUE", 7)),
        (rule("a", "defer"), ("E_POLICY_VALUE", 5)),
        (rule("a", "modify"), ("E_POLICY_VALUE", 5)),
        (rule("a", "modify", "", 'redact = { "args.x" = "names" }'), ("E_POLICY_VALUE", 7)),
        (rule("a", "modify", "", 'redact = { "result.x" = "all" }'), ("E_POLICY_VALUE", 7)),
        (rule("a", "modify", "", 'set = { "args.x" = 2026-01-01 }'), ("E_POLICY_VALUE", 7)),
        (rule("a", "modify", "", 'set = { "args.x" = nan }'), ("E_POLICY_VALUE", 7)),
        (rule("a", "modify", "", 'drop = "args"'), ("E_POLICY_VALUE", 7)),
        (rule("a", "deny", "nope = { eq = 1 }"), ("E_POLICY_FACT", 7)),
        (rule("a", "deny", "args.x = { eq = 1 }"), ("E_POLICY_FACT", 7)),
        (rule("a", "deny", "model = { eq = 'm' }"), ("E_POLICY_FACT", 7)),
        (rule("a", "deny", '"result.x" = { eq = 1 }'), ("E_POLICY_FACT", 7)),
        (
            'id = "a"\nthen = "deny"\naction = ["call_tool", "call_llm"]\n'
            "where = { model = { eq = 'm' } }",
            ("E_POLICY_FACT", 7),
        ),
        (rule("a", "deny", '"args.x" = { equals = 1 }'), ("E_POLICY_KEY", 7)),
        (rule("a", "deny", '"args.x" = {}'), ("E_POLICY_VALUE", 7)),
        (rule("a", "deny", '"args.x" = 1'), ("E_POLICY_VALUE", 7)),
        (rule("a", "deny", '"args.x" = { regex = "(a" }'), ("E_POLICY_VALUE", 7)),
        (rule("a", "deny", '"args.x" = { eq = 1, optional = 1 }'), ("E_POLICY_VALUE", 7)),
        (rule("a", "deny", "", 'message = "{args.x} {nope}"'), ("E_POLICY_FACT", 7)),
        (rule("a", "deny", "", "message = 1"), ("E_POLICY_VALUE", 7)),
    ],
)
def test_an_error_in_a_rule_names_its_line(lines: str, found: tuple[str, int]) -> None:
    """The same for every key a rule has."""
    assert found in problems(text(lines))


def test_a_rule_id_stands_once() -> None:
    """Decisions name their rule; two of one name cannot be told apart."""
    with pytest.raises(ConfigError) as caught:
        policy(rule("a", "deny"), rule("a", "allow"))

    assert str(caught.value) == (
        "policy.toml:8: a rule 'a' stands at policy.toml:3 already; "
        "give each rule an id of its own [E_POLICY_DUPLICATE]"
    )


def test_all_errors_are_told_at_once_by_line() -> None:
    """Whoever corrects a file wants to correct it once."""
    _, errors = read("version = 1\nx = 1\n[budgets]\ny = 1\n[[rule]]\nz = 1\n")

    assert [error.fields["line"] for error in errors] == [2, 4, 5, 5, 5, 6]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "version = 1\n\ndenny = 1",
            "policy.toml:3: unknown key 'denny' in 'a policy'; known here: "
            "budgets, default, label, mode, name, pins, retry, rule, test, version [E_POLICY_KEY]",
        ),
        (
            text(rule("a", "ask", "", 'expires = "1 h"')),
            "policy.toml:7: 'expires' is '1 h'; give a "
            'duration such as "500ms", "30s", "10m", "8h" or "1h30m" [E_POLICY_VALUE]',
        ),
        (
            text(rule("a", "deny", '"args.x" = { regex = "(a" }')),
            "policy.toml:7: 'regex' is '(a'; "
            "give another pattern: a group is not closed [E_POLICY_VALUE]",
        ),
    ],
)
def test_a_message_says_what_where_and_what_to_do(given: str, message: str) -> None:
    """The words are the interface."""
    with pytest.raises(ConfigError) as caught:
        load(given)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    "given",
    ["x = " + "[" * 5_000 + "]" * 5_000, "version = " + "9" * 5_000, "x = 1e999999999999999999",
     "#" * (1024 * 1024 + 1), "\x00", 'x = "\\ud800"'],
)  # fmt: skip
def test_hostile_files_are_refused(given: str) -> None:
    """A policy is data: whatever stands in it, reading it ends in a policy or an error."""
    _, errors = read(given)

    assert errors


@given(st.text("[]{}\"'=.,#\n\\ abrule1", max_size=60))
def test_any_text_is_read_or_refused(given: str) -> None:
    """No text crashes the reader."""
    _, errors = read(given)

    assert errors


def test_money_and_fractions_are_exact() -> None:
    """A limit of 0.1 is not 0.1000000000000000055."""
    found = policy(rule("a", "allow", '"args.x" = { le = 0.1 }'))

    assert found.rules[0].where[0].tests[0].operand == Decimal("0.1")


def test_several_files_are_one_policy() -> None:
    """Union of rules, smallest limits, and enforcing wins."""
    one = load(
        "version = 1\nname = 'a'\nmode = 'shadow'\n[budgets]\ntool_calls = 5\n"
        + "[[rule]]\n"
        + rule("x", "deny"),
        "a.toml",
    )
    two = load(
        "version = 1\nname = 'b'\n[budgets]\ntool_calls = 9\nllm_tokens = 3\n"
        + "[[rule]]\n"
        + rule("y", "allow"),
        "b.toml",
    )

    both = merge([two, one])

    assert (both.name, both.mode) == ("a+b", "enforce")
    assert {r.id for r in both.rules} == {"x", "y"}
    assert both.budgets == Limited(tool_calls=5, llm_tokens=3)
    assert both.digest == merge([one, two]).digest
    assert merge([one, load("version = 1\nmode = 'shadow'", "c.toml")]).mode == "shadow"
    assert merge([]).rules == ()


def test_the_ledgers_of_several_files_have_the_smallest_limits() -> None:
    """A second file must not open what the first has closed."""
    one = load("version = 1\nname = 'a'\n[budgets.day]\ntool_calls = 5", "a.toml")
    two = load("version = 1\nname = 'b'\n[budgets.day]\ntool_calls = 9\ncost_usd = '2'", "b.toml")
    three = load("version = 1\nname = 'c'\n[budgets.tenant]\nllm_tokens = 7", "c.toml")

    both = merge([two, one, three])

    assert both.ledgers == {
        "day": Limited(tool_calls=5, cost_usd=Decimal(2)),
        "tenant": Limited(llm_tokens=7),
    }
    assert both.digest != merge([one, three]).digest


def test_files_that_disagree_are_refused() -> None:
    """Two rules of one name, or two ideas of retries, have no union."""
    one = load(
        "version = 1\nname = 'a'\n[retry]\nmax = 1\n[[rule]]\n" + rule("x", "deny"), "a.toml"
    )
    two = load("version = 1\nname = 'b'\n[[rule]]\n" + rule("x", "deny"), "b.toml")
    three = load("version = 1\nname = 'c'\n[retry]\nmax = 2", "c.toml")

    with pytest.raises(ConfigError, match=r"b.toml:3: a rule 'x' stands at a.toml:5"):
        merge([one, two])
    with pytest.raises(ConfigError, match="E_POLICY_RETRY_TWICE"):
        merge([one, three])


def test_the_digest_follows_what_is_decided_and_nothing_else() -> None:
    """A comment or a test must not change which policy decided; an operand must."""
    rules = [rule("a", "deny", '"args.x" = { le = 1 }, "args.y" = { eq = 2 }'), rule("b", "allow")]
    swapped = rule("a", "deny", '"args.y" = { eq = 2 }, "args.x" = { le = 1 }')
    tested = '\n[[test]]\ncall = { tool = "t" }\nexpect = "deny"'

    base = policy(*rules).digest

    assert policy(*rules[::-1]).digest == base
    assert policy(swapped, rules[1]).digest == base
    assert load("# x\n" + text(*rules) + tested, "other.toml").digest == base
    assert policy(rules[0].replace("le = 1", "le = 1.5"), rules[1]).digest != base
    assert policy(*rules, top='mode = "shadow"').digest != base
