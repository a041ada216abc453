"""Gemini's responses read into events: parts, calls in pieces, ends, usage; no SDK, no socket."""

import json
from typing import Any

import pytest

from gatebook.errors import ProviderError
from gatebook.kernel.messages import (
    ChatResponse,
    Message,
    StreamEvent,
    TextPart,
    ThinkingPart,
    ToolCallDelta,
    ToolCallPart,
    ToolDefinition,
)
from gatebook.kernel.streams.machine import StreamMachine
from gatebook.providers.chat_wire import ToolNames
from gatebook.providers.google_partial import Arguments, PartialArg, PathError
from gatebook.providers.google_stream import GoogleConverter
from gatebook.providers.google_wire import wire_request
from tests.providers.calls import asking

TEXT = {"text": "a"}


def response(*parts: dict[str, Any], finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return one response object."""
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}}
    if finish:
        candidate["finishReason"] = finish
    return {"responseId": "r", "modelVersion": "m", "candidates": [candidate], **fields}


def called(**fields: Any) -> dict[str, Any]:
    return {"functionCall": fields}


def read(*responses: Any, must_call: bool = False) -> tuple[ChatResponse, list[StreamEvent]]:
    """Return the answer that these responses add up to, and the events read."""
    converter = GoogleConverter(ToolNames(["my.tool"]))
    machine = StreamMachine(must_call=must_call)
    machine.open()
    events: list[StreamEvent] = []
    for each in responses:
        data = each if isinstance(each, bytes) else json.dumps(each).encode()
        events += converter.feed(("", data))
    events += converter.end()
    for event in events:
        machine.feed(event)
    return machine.response, events


def answer(*responses: Any, **options: Any) -> ChatResponse:
    return read(*responses, **options)[0]


def failure(*responses: Any) -> ProviderError:
    with pytest.raises(ProviderError) as raised:
        read(*responses)
    return raised.value


def test_text_and_thoughts_are_kept_apart() -> None:
    """A reader must not take a thought for the answer."""
    got = answer(
        response({"text": "hm", "thought": True}),
        response({"text": " hm", "thought": True}, {"text": "a"}),
        response({"text": "b"}, finish="STOP"),
    )

    assert got.message.content == (ThinkingPart("hm hm"), TextPart("ab"))
    assert (got.id, got.model, got.finish_reason) == ("r", "m", "stop")


def test_stop_means_tool_calls_too() -> None:
    """Gemini has one word for both ends."""
    got = answer(response(called(name="my__tool", args={"a": 1}), finish="STOP"))

    ((id, name, arguments),) = [(c.id, c.name, c.arguments) for c in got.tool_calls]
    assert (name, arguments, got.finish_reason) == ("my.tool", '{"a": 1}', "tool_calls")
    assert id.startswith("call_")


def test_arguments_stay_the_models_own_text() -> None:
    """What is approved is what was said: numbers are not read and written again."""
    part = b'{"functionCall":{"name":"f","args":{"n":1.0,"big":12345678901234567890}}}'
    data = b'{"candidates":[{"content":{"parts":[' + part + b']},"finishReason":"STOP"}]}'

    (call,) = answer(data).tool_calls

    assert call.arguments == '{"n":1.0,"big":12345678901234567890}'


@pytest.mark.parametrize("args", [{}, {"args": None}, {"args": {}}])
def test_a_call_without_arguments_has_an_empty_object(args: dict[str, Any]) -> None:
    """JSON leaves out what is empty."""
    (call,) = answer(response(called(name="f", **args), finish="STOP")).tool_calls

    assert call.arguments == "{}"


def test_equal_calls_have_different_ids() -> None:
    """The ids are ours where Gemini gives none, or the same one twice."""
    one, same = called(name="f", args={}), called(name="f", id="x", args={})
    got = answer(response(one, one, same, same, finish="STOP"))

    ids = [call.id for call in got.tool_calls]
    assert len(set(ids)) == 4
    assert ids[2] == "x"
    assert [c.id for c in answer(response(one, one, same, same, finish="STOP")).tool_calls] == ids


@pytest.mark.parametrize(
    "parts",
    [
        [{"text": "hm", "thought": True, "thoughtSignature": "UzE="}, {"text": "a"}],
        [{"text": "a"}, {"text": "b", "thoughtSignature": "UzE="}, {"text": "c"}],
        [{"text": "a"}, {"text": "", "thoughtSignature": "UzE="}],
        [{**called(name="f", id="1", args={}), "thoughtSignature": "UzE="}],
    ],
    ids=["thought", "text", "empty", "call"],
)
def test_signed_parts_go_back_as_they_came(parts: list[dict[str, Any]]) -> None:
    """What Gemini signed must come back in the same shape."""
    got = answer(*(response(part) for part in parts), response(finish="STOP"))

    request = asking(messages=(Message.user("q"), got.message))
    (_, said) = wire_request(request).contents
    back = [
        {"thoughtSignature" if k == "thought_signature" else k: v for k, v in part.items()}
        for part in said["parts"]
    ]
    for part in back:
        if "thoughtSignature" in part:
            part["thoughtSignature"] = {b"S1": "UzE="}[part["thoughtSignature"]]
        if "function_call" in part:
            part["functionCall"] = part.pop("function_call")
    assert back == parts


PIECES = [
    called(name="my__tool", willContinue=True),
    called(
        partialArgs=[{"jsonPath": "$.city", "stringValue": "New ", "willContinue": True}],
        willContinue=True,
    ),
    called(
        partialArgs=[
            {"jsonPath": "$.city", "stringValue": "York"},
            {"jsonPath": "$.days[0].n", "numberValue": 3},
            {"jsonPath": "$.days[1]['a b']", "boolValue": False},
            {"jsonPath": "$.none", "nullValue": "NULL_VALUE"},
        ],
        willContinue=True,
    ),
]
WHOLE = {"city": "New York", "days": [{"n": 3}, {"a b": False}], "none": None}


def test_arguments_in_pieces_are_put_together() -> None:
    """Gemini 3 streams them by path on request."""
    got, events = read(*(response(p) for p in [*PIECES, called()]), response(finish="STOP"))

    ((name, arguments),) = [(c.name, c.arguments) for c in got.tool_calls]
    assert (name, json.loads(arguments)) == ("my.tool", WHOLE)
    signs = [event for event in events if isinstance(event, ToolCallDelta)]
    assert len(signs) == 4  # one for each part: silence would look like a stall


def test_the_last_piece_may_be_the_end() -> None:
    """The closing part is not always empty, and may say the name again."""
    last = called(name="my__tool", partialArgs=[{"jsonPath": "$.x", "numberValue": 1}])
    got = answer(response(*PIECES, last, called(name="g"), finish="STOP"))

    assert [json.loads(c.arguments) for c in got.tool_calls] == [{**WHOLE, "x": 1}, {}]


@pytest.mark.parametrize(
    "after", [[], [called(name="g", args={})]], ids=["the answer ends", "another call begins"]
)
def test_a_call_whose_pieces_stop_never_runs(after: list[dict[str, Any]]) -> None:
    """Half the arguments are somebody else's order."""
    got = answer(response(*PIECES, *after, finish="STOP"))

    assert [c.name for c in got.tool_calls] == ["g"] * len(after)
    assert [(c.name, c.reason) for c in got.invalid_tool_calls] == [("my.tool", "not_json")]


@pytest.mark.parametrize(
    "path", ["", "$", "city", "$[0]", "$.a[2]", "$.s.x", "$.a.b", "$..a", "$" + ".d" * 65]
)
def test_a_piece_without_a_place_is_malformed(path: str) -> None:
    """Guessing where it belongs would change what the call does."""
    arguments = Arguments()
    arguments.add(PartialArg("$.s", stringValue="text"))
    arguments.add(PartialArg("$.a[0]", stringValue="first"))

    with pytest.raises(PathError):
        arguments.add(PartialArg(path, stringValue="v"))


def test_a_misplaced_piece_fails_the_stream() -> None:
    """It is the provider's error, and worth another try."""
    piece = called(name="f", partialArgs=[{"jsonPath": "$.a[7]", "stringValue": "v"}])
    error = failure(response(piece))

    assert (error.kind, error.category) == ("transient", "malformed")


@pytest.mark.parametrize(
    ("raw", "reason", "state"),
    [
        ("STOP", "stop", "complete"),
        ("MAX_TOKENS", "length", "incomplete"),
        ("SAFETY", "content_filter", "incomplete"),
        ("RECITATION", "content_filter", "incomplete"),
        ("PROHIBITED_CONTENT", "content_filter", "incomplete"),
        ("OTHER", "error", "incomplete"),
        ("MALFORMED_RESPONSE", "error", "incomplete"),
        ("TOO_MANY_TOOL_CALLS", "error", "incomplete"),
        ("INVENTED_TOMORROW", "error", "incomplete"),
    ],
)
def test_finish_reasons(raw: str, reason: str, state: str) -> None:
    """An unknown end is never a quiet success."""
    got = answer(response(TEXT, finish=raw))

    assert (got.finish_reason, got.state, got.raw_finish_reason) == (reason, state, raw)


def test_a_call_before_the_token_limit_does_not_run() -> None:
    """Gemini may cut a call off and still send it."""
    got = answer(response(called(name="f", args={"a": 1}), finish="MAX_TOKENS"))

    assert got.tool_calls == ()
    assert [call.reason for call in got.invalid_tool_calls] == ["cut_off"]


@pytest.mark.parametrize("raw", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"])
def test_a_malformed_call_is_an_answer_with_a_call_that_never_runs(raw: str) -> None:
    """The transport did its part; the model may be asked again."""
    said = response(finish=raw)
    said["candidates"][0]["finishMessage"] = "Malformed function call: print(add("
    got = answer(said, must_call=True)

    (call,) = got.invalid_tool_calls
    assert (got.tool_calls, got.finish_reason, got.raw_finish_reason) == ((), "tool_calls", raw)
    assert (call.reason, call.arguments) == ("no_name", "Malformed function call: print(add(")


def test_a_blocked_prompt_is_a_filtered_answer() -> None:
    """No candidate comes at all; the feedback is the end."""
    got = answer({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "responseId": "r"})

    assert (got.finish_reason, got.raw_finish_reason) == ("content_filter", "PROHIBITED_CONTENT")
    assert got.text == ""


def test_usage_is_inclusive_and_the_last_one_counts() -> None:
    """Gemini counts thoughts beside the answer, and cached tokens inside the prompt."""
    early = {"promptTokenCount": 29, "totalTokenCount": 29}
    late = {
        "promptTokenCount": 30,
        "cachedContentTokenCount": 20,
        "toolUsePromptTokenCount": 5,
        "candidatesTokenCount": 74,
        "thoughtsTokenCount": 121,
        "totalTokenCount": 230,
    }
    usage = answer(
        response(TEXT, usageMetadata=early), response(finish="STOP", usageMetadata=late)
    ).usage

    assert usage is not None
    assert (usage.input_tokens, usage.cache_read_tokens) == (35, 20)
    assert (usage.output_tokens, usage.reasoning_tokens, usage.total_tokens) == (195, 121, 230)


@pytest.mark.parametrize(
    "told", [None, {}, [], {"promptTokenCount": 0, "totalTokenCount": 0}, {"promptTokenCount": "3"}]
)
def test_usage_that_says_nothing_is_unmeasured(told: Any) -> None:
    """Zero would settle a reservation for free."""
    assert answer(response(TEXT, finish="STOP", usageMetadata=told)).usage is None


def test_what_follows_the_end_is_noise_except_usage() -> None:
    """Another candidate was not asked for."""
    got = answer(
        {"candidates": [{"index": 1, "content": {"parts": [{"text": "other"}]}}]},
        response(TEXT, finish="STOP"),
        response({"text": "more"}, usageMetadata={"promptTokenCount": 3}),
    )

    assert got.text == "a"
    assert got.usage is not None


@pytest.mark.parametrize(
    ("data", "kind", "category"),
    [
        (b"{", "transient", "malformed"),
        (b"\xff", "transient", "malformed"),
        (b"[1]", "transient", "malformed"),
        (b'{"candidates":"x"}', "transient", "malformed"),
        (b"[" * 100_000, "transient", "malformed"),
        (b'{"error":{"code":503,"status":"UNAVAILABLE"}}', "transient", "server"),
        (b'[{"error":{"code":401}}]', "permanent", "auth"),
    ],
)
def test_data_that_is_no_response_is_an_error(data: bytes, kind: str, category: str) -> None:
    """Also after the finish reason: the answer is in doubt."""
    for before in ([], [response(TEXT, finish="STOP")]):
        error = failure(*before, data)
        assert (error.kind, error.category) == (kind, category)


def test_an_answer_without_a_finish_reason_is_truncated() -> None:
    """A stream that just ends is no answer."""
    error = failure(response(TEXT))

    assert (error.kind, error.category) == ("transient", "truncated")


def test_unknown_parts_are_passed_over() -> None:
    """New kinds of parts come with new models."""
    assert answer(response({"executableCode": {}}, TEXT, finish="STOP")).text == "a"


def test_a_required_call_that_did_not_come_is_told() -> None:
    """ANY is obeyed by most models only."""
    got = answer(response(TEXT, finish="STOP"), must_call=True)

    assert [call.reason for call in got.invalid_tool_calls] == ["not_called"]


def test_a_call_part_is_what_the_next_request_says() -> None:
    """The id we made goes back with the call and with its result."""
    (part,) = answer(response(called(name="f", args={}), finish="STOP")).tool_calls
    request = asking(
        messages=(
            Message.user("q"),
            Message("assistant", (part,)),
            Message.tool_result(part.id, "r"),
        ),
        tools=(ToolDefinition("f"),),
    )

    _, call, result = wire_request(request).contents

    assert isinstance(part, ToolCallPart)
    assert call["parts"][0]["function_call"]["id"] == part.id
    assert result["parts"][0]["function_response"]["id"] == part.id
