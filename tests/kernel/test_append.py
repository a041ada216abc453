"""The append: which batches are refused, and that a refused one leaves no trace."""

from typing import Any

import pytest

from gatebook.errors import Fenced, GatebookError, InvalidInput, RunIsOver, StoreError
from gatebook.kernel.actions import CallTool
from gatebook.kernel.append import (
    DETACH,
    MAX_EVENTS,
    MAX_KEPT_SIGNALS,
    Batch,
    BudgetShort,
    Row,
    SeqMismatch,
    admit,
)
from gatebook.kernel.budget import Amount, Limits
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import (
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
    ErrorRecord,
    Interrupted,
    Note,
    Resumed,
    RunCancelled,
    RunCompleted,
    SignalReceived,
)
from gatebook.kernel.head import Head
from gatebook.kernel.status import Status
from gatebook.kernel.stored import GENESIS, attach, chain, decode
from gatebook.testing.journal_facts.kit import started

ERROR = ErrorRecord("E_ACTION", "no")
ONE = Amount(tool_calls=1)
CALL = CallTool("t", Raw(b"{}"))


def asked(address: str = "0") -> ActionRequested:
    return ActionRequested(address=address, action=CALL, reserve=ONE)


def again(address: str = "0", attempt: int = 1) -> AttemptStarted:
    return AttemptStarted(address=address, attempt=attempt, reserve=ONE)


def added(head: Head, *events: AnyEvent, now: int = 100, **fields: Any) -> list[Row]:
    batch = Batch(events=events, append_id=b"id", **fields)
    return admit(head, batch, now=now, run="r")


def begun(*events: AnyEvent, limits: Limits = Limits(tool_calls=5)) -> Head:  # noqa: B008
    """A run under epoch 1 after these events."""
    head = Head()
    added(head, started(limits=limits), after=0)
    head.epoch = 1
    for event in events:
        added(head, event, epoch=1, after=head.seq)
    return head


def test_a_stale_epoch_is_fenced() -> None:
    """Another worker has the run."""
    with pytest.raises(Fenced):
        added(begun(), Note(text="x"), epoch=0)


def test_a_run_nobody_claimed_has_no_worker() -> None:
    """Epoch 0 is before the first claim: whoever carries it owns nothing."""
    head = begun()
    head.epoch = 0

    with pytest.raises(Fenced):
        added(head, asked(), epoch=0, after=1)


def test_an_unexpected_seq_is_a_mismatch() -> None:
    """Somebody appended first."""
    with pytest.raises(SeqMismatch):
        added(begun(), asked(), epoch=1, after=0)


def test_a_request_needs_an_expected_seq() -> None:
    """It was decided on what was known then."""
    with pytest.raises(StoreError, match="without an expected seq"):
        added(begun(), asked(), epoch=1)


def test_an_outcome_needs_no_expected_seq() -> None:
    """It is true whatever was appended meanwhile."""
    head = begun(asked())
    added(head, SignalReceived(name="go"))

    added(head, ActionSucceeded(address="0"), epoch=1)

    assert head.open == {}


@pytest.mark.parametrize("event", [CancelRequested(), SignalReceived(name="go")])
def test_no_guard_refuses_an_outcome(event: AnyEvent) -> None:
    """What has happened has happened, also after a cancel and over any budget."""
    head = begun(asked())
    added(head, event)

    added(head, ActionSucceeded(address="0", spent=Amount(tool_calls=99)), epoch=1)

    assert head.spent.tool_calls == 99


@pytest.mark.parametrize(
    "event",
    [asked(), ActionSucceeded(address="0"), RunCompleted(), Interrupted(error=ERROR), again()],
)
def test_a_workers_events_need_a_claim(event: AnyEvent) -> None:
    """Anybody may say something; only the owner may act."""
    with pytest.raises(StoreError) as caught:
        added(begun(), event)

    assert caught.value.code == "E_EVENT_EXTERNAL"


@pytest.mark.parametrize(
    "event",
    [
        SignalReceived(name="go"), CancelRequested(), Note(text="x"),
        BudgetRaised(limits=Limits(tool_calls=9)),
    ],
)  # fmt: skip
def test_anybody_may_say_these(event: AnyEvent) -> None:
    """No claim, no expected seq; each has its own guard."""
    head = begun()

    (row,) = added(head, event)

    assert (row.seq, row.event.epoch) == (2, 0)


def test_nothing_starts_after_a_cancel() -> None:
    """Whatever the worker believed when it asked."""
    head = begun(asked())
    added(head, CancelRequested())

    for event in (asked("1"), again()):
        with pytest.raises(InvalidInput) as caught:
            added(head.copy(), event, epoch=1, after=head.seq)
        assert caught.value.code == "E_NOT_STARTING"


def test_nothing_starts_while_interrupted() -> None:
    """A person must look first."""
    head = begun(Interrupted(error=ERROR))

    with pytest.raises(InvalidInput) as caught:
        added(head, asked(), epoch=1, after=head.seq)

    assert caught.value.code == "E_NOT_STARTING"


def test_what_does_not_fit_the_budget_is_refused_inside_the_append() -> None:
    """Check and reservation are one transaction."""
    head = begun(*(asked(str(n)) for n in range(5)))

    with pytest.raises(BudgetShort) as caught:
        added(head, asked("5"), epoch=1, after=head.seq)

    assert caught.value.code == "E_BUDGET"


def test_a_further_attempt_is_counted_too() -> None:
    """A retry is charged, so it can be refused."""
    head = begun(asked(), limits=Limits(tool_calls=1))

    with pytest.raises(BudgetShort):
        added(head, again(), epoch=1, after=head.seq)


def test_a_full_run_takes_no_request() -> None:
    """It still takes the outcomes of what it asked."""
    head = begun(asked())
    head.seq = MAX_EVENTS

    with pytest.raises(BudgetShort) as caught:
        added(head.copy(), asked("1"), epoch=1, after=head.seq)
    added(head, ActionSucceeded(address="0"), epoch=1)

    assert caught.value.code == "E_RUN_TOO_LONG"


def test_an_unknown_action_does_not_start_again_by_itself() -> None:
    """A person's order comes first."""
    head = begun(asked(), ActionUnknown(address="0", error=ERROR))

    with pytest.raises(StoreError, match="cannot start again"):
        added(head, again(), epoch=1, after=head.seq)


@pytest.mark.parametrize(
    "event",
    [
        ActionSucceeded(address="0"),
        ActionFailed(address="0", error=ERROR),
        ActionUnknown(address="0", error=ERROR),
        AttemptFailed(address="0", attempt=0, error=ERROR, delay_ms=1),
    ],
)
@pytest.mark.parametrize("ending", [ActionSucceeded(address="0"), None])
def test_an_answered_action_takes_no_second_outcome(event: AnyEvent, ending: Any) -> None:
    """Not after its end, and not while a person is asked."""
    head = begun(asked(), ending or ActionUnknown(address="0", error=ERROR))

    with pytest.raises(InvalidInput) as caught:
        added(head, event, epoch=1)

    assert caught.value.code == "E_ACTION_NOT_OPEN"


@pytest.mark.parametrize("events", [[], [asked()], [asked(), ActionSucceeded(address="0")]])
def test_only_an_unknown_action_can_be_resolved(events: list[AnyEvent]) -> None:
    """First wins, the second is told."""
    with pytest.raises(InvalidInput) as caught:
        added(begun(*events), ActionResolved(address="0", resolution="succeeded"))

    assert caught.value.code == "E_ACTION_NOT_UNKNOWN"


def test_kept_signals_are_limited() -> None:
    """A sender in a loop must not fill the store."""
    head = begun()
    head.kept_signals = MAX_KEPT_SIGNALS

    with pytest.raises(InvalidInput) as caught:
        added(head, SignalReceived(name="go"))

    assert caught.value.code == "E_SIGNAL_LIMIT"


def test_a_second_cancel_is_told() -> None:
    """It changes nothing."""
    head = begun()
    added(head, CancelRequested())

    with pytest.raises(InvalidInput) as caught:
        added(head, CancelRequested())

    assert caught.value.code == "E_ALREADY_CANCELLING"


def test_only_an_interrupted_run_resumes() -> None:
    """A button pressed twice."""
    with pytest.raises(InvalidInput) as caught:
        added(begun(), Resumed())

    assert caught.value.code == "E_NOT_INTERRUPTED"


def test_a_run_does_not_end_with_unanswered_actions() -> None:
    """Every request has an outcome."""
    head = begun(asked())

    with pytest.raises(StoreError, match="unanswered actions 0"):
        added(head, RunCompleted(), epoch=1, after=head.seq)


def test_a_run_may_end_with_unknown_actions() -> None:
    """They are answered: nobody knows."""
    head = begun(asked(), ActionUnknown(address="0", error=ERROR))
    added(head, CancelRequested())

    added(head, RunCancelled(unknown=("0",)), epoch=1)

    assert head.status is Status.CANCELLED


@pytest.mark.parametrize("event", [SignalReceived(name="go"), CancelRequested(), Resumed()])
def test_a_finished_run_takes_no_more(event: AnyEvent) -> None:
    """The sender hears that it is over."""
    with pytest.raises(RunIsOver) as caught:
        added(begun(RunCompleted()), event)

    assert caught.value.code == "E_RUN_TERMINAL"


def test_a_finished_run_takes_audit_notes() -> None:
    """And what a person found out about an unknown action."""
    head = begun(asked(), ActionUnknown(address="0", error=ERROR), RunCompleted())

    added(head, Note(text="x"), ActionResolved(address="0", resolution="failed"))

    assert head.status is Status.COMPLETED


def test_stamps_never_go_back() -> None:
    """The clock may; the run's time may not."""
    head = begun()
    (first,) = added(head, Note(text="x"), now=500)
    (second,) = added(head, Note(text="y"), now=400)

    assert (first.time, second.time) == (500, 500)


@pytest.mark.parametrize(("asked_for", "stamped"), [(150, 150), (99, 200), (201, 200)])
def test_a_workers_stamp_is_taken_when_it_is_possible(asked_for: int, stamped: int) -> None:
    """Between the last event and the store's clock; else the store's counts."""
    (row,) = added(begun(), Note(text="x"), now=200, epoch=1, after=1, time=asked_for)

    assert row.time == stamped


def test_rows_are_chained() -> None:
    """Each hash covers the one before, the seq and the stored bytes."""
    head = begun()
    rows = added(head, Note(text="x"), Note(text="y"))

    assert rows[0].prev_hash != GENESIS
    for row in rows:
        assert row.hash == chain(row.prev_hash, row.seq, row.body)
    assert rows[1].prev_hash == rows[0].hash
    assert head.hash == rows[1].hash


def test_the_rows_event_is_what_a_reader_of_the_bytes_sees() -> None:
    """Live state and replayed state are the same."""
    (row,) = added(begun(), Note(text="x"), epoch=1, after=1)

    assert decode(row.body, run="r", seq=row.seq) == row.event


def test_a_large_body_is_kept_apart_and_proved_by_its_envelope() -> None:
    """Erasable, and still part of the chain."""
    (row,) = added(begun(), Note(text="x" * (DETACH + 1)))

    assert row.blob is not None
    assert len(row.body) < 500
    assert decode(attach(row.body, row.blob[1], run="r", seq=2), run="r", seq=2) == row.event
    with pytest.raises(GatebookError) as caught:
        attach(row.body, row.blob[1] + b" ", run="r", seq=2)
    assert caught.value.code == "E_JOURNAL_CORRUPT"
