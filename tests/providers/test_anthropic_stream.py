"""The Messages API's answers: what each event and each end means, without a network."""

import json
from typing import Any

import msgspec
import pytest

from gatebook.errors import ProviderError
from gatebook.kernel.messages import (
    ChatResponse,
    MessageEnd,
    MessageStart,
    RefusalPart,
    StreamEvent,
    TextDelta,
    TextPart,
    ThinkingPart,
    Usage,
)
from gatebook.kernel.streams.machine import StreamMachine
from gatebook.providers.sse import EventReader
from tests.providers.anthropic_events import (
    BLOCK,
    BLOCK_END,
    OVERLOADED,
    PING,
    START,
    STOP,
    begun,
    delta,
    ended,
    named,
    reader,
    text_events,
    whole,
    word,
)

TOOL = begun(0, type="tool_use", id="toolu_1", name="shop__refund", input={})


def events_of(*wire: bytes, names: tuple[str, ...] = ()) -> list[StreamEvent]:
    """Return all events of an answer, its end included."""
    reading = reader(*names)
    found = [event for raw in EventReader().feed(b"".join(wire)) for event in reading.feed(raw)]
    return found + reading.end()


def answer_of(*wire: bytes, names: tuple[str, ...] = ()) -> ChatResponse:
    return assembled(events_of(*wire, names=names))


def whole_answer(names: tuple[str, ...] = (), **fields: Any) -> ChatResponse:
    reading = reader(*names)
    return assembled(reading.read(json.dumps(whole(**fields)).encode()) + reading.end())


def assembled(events: list[StreamEvent]) -> ChatResponse:
    machine = StreamMachine()
    machine.open()
    for event in events:
        machine.feed(event)
    return machine.response


def failure_of(*wire: bytes) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        events_of(*wire)
    return caught.value


def test_a_text_answer_is_read() -> None:
    """The plain case; empty pieces and pings make no events."""
    events = events_of(START, BLOCK, PING, word("he"), word(""), word("y"), *text_events()[2:])

    assert events[:3] == [
        MessageStart("claude", "msg_1", "req_1"),
        TextDelta(0, "he"),
        TextDelta(0, "y"),
    ]
    assert isinstance(events[-1], MessageEnd)


@pytest.mark.parametrize(
    ("reason", "finish", "state"),
    [
        ("end_turn", "stop", "complete"),
        ("stop_sequence", "stop", "complete"),
        ("max_tokens", "length", "incomplete"),
        ("model_context_window_exceeded", "length", "incomplete"),
        ("pause_turn", "pause", "suspended"),
        ("refusal", "refusal", "complete"),
        ("compaction", "error", "incomplete"),
    ],
)
def test_a_stop_reason_is_told_in_our_words(reason: str, finish: str, state: str) -> None:
    """An unknown one is never a quiet "stop"."""
    streamed = answer_of(START, BLOCK, word("a"), BLOCK_END, ended(reason), STOP)

    for got in (streamed, whole_answer(stop_reason=reason)):
        assert (got.finish_reason, got.state, got.raw_finish_reason) == (finish, state, reason)


@pytest.mark.parametrize(
    ("pieces", "arguments"),
    [([], "{}"), ([""], "{}"), (["", '{"n"', ": 1", "}"], '{"n": 1}')],
)
def test_a_calls_arguments_are_put_together(pieces: list[str], arguments: str) -> None:
    """A call without arguments sends one empty piece, or none."""
    more = [delta(0, "input_json_delta", partial_json=piece) for piece in pieces]

    got = answer_of(START, TOOL, *more, BLOCK_END, ended("tool_use"), STOP, names=("shop.refund",))

    assert [(c.id, c.name, c.arguments) for c in got.tool_calls] == [
        ("toolu_1", "shop.refund", arguments)
    ]
    assert got.finish_reason == "tool_calls"


def test_arguments_that_came_with_the_start_are_kept() -> None:
    """Some servers send a call in one piece."""
    start = begun(0, type="tool_use", id="1", name="f", input={"n": 1})

    got = answer_of(START, start, BLOCK_END, ended("tool_use"), STOP)

    assert [json.loads(c.arguments) for c in got.tool_calls] == [{"n": 1}]


def test_parallel_calls_are_told_apart_by_block() -> None:
    """Their pieces may come in turns."""
    got = answer_of(
        START,
        begun(1, type="tool_use", id="1", name="f", input={}),
        begun(2, type="tool_use", id="2", name="f", input={}),
        delta(2, "input_json_delta", partial_json='{"n":2}'),
        delta(1, "input_json_delta", partial_json='{"n":1}'),
        ended("tool_use"),
        STOP,
    )

    assert [(c.id, c.arguments) for c in got.tool_calls] == [("1", '{"n":1}'), ("2", '{"n":2}')]


def test_a_call_cut_off_by_the_limit_never_runs() -> None:
    """Half of a path is another path."""
    half = delta(0, "input_json_delta", partial_json='{"path":"/"')

    got = answer_of(START, TOOL, half, BLOCK_END, ended("max_tokens"), STOP)

    assert got.tool_calls == ()
    assert [call.reason for call in got.invalid_tool_calls] == ["cut_off"]


def test_a_hosted_tools_input_is_no_call_of_ours() -> None:
    """It was run by the provider already."""
    got = answer_of(
        START,
        begun(0, type="server_tool_use", id="s", name="web_search", input={}),
        delta(0, "input_json_delta", partial_json='{"query":"x"}'),
        BLOCK_END,
        begun(1, type="text", text="found"),
        ended("end_turn"),
        STOP,
    )

    assert (got.text, got.tool_calls, got.invalid_tool_calls) == ("found", (), ())


def test_thinking_keeps_its_signature_and_what_is_hidden() -> None:
    """Both must go back as they came."""
    got = answer_of(
        START,
        begun(0, type="thinking", thinking="", signature=""),
        delta(0, "thinking_delta", thinking="so "),
        delta(0, "thinking_delta", thinking="then"),
        delta(0, "signature_delta", signature="sig=="),
        BLOCK_END,
        begun(1, type="redacted_thinking", data="EmwK"),
        begun(2, type="thinking", thinking="", signature=""),
        delta(2, "signature_delta", signature="hidden=="),
        begun(3, type="text", text=""),
        delta(3, "text_delta", text="yes"),
        ended(),
        STOP,
    )

    assert got.message.content == (
        ThinkingPart("so then", "sig=="),
        ThinkingPart(provider_data='{"type":"redacted_thinking","data":"EmwK"}'),
        ThinkingPart("", "hidden=="),
        TextPart("yes"),
    )


def test_a_whole_answer_reads_like_a_streamed_one() -> None:
    """Both ways give the same message."""
    content = [
        {"type": "thinking", "thinking": "so", "signature": "sig=="},
        {"type": "redacted_thinking", "data": "EmwK"},
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "citations": [{"type": "page_location"}]},
        {"type": "tool_use", "id": "1", "name": "shop__refund", "input": {"n": 1}},
        {"type": "tool_use", "id": "2", "name": "shop__refund", "input": {}},
    ]

    got = whole_answer(("shop.refund",), content=content, stop_reason="tool_use")

    assert got.message.content[:4] == (
        ThinkingPart("so", "sig=="),
        ThinkingPart(provider_data='{"type":"redacted_thinking","data":"EmwK"}'),
        TextPart("a"),
        TextPart("b"),
    )
    assert [(c.id, c.name, json.loads(c.arguments)) for c in got.tool_calls] == [
        ("1", "shop.refund", {"n": 1}),
        ("2", "shop.refund", {}),
    ]
    assert (got.id, got.model, got.request_id) == ("msg_1", "claude", "req_1")


def test_a_refusal_says_why() -> None:
    """The explanation is all the caller gets."""
    details = {"type": "refusal", "category": "cyber", "explanation": "not allowed"}
    end = named("message_delta", delta={"stop_reason": "refusal", "stop_details": details})

    streamed = answer_of(START, BLOCK, word("I"), end, STOP)

    assert streamed.message.content == (TextPart("I"), RefusalPart("not allowed"))
    told = whole_answer(stop_reason="refusal", stop_details=details, content=[])
    assert told.message.content == (RefusalPart("not allowed"),)


def test_usage_is_inclusive_and_the_last_word_on_each_field_counts() -> None:
    """Counts are cumulative, and what the cache gave is counted beside the input."""
    usage = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 300,
        "output_tokens": 1,
    }
    start = named("message_start", message={"id": "m", "model": "c", "usage": usage})
    more = named(
        "message_delta",
        delta={"stop_reason": "end_turn"},
        usage={"output_tokens": 50, "output_tokens_details": {"thinking_tokens": 40}},
    )

    got = answer_of(start, ended(None, output_tokens=30), more, STOP)

    assert got.usage == Usage(
        input_tokens=330,
        cache_read_tokens=300,
        cache_write_tokens=20,
        output_tokens=50,
        reasoning_tokens=40,
        total_tokens=380,
    )


@pytest.mark.parametrize(
    "usage",
    [{}, [], {"input_tokens": 0, "output_tokens": 0}, {"output_tokens": -1}, {"input_tokens": "3"}],
)
def test_nothing_measured_is_no_usage(usage: Any) -> None:
    """Nothing is not zero: an unmeasured call is charged by estimate."""
    start = named("message_start", message={"id": "m", "model": "c", "usage": usage})
    end = named("message_delta", delta={"stop_reason": "end_turn"}, usage=usage)

    assert answer_of(start, BLOCK, word("a"), end, STOP).usage is None
    assert whole_answer(usage=usage).usage is None


@pytest.mark.parametrize("cut", range(1, 6))
def test_an_answer_without_its_last_event_is_truncated(cut: int) -> None:
    """The SDK ends such a stream like a whole one."""
    events = text_events("hello")

    error = failure_of(*events[:cut])

    assert (error.kind, error.category) == ("transient", "truncated")


@pytest.mark.parametrize(
    "wire",
    [
        b"event: content_block_delta\ndata: {not json\n\n",
        b"data: {not json\n\n",
        b"data: [1]\n\n",
        b"event: content_block_delta\ndata: {}\xff\n\n",
        b'data: {"hello": 1}\n\n',
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":"x"}\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
        delta(7, "input_json_delta", partial_json="{}"),
        STOP,
    ],
)
def test_an_event_that_cannot_be_read_ends_the_answer(wire: bytes) -> None:
    """The SDK passes over those without a name: their text would be missing."""
    error = failure_of(START, wire, ended(None), STOP)

    assert (error.kind, error.category) == ("transient", "malformed")
    assert error.fields["max_retries"] == 1


def test_events_need_no_name() -> None:
    """The type is in the data; some servers leave the name out."""
    wire = [line for event in text_events("hi") for line in event.splitlines(keepends=True)]

    got = answer_of(*(line for line in wire if not line.startswith(b"event:")))

    assert got.text == "hi"


def test_what_is_not_known_is_passed_over() -> None:
    """The API may add events, blocks and deltas at any time."""
    got = answer_of(
        START,
        named("something_new", content_block={"type": "?"}),
        begun(0, type="something_new", value=1),
        delta(0, "something_new", value="x"),
        begun(1, type="text", text=""),
        delta(1, "citations_delta", citation="x"),
        delta(1, "text_delta", text="a"),
        ended(),
        STOP,
    )

    assert got.message.content == (TextPart("a"),)


def test_nothing_counts_after_the_end() -> None:
    """A whole answer stays whole."""
    assert answer_of(*text_events("hi"), OVERLOADED, b"data: {\n\n").text == "hi"


@pytest.mark.parametrize(
    ("type_", "kind", "category"),
    [
        ("overloaded_error", "transient", "overloaded"),
        ("api_error", "transient", "server"),
        ("timeout_error", "transient", "timeout"),
        ("rate_limit_error", "rate_limited", "rate_limited"),
        ("invalid_request_error", "permanent", "invalid_request"),
        ("authentication_error", "permanent", "auth"),
        ("billing_error", "permanent", "quota"),
        ("not_found_error", "permanent", "not_found"),
        ("never_heard_of", "permanent", "invalid_request"),
        ("", "transient", "server"),
    ],
)
def test_an_error_inside_an_answer_is_told_by_its_type(
    type_: str, kind: str, category: str
) -> None:
    """The status beside it is 200."""
    body = {"type": "error", "error": {"type": type_, "message": "told to fail"}}

    streamed = failure_of(START, BLOCK, word("a"), named("error", error=body["error"]))
    with pytest.raises(ProviderError) as caught:
        reader().read(msgspec.json.encode(body))

    for error in (streamed, caught.value):
        assert (error.kind, error.category) == (kind, category)
        assert (error.fields["in_stream"], error.fields["request_id"]) == (True, "req_1")


@pytest.mark.parametrize(
    "wire",
    [
        b"event: error\ndata: the upstream went away\n\n",
        b'event: error\ndata: {"message":"boom"}\n\n',
        b'data: {"error":{"message":"boom"}}\n\n',
        b'data: {"error":"boom"}\n\n',
    ],
)
def test_an_odd_error_event_is_an_error(wire: bytes) -> None:
    """Proxies write what they like."""
    error = failure_of(START, ended(), wire, STOP)

    assert (error.kind, error.category) == ("transient", "server")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>login</html>",
        b"[]",
        b"{}",
        b'{"content":[]}',
        b'{"content":null,"stop_reason":"end_turn"}',
        b'{"content":[{"type":"text","text":1}],"stop_reason":"end_turn"}',
        b"[" * 100_000,
    ],
)
def test_a_body_that_is_no_message_is_malformed(body: bytes) -> None:
    """Anything else would be an answer nobody gave."""
    with pytest.raises(ProviderError) as caught:
        reader().read(body)

    assert (caught.value.kind, caught.value.category) == ("transient", "malformed")
