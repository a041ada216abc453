"""The stream machine: what is forwarded, what an answer adds up to, when nothing may be retried."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatebook.errors import IntegrityError, ProviderError
from gatebook.kernel.messages import (
    InvalidToolCall,
    MessageEnd,
    MessageStart,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    TextPart,
    ThinkingDelta,
    ThinkingPart,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallPart,
    ToolCallStart,
    Usage,
    UsageUpdate,
)
from gatebook.kernel.streams.machine import TRANSITIONS, Phase, Sign, StreamMachine, retryable

START = MessageStart("m", "id1")
STOP = MessageEnd("stop", "stop")
USAGE = UsageUpdate(Usage(input_tokens=3, output_tokens=2))


def opened(**options: bool) -> StreamMachine:
    machine = StreamMachine(**options)
    machine.open()
    return machine


def feed(machine: StreamMachine, events: Iterable[StreamEvent]) -> list[StreamEvent]:
    return [out for event in events for out in machine.feed(event)]


def reset() -> ProviderError:
    return ProviderError("reset", kind="transient", category="connection", phase="read")


def call_events(arguments: str, *, index: int = 0, name: str = "f") -> list[StreamEvent]:
    return [
        ToolCallStart(index, f"c{index}", name),
        *(ToolCallDelta(index, char) for char in arguments),
    ]


def test_the_start_is_held_until_there_is_something_to_show() -> None:
    """A retry before output must be invisible, so nothing may be forwarded too early."""
    machine = opened()

    quiet = feed(machine, [START, TextDelta(0, ""), USAGE])
    shown = feed(machine, [TextDelta(0, "a")])

    assert quiet == []
    assert shown == [START, TextDelta(0, "a")]


def test_two_attempts_show_one_start() -> None:
    """A reader that sees the failed attempt's preamble breaks on the second start."""
    machine = opened()
    feed(machine, [MessageStart("m", "lost")])
    machine.fail(reset())

    machine.open()
    shown = feed(machine, [START, TextDelta(0, "a"), STOP])

    assert [event for event in shown if isinstance(event, MessageStart)] == [START]
    assert machine.response.id == "id1"


def test_usage_of_a_lost_attempt_is_not_the_answers_usage() -> None:
    """Each attempt is charged on its own, so the answer reports its own tokens only."""
    machine = opened()
    feed(machine, [USAGE])
    machine.fail(reset())

    machine.open()
    feed(machine, [TextDelta(0, "a"), STOP])

    assert machine.response.usage is None


def test_an_error_before_output_may_be_retried() -> None:
    """Nobody has seen anything yet."""
    machine = opened()
    feed(machine, [START, USAGE])

    error = machine.fail(reset())

    assert retryable(error)
    assert machine.phase is Phase.FAILED


def test_an_error_after_output_is_never_retried() -> None:
    """A second attempt would show the same words twice."""
    machine = opened()
    feed(machine, [START, TextDelta(0, "a")])

    error = machine.fail(reset())

    assert error.fields["emitted"] is True
    assert not retryable(error)
    with pytest.raises(IntegrityError):
        machine.open()


def test_a_permanent_error_is_never_retried() -> None:
    """The kind decides before anything else."""
    error = opened().fail(ProviderError("no", kind="permanent", category="auth"))

    assert not retryable(error)


def test_a_stream_that_ends_without_its_terminal_marker_is_truncated() -> None:
    """No vendor client notices a clean end of file in the middle of an answer."""
    machine = opened()
    feed(machine, [START, TextDelta(0, "half an ans")])

    error = machine.eof()

    assert error is not None
    assert (error.kind, error.category) == ("transient", "truncated")
    assert error.fields["emitted"] is True
    assert not machine.complete


def test_an_empty_stream_is_truncated_and_retryable() -> None:
    """A 200 without any event is the commonest way a gateway loses an answer."""
    error = opened().eof()

    assert error is not None
    assert retryable(error)


def test_the_end_of_a_complete_stream_is_no_error() -> None:
    """Most providers close the connection after the terminal marker."""
    machine = opened()
    feed(machine, [TextDelta(0, "a"), STOP])

    assert machine.eof() is None
    assert machine.complete


def test_an_empty_answer_with_its_marker_is_valid() -> None:
    """A model may have nothing to say; that is an answer, and it costs tokens."""
    machine = opened()

    shown = feed(machine, [START, STOP])

    assert shown == [START, STOP]
    assert machine.response.text == ""


def test_the_partial_answer_survives_a_failure() -> None:
    """What the user has read must be in the record, marked as broken off."""
    machine = opened()
    feed(machine, [START, TextDelta(0, "half "), TextDelta(0, "an"), *call_events('{"a"', index=1)])
    machine.fail(reset())

    partial = machine.partial()

    assert (partial.text, partial.state, partial.usage) == ("half an", "interrupted", None)
    assert partial.tool_calls == ()
    assert partial.invalid_tool_calls == (InvalidToolCall("cut_off", "c1", "f", '{"a"'),)


def test_a_cancelled_stream_keeps_its_part_and_drops_the_rest() -> None:
    """Events that were already in flight must not reach a reader who gave up."""
    machine = opened()
    feed(machine, [START, TextDelta(0, "a")])
    machine.cancel()

    late = feed(machine, [TextDelta(0, "b"), STOP])

    assert late == []
    assert machine.partial().text == "a"
    assert machine.phase is Phase.CANCELLED


def test_usage_after_the_end_still_counts() -> None:
    """Some providers send the usage chunk after the finish reason."""
    machine = opened()
    feed(machine, [TextDelta(0, "a"), STOP])

    shown = feed(machine, [USAGE, TextDelta(0, "b")])

    assert shown == []
    assert machine.response.usage == USAGE.usage
    assert machine.response.text == "a"


def test_an_error_after_the_whole_answer_changes_nothing() -> None:
    """A reset while closing must not throw a paid answer away."""
    machine = opened()
    feed(machine, [TextDelta(0, "a"), STOP])

    machine.fail(reset())

    assert machine.complete


def test_later_usage_replaces_earlier_usage() -> None:
    """Usage in a stream is cumulative: adding it up would charge twice."""
    machine = opened()
    feed(machine, [TextDelta(0, "a"), USAGE, UsageUpdate(Usage(output_tokens=9)), STOP])

    assert machine.response.usage == Usage(output_tokens=9)


def test_held_thinking_keeps_a_retry_possible() -> None:
    """Models fail most while they think, and thinking alone is no answer."""
    machine = opened(hold_thinking=True)

    quiet = feed(machine, [START, ThinkingDelta(0, "hm")])
    shown = feed(machine, [TextDelta(1, "a")])

    assert quiet == []
    assert shown == [START, ThinkingDelta(0, "hm"), TextDelta(1, "a")]


def test_thinking_that_is_not_held_is_output() -> None:
    """A reader who watches the model think has seen something."""
    machine = opened()

    shown = feed(machine, [START, ThinkingDelta(0, "hm")])

    assert shown == [START, ThinkingDelta(0, "hm")]
    assert machine.emitted


def test_signatures_and_order_of_parts_are_kept() -> None:
    """Providers refuse a conversation whose thinking comes back changed."""
    machine = opened()
    feed(machine, [ThinkingDelta(0, "h"), ThinkingDelta(0, "m"), ThinkingDelta(0, signature="s")])
    feed(machine, [TextDelta(1, "x"), *call_events("{}", index=2), TextDelta(3, "y"), STOP])

    assert machine.response.message.content == (
        ThinkingPart("hm", "s"),
        TextPart("x"),
        ToolCallPart("c2", "f", "{}"),
        TextPart("y"),
    )


def test_a_whole_call_ends_with_its_arguments() -> None:
    """Readers need not put arguments together themselves."""
    machine = opened()

    shown = feed(machine, [*call_events('{"a":1}'), MessageEnd("tool_calls", "tool_calls")])

    assert shown[-2:] == [
        ToolCallEnd(0, "c0", "f", '{"a":1}'),
        MessageEnd("tool_calls", "tool_calls"),
    ]
    assert machine.response.tool_calls == (ToolCallPart("c0", "f", '{"a":1}'),)


def test_empty_arguments_are_an_empty_object() -> None:
    """Every provider streams a call without arguments as an empty string."""
    machine = opened()
    feed(machine, [*call_events(""), STOP])

    assert machine.response.tool_calls == (ToolCallPart("c0", "f", "{}"),)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [('{"a": 1', "not_json"), ("{} {}", "not_json"), ("[1]", "not_object"), ('"x"', "not_object")],
)
def test_arguments_that_are_no_object_never_run(arguments: str, reason: str) -> None:
    """Routers rewrite `length` to `tool_calls`, so the JSON is always checked."""
    machine = opened()

    shown = feed(machine, [*call_events(arguments), MessageEnd("tool_calls")])

    assert machine.response.tool_calls == ()
    assert [call.reason for call in machine.response.invalid_tool_calls] == [reason]
    assert not any(isinstance(event, ToolCallEnd) for event in shown)


def test_deeply_nested_arguments_never_run() -> None:
    """A hostile answer must not reach the interpreter's recursion limit."""
    machine = opened()
    feed(machine, [ToolCallStart(0, "c", "f"), ToolCallDelta(0, '{"a":' * 100_000), STOP])

    assert machine.response.invalid_tool_calls[0].reason == "not_json"


@pytest.mark.parametrize("reason", ["length", "content_filter", "error", "pause"])
def test_calls_of_an_answer_that_was_cut_never_run(reason: str) -> None:
    """Half a list of calls may be valid JSON and still not what the model meant."""
    machine = opened()
    feed(machine, [*call_events('{"a":1}'), MessageEnd(reason)])  # type: ignore[arg-type]

    assert machine.response.tool_calls == ()
    assert machine.response.invalid_tool_calls[0].reason == "cut_off"


def test_a_call_without_a_name_never_runs() -> None:
    """There is nothing the gate could decide about."""
    machine = opened()
    feed(machine, [*call_events("{}", name=""), STOP])

    assert machine.response.invalid_tool_calls[0].reason == "no_name"


@pytest.mark.parametrize("said", ["stop", "tool_calls"])
def test_a_required_call_that_did_not_come_is_invalid(said: str) -> None:
    """Servers that ignore `required` answer with prose and call it success."""
    machine = opened(must_call=True)
    feed(machine, [TextDelta(0, "I would rather talk."), MessageEnd(said)])  # type: ignore[arg-type]

    assert machine.response.invalid_tool_calls == (InvalidToolCall("not_called"),)


def test_stop_with_calls_is_a_tool_call_finish() -> None:
    """Several servers say "stop" for everything; the content knows better."""
    machine = opened()
    feed(machine, [*call_events("{}"), STOP])

    assert machine.response.finish_reason == "tool_calls"
    assert machine.response.raw_finish_reason == "stop"


def test_stop_with_a_refusal_is_a_refusal() -> None:
    """The reason tells a program not to treat the text as an answer."""
    machine = opened()
    feed(machine, [RefusalDelta(0, "I cannot "), RefusalDelta(0, "do that."), STOP])

    assert machine.response.finish_reason == "refusal"
    assert machine.response.text == ""


@pytest.mark.parametrize(
    ("reason", "state"),
    [("stop", "complete"), ("length", "incomplete"), ("pause", "suspended")],
)
def test_the_state_follows_the_finish_reason(reason: str, state: str) -> None:
    """A program asks the state whether it may use the text."""
    machine = opened()
    feed(machine, [TextDelta(0, "a"), MessageEnd(reason)])  # type: ignore[arg-type]

    assert machine.response.state == state


def test_arguments_for_a_call_that_never_began_are_an_error_of_ours() -> None:
    """An adapter that loses a start would otherwise lose a call silently."""
    with pytest.raises(IntegrityError):
        opened().feed(ToolCallDelta(4, "{}"))


def test_the_answer_is_not_to_be_had_before_it_is_whole() -> None:
    """A caller that forgot to check must not get a part as if it were the answer."""
    machine = opened()
    feed(machine, [TextDelta(0, "a")])

    with pytest.raises(IntegrityError):
        _ = machine.response


def test_events_before_open_are_an_error() -> None:
    """A machine fed before its attempt began would mix two attempts."""
    with pytest.raises(IntegrityError):
        StreamMachine().feed(TextDelta(0, "a"))


def test_every_reading_phase_answers_every_sign() -> None:
    """A missing entry would stop a run in the middle of an answer."""
    reading = (Phase.OPENING, Phase.PREAMBLE, Phase.STREAMING, Phase.COMPLETE, Phase.CANCELLED)

    missing = [(p, s) for p in reading for s in Sign if (p, s) not in TRANSITIONS]

    assert missing == []


PIECES = st.lists(
    st.one_of(
        st.builds(TextDelta, st.just(0), st.text(max_size=3)),
        st.just(USAGE),
        st.just(START),
        st.builds(ThinkingDelta, st.just(1), st.text(max_size=3)),
    ),
    max_size=12,
)


@given(PIECES, st.booleans())
def test_what_was_forwarded_is_what_was_recorded(pieces: list[StreamEvent], hold: bool) -> None:
    """A reader and the journal must never hold two different answers."""
    machine = opened(hold_thinking=hold)

    shown = feed(machine, [*pieces, STOP])

    assert sum(isinstance(event, MessageStart) for event in shown) == 1
    assert isinstance(shown[0], MessageStart)
    assert isinstance(shown[-1], MessageEnd)
    text = "".join(event.text for event in shown if isinstance(event, TextDelta))
    assert text == machine.response.text


@given(PIECES)
def test_a_broken_stream_is_retryable_exactly_when_nothing_was_forwarded(
    pieces: list[StreamEvent],
) -> None:
    """This is the whole rule about retrying streams."""
    machine = opened()

    shown = feed(machine, pieces)
    error = machine.eof()

    assert error is not None
    assert retryable(error) == (shown == [])
