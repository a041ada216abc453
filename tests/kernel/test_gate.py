"""The gate: what is asked becomes a request or a refusal, in one order."""

from decimal import Decimal
from typing import Any

import pytest

from gatebook.errors import InvalidInput
from gatebook.kernel.actions import Action, CallLLM, CallTool, Prompt, Sleep, WaitSignal
from gatebook.kernel.approvals.consent import admit_want
from gatebook.kernel.approvals.events import ApprovalAsked
from gatebook.kernel.approvals.terms import ApprovalTerms
from gatebook.kernel.budget import NO_LIMITS, NOTHING, OUTPUT_TOKENS, Amount, Limits
from gatebook.kernel.codec import Raw, canonical, plain
from gatebook.kernel.decisions import MAX_ROUNDS
from gatebook.kernel.events import ActionDenied, ActionRequested, RunStarted
from gatebook.kernel.gate import Again, decide_attempt
from gatebook.kernel.grounds import Grounds
from gatebook.kernel.head import Head
from gatebook.kernel.policies import AllowDeclared
from gatebook.kernel.policy import Decision, Policy, PolicyContext
from gatebook.kernel.redact import Redactor
from gatebook.kernel.results import judge_result
from gatebook.kernel.rules.facts import RunFacts
from gatebook.kernel.spending.prices import Price
from gatebook.kernel.spending.reserving import estimate_tokens
from gatebook.kernel.state import RunState
from gatebook.kernel.status import Status
from tests.programs.play import Echo

STARTED = RunStarted(
    program="p", program_kind="workflow", definition="d", nonce="00", input=Raw(b"null")
)
KEY = "sk-ant-" + "a1b2" * 8


class Says(Policy):
    """Answers in turn what it was given, or raises it; remembers what it was asked."""

    name = "says"

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Action, PolicyContext]] = []

    def authorize(self, action: Action, context: PolicyContext) -> Any:
        self.asked.append((action, context))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Strict(Echo):
    """A tool that takes `n`, an integer up to 9, and fills in `unit`."""

    def validate(self, args: bytes) -> bytes:
        value = plain(args)
        if not isinstance(value.get("n"), int) or value["n"] > 9:
            raise InvalidInput("E_ARGS_SCHEMA", tool="t", path="n", want="int", got="other")
        return canonical({"unit": "EUR"} | value)


def call(tool: str = "t", **args: Any) -> CallTool:
    return CallTool(tool, Raw(canonical(args)))


def where(limits: Limits = NO_LIMITS, used: Amount = NOTHING) -> RunState:
    """A run that policy "d1" decided about last."""
    state = RunState()
    state.head = Head(status=Status.RUNNING, limits=limits, spent=used)
    state.policy = "d1"
    return state


def grounds(policy: Any, state: RunState | None = None, **fields: Any) -> Grounds:
    base = PolicyContext(
        run_id="r", tenant="default", program="p", address="",
        tools=frozenset({"t", "e"}), models=frozenset({"fake:m"}),
    )  # fmt: skip
    facts: dict[str, Any] = {
        "policy": policy, "policy_digest": "d1", "state": state or where(), "base": base,
        "tools": {"t": Strict("t", "at_most_once"), "e": Echo("e")}, "redactor": Redactor(),
    }  # fmt: skip
    return Grounds(**facts | fields)


def admitted(action: Action, policy: Any = None, **fields: Any) -> ActionRequested:
    (event,) = admit_want("0", action, grounds(policy or AllowDeclared(), **fields), now=0)
    assert isinstance(event, ActionRequested), event
    return event


def refused(action: Action, policy: Any = None, **fields: Any) -> ActionDenied:
    (event,) = admit_want("0", action, grounds(policy or AllowDeclared(), **fields), now=0)
    assert isinstance(event, ActionDenied), event
    return event


def held(action: Action, policy: Any) -> ApprovalAsked:
    state = where()
    state.started = STARTED
    event, *_ = admit_want("0", action, grounds(policy, state), now=0)
    assert isinstance(event, ApprovalAsked), event
    return event


def test_an_allowed_call_is_requested_with_its_final_arguments() -> None:
    """Policy decides about, and the tool gets, what is stored."""
    event = admitted(call(n=1))

    assert isinstance(event.action, CallTool)
    assert event.action.arguments == {"n": 1, "unit": "EUR"}
    assert (event.effect, event.reserve) == ("at_most_once", Amount(tool_calls=1))
    assert event.decision.verdict == "allow"


def test_policy_sees_the_final_arguments() -> None:
    """A default that is filled in later would be decided about by nobody."""
    policy = Says(Decision.allow())

    admitted(call(n=1), policy)

    action, context = policy.asked[0]
    assert isinstance(action, CallTool)
    assert action.arguments["unit"] == "EUR"
    assert (context.address, context.effect, context.attempt) == ("0", "at_most_once", 0)


def test_an_unknown_tool_is_denied_with_a_suggestion() -> None:
    """Models misspell; the denial says what there is."""
    event = refused(call("tt"), AllowDeclared())

    assert event.error.code == event.decision.code == "E_TOOL_UNKNOWN"
    assert "did you mean: t" in event.error.message


def test_arguments_that_do_not_fit_are_denied_before_policy_is_asked() -> None:
    """Policy must not have to understand nonsense."""
    policy = Says(Decision.allow())

    event = refused(call(n="x"), policy)

    assert event.error.code == "E_ARGS_SCHEMA"
    assert policy.asked == []


@pytest.mark.parametrize("answer", [None, True, "yes", 1, object(), Decision])
def test_whatever_is_not_a_decision_is_a_deny(answer: Any) -> None:
    """A policy that forgot to return must not open a door."""
    event = refused(call(n=1), Says(answer))

    assert event.error.code == "E_POLICY_DECISION"
    assert event.decision.verdict == "deny"


def test_a_look_alike_of_a_decision_is_a_deny() -> None:
    """A subclass could answer differently each time it is read."""

    class Sly(Decision, frozen=True):
        pass

    assert refused(call(n=1), Says(Sly("allow"))).error.code == "E_POLICY_DECISION"


def test_a_policy_that_raises_denies() -> None:
    """And the journal says that it was the policy's fault, without its internals."""
    event = refused(call(n=1), Says(ZeroDivisionError("secret detail")))

    assert event.error.code == "E_POLICY_ERROR"
    assert "ZeroDivisionError" in event.error.message
    assert "secret detail" not in event.error.message


def test_a_policy_whose_method_is_none_denies() -> None:
    """What cannot even be asked must not pass, nor break the run."""
    policy: Any = Says(Decision.allow())
    policy.authorize = policy.result = "no function"

    judged = judge_result("0", call(n=1), "read", Raw(b"1"), grounds(policy))

    assert refused(call(n=1), policy).error.code == "E_POLICY_ERROR"
    assert judged.withheld


def test_an_answer_that_took_too_long_does_not_count() -> None:
    """A decision holds up every run of its worker."""
    slow, quick = iter([0.0, 5.1]), iter([0.0, 4.9])

    assert refused(call(n=1), watch=lambda: next(slow)).error.code == "E_POLICY_TIMEOUT"
    assert admitted(call(n=1), watch=lambda: next(quick)).address


def test_a_route_that_a_policy_chose_has_no_fallbacks() -> None:
    """Going on elsewhere would undo what it chose."""
    asked = CallLLM("fake", "m", Prompt("d"), fallbacks=("fake:other",))
    route = {"provider": "fake", "model": "small", "max_output_tokens": 9}
    cap = {"provider": "fake", "model": "m", "max_output_tokens": 9}
    allow = Decision.allow()

    other = admitted(asked, Says(Decision.modify(route), allow)).action
    capped = admitted(asked, Says(Decision.modify(cap), allow)).action

    assert isinstance(other, CallLLM)
    assert isinstance(capped, CallLLM)
    assert (other.model, other.fallbacks) == ("small", ())
    assert capped.fallbacks == ("fake:other",)


def test_each_fallback_is_decided_with_facts_of_its_own() -> None:
    """What it would cost is not what the first route would."""
    prices = {"fake:m": Price(1_000_000, 0), "fake:dear": Price(9_000_000, 0)}
    asked = CallLLM("fake", "m", Prompt("d", size=4_000), fallbacks=("fake:dear",))
    policy = Says(Decision.allow())

    admitted(asked, policy, price=lambda action: prices[action.route], run=lambda _: RunFacts())

    costs = [context.run.est_cost_usd for _, context in policy.asked if context.run is not None]
    assert costs == [Decimal("0.001"), Decimal("0.009")]


def test_a_denial_carries_reason_rule_and_code() -> None:
    """The program and the model read why."""
    event = refused(call(n=1), Says(Decision.deny("too late", rule="night", code="E_NIGHT")))

    assert (event.decision.rule, event.decision.reason) == ("night", "too late")
    assert event.error.code == "E_NIGHT"
    assert event.error.message == "policy denied 't': too late"


@pytest.mark.parametrize("decision", [Decision.ask("?"), Decision.defer(), Decision.interrupt()])
def test_an_attempt_that_nobody_can_be_asked_about_is_denied(decision: Decision) -> None:
    """What cannot be asked must not pass; the record says what was answered."""
    again = decide_attempt("0", call(n=1), 1, grounds(Says(decision)))

    assert again.refusal is not None
    assert again.refusal.code == "E_VERDICT_UNSUPPORTED"
    assert again.decision is not None
    assert again.decision.verdict == decision.verdict


def test_modified_arguments_are_validated_and_decided_again() -> None:
    """Nobody can edit past a deny."""
    policy = Says(Decision.modify({"n": 2}, reason="less", rule="cap"), Decision.allow())

    event = admitted(call(n=5), policy)

    assert isinstance(event.action, CallTool)
    assert event.action.arguments == {"n": 2, "unit": "EUR"}
    assert (event.decision.verdict, event.decision.rule) == ("modify", "cap")
    assert len(policy.asked) == 2


def test_modified_arguments_that_do_not_fit_are_denied() -> None:
    """A policy may be wrong about a schema."""
    event = refused(call(n=5), Says(Decision.modify({"n": 99}), Decision.allow()))

    assert event.error.code == "E_ARGS_SCHEMA"


def test_a_deny_after_a_modification_counts() -> None:
    """The second look decides."""
    policy = Says(Decision.modify({"n": 2}), Decision.deny("no"))

    assert refused(call(n=5), policy).error.code == "E_POLICY_DENIED"


def test_endless_modification_is_denied() -> None:
    """Three rounds, then it is a loop."""
    policy = Says(Decision.modify({"n": 2}))

    event = refused(call(n=5), policy)

    assert event.error.code == "E_MODIFY_LOOP"
    assert len(policy.asked) == MAX_ROUNDS


def test_a_modification_without_arguments_is_denied() -> None:
    """There is nothing to use instead."""
    assert refused(call(n=1), Says(Decision("modify"))).error.code == "E_POLICY_DECISION"


def test_who_was_asked_before_a_change_is_asked_after_it() -> None:
    """Another question, about what was changed, takes nobody's place; nor does a stop."""
    first, second = ApprovalTerms(rule="a", approvers=("x",)), ApprovalTerms(rule="b")
    asks = Decision("ask", approvals=(first,), args=Raw(b'{"n":2}'))

    for after in (Decision("ask", approvals=(second,)), Decision("interrupt", rule="b")):
        terms = held(call(n=5), Says(asks, after)).terms

        assert first in terms
        assert second in terms or after.verdict == "interrupt"


@pytest.mark.parametrize("verdict", ["ask", "interrupt"])
def test_an_attempt_that_would_be_changed_does_not_start_under_an_approval(verdict: Any) -> None:
    """Its bytes are those of its request: a yes is no word for what policy does not want sent."""
    changed = Decision(verdict, args=Raw(b'{"n":2}'))
    same = Decision(verdict, args=call(n=1).args)

    def again(decision: Decision) -> Again:
        return decide_attempt("0", call(n=1), 1, grounds(Says(decision)), answers=lambda _: True)

    assert again(changed).refusal is not None
    assert again(same).refusal is None


def test_only_tool_calls_can_be_modified() -> None:
    """A prompt is not a policy's to write."""
    event = refused(Sleep(5), Says(Decision.modify({"ms": 1})))

    assert event.error.code == "E_VERDICT_UNSUPPORTED"


def test_a_secret_in_the_arguments_is_denied_and_not_stored() -> None:
    """With what is left when it is cut out."""
    event = refused(call("e", text=f"key {KEY}"))

    assert event.error.code == "E_ARGS_SECRET"
    assert KEY.encode() not in bytes(event.action.args)  # type: ignore[union-attr]


@pytest.mark.parametrize("action", [call("nobody", text=KEY), call(n=KEY)])
def test_a_refusal_for_another_reason_is_redacted_too(action: CallTool) -> None:
    """A secret in a call that is refused anyway is stored with the refusal."""
    event = refused(action)

    assert KEY.encode() not in bytes(event.action.args)  # type: ignore[union-attr]


def test_waits_reserve_nothing() -> None:
    """They reach nobody."""
    assert admitted(Sleep(5), Says(Decision.allow())).reserve == Amount()
    assert admitted(WaitSignal("go"), Says(Decision.allow())).timeout_ms is None


def test_a_wait_may_be_denied() -> None:
    """A rule decides, as for everything."""
    assert refused(Sleep(5), Says(Decision.deny("no rest"))).error.code == "E_POLICY_DENIED"


def test_a_model_call_reserves_prompt_and_largest_answer() -> None:
    """Four bytes are a token, for want of a better guess."""
    action = CallLLM("fake", "m", Prompt("d", size=400), max_output_tokens=50)

    assert estimate_tokens(action) == 150
    assert estimate_tokens(CallLLM("fake", "m", Prompt("d", size=400))) == 100 + OUTPUT_TOKENS
    assert admitted(action).reserve == Amount(llm_tokens=150)


def test_a_budget_that_does_not_carry_the_action_denies() -> None:
    """With the meter, the limit and what was asked."""
    event = refused(call(n=1), state=where(Limits(tool_calls=3), Amount(tool_calls=3)))

    assert event.error.code == "E_BUDGET"
    assert "limit 3, used 3, asked 1" in event.error.message


def test_siblings_of_one_step_share_what_is_left() -> None:
    """Each reservation counts for the next."""
    shared = grounds(AllowDeclared(), where(Limits(tool_calls=1)))

    (first,) = admit_want("0", call(n=1), shared, now=0)
    shared.state.apply(first)
    (second,) = admit_want("1", call(n=1), shared, now=0)

    assert isinstance(first, ActionRequested)
    assert isinstance(second, ActionDenied)


def test_a_wall_clock_is_divided_among_siblings() -> None:
    """Two calls at once may not both have all of the time."""
    event = admitted(call(n=1), state=where(Limits(wall_ms=10_000)), share=2)

    assert event.timeout_ms == event.reserve.wall_ms == 5_000


def test_an_action_without_wall_clock_left_is_denied() -> None:
    """A deadline of nothing is no deadline."""
    event = refused(call(n=1), state=where(Limits(wall_ms=10), Amount(wall_ms=10)))

    assert event.error.code == "E_BUDGET"


def test_a_changed_policy_is_recorded_with_its_first_decision() -> None:
    """A changed policy strands nobody, and the journal says from where it decided."""
    shared = grounds(AllowDeclared(), policy_digest="d2")

    (first,) = admit_want("0", call(n=1), shared, now=0)
    shared.state.apply(first)
    (second,) = admit_want("1", call(n=1), shared, now=0)

    assert isinstance(first, ActionRequested)
    assert isinstance(second, ActionRequested)
    assert (first.decision.policy, second.decision.policy) == ("d2", "")


def test_a_further_attempt_is_decided_under_the_policy_in_force() -> None:
    """An action allowed yesterday may be denied today."""
    policy = Says(Decision.deny("not any more"))

    again = decide_attempt("0", call(n=1), 1, grounds(policy))

    assert again.reserve == Amount()
    assert again.refusal is not None
    assert again.refusal.code == "E_POLICY_DENIED"
    context = policy.asked[0][1]
    assert (context.attempt, context.effect) == (1, "at_most_once")


def test_what_was_said_of_a_further_attempt_is_recorded() -> None:
    """A denial with its reason, a changed policy with its digest, a plain allow not at all."""
    deny, allow = Says(Decision.deny(f"no {KEY}", rule="r")), AllowDeclared()

    denied = decide_attempt("0", call(n=1), 1, grounds(deny))
    changed = decide_attempt("0", call(n=1), 1, grounds(allow, policy_digest="d2"))
    plainly = decide_attempt("0", call(n=1), 1, grounds(allow))

    assert denied.decision is not None
    assert (denied.decision.verdict, denied.decision.rule) == ("deny", "r")
    assert KEY not in str(denied)
    assert changed.decision is not None
    assert changed.decision.policy == "d2"
    assert plainly.decision is None


def test_a_further_attempt_reserves_again() -> None:
    """A retry is charged."""
    again = decide_attempt("0", call(n=1), 1, grounds(AllowDeclared()))

    assert (again.reserve, again.refusal) == (Amount(tool_calls=1), None)


def test_a_further_attempt_cannot_be_modified() -> None:
    """Its bytes are fixed by its request."""
    again = decide_attempt("0", call(n=1), 1, grounds(Says(Decision.modify({"n": 2}))))

    assert again.refusal is not None


def test_a_modification_to_the_same_bytes_is_none() -> None:
    """A policy that caps at what was capped before says the same thing."""
    policy = Says(Decision.modify({"n": 2, "unit": "EUR"}))

    again = decide_attempt("0", call(n=2, unit="EUR"), 1, grounds(policy))

    assert again.refusal is None


def test_a_policys_reason_is_redacted_whatever_it_decided() -> None:
    """It may quote the arguments it was shown."""
    denied = refused(call(n=1), Says(Decision.deny(f"because {KEY}")))
    modified = admitted(call(n=1), Says(Decision.modify({"n": 2}, reason=KEY), Decision.allow()))

    assert denied.decision.reason == "because [redacted:api-key]"
    assert KEY not in denied.error.message
    assert modified.decision.reason == "[redacted:api-key]"
