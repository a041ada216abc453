"""Recorded decisions: found with the facts they knew, and decided again by another policy."""

from decimal import Decimal
from typing import Any

from gatebook.errors import InvalidInput
from gatebook.kernel.actions import Sleep
from gatebook.kernel.approvals.events import (
    ActionDeferred,
    ApprovalAnswered,
    ApprovalAsked,
    DeferralEnded,
)
from gatebook.kernel.budget import Amount, Limits
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import (
    ActionFailed,
    ActionResolved,
    ActionUnknown,
    BudgetRaised,
    DecisionRecord,
    ErrorRecord,
)
from gatebook.kernel.review.again import Answer, answer, differs, limits_of
from gatebook.kernel.review.decisions import Told, decisions
from gatebook.kernel.rules.document import Document
from gatebook.kernel.rules.match import Rulebook
from gatebook.kernel.spending.prices import Price
from tests.kernel.review.kit import (
    ask_model,
    asked,
    begun,
    call,
    denied,
    done,
    found,
    policy,
    spec,
    tools,
)

ALL = 'id = "all"\nthen = "allow"\ntool = "*"'
MODELS = 'id = "models"\nthen = "allow"\naction = "call_llm"'
NO_RULE = DecisionRecord("deny", reason="no rule allows it", code="E_POLICY_NO_RULE")


def again(document: Document, *events: Any, **told: Any) -> list[Answer]:
    book = Rulebook(document)
    return [answer(book, each) for each in found(*events, labels=book.labels, **told)]


def verdicts(document: Document, *events: Any, **told: Any) -> list[str]:
    return [each.verdict for each in again(document, *events, **told)]


def test_requests_and_denials_are_decisions_and_outcomes_are_not() -> None:
    """Only where policy was asked can another policy answer."""
    decided = found(
        asked("0", call(), reserve=Amount(tool_calls=1)),
        done("0"),
        denied("1", call("wipe"), NO_RULE),
    )

    assert [(each.seq, each.kind, each.what, each.was) for each in decided] == [
        (2, "tool", "refund", "allow"), (4, "tool", "wipe", "deny"),
    ]  # fmt: skip


def test_the_start_of_a_run_is_a_decision_too() -> None:
    """A rule may be about who begins what."""
    (start,) = decisions([begun(labels={"team": "x"})], Told(run_id="r"))

    document = policy(
        'id = "no"\non = "start"\nthen = "deny"\nwhere = { "label.team" = { eq = "x" } }'
    )

    assert (start.seq, start.was, answer(Rulebook(document), start).verdict) == (1, "allow", "deny")


def test_a_decision_knows_what_the_journal_held_before_it() -> None:
    """The third mail of a run is not the first one."""
    document = policy(
        ALL, 'id = "few"\nthen = "deny"\ntool = "mail"\nwhere = { count = { ge = 2 } }'
    )
    mails = [event for at in "012" for event in (asked(at, call("mail")), done(at))]

    assert verdicts(document, *mails) == ["allow", "allow", "deny"]


def test_a_decision_keeps_its_facts_while_the_run_goes_on() -> None:
    """Whoever collects decisions and decides later must come to the same answers."""
    first, second = found(asked("0", call("mail")), done("0"), asked("1", call("mail")))

    counts = [each.requests[0].history for each in (first, second)]
    assert [past.counts.get("mail", 0) for past in counts if past is not None] == [0, 1]


def test_labels_are_those_the_other_policy_gives() -> None:
    """A policy that marks more as untrusted asks more often."""
    document = policy(
        ALL,
        'id = "ask"\nthen = "ask"\ntool = "mail"\nwhere = { "seen.label" = { has = "untrusted" } }',
        top='[[label]]\ntool = "web"\nadd = "untrusted"\n',
    )

    events = asked("0", call("web")), done("0"), asked("1", call("mail"))
    assert verdicts(document, *events) == ["allow", "ask"]
    assert verdicts(policy(ALL), *events) == ["allow", "allow"]

    unknown = ActionUnknown(address="0", error=ErrorRecord("E_UNKNOWN_LOST", "?"))
    said = ActionResolved(address="0", resolution="succeeded", output=Raw(b"1"))
    later = asked("0", call("web")), unknown, said, asked("1", call("mail"))
    assert verdicts(document, *later, tools=tools(spec("web"))) == ["allow", "ask"]


def test_without_its_declaration_what_a_tool_is_stays_unknown() -> None:
    """Unknown is the stricter side, here as when it was decided."""
    rule = 'id = "r"\nthen = "allow"\ntool = "*"\nwhere = { "tool.outbound" = { eq = false } }'
    event = asked("0", call("refund"))

    assert verdicts(policy(rule), event) == ["deny"]
    assert verdicts(policy(rule), event, tools=tools(spec("refund"))) == ["allow"]


def test_the_effect_of_a_request_is_known_and_that_of_a_denial_is_not() -> None:
    """The journal holds the one and not the other; guessing `read` would open doors."""
    rule = 'id = "r"\nthen = "allow"\ntool = "*"\nwhere = { "tool.read_only" = { eq = true } }'

    events = asked("0", call("a"), effect="read"), done("0"), denied("1", call("a"), NO_RULE)
    assert verdicts(policy(rule), *events) == ["allow", "deny"]


def test_decimals_are_compared_as_numbers_when_the_tool_declares_them() -> None:
    """Money travels as text."""
    money = {"anyOf": [{"type": "number"}, {"type": "string"}]}
    document = policy(f'{ALL}\nwhere = {{ "args.amount" = {{ le = 50 }} }}')

    event = asked("0", call("refund", amount="20.50"))
    assert verdicts(document, event, tools=tools(spec("refund", amount=money))) == ["allow"]
    assert verdicts(document, event) == ["deny"]


def test_refusals_before_any_policy_are_told_apart() -> None:
    """No rule makes invalid arguments valid."""
    decided = found(
        denied("0", call(), DecisionRecord("deny", code="E_ARGS_SCHEMA")),
        denied("1", call(), NO_RULE),
        denied("2", call(), DecisionRecord("ask", code="E_VERDICT_UNSUPPORTED")),
        denied("3", call(), DecisionRecord("deny", code="E_BUDGET")),
    )

    assert [each.by_policy for each in decided] == [False, True, True, True]


def test_a_smaller_budget_denies_what_it_could_not_carry() -> None:
    """Limits are part of a policy file."""
    document = policy(ALL, top="[budgets]\ntool_calls = 1\n")
    calls = [
        event
        for at in "01"
        for event in (asked(at, call(), reserve=Amount(tool_calls=1)), done(at))
    ]

    first, second = again(document, *calls, limits=limits_of(document))

    assert (first.verdict, second.verdict, second.code) == ("allow", "deny", "E_BUDGET")
    assert "limit 1, used 1, asked 1" in second.reason


def test_the_policy_that_decided_keeps_the_limits_of_the_run() -> None:
    """A run may have had a smaller budget of its own, which the file does not know."""
    document = policy(ALL, top="[budgets]\ntool_calls = 60\n")
    started = begun(policy=document.digest, limits=Limits(tool_calls=1))

    _, _, last = decisions(
        [started, asked("0", call(), reserve=Amount(tool_calls=1)), done("0"),
         denied("1", call(), DecisionRecord("deny", code="E_BUDGET"))],
        Told(run_id="r", limits=limits_of(document), policy=document.digest),
    )  # fmt: skip

    assert answer(Rulebook(document), last).verdict == "deny"


def test_a_limit_that_a_person_raised_stays_raised() -> None:
    """It was raised for this run, whatever file decides."""
    document = policy(ALL, top="[budgets]\ntool_calls = 1\n")

    events = (
        asked("0", call(), reserve=Amount(tool_calls=1)), done("0"),
        BudgetRaised(limits=Limits(tool_calls=2), by="ann"), asked("1", call()),
    )  # fmt: skip
    assert verdicts(document, *events, limits=limits_of(document)) == ["allow", "allow"]


def test_model_calls_are_decided_with_their_estimates() -> None:
    """Tokens from bytes, dollars from the price that the journal recorded."""
    price = Price(10_000_000, 20_000_000, source="here")
    (decided,) = found(asked("0", ask_model()), done("0", price=price))

    request = decided.requests[0]
    assert (request.est_tokens, request.max_output_tokens) == (150, 50)
    assert request.est_cost_usd == Decimal("0.002")


def test_without_a_recorded_price_the_cost_is_unknown() -> None:
    """Not nothing."""
    error = ErrorRecord("E_X", "x")
    (decided,) = found(asked("0", ask_model()), ActionFailed(address="0", error=error))

    assert decided.requests[0].est_cost_usd is None


def test_every_route_of_a_model_call_must_be_allowed() -> None:
    """A fallback is a call like any other, and the gate asks about it first."""
    mini = policy(f'{MODELS}\nwhere = {{ route = {{ eq = "openai:mini" }} }}')

    assert verdicts(mini, asked("0", ask_model())) == ["allow"]
    assert verdicts(mini, asked("0", ask_model("other:big"))) == ["deny"]


def test_changed_arguments_are_validated_and_decided_again() -> None:
    """What a modify rule makes of a call may be refused."""
    document = policy(
        ALL, 'id = "m"\nthen = "modify"\ntool = "*"\nset = { "args.amount" = 5 }'
    )  # fmt: skip
    (decided,) = found(asked("0", call("refund", amount=9)))

    def refuses(name: str, args: bytes) -> bytes:
        raise InvalidInput("E_ARGS_SCHEMA", tool=name, path="amount", detail="no", fix="x")

    book = Rulebook(document)
    assert answer(book, decided).verdict == "modify"
    assert answer(book, decided, refuses).code == "E_ARGS_SCHEMA"


def test_results_are_decisions_when_they_are_asked_for() -> None:
    """A rule on results may withhold what came back."""
    document = policy(
        ALL, 'id = "w"\non = "result"\nthen = "deny"\ntool = "*"\nwhere = { result = { gt = 1 } }'
    )  # fmt: skip

    events = asked("0", call()), done("0", b"1"), asked("1", call()), done("1", b"2")
    assert verdicts(document, *events, results=True) == ["allow", "allow", "allow", "deny"]


def test_waits_are_decisions() -> None:
    """A rule may say how long a run may sleep."""
    document = policy(
        'id = "s"\nthen = "deny"\naction = "sleep"\nwhere = { sleep_s = { gt = 60 } }'
    )

    assert verdicts(document, asked("0", Sleep(61_000)), asked("1", Sleep(60_000))) == [
        "deny", "allow",
    ]  # fmt: skip


def test_the_user_is_the_one_the_run_was_started_for() -> None:
    """Rules about people are about the caller's word, never a model's."""
    started = begun(context=Raw(b'{"user":"ann"}'))
    *_, decided = decisions([started, asked("0", call())], Told(run_id="r"))

    assert decided.requests[0].user == "ann"


def test_the_policy_that_decided_is_known_for_each_decision() -> None:
    """It may change while a run goes on."""
    first, second = found(
        asked("0", call()), done("0"), asked("1", call(), decision=DecisionRecord(policy="p2"))
    )

    assert (first.policy, second.policy) == ("p1", "p2")


def waiting(address: str, action: Any, **fields: Any) -> ApprovalAsked:
    """A question to a person."""
    facts: dict[str, Any] = {
        "digest": "d", "bound": "b", "requester": "pay", "expires_ms": 1000,
        "decision": DecisionRecord("ask", rule="ask", reason="ok?"),
    }  # fmt: skip
    return ApprovalAsked(address=address, action=action, **facts | fields)


def approved(address: str, seq: int) -> ApprovalAnswered:
    return ApprovalAnswered(address=address, asked=seq, answer="approve", by="ann")


def test_what_a_person_was_asked_is_one_decision() -> None:
    """The request that follows from a yes is not another one, nor is the denial from a no."""
    yes = DecisionRecord("ask", rule="ask", approval="b")
    no = DecisionRecord("deny", code="E_APPROVAL_DENIED")

    decided = found(
        waiting("0", call()), approved("0", 2), asked("0", call(), decision=yes), done("0"),
        waiting("1", call()), approved("1", 6), denied("1", call(), no),
    )  # fmt: skip

    assert [(each.seq, each.was, each.repeats, each.by_policy) for each in decided] == [
        (2, "ask", False, True), (4, "ask", True, True),
        (6, "ask", False, True), (8, "deny", True, False),
    ]  # fmt: skip


def test_a_question_that_is_put_again_after_a_bad_edit_is_the_same_decision() -> None:
    """The person was told that the edit did not count; nothing was decided anew."""
    decided = found(waiting("0", call()), waiting("0", call(), refused="no such order"))

    assert [each.repeats for each in decided] == [False, True]


def test_a_deferred_action_is_decided_again_with_its_count() -> None:
    """A rule may give up waiting."""
    document = policy(
        ALL, 'id = "d"\nthen = "defer"\ntool = "*"\nafter = "1s"\nwhere = { deferred = { lt = 1 } }'
    )  # fmt: skip
    held = ActionDeferred(
        address="0", action=call(), decision=DecisionRecord("defer", rule="d"), after_ms=1000
    )

    decided = found(held, DeferralEnded(address="0"), asked("0", call()))

    book = Rulebook(document)
    assert [each.was for each in decided] == ["defer", "allow"]
    assert [answer(book, each).verdict for each in decided] == ["defer", "allow"]


def test_a_soft_limit_of_the_run_stays_whatever_the_file_says() -> None:
    """It is the run's own, and no file lifts it."""
    soft = DecisionRecord("ask", rule="gatebook.soft", reason="the soft limit is reached")

    (lenient,), (strict,) = (
        again(document, waiting("0", call(), decision=soft)) for document in (policy(ALL), policy())
    )

    assert (lenient.verdict, lenient.rules) == ("ask", ("gatebook.soft",))
    assert strict.verdict == "deny"


def test_a_changed_tool_still_asks() -> None:
    """Another policy makes no other definition of it."""
    record = DecisionRecord("ask", reason="tool refund is not what it was [E_TOOL_PIN]")

    assert verdicts(policy(ALL), waiting("0", call(), decision=record)) == ["ask"]


def test_a_file_that_pins_another_definition_asks() -> None:
    """The run recorded which one it began with."""
    document = policy(ALL, top=f'[pins]\nrefund = "{"b" * 16}"\n')
    runs = [begun(pins={"refund": letter * 64}) for letter in "ab"]

    answers = [
        [answer(Rulebook(document), each).verdict for each in decisions(
            [run, asked("0", call())], Told(run_id="r"))][-1]
        for run in runs
    ]  # fmt: skip

    assert answers == ["ask", "allow"]


def test_what_was_changed_and_passes_now_is_no_difference() -> None:
    """The journal holds the call as it became, and changing it again changes nothing."""
    document = policy(ALL, 'id = "m"\nthen = "modify"\ntool = "*"\nset = { "args.amount" = 5 }')
    record = DecisionRecord("modify", rule="m")

    (kept,) = found(asked("0", call("refund", amount=5), decision=record))
    (new,) = found(asked("0", call("refund", amount=9)))

    book = Rulebook(document)
    assert not differs(kept, answer(book, kept))
    assert differs(new, answer(book, new))


def test_refusals_by_hooks_ledgers_and_people_are_no_policy_s() -> None:
    """They have reasons of their own."""
    codes = ("E_HOOK_DENIED", "E_LEDGER", "E_APPROVAL_LATE")

    decided = found(
        *(denied(str(n), call(), DecisionRecord("deny", reason="no", code=code))
          for n, code in enumerate(codes))
    )  # fmt: skip

    assert [each.by_policy for each in decided] == [False, False, False]
