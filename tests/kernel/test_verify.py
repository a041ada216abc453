"""What a verification must find: changed bytes, cut tails, and facts that cannot be true."""

from collections.abc import Sequence
from typing import Any

import pytest

from gatebook.errors import GatebookError, IntegrityError
from gatebook.kernel.actions import CallTool
from gatebook.kernel.append import Batch, Row, admit
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
    CancelRequested,
    ErrorRecord,
    Note,
    RunCancelled,
    RunCompleted,
    RunFailed,
)
from gatebook.kernel.head import Head
from gatebook.kernel.status import Status
from gatebook.kernel.stored import chain
from gatebook.kernel.verify import verify_chain, verify_facts
from gatebook.testing.journal_facts.kit import started

LOST = ErrorRecord("E_UNKNOWN_LOST", "lost")


def asked(address: str = "a", **fields: Any) -> ActionRequested:
    return ActionRequested(address=address, action=CallTool("t", Raw(b"{}")), **fields)


def stored(*events: AnyEvent) -> tuple[list[Row], Head]:
    """Append events one by one, as a journal would."""
    head, rows = Head(epoch=1), []
    for number, event in enumerate(events):
        batch = Batch(events=(event,), append_id=bytes([number] * 16), epoch=1, after=head.seq)
        rows += admit(head, batch, now=number * 10, run="r")
    return rows, head


def raw(rows: Sequence[Row]) -> list[tuple[int, bytes, bytes, bytes]]:
    return [(row.seq, row.prev_hash, row.hash, row.body) for row in rows]


def folded(*events: AnyEvent) -> Head:
    """Return the head that a store without any guard would hold."""
    head = Head()
    for event in events:
        head.apply(event)
    return head


def refusal(*events: AnyEvent, anchor: Head | None = None) -> str:
    """Return why events are refused that a store without guards accepted."""
    with pytest.raises(IntegrityError) as caught:
        verify_facts("r", events, anchor or folded(*events))
    return str(caught.value)


GOOD: tuple[AnyEvent, ...] = (
    started(limits=Limits(tool_calls=2)),
    asked(reserve=Amount(1)),
    ActionSucceeded(address="a", spent=Amount(1)),
    Note(text="x"),
    asked("b", reserve=Amount(1), effect="at_most_once"),
    ActionFailed(address="b", error=LOST),
    RunCompleted(output=Raw(b"1")),
    Note(text="late"),
)


def test_a_good_run_verifies() -> None:
    """A check that cries wolf is switched off."""
    rows, head = stored(*GOOD)

    verify_chain("r", raw(rows), head)
    verify_facts("r", [row.event for row in rows], head)


def chain_refusal(rows: Sequence[tuple[int, bytes, bytes, bytes]], head: Head) -> GatebookError:
    with pytest.raises(IntegrityError) as caught:
        verify_chain("r", rows, head)
    return caught.value


def test_a_changed_byte_is_found_at_its_seq() -> None:
    """The one thing a hash is for."""
    rows, head = stored(*GOOD)
    found = raw(rows)
    seq, before, after, body = found[3]
    found[3] = (seq, before, after, body.replace(b'"x"', b'"y"'))

    error = chain_refusal(found, head)

    assert (error.code, error.fields["seq"]) == ("E_JOURNAL_CORRUPT", 4)


def test_a_tail_that_was_rewritten_with_new_hashes_is_found_by_the_anchor() -> None:
    """Whoever can edit a row can compute sha256."""
    rows, head = stored(*GOOD)
    found = raw(rows)
    seq, before, _, body = found[-1]
    body = body.replace(b"late", b"soon")
    found[-1] = (seq, before, chain(before, seq, body), body)

    error = chain_refusal(found, head)

    assert (error.code, error.fields["seq"]) == ("E_JOURNAL_CORRUPT", 8)


def test_a_broken_link_is_found_at_the_later_event() -> None:
    """An event moved here from another run has a good hash of its own."""
    rows, head = stored(*GOOD)
    found = raw(rows)
    other = bytes(32)
    body = found[2][3]
    found[2] = (3, other, chain(other, 3, body), body)

    error = chain_refusal(found, head)

    assert (error.code, error.fields["seq"]) == ("E_JOURNAL_CORRUPT", 3)


def test_a_link_that_was_changed_alone_is_found() -> None:
    """The hash is still good: it was made over another link."""
    rows, head = stored(*GOOD)
    found = raw(rows)
    seq, _, after, body = found[2]
    found[2] = (seq, bytes(32), after, body)

    error = chain_refusal(found, head)

    assert (error.code, error.fields["seq"]) == ("E_JOURNAL_CORRUPT", 3)


def test_a_cut_tail_is_found_by_the_anchor() -> None:
    """A prefix of a chain is a good chain."""
    rows, head = stored(*GOOD)

    error = chain_refusal(raw(rows[:-2]), head)

    assert error.code == "E_JOURNAL_TRUNCATED"
    assert (error.fields["got"], error.fields["want"]) == (6, 8)


def test_a_missing_event_is_a_gap() -> None:
    """It must be told apart from a changed one: it is restored differently."""
    rows, head = stored(*GOOD)

    error = chain_refusal(raw([*rows[:2], *rows[3:]]), head)

    assert (error.code, error.fields["seq"]) == ("E_JOURNAL_GAP", 3)


def test_a_repeated_event_is_a_duplicate() -> None:
    """A restored backup put on top of the store looks like this."""
    rows, head = stored(*GOOD)

    error = chain_refusal(raw([*rows[:3], *rows[2:]]), head)

    assert (error.code, error.fields["seq"]) == ("E_JOURNAL_DUPLICATE", 3)


@pytest.mark.parametrize("field", ["spent", "reserved", "limits", "status", "kept_signals"])
def test_a_head_that_differs_from_its_events_is_found(field: str) -> None:
    """The next append is checked against the head, so an edited head opens the gate."""
    rows, head = stored(*GOOD)
    other = {
        "spent": Amount(9), "reserved": Amount(9), "limits": Limits(tool_calls=99),
        "status": Status.RUNNING, "kept_signals": 4,
    }  # fmt: skip
    setattr(head, field, other[field])

    with pytest.raises(IntegrityError, match=f"differ in {field}"):
        verify_facts("r", [row.event for row in rows], head)


def test_a_request_above_the_limit_is_found() -> None:
    """Promise 5: an over-budget action is never started."""
    text = refusal(
        started(limits=Limits(tool_calls=1)),
        asked(reserve=Amount(1)),
        asked("b", reserve=Amount(1)),
    )

    assert "seq 3: 1 + 1 is above the limit of 1 tool_calls" in text


def test_a_further_attempt_above_the_limit_is_found() -> None:
    """Each attempt reserves anew."""
    failed = AttemptFailed(address="a", attempt=0, error=LOST, delay_ms=1, spent=Amount(1))
    again = AttemptStarted(address="a", attempt=1, reserve=Amount(1))

    assert "1 + 1 is above the limit of 1 tool_calls" in refusal(
        started(limits=Limits(tool_calls=1)), asked(reserve=Amount(1)), failed, again
    )


def test_an_overrun_by_an_outcome_is_no_violation() -> None:
    """Real usage may overshoot its estimate; only the next request is refused."""
    events = (
        started(limits=Limits(llm_tokens=10)),
        asked(reserve=Amount(0, 10)),
        ActionSucceeded(address="a", spent=Amount(0, 14)),
    )

    verify_facts("r", events, folded(*events))


def test_a_second_start_of_an_at_most_once_action_is_found() -> None:
    """Promise 3: it starts at most once, unless a person orders another start."""
    text = refusal(
        started(),
        asked(effect="at_most_once"),
        AttemptStarted(address="a", attempt=1, cause="recovery"),
    )

    assert "seq 3: a may start once and was started again unresolved" in text


@pytest.mark.parametrize(
    "between",
    [
        (
            ActionUnknown(address="a", error=LOST),
            ActionResolved(address="a", resolution="retry", by="ann"),
        ),
        (AttemptFailed(address="a", attempt=0, error=LOST, delay_ms=1),),
    ],
)
def test_a_second_start_that_was_ordered_or_proved_safe_is_fine(
    between: tuple[AnyEvent, ...],
) -> None:
    """A person's order, or an attempt that proved nothing was sent, allows another start."""
    again = AttemptStarted(address="a", attempt=1, cause="resolved")
    events = (started(), asked(effect="at_most_once"), *between, again)

    verify_facts("r", events, folded(*events))


def test_a_second_outcome_is_found() -> None:
    """Promise 2: a recorded success is never executed again."""
    events = (started(), asked(), ActionSucceeded(address="a"), ActionSucceeded(address="a"))

    assert "second outcome" in refusal(*events, anchor=Head())


def test_an_address_that_is_asked_for_twice_is_found() -> None:
    """The same address is the same idempotency key."""
    events = (started(), asked(), ActionSucceeded(address="a"), asked())

    assert "requested twice" in refusal(*events)


def test_an_end_that_forgets_an_action_is_found() -> None:
    """Every request is answered before a run may end."""
    text = refusal(started(), asked(), ActionUnknown(address="a", error=LOST), RunCompleted())

    assert "without an outcome are: a" in text


def test_a_cancelled_run_may_end_with_the_unknown_actions_it_names() -> None:
    """Cancelling must not need an answer that nobody has."""
    events = (
        started(),
        asked(),
        ActionUnknown(address="a", error=LOST),
        CancelRequested(),
        RunCancelled(unknown=("a",)),
        ActionResolved(address="a", resolution="succeeded", by="ann"),
    )

    verify_facts("r", events, folded(*events))


@pytest.mark.parametrize(
    ("code", "resolution"),
    [("E_RUN_TOO_LONG", None), ("E_WORKFLOW", None), ("E_RUN_TOO_LONG", "retry")],
)
def test_a_run_that_is_full_may_end_with_unknown_actions(code: str, resolution: Any) -> None:
    """Nothing can be added to it that would say more; any other failure waits for a person."""
    events: list[AnyEvent] = [started(), asked(), ActionUnknown(address="a", error=LOST)]
    if resolution:
        events.append(ActionResolved(address="a", resolution=resolution, by="ann"))
    events.append(RunFailed(error=ErrorRecord(code, "over")))

    if code == "E_RUN_TOO_LONG" and not resolution:
        verify_facts("r", events, folded(*events))
    else:
        assert "without an outcome are: a" in refusal(*events)


def test_an_event_after_the_end_is_found() -> None:
    """A run that is over stays over."""
    text = refusal(started(), RunCompleted(), asked(), anchor=Head())

    assert "E_TRANSITION" in text


def test_an_event_of_an_older_epoch_after_a_newer_one_is_found() -> None:
    """A fenced worker's write must never have been accepted."""
    text = refusal(started(epoch=0), asked(epoch=2), ActionSucceeded(address="a", epoch=1))

    assert "epoch 1 wrote after epoch 2" in text


def test_time_that_runs_backwards_is_found() -> None:
    """Stamps come from the append, which never goes below the last one."""
    assert "its time is before" in refusal(started(time=9), Note(text="x", time=8))
