"""The fold: which event may follow, what it does to the budget, and what a run waits for."""

from collections.abc import Sequence
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatebook.errors import IntegrityError
from gatebook.kernel.actions import CallTool, Sleep, WaitSignal
from gatebook.kernel.budget import Amount, Limits
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import (
    DOUBTFUL,
    ActionFailed,
    ActionRequested,
    ActionResolved,
    ActionSucceeded,
    ActionUnknown,
    AnyEvent,
    AttemptFailed,
    AttemptStarted,
    BudgetRaised,
    CancelRequested,
    Ends,
    ErrorRecord,
    Interrupted,
    Note,
    Resumed,
    RunCancelled,
    RunCompleted,
    RunFailed,
    SignalReceived,
    kind_of,
)
from gatebook.kernel.head import Head
from gatebook.kernel.state import RunState
from gatebook.kernel.status import STAYS, TERMINAL, TRANSITIONS, Status
from gatebook.kernel.waits import waits_of
from gatebook.testing.journal_facts.kit import started

ERROR = ErrorRecord("E_ACTION", "no")
ONE = Amount(tool_calls=1)


def asked(address: str = "0", action: Any = None, **fields: Any) -> ActionRequested:
    wanted = action or CallTool("t", Raw(b"{}"))
    return ActionRequested(address=address, action=wanted, reserve=ONE, **fields)


def done(address: str = "0", **fields: Any) -> ActionSucceeded:
    return ActionSucceeded(address=address, **fields)


def lost(address: str = "0") -> ActionUnknown:
    return ActionUnknown(address=address, error=ERROR)


def broke(address: str = "0", **fields: Any) -> AttemptFailed:
    return AttemptFailed(
        address=address, attempt=fields.pop("attempt", 0), delay_ms=5, error=ERROR, **fields
    )


def folded(*events: AnyEvent) -> RunState:
    state = RunState()
    for event in (started(), *events):
        state.apply(event)
    return state


def test_the_table_covers_every_event_kind() -> None:
    """A kind that no status takes could never be stored."""
    taken = {kind for _, kind in TRANSITIONS} | {kind for kinds in STAYS.values() for kind in kinds}

    assert taken == set(get_args(AnyEvent))


def test_nothing_but_audit_follows_the_end() -> None:
    """A run ends once."""
    for status in TERMINAL:
        assert STAYS[status] == {Note, ActionResolved}
        assert not [kind for state, kind in TRANSITIONS if state is status]


@pytest.mark.parametrize("event", [RunCompleted(), started(), asked(), Interrupted(error=ERROR)])
def test_an_event_that_cannot_follow_is_refused(event: AnyEvent) -> None:
    """By kind and status, in words."""
    state = folded(RunFailed(error=ERROR))

    with pytest.raises(IntegrityError) as caught:
        state.apply(event)

    assert caught.value.code == "E_TRANSITION"


def test_nothing_starts_while_a_person_must_look() -> None:
    """Interrupted and cancelling runs record outcomes and start nothing."""
    for status in (Status.INTERRUPTED, Status.CANCELLING):
        assert not STAYS[status] & {ActionRequested, AttemptStarted}


def test_a_request_reserves_and_its_outcome_settles() -> None:
    """What was really used replaces what was set aside."""
    state = folded(asked())
    before = (state.head.reserved, state.head.spent)
    state.apply(done(spent=Amount(tool_calls=1, wall_ms=20)))

    assert before == (ONE, Amount())
    assert (state.head.reserved, state.head.spent) == (Amount(), Amount(tool_calls=1, wall_ms=20))


def test_an_unmeasured_outcome_is_charged_as_reserved() -> None:
    """Not knowing is not free."""
    state = folded(asked(), done())

    assert (state.head.reserved, state.head.spent) == (Amount(), ONE)


def test_a_lost_attempt_is_charged_when_the_next_starts() -> None:
    """It was an attempt."""
    state = folded(asked(), AttemptStarted(address="0", attempt=1, reserve=ONE, cause="recovery"))

    assert (state.head.reserved, state.head.spent) == (ONE, ONE)
    assert state.head.open["0"].lost == 1


def test_a_failed_attempt_frees_its_reservation_while_it_waits() -> None:
    """A back-off holds nothing."""
    state = folded(asked(), broke(spent=Amount(tool_calls=1)))

    assert (state.head.reserved, state.head.open["0"].phase) == (Amount(), "backoff")


def test_attempts_are_counted_without_gaps() -> None:
    """Attempt 2 does not follow attempt 0."""
    with pytest.raises(IntegrityError) as caught:
        folded(asked(), AttemptStarted(address="0", attempt=2))

    assert caught.value.code == "E_INVARIANT"


def test_an_address_is_requested_once() -> None:
    """Two actions at one place have one key."""
    with pytest.raises(IntegrityError):
        folded(asked(), asked())


@pytest.mark.parametrize("event", [done("9"), broke("9"), lost("9")])
def test_an_outcome_of_nothing_is_refused(event: AnyEvent) -> None:
    """What was not asked for cannot be answered."""
    with pytest.raises(IntegrityError) as caught:
        folded(event)

    assert caught.value.code == "E_ACTION_NOT_OPEN"


def test_an_unknown_action_holds_its_reservation_until_it_is_resolved() -> None:
    """It may have been used."""
    state = folded(asked(), lost())
    held = state.head.reserved
    state.apply(ActionResolved(address="0", resolution="succeeded"))

    assert (held, state.head.reserved, state.head.spent) == (ONE, Amount(), ONE)


def test_an_ordered_start_is_due_at_once() -> None:
    """A person has waited long enough."""
    state = folded(asked(), lost(), ActionResolved(address="0", resolution="retry", time=7))

    assert (state.head.open["0"].phase, state.next_due) == ("backoff", 7)
    assert state.ordered == {"0"}


@pytest.mark.parametrize(
    ("events", "doubted"),
    [
        ([asked()], False),
        ([asked(), broke()], False),
        ([asked(), AttemptFailed(address="0", attempt=0, delay_ms=0,
                                 error=ErrorRecord("E", "x", category=DOUBTFUL))], True),
        ([asked(), lost()], True),
        ([asked(), AttemptStarted(address="0", attempt=1, cause="recovery")], True),
        ([asked(), broke(), AttemptStarted(address="0", attempt=1)], False),
        ([asked(), lost(), ActionResolved(address="0", resolution="retry")], True),
        ([asked(), lost(), ActionResolved(address="0", resolution="failed")], False),
        ([asked(), AttemptStarted(address="0", attempt=1, cause="recovery"), done()], False),
    ],
)  # fmt: skip
def test_doubt_lasts_until_the_action_is_answered(
    events: Sequence[AnyEvent], doubted: bool
) -> None:
    """A later attempt says nothing about an earlier one."""
    assert ("0" in folded(*events).doubts) is doubted


def test_a_resumed_run_counts_its_losses_anew() -> None:
    """The person who looked has said go on."""
    state = folded(
        asked(), AttemptStarted(address="0", attempt=1, cause="recovery"),
        Interrupted(error=ERROR), Resumed(),
    )  # fmt: skip

    assert state.head.open["0"].lost == 0
    assert "0" in state.doubts


def test_the_end_charges_what_is_still_unknown() -> None:
    """Nobody will ever say."""
    state = folded(asked(), lost(), CancelRequested(), RunCancelled(unknown=("0",)))

    assert (state.head.reserved, state.head.spent) == (Amount(), ONE)


def test_signals_are_taken_by_seq() -> None:
    """The outcome names the signal it consumed."""
    wait = WaitSignal("go")
    state = folded(
        SignalReceived(name="go", payload=Raw(b"1")), SignalReceived(name="go", payload=Raw(b"2")),
        asked("0", wait), done("0", consumed=2),
    )  # fmt: skip

    assert [seq for seq, _ in state.signals["go"]] == [3]
    assert state.head.kept_signals == 1
    assert not state.waits["go"]


def test_a_raised_budget_replaces_the_meters_it_names() -> None:
    """The others stay."""
    state = RunState()
    state.apply(started(limits=Limits(tool_calls=1, llm_tokens=5)))
    state.apply(BudgetRaised(limits=Limits(tool_calls=3)))

    assert state.head.limits == Limits(tool_calls=3, llm_tokens=5)


@pytest.mark.parametrize(
    ("events", "waits"),
    [
        ([asked()], ""),
        ([asked("0", Sleep(5))], "sleep 0"),
        ([asked("0", WaitSignal("go"))], "signal go"),
        ([asked(), broke()], "retry 0"),
        ([asked(), lost()], "resolve 0"),
        ([asked(), lost(), asked("1", WaitSignal("go"))], "resolve 0, signal go"),
        ([asked(), Interrupted(error=ERROR)], "resume"),
    ],
)
def test_what_a_run_waits_for_is_said_in_words(events: Sequence[AnyEvent], waits: str) -> None:
    """People read it in a list of runs."""
    assert waits_of(folded(*events)) == waits


@pytest.mark.parametrize(
    ("events", "due"),
    [
        ([asked()], None),
        ([asked("0", Sleep(5), time=10)], 5_010),
        ([asked("0", WaitSignal("go", 7), time=10)], 7_010),
        ([asked("0", WaitSignal("go"), time=10)], None),
        ([asked(), broke(time=10)], 5_010),
        ([asked("0", Sleep(5)), asked("1", Sleep(3))], 3_000),
        ([asked("0", Sleep(3)), asked("1", Sleep(5))], 3_000),
        ([asked("0", Sleep(5)), Interrupted(error=ERROR)], None),
        ([asked("0", Sleep(5)), CancelRequested()], None),
    ],
)
def test_the_next_due_time_is_the_earliest(events: Sequence[AnyEvent], due: int | None) -> None:
    """And none when only people can move the run."""
    assert folded(*events).next_due == due


def test_a_copied_head_does_not_change_with_the_first() -> None:
    """A refused batch must leave no trace."""
    head = folded(asked()).head
    copy = head.copy()
    head.apply(done())

    assert list(copy.open) == ["0"]
    assert head.open == {}


OUTCOMES = st.sampled_from(["ok", "fail", "again", "unknown"])


@given(st.lists(st.tuples(OUTCOMES, st.integers(0, 3)), max_size=12))
def test_the_books_balance_at_every_prefix(steps: list[tuple[str, int]]) -> None:
    """Reserved is the sum of what open actions hold, and nothing is ever negative."""
    state = folded()
    for n, (what, spent) in enumerate(steps):
        address = str(n)
        events: dict[str, list[AnyEvent]] = {
            "ok": [done(address, spent=Amount(tool_calls=spent))],
            "fail": [ActionFailed(address=address, error=ERROR)],
            "again": [broke(address), AttemptStarted(address=address, attempt=1, reserve=ONE)],
            "unknown": [lost(address)],
        }
        for event in (asked(address), *events[what]):
            state.apply(event)
            held = sum(entry.reserve.tool_calls for entry in state.head.open.values())
            assert state.head.reserved.tool_calls == held
            assert state.head.spent.tool_calls >= 0


def test_equal_journals_give_equal_digests() -> None:
    """And other ones others."""
    events = (asked(), done(), RunCompleted(output=Raw(b"1")))

    assert folded(*events).digest() == folded(*events).digest()
    assert folded(*events).digest() != folded(*events[:2]).digest()


def test_every_end_is_terminal() -> None:
    """The union of ends and the set of statuses agree."""
    for kind in get_args(Ends):
        status = {s for (_, event), s in TRANSITIONS.items() if event is kind}
        assert status <= TERMINAL, kind_of(kind)
    assert Head().terminal is False
