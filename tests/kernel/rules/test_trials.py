"""Tests that live in a policy file, with the file that a support desk would write."""

import pytest

from gatebook.kernel.rules.check import check
from gatebook.kernel.rules.reading import load
from gatebook.kernel.rules.trials import CALL_KEYS, run_tests

DESK = """
version = 1
name = "desk"
default = "deny"
mode = "enforce"

[budgets]
tool_calls = 60
llm_tokens = 400_000
cost_usd = "1.50"
wall_clock = "2h"

[[label]]
tool = ["web.*", "mail.read"]
add = "untrusted"

[[rule]]
id = "read-local"
then = "allow"
tool = ["fs.read", "fs.list", "kb.*"]
where = { "args.path" = { within = "/srv/tickets", optional = true } }

[[rule]]
id = "models"
then = "allow"
action = "call_llm"
where = { model = { in = ["small", "large"] }, est_tokens = { le = 60_000 } }

[[rule]]
id = "refunds"
then = "allow"
tool = "billing.refund"
agent = "support-*"
where = { "args.amount" = { gt = 0, le = 500 }, "args.currency" = { in = ["EUR", "USD"] } }

[[rule]]
id = "refund-big"
then = "ask"
tool = "billing.refund"
where = { "args.amount" = { gt = 50 } }
approvers = ["team:finance"]
choices = ["approve", "edit", "deny"]
expires = "8h"
on_expiry = "deny"
message = "Refund {args.amount} {args.currency} to order {args.order}?"

[[rule]]
id = "after-web-ask"
then = "ask"
tool = "*"
where = { "tool.read_only" = { ne = true }, "seen.label" = { has = "untrusted" } }

[[rule]]
id = "no-admin"
then = "deny"
tool = "admin.*"
hide = true

[[rule]]
id = "no-secrets-out"
then = "modify"
tool = ["http.*", "mail.*"]
redact = { "args.body" = "secrets" }

[[rule]]
id = "mail-out"
then = "allow"
tool = "mail.send"
where = { "args.to" = { glob = "*@example.com" } }
"""

TESTS = [
    (
        'tool = "billing.refund", agent = "support-1", args = { amount = 20, currency = "EUR" }',
        "allow",
    ),
    (
        'tool = "billing.refund", agent = "support-1", args = { amount = 120, currency = "EUR" }',
        "ask",
    ),
    (
        'tool = "billing.refund", agent = "support-1", args = { amount = 501, currency = "EUR" }',
        "deny",
    ),
    ('tool = "billing.refund", agent = "support-1", args = { currency = "EUR" }', "deny"),
    (
        'tool = "billing.refund", agent = "support-1", args = { amount = "9e9", currency = "EUR" }',
        "deny",
    ),
    ('tool = "billing.refund", agent = "sales", args = { amount = 20, currency = "EUR" }', "deny"),
    ('tool = "fs.read", args = { path = "/srv/tickets/17" }', "allow"),
    ('tool = "fs.read", args = { path = "/srv/tickets/../../etc/shadow" }', "deny"),
    ('tool = "kb.search"', "allow"),
    ('tool = "mail.send", args = { to = "a@example.com", body = "hi" }', "allow"),
    ('tool = "mail.send", args = { to = "a@evil.com", body = "hi" }', "deny"),
    ('tool = "mail.send", args = { to = "a@example.com", body = "hi" }, seen = "untrusted"', "ask"),
    (
        'tool = "mail.send", args = { to = "a@example.com", body = "AKIAABCDEFGHIJKLMNOP" }',
        "modify",
    ),
    ('tool = "kb.search", seen = ["untrusted"], effect = "read"', "allow"),
    ('tool = "admin.users"', "deny"),
    ('tool = "shell.run", args = { cmd = "ls" }, seen = ["untrusted"]', "deny"),
    ('provider = "p", model = "small", est_tokens = 60_000', "allow"),
    ('provider = "p", model = "small", est_tokens = 60_001', "deny"),
    ("sleep_s = 60", "allow"),
    ('signal = "go"', "allow"),
    ('on = "start", agent = "support-1", input = { ticket = 17 }', "allow"),
    ('on = "result", tool = "web.get", result = "text"', "allow"),
]


def written(call: str, expect: str, more: str = "") -> str:
    return f'\n[[test]]\ncall = {{ {call} }}\nexpect = "{expect}"\n{more}\n'


@pytest.mark.parametrize(("call", "expect"), TESTS)
def test_the_desk_decides_as_it_says(call: str, expect: str) -> None:
    """The language must carry what a real desk needs."""
    (found,) = run_tests(load(DESK + written(call, expect)))

    assert found.passed, found
    assert found.got == expect


def test_the_desk_has_nothing_to_complain_about() -> None:
    """A sound policy is not nagged."""
    assert check(load(DESK)) == []


def test_a_failed_test_says_what_was_got_and_where() -> None:
    """The result is what a person reads to find the mistake."""
    call = 'tool = "fs.read", args = { path = "/etc/shadow" }'
    document = load(DESK + written(call, "allow", 'name = "shadow file"'))

    (found,) = run_tests(document)

    assert not found.passed
    assert (found.name, found.expect, found.got) == ("shadow file", "allow", "deny")
    assert found.place == f"policy.toml:{document.trials[0].line}"
    assert found.reason == "no rule allows it"


@pytest.mark.parametrize(("rule", "passed"), [("no-admin", True), ("refunds", False)])
def test_a_test_may_name_the_rule_that_must_decide(rule: str, passed: bool) -> None:
    """Denied is not enough when it must be denied for the right reason."""
    (found,) = run_tests(load(DESK + written('tool = "admin.x"', "deny", f'rule = "{rule}"')))

    assert found.passed is passed


def test_a_shadow_policy_is_tested_as_if_it_enforced() -> None:
    """A policy is tested before it is switched on."""
    shadow = DESK.replace('mode = "enforce"', 'mode = "shadow"')

    (found,) = run_tests(load(shadow + written('tool = "admin.x"', "deny")))

    assert found.passed


EVERYTHING = """
on = "result", tool = "t", args = { x = 1.5, when = "now" }, agent = "a", user = "u",
tenant = "n", labels = { team = "x" }, provider = "p", est_tokens = 1, est_cost_usd = "0.10",
max_output_tokens = 2, left = { tool_calls = 3, wall_s = 1.5 }, seen = ["s"],
count = { "b.c" = 4 }, last = { action = "b.c", outcome = "failed" }, attempt = 1, deferred = 2,
result = [1], outcome = "failed", input = 1, effect = "read", server = "", tool_labels = [],
outbound = false
""".replace("\n", " ")


def test_a_test_can_say_every_fact() -> None:
    """A rule about a fact that no test can give could not be tested."""
    (trial,) = load("version = 1" + written(EVERYTHING, "deny")).trials

    asked = trial.request
    others = {"model", "signal", "sleep_s"}  # one kind of action excludes the other
    assert set(CALL_KEYS) == {part.split()[0] for part in TOP_LEVEL} | others
    assert (asked.on, asked.action, asked.tool, asked.user) == ("result", "call_tool", "t", "u")
    assert asked.about.effect == "read"
    assert asked.about.labels == frozenset()
    assert asked.about.outbound is False
    assert asked.left is not None
    assert asked.left.get("tool_calls", None) == 3
    assert asked.left.get("llm_tokens", None) == float("inf")
    assert asked.history is not None
    assert (asked.history.seen, asked.history.counts) == ({"s"}, {"b.c": 4})
    assert (asked.history.last, asked.history.last_outcome) == ("b.c", "failed")
    assert (asked.result, asked.outcome, asked.deferred) == ([1], "failed", 2)


TOP_LEVEL = [
    "on =",
    "tool =",
    "args =",
    "agent =",
    "user =",
    "tenant =",
    "labels =",
    "provider =",
    "est_tokens =",
    "est_cost_usd =",
    "max_output_tokens =",
    "left =",
    "seen =",
    "count =",
    "last =",
    "attempt =",
    "deferred =",
    "result =",
    "outcome =",
    "input =",
    "effect =",
    "server =",
    "tool_labels =",
    "outbound =",
]


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ('tool = "t", model = "m"', "E_POLICY_VALUE"),
        ("args = {}", "E_POLICY_VALUE"),
        ('tool = "t", left = { usd = 1 }', "E_POLICY_KEY"),
        ('tool = "t", seen = 1', "E_POLICY_VALUE"),
        ('tool = "t", last = { tool = "x" }', "E_POLICY_KEY"),
        ('tool = "t", args = 1', "E_POLICY_VALUE"),
        ('tool = "t", effect = "write"', "E_POLICY_VALUE"),
        ('tool = "t", count = { a = -1 }', "E_POLICY_VALUE"),
        ('tool = "t", on = "end"', "E_POLICY_VALUE"),
        ('tool = "t", est_cost_usd = "1,5"', "E_POLICY_VALUE"),
        ('tool = "t", outcome = "ok"', "E_POLICY_VALUE"),
        ('tool = "t", labels = { a = 1 }', "E_POLICY_VALUE"),
    ],
)
def test_a_call_that_cannot_be_is_an_error(call: str, code: str) -> None:
    """A test with a typo would test something else and pass."""
    with pytest.raises(ValueError, match=code):
        load("version = 1" + written(call, "deny"))
