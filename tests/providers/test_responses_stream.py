"""The Responses API's answers, event by event and whole: what they mean in our words."""

import json
from typing import Any

import msgspec
import pytest

from gatebook.errors import ProviderError
from gatebook.kernel.messages import (
    ChatResponse,
    InvalidToolCall,
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    Usage,
)
from gatebook.kernel.streams.machine import StreamMachine
from gatebook.providers.chat_wire import ToolNames
from gatebook.providers.responses_stream import ResponsesConverter

USAGE = {
    "input_tokens": 100, "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 8},
    "output_tokens": 50, "output_tokens_details": {"reasoning_tokens": 30}, "total_tokens": 150,
}  # fmt: skip
ZERO = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
REASONING = {
    "type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "First."}],
    "encrypted_content": "gAAA",
}  # fmt: skip
SPOKEN = {
    "type": "message", "id": "msg_1", "role": "assistant", "phase": "final_answer",
    "content": [{"type": "output_text", "text": "Hello."}],
}  # fmt: skip
CALLED = {
    "type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "math__add",
    "arguments": '{"a":1}',
}  # fmt: skip
REFUSED = {"type": "message", "id": "msg_2", "content": [{"type": "refusal", "refusal": "No."}]}


def answer(status: str = "completed", **fields: Any) -> dict[str, Any]:
    """Return a response object."""
    return {"id": "resp_1", "model": "m-1", "status": status, "output": [], "usage": None, **fields}


def event(kind: str, **fields: Any) -> tuple[str, bytes]:
    """Return one server-sent event."""
    return kind, json.dumps({"type": kind, "sequence_number": 1, **fields}).encode()


CREATED = event("response.created", response=answer("in_progress"))
COMPLETED = event("response.completed", response=answer(usage=USAGE))


def added(item: dict[str, Any], index: int = 0) -> tuple[str, bytes]:
    """Return the event that announces an item, still empty."""
    empty = {**item, "content": [], "summary": [], "arguments": ""}
    return event("response.output_item.added", output_index=index, item=empty)


def done(item: dict[str, Any], index: int = 0) -> tuple[str, bytes]:
    """Return the event that ends an item."""
    return event("response.output_item.done", output_index=index, item=item)


def text(delta: str, index: int = 0) -> tuple[str, bytes]:
    """Return one piece of text."""
    return event("response.output_text.delta", output_index=index, delta=delta)


def converter() -> ResponsesConverter:
    return ResponsesConverter(ToolNames(["math.add"]), request_id="req_1")


def read(*events: tuple[str, bytes]) -> ChatResponse:
    """Return what these events add up to, as the executor's machine sees it."""
    made, machine = converter(), StreamMachine()
    machine.open()
    for each in events:
        for told in made.feed(each):
            machine.feed(told)
    for told in made.end():
        machine.feed(told)
    return machine.response


def whole(body: dict[str, Any]) -> ChatResponse:
    """Return what an answer means that was not streamed."""
    machine = StreamMachine()
    machine.open()
    for told in converter().whole(json.dumps(body).encode()):
        machine.feed(told)
    return machine.response


def error_of(*events: tuple[str, bytes]) -> ProviderError:
    """Return the error that these events end in."""
    with pytest.raises(ProviderError) as caught:
        read(*events)
    return caught.value


def test_text_is_put_together() -> None:
    """The plain case."""
    told = read(CREATED, added(SPOKEN), text("Hel"), text("lo."), done(SPOKEN), COMPLETED)

    assert told.message.content == (TextPart("Hello."),)
    assert (told.id, told.model, told.request_id) == ("resp_1", "m-1", "req_1")
    assert (told.finish_reason, told.raw_finish_reason, told.state) == (
        "stop", "completed", "complete",
    )  # fmt: skip


def test_usage_is_inclusive() -> None:
    """What is cached is part of the input, what is thought is part of the output."""
    assert read(CREATED, text("x"), COMPLETED).usage == Usage(
        input_tokens=100,
        cache_read_tokens=60,
        cache_write_tokens=8,
        output_tokens=50,
        reasoning_tokens=30,
        total_tokens=150,
    )


@pytest.mark.parametrize(
    "usage",
    [None, ZERO, [], {"input_tokens": "3"}, {"input_tokens": 3, "input_tokens_details": []}],
)
def test_usage_that_was_not_measured_is_none(usage: Any) -> None:
    """Cut answers come with zeros, gateways write odd shapes, and nothing is free."""
    cut = answer("incomplete", usage=usage, incomplete_details={"reason": "max_output_tokens"})

    assert read(CREATED, text("x"), event("response.incomplete", response=cut)).usage is None


@pytest.mark.parametrize(
    ("reason", "means"),
    [
        ("max_output_tokens", "length"),
        ("content_filter", "content_filter"),
        ("steered", "error"),
        (None, "error"),
    ],
)
def test_an_incomplete_answer_says_why(reason: str | None, means: str) -> None:
    """A cut answer must not pass for a whole one, whatever cut it."""
    cut = answer("incomplete", incomplete_details=reason and {"reason": reason})

    told = read(CREATED, text("x"), event("response.incomplete", response=cut))

    assert (told.finish_reason, told.state) == (means, "incomplete")


def test_a_tool_call_is_put_together() -> None:
    """The call's id, not the item's, is what its result refers to."""
    deltas = [
        event("response.function_call_arguments.delta", output_index=0, delta=piece)
        for piece in ('{"a"', ":1}")
    ]

    told = read(CREATED, added(CALLED), *deltas, done(CALLED), COMPLETED)

    assert told.tool_calls == (
        ToolCallPart("call_1", "math.add", '{"a":1}', '{"type":"function_call","id":"fc_1"}'),
    )
    assert told.finish_reason == "tool_calls"


@pytest.mark.parametrize("announced", [(added(CALLED),), ()])
def test_a_call_whose_arguments_come_only_at_its_end_is_whole(
    announced: tuple[tuple[str, bytes], ...],
) -> None:
    """Compatible servers leave the deltas out, or the announcement."""
    told = read(CREATED, *announced, done(CALLED), COMPLETED)

    assert [(call.id, call.arguments) for call in told.tool_calls] == [("call_1", '{"a":1}')]


@pytest.mark.parametrize("pieces", [['{"', '":1}'], ['{"a":1', "1", "}"], ['{"a":1}', '{"a":1}']])
def test_the_end_of_a_call_says_what_its_arguments_are(pieces: list[str]) -> None:
    """A piece that was lost or came twice must not run a tool with other arguments."""
    kind = "response.function_call_arguments.delta"
    deltas = [event(kind, output_index=0, delta=piece) for piece in pieces]

    told = read(CREATED, added(CALLED), *deltas, done(CALLED), COMPLETED)

    assert [call.arguments for call in told.tool_calls] == ['{"a":1}']


def test_a_call_that_ends_as_no_json_does_not_run() -> None:
    """What its pieces say does not count then either."""
    delta = event("response.function_call_arguments.delta", output_index=0, delta="{}")

    told = read(CREATED, added(CALLED), delta, done({**CALLED, "arguments": '{"a":'}), COMPLETED)

    assert (told.tool_calls, len(told.invalid_tool_calls)) == ((), 1)


def test_parallel_calls_are_told_apart() -> None:
    """Their deltas may take turns."""
    other = {**CALLED, "id": "fc_2", "call_id": "call_2", "arguments": "{}"}

    def piece(index: int, delta: str) -> tuple[str, bytes]:
        return event("response.function_call_arguments.delta", output_index=index, delta=delta)

    told = read(
        CREATED, added(CALLED, 0), added(other, 1), piece(0, '{"a":'), piece(1, "{}"),
        piece(0, "1}"), done(CALLED, 0), done(other, 1), COMPLETED,
    )  # fmt: skip

    assert [(c.id, c.arguments) for c in told.tool_calls] == [
        ("call_1", '{"a":1}'),
        ("call_2", "{}"),
    ]


def test_a_call_in_a_cut_answer_does_not_run() -> None:
    """Half of the arguments may be JSON by chance."""
    cut = answer("incomplete", incomplete_details={"reason": "max_output_tokens"})

    told = read(CREATED, added(CALLED), done(CALLED), event("response.incomplete", response=cut))

    assert told.tool_calls == ()
    assert told.invalid_tool_calls == (InvalidToolCall("cut_off", "call_1", "math.add", '{"a":1}'),)


def test_a_refusal_is_no_answer() -> None:
    """The status is "completed" all the same."""
    told = read(
        CREATED, added(REFUSED), event("response.refusal.delta", output_index=0, delta="No."),
        done(REFUSED), COMPLETED,
    )  # fmt: skip

    assert (told.message.content, told.finish_reason) == ((RefusalPart("No."),), "refusal")


def thoughts(told: ChatResponse) -> tuple[ThinkingPart, dict[str, Any]]:
    """Return the first part, a thought, and what it keeps for the provider."""
    part = told.message.content[0]
    assert isinstance(part, ThinkingPart)
    assert part.provider_data is not None
    return part, msgspec.json.decode(part.provider_data)


def test_a_thought_keeps_the_item_and_the_message_it_led_to() -> None:
    """Both are sent back as they came."""
    summary = [
        event("response.reasoning_summary_part.added", output_index=0, summary_index=0),
        event("response.reasoning_summary_text.delta", output_index=0, delta="First."),
        event("response.reasoning_summary_part.added", output_index=0, summary_index=1),
        event("response.reasoning_summary_text.delta", output_index=0, delta="Then."),
    ]

    told = read(
        CREATED, added(REASONING), *summary, done(REASONING), added(SPOKEN, 1), text("Hi", 1),
        done(SPOKEN, 1), COMPLETED,
    )  # fmt: skip
    part, kept = thoughts(told)

    assert part.text == "First.\n\nThen."
    assert kept["reasoning"] == REASONING
    assert kept["message"] == {"type": "message", "id": "msg_1", "phase": "final_answer"}
    assert told.text == "Hi"


@pytest.mark.parametrize(
    "after", [(), (done(CALLED, 1),), (added(CALLED, 1), done(CALLED, 1)), (text("Hi", 1),)]
)
def test_a_thought_without_a_message_after_it_is_kept_too(
    after: tuple[tuple[str, bytes], ...],
) -> None:
    """It may lead to a call, to a text nobody announced or, when the answer is cut, to nothing."""
    _, kept = thoughts(read(CREATED, added(REASONING), done(REASONING), *after, COMPLETED))

    assert kept == {"reasoning": REASONING, "message": None}


def test_a_summary_that_was_not_streamed_is_read_from_the_item() -> None:
    """It would be lost otherwise."""
    part, _ = thoughts(read(CREATED, done(REASONING), COMPLETED))

    assert part.text == "First."


def test_an_open_models_thinking_is_thinking() -> None:
    """Servers of open models stream the thought itself, not a summary."""
    delta = event("response.reasoning_text.delta", output_index=0, delta="Hm.")

    told = read(CREATED, delta, text("Hi", 1), COMPLETED)

    assert told.message.content == (ThinkingPart("Hm."), TextPart("Hi"))


def test_a_text_that_was_not_streamed_is_read_from_the_item() -> None:
    """Routers in front of servers that cannot stream send it so."""
    assert read(CREATED, done(SPOKEN), COMPLETED).text == "Hello."


def test_the_last_event_ends_the_answer() -> None:
    """What a router adds after it is noise."""
    made = converter()

    made.feed(COMPLETED)

    assert made.done
    assert made.feed(("", b"[DONE]")) == []
    assert made.feed(CREATED) == []


def test_an_answer_without_its_last_event_is_truncated() -> None:
    """A clean end of the body proves nothing, nor does a router's [DONE]."""
    error = error_of(CREATED, text("x"), ("", b"[DONE]"))

    assert (error.category, error.fields["request_id"]) == ("truncated", "req_1")


def test_pings_and_unknown_events_are_nothing() -> None:
    """The vendor adds kinds of events without notice."""
    made = converter()

    for kind in ("keepalive", "response.web_search_call.searching", "response.new_thing"):
        assert made.feed(event(kind, delta={"odd": 1}, item=None)) == []


@pytest.mark.parametrize(
    "data",
    [
        {"type": "error", "error": {"code": "server_error", "message": "x"}},
        {"type": "error", "code": "server_error", "message": "x", "param": None},
        {"error": {"code": "server_error", "message": "x"}},
    ],
)
def test_an_error_event_is_read_in_every_shape(data: dict[str, Any]) -> None:
    """The server nests it, the documentation does not, and gateways have their own."""
    error = error_of(CREATED, ("error", json.dumps(data).encode()))

    assert (error.kind, error.category, error.fields["provider_code"]) == (
        "transient", "server", "server_error",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "kind", "category"),
    [
        ("server_error", "transient", "server"),
        ("rate_limit_exceeded", "rate_limited", "rate_limited"),
        ("insufficient_quota", "permanent", "quota"),
        ("context_length_exceeded", "permanent", "context_length"),
        ("invalid_prompt", "permanent", "invalid_request"),
        ("bio_policy", "permanent", "content_filter"),
        ("vector_store_timeout", "permanent", "invalid_request"),
        (None, "transient", "server"),
    ],
)
def test_a_failed_response_is_classified_by_its_code(
    code: str | None, kind: str, category: str
) -> None:
    """Of its codes only two can get better; one without a code tells nothing."""
    told = code and {"code": code, "message": "x"}

    streamed = error_of(CREATED, event("response.failed", response=answer("failed", error=told)))
    with pytest.raises(ProviderError) as caught:
        whole(answer("failed", error=told))

    for error in (streamed, caught.value):
        assert (error.kind, error.category) == (kind, category)


@pytest.mark.parametrize("data", [b"<html>", b'{"type": "response.crea', b"[]", b'{"item": 5}x'])
def test_an_event_that_cannot_be_read_is_malformed(data: bytes) -> None:
    """It may have been the text that matters."""
    error = error_of(CREATED, ("", data))

    assert (error.kind, error.category) == ("transient", "malformed")


def test_a_last_event_of_another_shape_is_malformed() -> None:
    """An answer that cannot be read is no answer."""
    error = error_of(event("response.completed", response={"output": "much"}))

    assert error.category == "malformed"


def test_a_whole_answer_means_the_same_as_a_streamed_one() -> None:
    """Whether to stream is a matter of taste, not of meaning."""
    items: list[dict[str, Any]] = [REASONING, SPOKEN, CALLED]
    pairs = [(added(item, i), done(item, i)) for i, item in enumerate(items)]

    streamed = read(CREATED, *(each for pair in pairs for each in pair), COMPLETED)

    assert whole(answer(output=items, usage=USAGE)) == streamed


def test_an_answer_that_comes_with_its_last_event_only_is_read() -> None:
    """Proxies before servers that do not stream send no other event; it is not an empty answer."""
    items = [REASONING, SPOKEN, CALLED]

    told = read(event("response.completed", response=answer(output=items, usage=USAGE)))

    assert told == whole(answer(output=items, usage=USAGE))
    assert told.text


@pytest.mark.parametrize(
    "body", [{}, {"object": "list", "data": []}, answer(output=None), {"output": []}]
)
def test_a_body_that_is_no_answer_is_malformed(body: dict[str, Any]) -> None:
    """Proxies answer 200 to anything."""
    with pytest.raises(ProviderError) as caught:
        whole(body)

    assert caught.value.category == "malformed"


def test_an_error_with_status_200_is_an_error() -> None:
    """Proxies hide the status of what is behind them."""
    with pytest.raises(ProviderError) as caught:
        whole({"error": {"code": "insufficient_quota", "message": "x"}})

    assert caught.value.category == "quota"
