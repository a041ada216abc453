"""The chat-completions format: what is sent, and what the server's ways of answering mean."""

from typing import Any

import msgspec
import pytest

from gatebook.errors import ProviderError
from gatebook.kernel.messages import (
    Capabilities,
    ChatRequest,
    JsonSchemaFormat,
    Message,
    MessageEnd,
    MessageStart,
    NamedTool,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ThinkingPart,
    ToolCallPart,
    ToolDefinition,
    Usage,
)
from gatebook.kernel.streams.machine import StreamMachine
from gatebook.providers.chat_answer import AnswerReader
from gatebook.providers.chat_wire import (
    ToolNames,
    finish_reason,
    request_body,
    tool_names,
    wire_name,
)
from tests.providers.calls import asking

REFUND = ToolDefinition("shop.refund", "gives money back", msgspec.Raw(b'{"type":"object"}'))
FIND = ToolDefinition("find")


def sent(request: ChatRequest, capabilities: Capabilities | None = None, **options: Any) -> Any:
    body = request_body(
        request,
        tool_names(request),
        capabilities=capabilities or Capabilities(),
        max_tokens_field=options.get("max_tokens_field", "max_tokens"),
        stream=options.get("stream", False),
    )
    return msgspec.json.decode(body)


def reader(*tools: str) -> AnswerReader:
    return AnswerReader(ToolNames(tools))


def chunk(**fields: Any) -> bytes:
    return msgspec.json.encode({"id": "r1", "model": "m", **fields})


def choice(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def test_an_unset_option_is_not_sent() -> None:
    """A default of ours would override the server's, and some models refuse any value."""
    assert sent(asking("hi")) == {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def test_every_set_option_is_sent() -> None:
    """A limit or seed that is silently dropped is worse than an error."""
    body = sent(
        asking(
            max_output_tokens=9,
            temperature=0.0,
            top_p=0.5,
            stop=("END",),
            seed=7,
            reasoning_effort="low",
            provider_options={"user": "u7"},
        ),
        max_tokens_field="max_completion_tokens",
    )

    assert body | {"messages": 0} == {
        "model": "m",
        "messages": 0,
        "max_completion_tokens": 9,
        "temperature": 0.0,
        "top_p": 0.5,
        "stop": ["END"],
        "seed": 7,
        "reasoning_effort": "low",
        "user": "u7",
    }


def test_a_stream_asks_for_its_usage() -> None:
    """Without it a streamed call is charged at its reservation."""
    body = sent(asking(), stream=True)

    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


def test_a_conversation_with_tools_keeps_its_shape() -> None:
    """Servers refuse a tool result that follows no call."""
    request = asking(
        messages=(
            Message.system("s"),
            Message.assistant("", ToolCallPart("c1", "shop.refund", '{"n":1}')),
            Message.tool_result("c1", "done"),
            Message.assistant("ok"),
        ),
        tools=(REFUND,),
    )

    assert sent(request)["messages"] == [
        {"role": "system", "content": "s"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "shop__refund", "arguments": '{"n":1}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
        {"role": "assistant", "content": "ok"},
    ]


def test_a_call_of_another_model_has_an_id_that_is_not_too_long() -> None:
    """OpenAI takes 40 characters, and makes more in its other API."""
    long = "fc_" + "0a" * 25
    request = asking(
        messages=(
            Message.assistant("", ToolCallPart(long, "f"), ToolCallPart(long + "b", "f")),
            Message.tool_result(long, "x"),
            Message.tool_result(long + "b", "y"),
        )
    )

    asked, *answered = sent(request)["messages"]

    ids = [call["id"] for call in asked["tool_calls"]]
    assert [each["tool_call_id"] for each in answered] == ids
    assert len(set(ids)) == 2
    assert max(map(len, ids)) <= 40


def test_a_turn_of_nothing_but_thinking_is_left_out() -> None:
    """A call that could not be read is no part of it, and some servers refuse an empty turn."""
    request = asking(messages=(Message("assistant", (ThinkingPart("hm"),)), Message.user("again")))

    assert sent(request)["messages"] == [{"role": "user", "content": "again"}]


def test_a_thought_signature_goes_back_verbatim() -> None:
    """Gemini's compatible endpoint refuses the conversation without it."""
    events = reader("f").read(
        chunk(
            **choice(
                tool_calls=[
                    {
                        "id": "c1",
                        "function": {"name": "f", "arguments": "{}"},
                        "extra_content": {"google": {"thought_signature": "abc="}},
                    }
                ]
            )
        )
    )
    machine = StreamMachine()
    machine.open()
    for event in [*events, MessageEnd("tool_calls")]:
        machine.feed(event)

    body = sent(asking(messages=(Message.user("x"), machine.response.message)))

    call = body["messages"][1]["tool_calls"][0]
    assert call["extra_content"] == {"google": {"thought_signature": "abc="}}


def test_tools_and_choices_are_sent() -> None:
    """Each form of choice has its own shape on the wire."""
    tools = (REFUND, FIND)
    named = sent(asking(tools=tools, tool_choice=NamedTool("shop.refund")))
    forced = sent(asking(tools=tools, tool_choice="required", parallel_tool_calls=False))

    assert named["tool_choice"] == {"type": "function", "function": {"name": "shop__refund"}}
    assert [tool["function"]["name"] for tool in named["tools"]] == ["shop__refund", "find"]
    assert (forced["tool_choice"], forced["parallel_tool_calls"]) == ("required", False)


def test_a_named_tool_is_forced_by_offering_it_alone_where_only_words_are_understood() -> None:
    """llama-server reads the object form as "auto"."""
    request = asking(tools=(REFUND, FIND), tool_choice=NamedTool("find"))

    body = sent(request, Capabilities(forced_tool_choice=False))

    assert [tool["function"]["name"] for tool in body["tools"]] == ["find"]
    assert body["tool_choice"] == "required"


def test_a_named_tool_that_is_not_offered_is_refused() -> None:
    """The server would answer with any tool it likes."""
    with pytest.raises(ProviderError, match="'gone'") as caught:
        sent(asking(tools=(FIND,), tool_choice=NamedTool("gone")))

    assert (caught.value.kind, caught.value.sent) == ("permanent", False)


def test_a_schema_is_sent_as_it_is() -> None:
    """A schema that was decoded and encoded again might have another digest."""
    form = JsonSchemaFormat("Reply", msgspec.Raw(b'{"type":"object"}'))

    assert sent(asking(response_format=form))["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "Reply", "strict": True, "schema": {"type": "object"}},
    }


@pytest.mark.parametrize("option", ["web_search_options", "plugins", "model", "messages", "stream"])
def test_an_option_outside_the_allow_list_is_refused(option: str) -> None:
    """Hosted tools act outside the gate, and the request's own fields are not to be overwritten."""
    with pytest.raises(ProviderError, match=option) as caught:
        sent(asking(provider_options={option: {}}))

    assert caught.value.sent is False


@pytest.mark.parametrize(
    ("name", "wire"),
    [("find", "find"), ("shop.refund", "shop__refund"), ("a/b c", "a_b_c"), ("größe", "gr__e")],
)
def test_a_tool_name_is_made_fit_for_the_wire(name: str, wire: str) -> None:
    """Our names may have dots, the protocol's may not."""
    assert wire_name(name) == wire


def test_a_long_tool_name_is_cut_and_stays_unique() -> None:
    """Two long names with one beginning must not become one tool."""
    first, second = wire_name("a" * 90 + "1"), wire_name("a" * 90 + "2")

    assert len(first) == len(second) == 64
    assert first != second


def test_two_tools_with_one_wire_name_are_refused() -> None:
    """The model's call would reach the wrong tool."""
    with pytest.raises(ProviderError, match="shop__refund"):
        ToolNames(["shop.refund", "shop__refund"])


def test_a_name_that_a_model_made_up_collides_with_no_tool() -> None:
    """Refused like two tools of ours, every later question of the conversation would fail."""
    made_up = ["find it", "find/it", "find_it"]
    called = [ToolCallPart(str(n), name) for n, name in enumerate(made_up)]
    talk = (Message.user("x"), Message.assistant("", *called))

    names = tool_names(asking(messages=talk, tools=(ToolDefinition("find_it"),)))
    wire = [names.wire(name) for name in made_up]

    assert wire[2] == "find_it"
    assert len(set(wire)) == 3
    assert [names.ours(name) for name in wire] == made_up


def test_names_come_back_as_ours() -> None:
    """Policy and journal know our names only; a name we never offered stays as it is."""
    names = ToolNames(["shop.refund"])

    assert names.ours("shop__refund") == "shop.refund"
    assert names.ours("rm_rf") == "rm_rf"


@pytest.mark.parametrize(
    ("raw", "ours"),
    [
        ("stop", "stop"),
        ("model_length", "length"),
        ("MAX_TOKENS", "length"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("something_new", "error"),
    ],
)
def test_finish_reasons_are_translated_and_unknown_ones_are_no_success(raw: str, ours: str) -> None:
    """A default of "stop" has hidden answers that were cut."""
    assert finish_reason(raw) == ours


def test_a_first_chunk_without_choices_begins_nothing() -> None:
    """Azure sends its prompt filter first, with an empty id and model."""
    azure = b'{"choices":[],"id":"","model":"","prompt_filter_results":[]}'

    answer = reader()

    assert answer.read(azure) == []
    assert answer.read(chunk(**choice(content="a"))) == [MessageStart("m", "r1"), TextDelta(0, "a")]


def test_a_choice_without_delta_is_noise() -> None:
    """Azure again."""
    assert reader().read(chunk(choices=[{"index": 0}])) == [MessageStart("m", "r1")]


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_both_names_of_thinking_are_read(field: str) -> None:
    """OpenRouter and DeepSeek disagree."""
    assert reader().read(chunk(**choice(**{field: "hm"})))[1:] == [ThinkingDelta(0, "hm")]


def test_content_in_blocks_is_read() -> None:
    """Mistral's reasoning models send a list."""
    blocks = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "a"},
    ]

    events = reader().read(chunk(**choice(content=blocks)))[1:]

    assert events == [ThinkingDelta(0, "hm"), TextDelta(0, "a")]


def test_arguments_that_are_already_an_object_are_text_again() -> None:
    """Some servers parse them for us; the gate decides over text."""
    call = {"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}
    events = reader().read(chunk(**choice(tool_calls=[call])))

    assert "".join(getattr(event, "arguments", "") for event in events) == '{"a":1}'


def test_a_second_choice_is_ignored() -> None:
    """One answer was asked for; two mixed into one would be neither."""
    data = chunk(choices=[{"index": 1, "delta": {"content": "b"}}])

    assert reader().read(data) == [MessageStart("m", "r1")]


def test_output_after_the_finish_reason_is_ignored() -> None:
    """Only usage may follow."""
    answer = reader()
    answer.read(chunk(**choice("stop", content="a")))

    assert answer.read(chunk(**choice(content="b"))) == []


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            {
                "prompt_tokens": 1220,
                "completion_tokens": 5,
                "total_tokens": 1225,
                "prompt_tokens_details": {"cached_tokens": 1217},
            },
            Usage(input_tokens=1220, cache_read_tokens=1217, output_tokens=5, total_tokens=1225),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 9,
                "total_tokens": 669,
                "completion_tokens_details": {"reasoning_tokens": 650},
            },
            Usage(input_tokens=10, output_tokens=659, reasoning_tokens=650, total_tokens=669),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 60,
                "total_tokens": 70,
                "completion_tokens_details": {"reasoning_tokens": 50},
            },
            Usage(input_tokens=10, output_tokens=60, reasoning_tokens=50, total_tokens=70),
        ),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, None),
        ({"prompt_tokens": None}, None),
        ({"prompt_tokens": -4, "completion_tokens": 2.0}, Usage(output_tokens=2)),
    ],
)
def test_usage_is_read_into_inclusive_buckets(told: dict[str, Any], expected: Usage | None) -> None:
    """XAI counts reasoning beside the completion; zeros mean that nobody measured."""
    answer = reader()
    answer.read(chunk(choices=[], usage=told))

    assert answer.usage == expected


@pytest.mark.parametrize(
    "told",
    [[], "", True, {"prompt_tokens": "12"}, {"prompt_tokens": 1, "prompt_tokens_details": []}],
)
def test_an_answer_is_not_lost_over_its_usage(told: Any) -> None:
    """Gateways in PHP write empty objects as lists; the answer was paid for all the same."""
    answer = reader()
    answer.read(chunk(**choice(content="a")))
    events = answer.read(chunk(**choice("stop", content="b"), usage=told))

    assert events == [TextDelta(0, "b")]
    assert answer.end() == [MessageEnd("stop", "stop")]


@pytest.mark.parametrize(
    "data",
    [b"{", b"", b"\xff", b"[1]", b'{"choices": 3}', b'"text"', b"[" * 100_000],
)
def test_what_is_no_chunk_is_malformed(data: bytes) -> None:
    """Skipped silently, a lost chunk is a hole in the answer."""
    with pytest.raises(ProviderError) as caught:
        reader().read(data)

    assert (caught.value.kind, caught.value.category) == ("transient", "malformed")


@pytest.mark.parametrize(
    "data",
    [
        {"error": {"message": "x", "type": "invalid_request_error"}},
        {"object": "error", "type": "invalid_request_error", "message": "x"},
        {"error": {"code": 400, "message": "x"}, "choices": []},
    ],
)
def test_an_error_object_in_a_200_is_the_error_it_says(data: dict[str, Any]) -> None:
    """Gateways answer 200 first and find out later."""
    with pytest.raises(ProviderError) as caught:
        reader().read(msgspec.json.encode(data))

    assert (caught.value.kind, caught.value.category) == ("permanent", "invalid_request")


def test_a_finish_reason_error_is_an_error() -> None:
    """OpenRouter ends a failed answer with it."""
    with pytest.raises(ProviderError) as caught:
        reader().read(chunk(**choice("error")))

    assert caught.value.kind == "transient"


def test_a_whole_answer_is_read_like_a_chunk() -> None:
    """One way of reading means one set of mistakes."""
    answer = reader()
    events: list[StreamEvent] = answer.read(
        chunk(choices=[{"message": {"content": "a"}, "finish_reason": "stop"}])
    )

    assert events == [MessageStart("m", "r1"), TextDelta(0, "a")]
    assert answer.end() == [MessageEnd("stop", "stop")]
