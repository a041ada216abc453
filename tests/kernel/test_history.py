"""Reading events back: the timeline, the meters and the costs that people see."""

from typing import Any

from gatebook.kernel.actions import CallLLM, CallTool, Prompt, Sleep, WaitSignal
from gatebook.kernel.budget import Amount, Limits
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import (
    ActionDenied,
    ActionFailed,
    ActionRequested,
    ActionResolved,
    ActionSucceeded,
    ActionUnknown,
    AnyEvent,
    AttemptFailed,
    AttemptStarted,
    DecisionRecord,
    ErrorRecord,
)
from gatebook.kernel.head import Head
from gatebook.kernel.history import Meter, TimelineRow, costs, timeline, totals
from gatebook.kernel.messages import Usage
from gatebook.testing.journal_facts.kit import started

HELLO = Prompt("d" * 64, size=40)


def asked(address: str = "t0.0", action: Any = None, **fields: Any) -> ActionRequested:
    call = CallTool("refund", Raw(b'{"order":"17"}'))
    return ActionRequested(address=address, action=action or call, **fields)


def only(*events: AnyEvent) -> TimelineRow:
    (row,) = timeline([started(), *events])
    return row


def test_a_row_names_the_request_the_tool_and_its_arguments() -> None:
    """People look for what was done with what."""
    row = only(asked(effect="at_most_once", time=5))

    shown = (row.seq, row.address, row.kind, row.what, row.effect, row.started, row.args)
    assert shown == (2, "t0.0", "tool", "refund", "at_most_once", 5, Raw(b'{"order":"17"}'))


def test_an_open_tool_is_running_and_an_open_wait_waits() -> None:
    """Nobody should look for a process behind a wait."""
    rows = timeline([started(), asked("a"), asked("b", Sleep(1000)), asked("c", WaitSignal("go"))])

    assert [(row.kind, row.status) for row in rows] == [
        ("tool", "running"), ("sleep", "waiting"), ("signal", "waiting"),
    ]  # fmt: skip


def test_a_success_has_its_duration_and_output() -> None:
    """The two numbers people look for."""
    row = only(asked(time=100), ActionSucceeded(address="t0.0", output=Raw(b"7"), time=350))

    assert (row.status, row.duration_us, row.output) == ("succeeded", 250, Raw(b"7"))


def test_a_failed_attempt_shows_its_error_until_another_succeeds() -> None:
    """A back-off without its reason looks like a hang."""
    error = ErrorRecord("E_ACTION", "busy", "transient")
    events: list[AnyEvent] = [
        asked(),
        AttemptFailed(address="t0.0", attempt=0, error=error, delay_ms=500),
    ]

    waits = only(*events)
    done = only(*events, AttemptStarted(address="t0.0", attempt=1), ActionSucceeded(address="t0.0"))

    assert (waits.status, waits.error) == ("backoff", "busy")
    assert (done.status, done.error, done.attempts) == ("succeeded", "", 2)


def test_an_action_that_is_tried_again_has_begun_with_its_last_attempt() -> None:
    """How long something may hang is counted from there, how long it took from its request."""
    again = AttemptStarted(address="t0.0", attempt=1, time=700)

    first, second = only(asked(time=200)), only(asked(time=200), again)

    assert (first.started, first.begun) == (200, 200)
    assert (second.started, second.begun) == (200, 700)


def test_a_denied_action_was_never_attempted_and_names_its_rule() -> None:
    """That it never started is the promise; which rule said so is the next question."""
    row = only(
        ActionDenied(
            address="t0.0",
            action=CallTool("rm", Raw(b"{}")),
            decision=DecisionRecord("deny", "no-rm", "never"),
            error=ErrorRecord("E_POLICY_DENIED", "policy denied 'rm': never"),
        )
    )

    assert (row.status, row.attempts, row.rule) == ("denied", 0, "no-rm")
    assert (row.code, row.error) == ("E_POLICY_DENIED", "policy denied 'rm': never")


def test_an_action_that_the_cancel_stopped_reads_as_cancelled() -> None:
    """It did not fail by itself."""
    error = ErrorRecord("E_ACTION_CANCELLED", "cancelled")

    row = only(asked(), ActionFailed(address="t0.0", error=error))

    assert row.status == "cancelled"


def test_an_unknown_action_says_so_until_somebody_resolves_it() -> None:
    """Unknown is the state that needs a person."""
    lost = ActionUnknown(address="t0.0", error=ErrorRecord("E_UNKNOWN_LOST", "lost"))
    resolved = ActionResolved(address="t0.0", resolution="succeeded", output=Raw(b'"ok"'), by="ann")

    before, after = only(asked(), lost), only(asked(), lost, resolved)

    assert (before.status, before.code) == ("unknown", "E_UNKNOWN_LOST")
    assert (after.status, after.output, after.resolved_by) == ("succeeded", Raw(b'"ok"'), "ann")


def test_a_lost_attempt_is_charged_at_its_reservation() -> None:
    """The timeline's sums must be those of the budget."""
    events: list[AnyEvent] = [
        asked(reserve=Amount(1, 0, 60)),
        AttemptStarted(address="t0.0", attempt=1, reserve=Amount(1, 0, 60), cause="recovery"),
        ActionSucceeded(address="t0.0", spent=Amount(1, 0, 7)),
    ]

    assert only(*events).charged == Amount(2, 0, 67)


def test_the_charges_of_a_timeline_add_up_to_what_the_head_spent() -> None:
    """Two ways to count the same thing, one answer."""
    events: list[AnyEvent] = [
        started(),
        asked("a", reserve=Amount(1, 0, 50)),
        asked("b", CallLLM("x", "m", HELLO), reserve=Amount(0, 4000, 50)),
        AttemptFailed(address="b", attempt=0, error=ErrorRecord("E", "x"), delay_ms=1),
        ActionSucceeded(address="a", spent=Amount(1, 0, 3)),
        AttemptStarted(address="b", attempt=1, reserve=Amount(0, 4000, 50)),
        ActionSucceeded(address="b", spent=Amount(0, 21, 2)),
    ]
    head = Head()
    for event in events:
        head.apply(event)

    assert sum((row.charged for row in timeline(events)), Amount()) == head.spent


def test_totals_show_spent_reserved_and_limit_of_each_meter() -> None:
    """A meter without its limit says nothing about what is left."""
    head = Head()
    head.apply(started(limits=Limits(tool_calls=3)))
    head.apply(asked(reserve=Amount(tool_calls=1)))

    assert totals(head)[0] == Meter("tool_calls", 0, 1, 3)


def test_costs_group_calls_by_tool_and_model() -> None:
    """What was expensive is a question about tools and models, not about addresses."""
    usage = Usage(input_tokens=10, output_tokens=5)
    rows = timeline(
        [
            started(),
            asked("a", CallLLM("x", "m", HELLO), time=0),
            ActionSucceeded(address="a", usage=usage, spent=Amount(llm_tokens=15), time=20),
            asked("b", CallLLM("x", "m", HELLO), time=30),
            ActionSucceeded(address="b", usage=usage, spent=Amount(llm_tokens=15), time=40),
            asked("c", Sleep(5)),
        ]
    )

    (cost,) = costs(rows)

    assert (cost.what, cost.calls, cost.tokens) == ("x:m", 2, 30)
    assert (cost.input_tokens, cost.output_tokens, cost.duration_us) == (20, 10, 30)


def test_unreported_usage_stays_unknown() -> None:
    """Unknown is not zero."""
    (cost,) = costs(timeline([started(), asked(), ActionSucceeded(address="t0.0")]))

    assert cost.input_tokens is None
