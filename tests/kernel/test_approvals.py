"""Approvals inside the append: who may answer, once, in time, for exactly these bytes."""

from typing import Any

import pytest

from gatebook.kernel.actions import action_digest
from gatebook.kernel.approvals.events import ApprovalExpired
from gatebook.kernel.approvals.standing import NOBODY_ASKED, binding, common_choices, same_person
from gatebook.kernel.approvals.terms import ApprovalTerms
from gatebook.kernel.events import (
    ActionDenied,
    ActionSucceeded,
    AttemptFailed,
    AttemptStarted,
    DecisionRecord,
    Interrupted,
    Resumed,
    RunCompleted,
)
from tests.kernel.asked import (
    CALL,
    DAY_MS,
    ERROR,
    OTHER,
    Run,
    approved,
    asks,
    refused,
    says,
    waiting,
    wants,
)


def test_an_approved_action_may_start() -> None:
    """And its approval is used up by the append that requests it."""
    run = approved()

    run.inside(wants())

    assert run.phase == "used"


def test_an_approval_is_used_once() -> None:
    """A second request under it is a replay."""
    run = approved()
    run.inside(wants())
    run.inside(ActionSucceeded(address="0"))

    assert refused(run, wants(), inside=True) == "E_APPROVAL_STATE"


def test_a_used_approval_cannot_be_given_again() -> None:
    """Its action has started: another word about it would mean nothing."""
    run = approved()
    run.inside(wants())

    assert refused(run, says()) == "E_APPROVAL_CONSUMED"


@pytest.mark.parametrize("answer", ["approve", "edit", "deny"])
def test_the_first_answer_stands(answer: Any) -> None:
    """Of two people the second is told who was first."""
    run = waiting()
    run.outside(says(answer))

    assert refused(run, says(by="bob")) == "E_APPROVAL_ANSWERED"
    assert run.head.approvals.asked["0"].by == "ann"


def test_an_action_that_nobody_approved_does_not_start() -> None:
    """An open question lets nothing through, whatever the request claims."""
    assert refused(waiting(), wants(), inside=True) == "E_APPROVAL_STATE"


@pytest.mark.parametrize("answer", ["edit", "deny"])
def test_only_a_yes_lets_an_action_start(answer: Any) -> None:
    """An edit is a yes to other bytes, which are asked about anew."""
    run = waiting()
    run.outside(says(answer))

    assert refused(run, wants(), inside=True) == "E_APPROVAL_STATE"


def test_a_request_must_name_its_approval() -> None:
    """Else a plain allow could start what a person was asked about."""
    run = approved()

    assert refused(run, wants(verdict="allow", approval=""), inside=True) == "E_APPROVAL_MISMATCH"


@pytest.mark.parametrize("verdict", ["ask", "interrupt", "defer", "deny"])
def test_a_verdict_that_needs_a_word_starts_nothing_without_one(verdict: Any) -> None:
    """The append does not trust the worker that decided."""
    request = wants(verdict=verdict, approval="")

    assert refused(Run(), request, inside=True) == "E_APPROVAL_STATE"


def test_other_arguments_than_the_approved_do_not_start() -> None:
    """What a person saw is what runs."""
    forged = wants(OTHER, approval=binding("default", "r", "0", CALL, "f"))

    assert refused(approved(), wants(OTHER), inside=True) == "E_APPROVAL_MISMATCH"
    assert refused(approved(), forged, inside=True) == "E_APPROVAL_MISMATCH"


@pytest.mark.parametrize(
    "bound",
    [
        binding("other", "r", "0", CALL, "f"),
        binding("default", "r2", "0", CALL, "f"),
        binding("default", "r", "1", CALL, "f"),
        binding("default", "r", "0", CALL, "g"),
    ],
    ids=["tenant", "run", "address", "definition"],
)
def test_an_approval_is_good_for_nothing_else(bound: str) -> None:
    """Another tenant, run, place or tool definition is another action."""
    request = wants(approval=bound)

    assert refused(approved(), request, inside=True) == "E_APPROVAL_MISMATCH"


def test_an_expired_approval_cannot_be_given() -> None:
    """By the store's clock, inside the append."""
    run = waiting()
    run.now += DAY_MS * 1000

    assert refused(run, says()) == "E_APPROVAL_EXPIRED"


def test_an_expired_approval_cannot_be_used() -> None:
    """A yes of yesterday is not one of today."""
    run = approved()
    run.now += DAY_MS * 1000

    assert refused(run, wants(), inside=True) == "E_APPROVAL_EXPIRED"


def test_a_later_attempt_needs_an_approval_that_is_still_good() -> None:
    """It covers retries until it expires."""
    run = approved()
    run.inside(wants())
    run.inside(AttemptFailed(address="0", attempt=0, error=ERROR, delay_ms=0))
    run.inside(AttemptStarted(address="0", attempt=1))
    run.inside(AttemptFailed(address="0", attempt=1, error=ERROR, delay_ms=0))
    run.now += DAY_MS * 1000

    late = AttemptStarted(address="0", attempt=2)

    assert refused(run, late, inside=True) == "E_APPROVAL_EXPIRED"


@pytest.mark.parametrize("by", ["rita", " Rita ", "RITA", "\uff52ita"])
@pytest.mark.parametrize("answer", ["approve", "edit"])
def test_the_requester_does_not_approve(by: str, answer: Any) -> None:
    """Nor somebody whose name only looks different to a machine."""
    assert refused(waiting(), says(answer, by=by)) == "E_APPROVAL_SELF"


def test_the_requester_takes_back_what_is_asked() -> None:
    """Whoever else is named to answer: a refusal opens nothing."""
    run = waiting(terms=(ApprovalTerms(approvers=("ann",)),))

    run.outside(says("deny", by="rita"))

    assert run.phase == "denied"
    assert refused(run, says(by="ann")) == "E_APPROVAL_ANSWERED"


def test_nobody_is_no_approver() -> None:
    """An approval without a name proves nothing."""
    assert refused(waiting(), says(by=" ")) == "E_APPROVAL_BY"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"by": "bob"}, "E_APPROVAL_APPROVER"),
        ({"by": "bob", "groups": ("team:legal",)}, "E_APPROVAL_APPROVER"),
        ({"by": "bob", "groups": ("team:finance",)}, ""),
        ({"by": "ann"}, ""),
    ],
)
def test_only_who_is_named_may_answer(fields: Any, code: str) -> None:
    """By name, or by a group that the caller vouches for."""
    run = waiting(terms=(ApprovalTerms(approvers=("ann", "team:finance")),))

    if code:
        assert refused(run, says(**fields)) == code
    else:
        run.outside(says(**fields))
        assert run.phase == "approved"


def test_every_rule_that_asks_must_be_answered() -> None:
    """Two teams that must agree are two answers; the action waits for both."""
    terms = (ApprovalTerms(approvers=("ann",)), ApprovalTerms(approvers=("bob",)))
    run = waiting(terms=terms)

    run.outside(says(by="ann"))
    first = run.phase
    again = refused(run, says(by="ann"))
    run.outside(says(by="bob"))

    assert (first, again, run.phase) == ("open", "E_APPROVAL_ANSWERED", "approved")


def test_a_choice_must_be_offered_by_all_who_ask() -> None:
    """One rule that takes no edits is enough; a denial is always taken."""
    both = (ApprovalTerms(choices=("approve", "edit")), ApprovalTerms(choices=("approve", "deny")))

    assert common_choices(both) == ("approve", "deny")
    assert refused(waiting(terms=both), says("edit")) == "E_APPROVAL_CHOICE"


@pytest.mark.parametrize("answer", ["yes", "true", "APPROVE", "", None, True])
def test_only_the_answers_there_are_count(answer: Any) -> None:
    """Whatever is not a clear yes is none."""
    assert refused(waiting(), says(answer)) == "E_APPROVAL_DECISION"


def test_an_answer_names_what_was_seen() -> None:
    """An approval that was replaced meanwhile showed other bytes."""
    assert refused(waiting(), says(asked=1)) == "E_APPROVAL_STATE"


def test_what_is_denied_is_over() -> None:
    """No later answer opens it again."""
    run = waiting()
    run.outside(says("deny"))
    run.inside(ActionDenied(address="0", action=CALL, decision=DecisionRecord("deny"), error=ERROR))

    assert refused(run, says()) == "E_APPROVAL_STATE"
    assert run.head.approvals is NOBODY_ASKED


def test_a_question_shows_the_bytes_it_is_about() -> None:
    """Its digest is what a yes is bound to."""
    question = asks(digest=action_digest(OTHER))

    assert refused(Run(), question, inside=True) == "E_INVARIANT"


def test_an_action_is_asked_about_once_at_a_time() -> None:
    """A second question could hide the first answer."""
    assert refused(waiting(), asks(), inside=True) == "E_INVARIANT"


def test_the_author_of_an_edit_has_approved_it() -> None:
    """The edited action is in the journal as it will run, then starts."""
    run = waiting()
    run.outside(says("edit", args=OTHER.args))

    run.inside(asks(OTHER, edit=3, answered=True), wants(OTHER))

    assert run.phase == "used"


@pytest.mark.parametrize(
    ("event", "edit"),
    [(says(), 3), (says("deny"), 3), (says("edit"), 2), (None, 2), (None, 1)],
)
def test_nothing_else_answers_itself(event: Any, edit: int) -> None:
    """Only a person's edit lets a question be born answered."""
    run = waiting() if event is not None else Run()
    if event is not None:
        run.outside(event)

    assert refused(run, asks(OTHER, edit=edit, answered=True), inside=True) == "E_INVARIANT"


def test_an_edit_that_somebody_else_must_approve_is_asked_about() -> None:
    """Nobody edits an action past the people another rule names."""
    run = waiting()
    run.outside(says("edit", by="ann"))
    board = (ApprovalTerms(approvers=("board",)),)

    assert (
        refused(run, asks(OTHER, edit=3, answered=True, terms=board), inside=True) == "E_INVARIANT"
    )


def test_an_approval_does_not_expire_early() -> None:
    """A worker with a fast clock cannot take a person's time."""
    expired = ApprovalExpired(address="0", asked=2)

    assert refused(waiting(), expired, inside=True) == "E_INVARIANT"


def test_an_approval_expires_by_an_event() -> None:
    """What silence means is decided once, and stands in the journal."""
    run = waiting()
    run.now += DAY_MS * 1000

    run.inside(ApprovalExpired(address="0", asked=2))

    assert run.phase == "expired"
    assert refused(run, says()) == "E_APPROVAL_EXPIRED"


def test_a_resumed_run_asks_again() -> None:
    """What stopped it is decided anew, under the policy in force then."""
    run = Run()
    run.inside(asks(stops=True), Interrupted(error=ERROR))

    run.outside(Resumed(by="ann"))

    assert run.phase is None


def test_an_answer_that_lets_a_run_go_on_stands() -> None:
    """The resume that comes with it must not undo it."""
    run = Run()
    run.inside(asks(stops=True), Interrupted(error=ERROR))

    run.outside(says(), Resumed(by="ann"))

    assert run.phase == "approved"


def test_the_end_of_a_run_ends_its_approvals() -> None:
    """Nothing is left to answer."""
    run = waiting()

    run.inside(RunCompleted())

    assert run.head.approvals is NOBODY_ASKED


def test_names_are_compared_as_people_read_them() -> None:
    """Case, blanks and wide letters make nobody another person."""
    assert same_person("Ann ", "ann")
    assert not same_person("ann", "anne")
