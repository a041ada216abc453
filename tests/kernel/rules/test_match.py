"""Verdicts: what opens, what narrows, which wins, and what a ruling says beside it."""

from typing import Any

import pytest

from gatebook.errors import GatebookError
from gatebook.kernel.approvals.terms import ApprovalTerms, DeferTerms
from gatebook.kernel.records import STRICTNESS
from gatebook.kernel.redact import Redactor
from gatebook.kernel.rules.document import Document, merge
from gatebook.kernel.rules.facts import Request, ToolFacts
from gatebook.kernel.rules.match import Rulebook, facts_used
from gatebook.kernel.rules.reading import load
from tests.kernel.rules.kit import History, policy, request, rule, ruled, verdict

ALLOW = rule("open", "allow")
EXTRA = {"defer": 'after = "1m"', "modify": 'set = { "args.x" = 1 }'}


def test_an_empty_policy_denies_every_contact() -> None:
    """Nothing runs unless some rule allows it."""
    ruling = ruled(Document(), request())

    assert (ruling.verdict, ruling.code) == ("deny", "E_POLICY_NO_RULE")
    assert ruling.reason == "no rule allows it"
    assert verdict(Document(), Request(action="call_llm", provider="p", model="m")) == "deny"


@pytest.mark.parametrize(
    "asked",
    [Request(action="sleep", sleep_s=1), Request(action="wait_signal", signal="x"),
     Request(on="start", agent="a"), Request(on="result", tool="t")],
)  # fmt: skip
def test_what_reaches_nobody_passes_unless_narrowed(asked: Request) -> None:
    """A sleep, a wait, a start and a result need no allow: nothing goes out by them."""
    assert verdict(Document(), asked) == "allow"


@pytest.mark.parametrize(
    ("asked", "selector"),
    [(Request(action="sleep", sleep_s=1), 'action = "sleep"'),
     (Request(action="wait_signal", signal="x"), 'action = "wait_signal"'),
     (Request(on="start", agent="a"), 'on = "start"'),
     (Request(on="result", tool="t"), 'on = "result"\ntool = "*"')],
)  # fmt: skip
@pytest.mark.parametrize("then", ["deny", "ask", "interrupt", "defer"])
def test_every_verdict_narrows_at_every_point(asked: Request, selector: str, then: str) -> None:
    """Each decision kind is defined wherever something is decided."""
    lines = f'id = "a"\nthen = "{then}"\n{EXTRA.get(then, "")}\n{selector}'

    assert verdict(policy(lines), asked) == then


@pytest.mark.parametrize("then", STRICTNESS)
@pytest.mark.parametrize("other", STRICTNESS)
def test_the_strictest_that_fires_wins(then: Any, other: Any) -> None:
    """Deny, interrupt, ask, defer, modify, allow: in that order, wherever they stand."""
    one = rule("a", then, "", EXTRA.get(then, ""))
    two = rule("b", other, "", EXTRA.get(other, ""))

    found = verdict(policy(one, two, ALLOW), request())

    assert found == max(then, other, key=STRICTNESS.index)


@pytest.mark.parametrize("then", ["ask", "defer", "interrupt", "modify"])
def test_nothing_but_an_allow_opens(then: str) -> None:
    """A wide ask cannot open a closed door."""
    ruling = ruled(policy(rule("a", then, "", EXTRA.get(then, ""))), request())

    assert ruling.verdict == "deny"
    assert ruling.reason == f"rule 'a' ({then}) would narrow it, but no rule allows it"


@pytest.mark.parametrize(
    ("args", "found"),
    [({"n": 5}, "allow"), ({"n": 11}, "deny"), ({}, "deny"), ({"n": "5"}, "deny"),
     ({"n": None}, "deny")],
)  # fmt: skip
def test_an_allow_must_be_surely_true(args: dict[str, Any], found: str) -> None:
    """Unknown never satisfies an allow."""
    document = policy(rule("a", "allow", '"args.n" = { le = 10 }'))

    assert verdict(document, request(args=args)) == found


@pytest.mark.parametrize(
    ("args", "found"),
    [
        ({"n": 5}, "allow"),
        ({"n": 11}, "ask"),
        ({}, "ask"),
        ({"n": "5"}, "ask"),
        ({"n": None}, "ask"),
    ],
)
def test_a_restriction_fires_unless_surely_false(args: dict[str, Any], found: str) -> None:
    """Unknown always fires a restriction."""
    document = policy(ALLOW, rule("a", "ask", '"args.n" = { gt = 10 }'))

    assert verdict(document, request(args=args)) == found


def test_what_was_not_known_is_said() -> None:
    """A person must see that a rule fired because a fact was missing."""
    document = policy(ALLOW, rule("a", "deny", '"args.n" = { gt = 10 }, user = { eq = "x" }'))

    assert ruled(document, request()).reason == "rule 'a' says so (args.n, user not known)"


@pytest.mark.parametrize(
    ("agent", "allowed", "denied"),
    [("support-1", "allow", "deny"), ("sales", "deny", "allow"), (None, "deny", "deny")],
)
def test_a_rule_for_agents_fits_their_names(agent: Any, allowed: str, denied: str) -> None:
    """An agent without a known name is nobody's friend."""
    opens = policy(rule("a", "allow", "", 'agent = "support-*"'))
    narrows = policy(ALLOW, rule("a", "deny", "", 'agent = "support-*"'))

    assert verdict(opens, request(agent=agent)) == allowed
    assert verdict(narrows, request(agent=agent)) == denied


@pytest.mark.parametrize(
    ("tools", "name", "found"),
    [('"*"', "a.b", "allow"), ('"a.*"', "a.b", "allow"), ('"a.*"', "ab", "deny"),
     ('["x", "a.b"]', "a.b", "allow"), ('"A.b"', "a.b", "deny")],
)  # fmt: skip
def test_tools_are_named_by_patterns(tools: str, name: str, found: str) -> None:
    """Names are compared as they are, letter by letter."""
    assert verdict(policy(rule("a", "allow", tool=tools)), request(name)) == found


def test_a_rule_about_tools_says_nothing_of_models() -> None:
    """`*` is any tool, not any action."""
    document = policy(rule("a", "allow", tool='"*"'))

    assert verdict(document, Request(action="call_llm", provider="p", model="m")) == "deny"


def test_a_model_call_is_decided_by_its_facts() -> None:
    """Route, size and price are what a model call has."""
    document = policy(
        'id = "m"\nthen = "allow"\naction = "call_llm"\n'
        'where = { route = { in = ["p:m"] }, est_tokens = { le = 100 } }'
    )

    def found(**facts: Any) -> str:
        return verdict(document, Request(action="call_llm", provider="p", **facts))

    assert found(model="m", est_tokens=100) == "allow"
    assert found(model="m", est_tokens=101) == "deny"
    assert found(model="n", est_tokens=1) == "deny"
    assert found(model="m") == "deny"


def test_what_a_run_has_seen_decides() -> None:
    """Untrusted text in, nothing out without a person."""
    document = policy(ALLOW, rule("a", "ask", '"seen.label" = { has = ["untrusted", "private"] }'))

    def found(history: Any) -> str:
        return verdict(document, request(history=history))

    assert found(History(seen={"untrusted"})) == "allow"
    assert found(History(seen={"untrusted", "private"})) == "ask"
    assert found(None) == "ask"


def test_a_count_limits_how_often() -> None:
    """Three mails a run, the fourth is refused."""
    document = policy(rule("a", "allow", "count = { lt = 3 }"))
    history = History()

    found = []
    for _ in range(4):
        found.append(verdict(document, request(history=history)))
        history.requested("t")

    assert found == ["allow", "allow", "allow", "deny"]


def test_a_soft_limit_asks_before_the_budget_is_gone() -> None:
    """What is left is a fact like any other; no limit is more than any number."""
    document = policy(ALLOW, rule("a", "ask", '"budget.left.tool_calls" = { lt = 5 }'))

    assert verdict(document, request(left={"tool_calls": 9})) == "allow"
    assert verdict(document, request(left={"tool_calls": 4})) == "ask"
    assert verdict(document, request(left={"tool_calls": float("inf")})) == "allow"
    assert verdict(document, request(left={})) == "ask"


def test_every_ask_that_fires_must_be_answered() -> None:
    """Adding a rule never makes it easier: two groups asked are two answers."""
    document = policy(
        ALLOW,
        rule("b", "ask", "", 'approvers = "team:x"', 'message = "Pay {args.n} for {tool}?"'),
        rule("a", "ask", "", 'expires = "1h"', 'on_expiry = "interrupt"', 'choices = "approve"'),
    )

    ruling = ruled(document, request(args={"n": 3}))

    assert ruling.rules == ("a", "b")
    assert ruling.approvals == (
        ApprovalTerms(rule="a", message="t?", approvers=(), choices=("approve",),
                      expires_ms=3_600_000, on_expiry="interrupt"),
        ApprovalTerms(rule="b", message="Pay 3 for t?", approvers=("team:x",),
                      choices=("approve", "deny"), expires_ms=86_400_000, on_expiry="deny"),
    )  # fmt: skip


def test_a_message_shows_no_more_than_it_should() -> None:
    """Arguments are a model's words: cut, on one line, unable to act on a terminal."""
    document = policy(rule("a", "deny", "", 'message = "{args.x}|{args.y}|{args.z}"'))
    args = {"x": "a" * 200, "y": "red\x1b[31m\n\u202e", "z": {"k": [1, None]}}

    shown = ruled(document, request(args=args)).reason.split("|")

    assert shown[0] == "a" * 77 + "..."
    assert shown[1] == r"red\x1b[31m\n\u202e"
    assert shown[2] == '{"k":[1,null]}'
    assert ruled(document, request()).reason == "?|?|?"


def test_a_defer_says_when_to_decide_again() -> None:
    """Waiting is for whoever has a clock; how often it happened is a fact."""
    document = policy(
        ALLOW, rule("a", "defer", "deferred = { lt = 2 }", 'after = "10m"', 'signal = "open"')
    )

    ruling = ruled(document, request())

    assert (ruling.verdict, ruling.defers) == (
        "defer",
        (DeferTerms(rule="a", after_ms=600_000, signal="open"),),
    )
    assert verdict(document, request(deferred=2)) == "allow"


def test_shadow_decides_and_lets_through() -> None:
    """A new policy can be watched before it is trusted."""
    ruling = ruled(policy(rule("a", "deny"), top='mode = "shadow"'), request())

    assert (ruling.verdict, ruling.enforced, ruling.rules) == ("deny", "allow", ("a",))


def test_an_error_while_deciding_is_a_deny() -> None:
    """Whatever is wrong with a value, it must not open a door."""

    class Odd(dict[str, Any]):
        def get(self, *_: Any) -> Any:
            raise RuntimeError("odd")

    document = policy(rule("a", "allow", '"label.x" = { eq = "y" }'))

    ruling = ruled(document, request(labels=Odd()))

    assert (ruling.verdict, ruling.code) == ("deny", "E_POLICY_ERROR")
    assert "RuntimeError" in ruling.reason


def test_hidden_tools_are_not_offered() -> None:
    """What a model does not see it cannot be talked into; calling it is denied all the same."""
    book = Rulebook(policy(ALLOW, rule("a", "deny", "", "hide = true", tool='"admin.*"')))

    assert book.hidden(request("admin.x"))
    assert not book.hidden(request("t"))
    assert book.decide(request("admin.x")).verdict == "deny"


def test_hiding_from_one_agent_leaves_the_others() -> None:
    """The same tool may be offered to one agent and hidden from another."""
    book = Rulebook(policy(rule("a", "deny", "", "hide = true", 'agent = "intern"')))

    assert book.hidden(request(agent="intern"))
    assert book.hidden(request(agent=None))
    assert not book.hidden(request(agent="chief"))


def test_results_carry_labels() -> None:
    """What a run has touched follows from its tools and from the policy; unknown labels too."""
    book = Rulebook(load("""
version = 1
[[label]]
tool = "web.*"
add = ["untrusted", "public"]
[[label]]
tool = "crm.*"
add = "private"
where = { "result.vip" = { eq = true } }
"""))  # fmt: skip

    def labels(tool: str, result: Any = None, *declared: str) -> tuple[str, ...]:
        about = ToolFacts(labels=frozenset(declared))
        return book.labels(Request(on="result", tool=tool, result=result, about=about))

    assert labels("web.get") == ("public", "untrusted")
    assert labels("web.get", None, "secret") == ("public", "secret", "untrusted")
    assert labels("crm.get", {"vip": True}) == ("private",)
    assert labels("crm.get", {"vip": False}) == ()
    assert labels("crm.get", {}) == ("private",)
    assert labels("fs.read") == ()


def test_facts_used_are_named_and_clean() -> None:
    """The decision's record says what was looked at, without a secret in it."""
    document = policy(rule("a", "deny", '"args.key" = { eq = "x" }, user = { eq = "u" }'))
    asked = request(args={"key": "sk-ant-" + "a" * 30})

    found = facts_used(document.rules, asked, Redactor())

    assert found == {"args.key": "[redacted:api-key]", "user": "?"}


def test_rules_of_other_tools_cost_nothing() -> None:
    """A decision asks only the rules that name its tool."""
    many = [rule(f"r{n}", "allow", tool=f'"tool{n}"') for n in range(100)]
    book = Rulebook(policy(*many))

    assert len(book.candidates(request("tool7"))) == 1


def test_a_flood_of_names_is_not_remembered_forever() -> None:
    """Tool names can come from outside; memory must not grow with them."""
    book = Rulebook(policy(rule("a", "allow", tool='"t*"')))

    for n in range(3_000):
        assert book.decide(request(f"t{n}")).verdict == "allow"

    assert len(book._known) <= 1_024


def test_a_policy_of_several_files_is_the_union() -> None:
    """A deny in a second file closes what the first one opens."""
    both = merge([policy(ALLOW), policy(rule("no", "deny"))])

    assert verdict(both, request()) == "deny"


def test_a_settled_request_ends_in_a_loop_error_when_rules_never_agree() -> None:
    """Two rules that undo each other must not turn for ever."""
    document = policy(
        ALLOW,
        rule("a", "modify", '"args.x" = { ne = 1 }', 'set = { "args.x" = 1 }'),
        rule("b", "modify", '"args.x" = { ne = 2 }', 'set = { "args.x" = 2 }'),
    )

    settled = Rulebook(document).settle(request(args={"x": 1}))

    assert (settled.verdict, settled.ruling.code) == ("deny", "E_MODIFY_LOOP")


def test_a_change_that_does_not_validate_is_told_by_whoever_validates() -> None:
    """Changed arguments are validated like any others."""

    def refuse(value: Any) -> Any:
        raise GatebookError("E_ARGS_EXTRA", tool="t", path="x")

    document = policy(ALLOW, rule("a", "modify", "", 'set = { "args.x" = 1 }'))

    with pytest.raises(GatebookError, match="E_ARGS_EXTRA"):
        Rulebook(document).settle(request(), validated=refuse)
