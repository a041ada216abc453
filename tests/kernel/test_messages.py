"""The words of a model call survive JSON and refuse what they can refuse cheaply."""

import msgspec
import pytest

from gatebook.kernel.messages import (
    ChatRequest,
    ChatResponse,
    InvalidToolCall,
    JsonSchemaFormat,
    Message,
    MessageEnd,
    MessageStart,
    NamedTool,
    RefusalDelta,
    RefusalPart,
    StreamEvent,
    TextDelta,
    TextPart,
    ThinkingDelta,
    ThinkingPart,
    Timeouts,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallPart,
    ToolCallStart,
    ToolDefinition,
    Usage,
    UsageUpdate,
)

SCHEMA = msgspec.Raw(b'{"type":"object"}')


def round_trip(value: object, kind: object) -> object:
    return msgspec.json.decode(msgspec.json.encode(value), type=kind)


def test_a_request_with_every_field_set_survives_json() -> None:
    """The journal rebuilds requests from JSON, so nothing may be lost on the way."""
    request = ChatRequest(
        provider="openai",
        model="m",
        messages=(
            Message.system("be brief"),
            Message.user("hi"),
            Message(
                "assistant",
                (
                    ThinkingPart("hm", signature="s", provider_data="{}"),
                    TextPart("ok"),
                    ToolCallPart("c1", "shop.find", '{"n":1}'),
                    RefusalPart("no"),
                ),
            ),
            Message.tool_result("c1", "gone", is_error=True),
        ),
        tools=(ToolDefinition("shop.find", "finds", SCHEMA),),
        tool_choice=NamedTool("shop.find"),
        parallel_tool_calls=False,
        response_format=JsonSchemaFormat("Reply", SCHEMA),
        max_output_tokens=9,
        temperature=0.5,
        top_p=0.9,
        stop=("END",),
        seed=7,
        reasoning_effort="low",
        timeouts=Timeouts(connect_ms=1),
        provider_options={"user": "u"},
    )

    assert round_trip(request, ChatRequest) == request


@pytest.mark.parametrize("choice", ["auto", "none", "required", NamedTool("a")])
def test_every_tool_choice_survives_json(choice: object) -> None:
    """A literal and a struct share one field, which must decode to what it was."""
    request = ChatRequest(provider="p", model="m", messages=(), tool_choice=choice)  # type: ignore[arg-type]

    assert round_trip(request, ChatRequest) == request


@pytest.mark.parametrize(
    "event",
    [
        MessageStart("m", "id", "req"),
        TextDelta(0, "a"),
        ThinkingDelta(0, "a", signature="s"),
        RefusalDelta(0, "no"),
        ToolCallStart(0, "c", "f"),
        ToolCallDelta(0, "{"),
        ToolCallEnd(0, "c", "f", "{}"),
        UsageUpdate(Usage(input_tokens=1)),
        MessageEnd("stop", "stop", Usage(output_tokens=2, measured=False)),
    ],
)
def test_every_stream_event_survives_json(event: StreamEvent) -> None:
    """Readers in other processes get events as JSON."""
    assert round_trip(event, StreamEvent) == event


def test_tags_are_stable_snake_case() -> None:
    """Stored messages are read by later versions, so a tag is part of the format."""
    message = Message.assistant("x", ToolCallPart("c", "f"))

    assert msgspec.json.encode(message) == (
        b'{"role":"assistant","content":[{"type":"text","text":"x"},'
        b'{"type":"tool_call","id":"c","name":"f"}]}'
    )


def test_a_response_tells_runnable_calls_from_invalid_ones() -> None:
    """Whoever executes `tool_calls` must never meet a call that is not whole."""
    response = ChatResponse(
        model="m",
        message=Message.assistant("", ToolCallPart("a", "f")),
        finish_reason="tool_calls",
        invalid_tool_calls=(InvalidToolCall("not_json", "b", "f", '{"x'),),
    )

    assert [call.id for call in response.tool_calls] == ["a"]
    assert round_trip(response, ChatResponse) == response


def test_an_unreported_bucket_is_not_zero() -> None:
    """A budget settles None at the reservation, but zero at nothing."""
    assert Usage().input_tokens is None
    assert msgspec.json.encode(Usage(input_tokens=0)) == b'{"input_tokens":0}'


def test_a_timeout_of_zero_is_refused() -> None:
    """Zero means "none" to some clients and "at once" to others."""
    with pytest.raises(ValueError, match="at least 1 ms"):
        Timeouts(idle_ms=0)


def test_an_unknown_part_is_refused() -> None:
    """Stored data is a closed vocabulary: an unknown tag stops with an error."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"role":"user","content":[{"type":"video"}]}', type=Message)
