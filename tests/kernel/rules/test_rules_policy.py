"""A document behind the policy seam: what the gate gets for a decision, through the real gate."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from gatebook.errors import Permanent, Transient
from gatebook.kernel.actions import Action, CallLLM, CallTool, Prompt, Sleep, WaitSignal
from gatebook.kernel.approvals.consent import admit_want
from gatebook.kernel.approvals.events import ActionDeferred, ApprovalAsked
from gatebook.kernel.budget import Amount, Budget, Limits
from gatebook.kernel.codec import Raw, canonical, plain
from gatebook.kernel.events import ActionDenied, ActionRequested, AnyEvent, Interrupted, RunStarted
from gatebook.kernel.grounds import Grounds
from gatebook.kernel.policy import (
    Fail,
    PolicyContext,
    Retry,
    owns_retries,
    policy_budget,
    policy_digest,
    policy_name,
)
from gatebook.kernel.redact import Redactor
from gatebook.kernel.rules.facts import History, RunFacts, ToolFacts, tool_facts
from gatebook.kernel.rules.policy import RulesPolicy, policy_from
from gatebook.kernel.state import RunState
from gatebook.kernel.tools import ToolSpec
from tests.kernel.rules.kit import rule, text

CONTEXT = PolicyContext(run_id="r", tenant="t", program="support", address="0")
STARTED = RunStarted(
    program="support", program_kind="agent", definition="d", nonce="00", input=Raw(b"1")
)
LLM = CallLLM("p", "m", Prompt("d", size=400), max_output_tokens=100)
SCHEMA = {
    "type": "object",
    "properties": {"amount": {"anyOf": [{"type": "number"}, {"type": "string"}]}},
}
SPEC = ToolSpec(
    name="t", description="", schema=msgspec.Raw(msgspec.json.encode(SCHEMA)), effect="read"
)


def rules(*lines: str, top: str = "") -> RulesPolicy:
    return policy_from(("policy.toml", text(*lines, top=top)))


def call(tool: str = "t", **args: Any) -> CallTool:
    return CallTool(tool, Raw(canonical(args)))


def context(**fields: Any) -> PolicyContext:
    return msgspec.structs.replace(CONTEXT, **fields)


class Plain:
    """A tool that takes whatever it is given."""

    spec = SPEC

    def validate(self, args: bytes) -> bytes:
        return canonical(msgspec.json.decode(args))


def admitted(policy: Any, action: Action) -> tuple[AnyEvent, ...]:
    """What the gate makes of an action."""
    state = RunState()
    state.apply(STARTED)
    grounds = Grounds(
        policy=policy,
        policy_digest="new",
        state=state,
        base=CONTEXT,
        tools={"t": Plain()},
        redactor=Redactor(),
    )
    return admit_want("0", action, grounds, now=0)


def test_the_gate_lets_through_what_a_rule_allows() -> None:
    """The rule that opened stands in the record."""
    (event,) = admitted(rules(rule("open", "allow")), call(x=1))

    assert isinstance(event, ActionRequested)
    assert event.decision.rule == "open"


def test_the_gate_refuses_what_no_rule_allows() -> None:
    """The program and the model read why."""
    (event,) = admitted(rules(), call())

    assert isinstance(event, ActionDenied)
    assert (event.error.code, event.decision.code) == ("E_POLICY_NO_RULE",) * 2
    assert event.error.message == "policy denied 't': no rule allows it"


def test_the_gate_runs_modified_arguments_and_decides_them_again() -> None:
    """What is journaled is what runs."""
    policy = rules(
        rule("open", "allow"),
        rule("cap", "modify", '"args.n" = { gt = 10 }', 'set = { "args.n" = 10 }'),
    )

    (event,) = admitted(policy, call(n=99))

    assert isinstance(event, ActionRequested)
    assert isinstance(event.action, CallTool)
    assert event.action.arguments == {"n": 10}
    assert (event.decision.verdict, event.decision.rule) == ("modify", "cap")


@pytest.mark.parametrize(
    ("then", "kinds"),
    [
        ("ask", [ApprovalAsked]),
        ("defer", [ActionDeferred]),
        ("interrupt", [ApprovalAsked, Interrupted]),
    ],
)
def test_the_gate_holds_what_waits_for_people_or_a_time(then: str, kinds: list[type]) -> None:
    """The rule that holds it stands in the record."""
    more = 'after = "1m"' if then == "defer" else ""

    events = admitted(rules(rule("open", "allow"), rule("a", then, "", more)), call())

    assert [type(event) for event in events] == kinds
    assert isinstance(events[0], ApprovalAsked | ActionDeferred)
    assert (events[0].decision.verdict, events[0].decision.rule) == (then, "a")


@pytest.mark.parametrize("then", ["ask", "interrupt"])
def test_a_modify_beside_an_ask_hands_over_the_final_arguments(then: str) -> None:
    """A person must see what will run."""
    policy = rules(
        rule("open", "allow"), rule("a", then), rule("b", "modify", "", 'drop = "args.x"')
    )

    decision = policy.authorize(call(x=1, y=2), CONTEXT)
    asked = admitted(policy, call(x=1, y=2))[0]

    assert (decision.verdict, decision.rule, decision.args) == (then, "a", Raw(b'{"y":2}'))
    assert plain(decision.patch) == [{"op": "remove", "path": "/x"}]
    assert isinstance(asked, ApprovalAsked)
    assert asked.action == call(y=2)


def test_an_interrupt_is_answered_by_whom_the_asks_beside_it_name() -> None:
    """A rule that stops the run takes nobody's say away."""
    policy = rules(
        rule("open", "allow"),
        rule("a", "ask", "", 'approvers = "team:x"'),
        rule("stop", "interrupt", "", 'message = "look first"'),
    )

    asked, stopped = admitted(policy, call())

    assert isinstance(asked, ApprovalAsked)
    assert isinstance(stopped, Interrupted)
    assert [(term.rule, term.approvers) for term in asked.terms] == [("a", ("team:x",))]
    assert asked.terms[0].message == "look first; t?"  # and they are told why it stopped
    assert asked.stops


def test_shadow_asks_nobody_and_puts_nothing_off() -> None:
    """Also where something else asks: who is asked then, and when, is no matter of the file."""
    policy = rules(
        rule("open", "allow"), rule("a", "ask", "", 'approvers = "team:x"'),
        rule("b", "defer", "", 'after = "1h"'), top='mode = "shadow"',
    )  # fmt: skip

    decision = policy.authorize(call(x=2), CONTEXT)

    assert (decision.verdict, decision.shadow) == ("allow", "ask")
    assert (decision.approvals, decision.defers) == ((), ())


def test_shadow_lets_through_and_can_say_what_it_would_have_done() -> None:
    """The enforced verdict goes to the gate, the full ruling to the record."""
    policy = rules(
        rule("no", "deny"), rule("b", "modify", "", 'set = { "args.x" = 1 }'), top='mode = "shadow"'
    )

    decision = policy.authorize(call(), CONTEXT)

    assert (decision.verdict, decision.rule, decision.shadow) == ("allow", "no", "deny")
    assert policy.rule(call(), CONTEXT).verdict == "deny"
    assert policy_name(policy) == "policy.toml (shadow)"


def test_shadow_changes_nothing() -> None:
    """To let through is to let through what was asked for."""
    policy = rules(
        rule("open", "allow"),
        rule("b", "modify", "", 'set = { "args.x" = 1 }'),
        top='mode = "shadow"',
    )

    assert policy.authorize(call(), CONTEXT).args is None
    assert policy.rule(call(), CONTEXT).changed == {"x": 1}


def test_facts_the_context_does_not_carry_are_unknown() -> None:
    """A fact nobody passes in must not open anything."""
    policy = rules(
        rule("open", "allow", '"seen.label" = { size = { eq = 0 } }, user = { eq = "u" }')
    )
    run = RunFacts(user="u", history=History())

    assert policy.authorize(call(), CONTEXT).verdict == "deny"
    assert policy.authorize(call(), context(run=run)).verdict == "allow"


def test_a_tool_is_read_only_by_its_effect() -> None:
    """Own code says what it does; nothing more is needed for the commonest rule."""
    policy = rules(rule("open", "allow", '"tool.read_only" = { eq = true }'))

    assert policy.authorize(call(), context(effect="read")).verdict == "allow"
    assert policy.authorize(call(), context(effect="at_most_once")).verdict == "deny"
    about = ToolFacts(effect="at_most_once")
    assert policy.authorize(call(), context(effect="read", tool=about)).verdict == "deny"


@pytest.mark.parametrize(
    ("amount", "verdict"),
    [
        ("49.99", "allow"),
        ("50.01", "deny"),
        ("9e9", "deny"),
        ("fifty", "deny"),
        (50, "allow"),
        ("-1", "deny"),
        ("050", "allow"),
        ("\u0665", "deny"),
        ("1" * 50, "deny"),
        ("", "deny"),
        (".", "deny"),
    ],
)
def test_decimals_that_travel_as_text_are_numbers_to_a_rule(amount: Any, verdict: str) -> None:
    """A Decimal argument is stored as text; a limit on it must still hold."""
    policy = rules(rule("open", "allow", '"args.amount" = { ge = 0, le = 50 }'))
    about = tool_facts(SPEC)

    assert policy.authorize(call(amount=amount), context(tool=about)).verdict == verdict
    assert policy.authorize(call(amount="49.99"), CONTEXT).verdict == "deny"


def test_a_text_that_looks_like_a_number_stays_a_text() -> None:
    """Only what the schema declares as a decimal is one."""
    decimal = {"anyOf": [{"type": "number"}, {"type": "string"}]}
    properties = {"code": {"type": "string"}, "amount": decimal}
    schema = msgspec.json.encode({"type": "object", "properties": properties})
    about = ToolFacts(effect="read", schema=msgspec.Raw(schema))
    policy = rules(rule("open", "allow", '"args.code" = { eq = "007" }'))

    assert policy.authorize(call(code="007"), context(tool=about)).verdict == "allow"


def test_model_calls_sleeps_and_waits_have_their_facts() -> None:
    """Each kind of action is decided by what it has."""
    policy = rules(
        'id = "m"\nthen = "allow"\naction = "call_llm"\nwhere = { route = { eq = "p:m" }, '
        "est_tokens = { le = 200 }, max_output_tokens = { le = 100 } }",
        'id = "s"\nthen = "deny"\naction = "sleep"\nwhere = { sleep_s = { gt = 60 } }',
        'id = "w"\nthen = "deny"\naction = "wait_signal"\nwhere = { signal = { ne = "go" } }',
    )

    def verdict(action: Action, tokens: int = 200) -> str:
        return policy.authorize(action, context(est_tokens=tokens)).verdict

    assert [verdict(LLM), verdict(LLM, 201)] == ["allow", "deny"]
    assert [verdict(Sleep(60_000)), verdict(Sleep(60_001))] == ["allow", "deny"]
    assert [verdict(WaitSignal("go")), verdict(WaitSignal("stop"))] == ["allow", "deny"]


def test_budget_left_follows_from_limits_and_use() -> None:
    """A soft limit needs no bookkeeping of its own."""
    policy = rules(rule("open", "allow", '"budget.left.tool_calls" = { gt = 2 }'))

    def verdict(used: int) -> str:
        where = context(limits=Limits(tool_calls=5), used=Amount(tool_calls=used))
        return policy.authorize(call(), where).verdict

    assert [verdict(2), verdict(3), verdict(9)] == ["allow", "deny", "deny"]


def test_a_start_is_decided() -> None:
    """Before anything is written."""
    policy = rules('id = "a"\nthen = "deny"\non = "start"\nwhere = { "input.vip" = { eq = true } }')

    assert policy.start("support", {"vip": False}, CONTEXT).verdict == "allow"
    assert policy.start("support", {"vip": True}, CONTEXT).verdict == "deny"
    assert policy.start("support", None, CONTEXT).verdict == "deny"


def test_a_result_is_ruled_and_labelled() -> None:
    """Before the program and the model see it."""
    policy = policy_from(("p.toml", """
version = 1
[[label]]
tool = "web.*"
add = "untrusted"
[[rule]]
id = "hold"
on = "result"
then = "deny"
tool = "web.*"
where = { "result.text" = { size = { gt = 10 } } }
"""))  # fmt: skip

    short = policy.result(call("web.get"), CONTEXT, {"text": "hi"}, outcome="succeeded")
    long = policy.result(call("web.get"), CONTEXT, {"text": "x" * 11}, outcome="succeeded")

    assert (short.verdict, short.labels) == ("allow", ("untrusted",))
    assert (long.verdict, long.rule) == ("deny", "hold")


def test_only_results_that_something_is_about_are_looked_at() -> None:
    """The others cost nothing, and what models say of them is shown at once."""
    policy = policy_from(("p.toml", """
version = 1
[[label]]
tool = "web.*"
add = "untrusted"
[[rule]]
id = "mask"
on = "result"
then = "deny"
action = "wait_signal"
[[rule]]
id = "calls"
then = "allow"
tool = "*"
"""))  # fmt: skip

    actions: list[Action] = [call("web.get"), WaitSignal("go"), call("fs.read"), LLM, Sleep(1)]

    assert [policy.sees_results(action) for action in actions] == [True, True, False, False, False]


def test_a_shadow_policy_limits_nothing_and_says_what_its_budgets_would_have_refused() -> None:
    """A trial must not stop anybody; what is left is still a fact."""
    policy = rules(
        rule("open", "allow", '"budget.left.tool_calls" = { ge = 1 }'),
        top='mode = "shadow"\n[budgets]\ntool_calls = 2\n[retry]\nmax = 1',
    )

    last = policy.authorize(call(), context(used=Amount(tool_calls=1)))
    over = policy.authorize(call(), context(used=Amount(tool_calls=2)))

    assert policy_budget(policy) == Budget()
    assert not owns_retries(policy)
    assert (last.verdict, last.shadow) == ("allow", "allow")
    assert (over.verdict, over.shadow) == ("allow", "deny")


def test_a_shadow_policy_says_what_a_price_that_nobody_knows_would_have_refused() -> None:
    """What cannot be counted cannot be limited: no trial may call that allowed."""
    policy = rules(
        'id = "open"\nthen = "allow"\naction = "call_llm"',
        top='mode = "shadow"\n[budgets]\ncost_usd = "1"',
    )

    known = policy.authorize(LLM, context(run=RunFacts(est_cost_usd=Decimal("0.5"))))
    unknown = policy.authorize(LLM, context(run=RunFacts()))

    assert (known.verdict, known.shadow) == ("allow", "allow")
    assert (unknown.verdict, unknown.shadow) == ("allow", "deny")
    assert "E_PRICE_UNKNOWN" in unknown.reason


def test_hidden_tools_are_not_offered() -> None:
    """In the order in which the program declares them."""
    policy = rules(rule("no", "deny", "", "hide = true", tool='"admin.*"'))

    assert policy.offered(["b", "admin.x", "a"], CONTEXT) == ("b", "a")


def test_what_is_left_of_a_usd_limit_is_a_fact_in_dollars() -> None:
    """The same amount that the file spells; without a limit it is more than any number."""
    policy = rules(rule("open", "allow", '"budget.left.cost_usd" = { ge = 0.5 }'))

    def verdict(limit: int | None, used: int) -> str:
        where = context(limits=Limits(usd_micros=limit), used=Amount(usd_micros=used))
        return policy.authorize(call(), where).verdict

    assert [verdict(1_500_000, 10**6), verdict(1_500_000, 10**6 + 1)] == ["allow", "deny"]
    assert verdict(None, 10**9) == "allow"


def test_budgets_and_retries_come_from_the_file() -> None:
    """One file says what a run may use and what is tried again."""
    policy = rules(
        top='[budgets]\ntool_calls = 6\nwall_clock = "90s"\ncost_usd = "1.50"\n'
        '[retry]\nmax = 1\nbase = "1s"'
    )

    assert policy_budget(policy) == Budget(tool_calls=6, wall_clock=90, usd="1.50")
    assert owns_retries(policy)
    assert policy.retry(Transient("x"), call(), 0) == Retry(1_000)
    assert policy.retry(Transient("x"), call(), 1) == Fail()
    assert policy.retry(Permanent("x"), call(), 0) == Fail()


def test_ledgers_come_from_the_file() -> None:
    """What all runs share is said where rules are."""
    top = "[budgets]\nfan_out = 4\n[budgets.day]\ntool_calls = 9\n[budgets.tenant]\ncost_usd = '5'"

    enforced, shadow = rules(top=top), rules(top="mode = 'shadow'\n" + top)

    assert policy_budget(enforced) == Budget(fan_out=4)
    assert enforced.ledgers() == {"day": Budget(tool_calls=9), "tenant": Budget(usd="5")}
    assert shadow.ledgers() == {}


def test_a_file_without_retry_leaves_the_usual_retries() -> None:
    """What a policy does not say is not its business."""
    assert not owns_retries(rules())


def test_the_digest_is_the_documents() -> None:
    """A changed rule is another policy; a changed name is not."""
    assert policy_digest(rules(rule("a", "deny"))) == rules(rule("a", "deny")).document.digest
    assert policy_digest(rules(rule("a", "deny"))) != policy_digest(rules(rule("b", "deny")))
