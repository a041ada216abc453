"""The Responses API's request: items in order, thoughts sent back, options allowed or refused."""

from typing import Any

import msgspec
import pytest

from gatebook.errors import ProviderError
from gatebook.kernel.messages import (
    ChatRequest,
    JsonSchemaFormat,
    Message,
    NamedTool,
    Part,
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolDefinition,
)
from gatebook.providers.chat_wire import tool_names
from gatebook.providers.responses_wire import request_body
from tests.providers.calls import asking

ADD = ToolDefinition("math.add", "Add.", msgspec.Raw(b'{"type":"object","required":["b","a"]}'))
ENCRYPTED = '{"id":"rs_1","summary":[],"type":"reasoning","encrypted_content":"gAAA","future":1.50}'
PLAIN = '{"id":"rs_2","summary":[],"type":"reasoning"}'


def body(request: ChatRequest, *, stream: bool = False) -> Any:
    """Return the body as it stands on the wire."""
    return msgspec.json.decode(
        msgspec.json.encode(request_body(request, tool_names(request), stream=stream))
    )


def sent_back(*parts: Part, **options: Any) -> list[Any]:
    """Return the items that an assistant's message becomes."""
    request = asking(messages=(Message("assistant", parts),), provider_options=options)
    items: list[Any] = body(request)["input"]
    return items


def refusal(request: ChatRequest) -> str:
    """Return why a request cannot be sent."""
    with pytest.raises(ProviderError) as caught:
        body(request)
    assert (caught.value.kind, caught.value.sent) == ("permanent", False)
    return str(caught.value)


def thinking(item: str, **message: str) -> ThinkingPart:
    """Return what a thought of this API is kept as."""
    follows = msgspec.json.encode({"type": "message", **message}).decode() if message else "null"
    return ThinkingPart("hm", provider_data=f'{{"reasoning":{item},"message":{follows}}}')


def test_a_plain_question_says_no_more_than_needed() -> None:
    """Unset options are left to the provider; nothing is kept there unasked."""
    assert body(asking("hi")) == {
        "model": "m",
        "input": [{"role": "user", "content": "hi"}],
        "store": False,
    }


def test_a_streamed_request_says_so() -> None:
    """The answers differ in shape."""
    assert body(asking(), stream=True)["stream"] is True


def test_every_option_has_its_place() -> None:
    """Some stand inside objects in this API."""
    request = asking(
        max_output_tokens=99,
        temperature=0.5,
        top_p=0.9,
        reasoning_effort="low",
        response_format=JsonSchemaFormat("my city", msgspec.Raw(b'{"type":"object"}')),
        provider_options={"verbosity": "low", "reasoning_summary": "auto", "service_tier": "flex"},
    )

    told = body(request)

    assert told["max_output_tokens"] == 99
    assert (told["temperature"], told["top_p"], told["service_tier"]) == (0.5, 0.9, "flex")
    assert told["reasoning"] == {"effort": "low", "summary": "auto"}
    assert told["text"] == {
        "verbosity": "low",
        "format": {
            "type": "json_schema", "name": "my_city", "strict": True, "schema": {"type": "object"},
        },
    }  # fmt: skip


def test_a_tool_is_not_strict() -> None:
    """Strict is this API's default, and refuses every schema with an optional field."""
    told = body(asking(tools=(ADD,), parallel_tool_calls=False))

    assert told["tools"] == [
        {
            "type": "function", "name": "math__add", "description": "Add.", "strict": False,
            "parameters": {"type": "object", "required": ["b", "a"]},
        }
    ]  # fmt: skip
    assert (told["tool_choice"], told["parallel_tool_calls"]) == ("auto", False)


def test_a_schema_keeps_the_order_of_its_fields() -> None:
    """Models write fields in the order they read them."""
    schema = msgspec.Raw(b'{"z":1,"a":2}')
    request = asking(tools=(ToolDefinition("t", schema=schema),))

    told = msgspec.json.encode(request_body(request, tool_names(request), stream=False))

    assert b'{"z":1,"a":2}' in told


def test_a_named_tool_is_chosen_by_its_wire_name() -> None:
    """This API's form has the name beside the type."""
    told = body(asking(tools=(ADD,), tool_choice=NamedTool("math.add")))

    assert told["tool_choice"] == {"type": "function", "name": "math__add"}


def test_a_choice_of_an_absent_tool_is_refused() -> None:
    """The server would say so, after a round trip."""
    assert "not among the tools" in refusal(asking(tools=(ADD,), tool_choice=NamedTool("other")))


@pytest.mark.parametrize("name", ["tools", "previous_response_id", "background", "stop"])
def test_an_option_outside_the_list_is_refused(name: str) -> None:
    """Hosted tools act outside the gate, and a stored conversation is not the journal's."""
    assert repr(name) in refusal(asking(provider_options={name: []}))


@pytest.mark.parametrize(("name", "value"), [("stop", ("END",)), ("seed", 0)])
def test_what_this_api_lacks_is_refused(name: str, value: Any) -> None:
    """Left out quietly, the answer would be another than was asked for."""
    assert "openai-chat:" in refusal(asking(**{name: value}))


@pytest.mark.parametrize(
    "model", ["gpt-5-mini", "gpt-6-astra", "o3", "o4-mini", "codex-mini-latest", "ft:o4-mini:x"]
)
def test_a_reasoning_models_thoughts_are_asked_for_encrypted(model: str) -> None:
    """Nothing is stored there, so they can come back in no other way."""
    assert body(asking(model=model))["include"] == ["reasoning.encrypted_content"]


@pytest.mark.parametrize(
    "model", ["gpt-4o", "gpt-4.1", "gpt-5-chat-latest", "gpt-35-turbo", "gpt-50x", "omni", "llama"]
)
def test_other_models_are_not_asked_for_thoughts(model: str) -> None:
    """They answer 400 to it."""
    assert "include" not in body(asking(model=model))


def test_an_effort_shows_that_a_model_reasons() -> None:
    """A deployment's name says nothing of its model."""
    assert "include" in body(asking(model="our-deployment", reasoning_effort="high"))


def test_stored_answers_keep_their_thoughts_there() -> None:
    """Then the item's id is enough."""
    told = body(asking(model="gpt-5", provider_options={"store": True}))

    assert told["store"] is True
    assert "include" not in told


def test_a_conversation_keeps_its_order() -> None:
    """Calls and results stand beside the messages here, not inside them."""
    call = ToolCallPart("call_1", "math.add", '{"a": 1}')
    messages = (
        Message.system("Be brief."),
        Message.user("Add."),
        Message.assistant("Now.", call),
        Message.tool_result("call_1", "42"),
    )

    assert body(asking(messages=messages, tools=(ADD,)))["input"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Add."},
        {
            "type": "message", "role": "assistant",
            "content": [{"type": "output_text", "text": "Now."}],
        },
        {
            "type": "function_call", "call_id": "call_1", "name": "math__add",
            "arguments": '{"a": 1}',
        },
        {"type": "function_call_output", "call_id": "call_1", "output": "42"},
    ]  # fmt: skip


def test_a_refusal_goes_back_as_what_was_said() -> None:
    """The model should know that it refused."""
    (item,) = sent_back(RefusalPart("I will not."))

    assert item["content"] == [{"type": "output_text", "text": "I will not."}]


def test_a_thought_goes_back_byte_for_byte() -> None:
    """Its encrypted part is signed over what stands around it, as far as anybody knows."""
    request = asking(messages=(Message("assistant", (thinking(ENCRYPTED), TextPart("a"))),))

    told = msgspec.json.encode(request_body(request, tool_names(request), stream=False))

    assert ENCRYPTED.encode() in told


def test_what_a_thought_led_to_goes_back_under_its_name() -> None:
    """The server refuses a thought "without its required following item"."""
    call = ToolCallPart("call_1", "t", "{}", '{"type":"function_call","id":"fc_1"}')

    _, message, called = sent_back(
        thinking(ENCRYPTED, id="msg_1", phase="commentary"), TextPart("So."), call
    )

    assert (message["id"], message["phase"], message["status"]) == (
        "msg_1", "commentary", "completed",
    )  # fmt: skip
    assert called["id"] == "fc_1"


@pytest.mark.parametrize("before", [(), (thinking(ENCRYPTED, id="msg_1"), TextPart("So."))])
def test_a_thought_that_led_to_nothing_is_left_out(before: tuple[Part, ...]) -> None:
    """After a call that was cut off, the server would refuse every later question."""
    assert sent_back(*before, thinking(ENCRYPTED), thinking(PLAIN)) == sent_back(*before)


def test_a_call_of_another_model_has_an_id_that_is_not_too_long() -> None:
    """A conversation may go on here when the route that it began on is down."""
    long = "functions." + "f" * 64
    told = body(
        asking(
            messages=(
                Message.assistant("", ToolCallPart(long + ":0", "f"), ToolCallPart(long, "f")),
                Message.tool_result(long + ":0", "x"),
                Message.tool_result(long, "y"),
            )
        )
    )

    ids = [item["call_id"] for item in told["input"]]

    assert ids[:2] == ids[2:]
    assert ids[0] != ids[1]
    assert max(map(len, ids)) <= 64


def test_calls_that_another_model_gave_one_id_get_one_each() -> None:
    """Some servers count anew in every turn; here a call is known by its id alone."""
    turn = (Message.assistant("", ToolCallPart("call_0", "f")), Message.tool_result("call_0", "x"))

    first, its, second, seconds = [
        item["call_id"] for item in body(asking(messages=turn * 2))["input"]
    ]

    assert (first, its) == ("call_0", "call_0")
    assert second == seconds != first


def test_a_thought_that_nobody_stored_is_left_out_with_its_names() -> None:
    """Its id alone means nothing to the server, nor an item that names it."""
    call = ToolCallPart("call_1", "t", "{}", '{"type":"function_call","id":"fc_1"}')

    message, called = sent_back(thinking(PLAIN, id="msg_1"), TextPart("So."), call)

    assert "id" not in message
    assert "id" not in called


def test_a_stored_thought_goes_back_by_its_id() -> None:
    """The server has kept the rest."""
    item, _ = sent_back(thinking(PLAIN, id="msg_1"), TextPart("So."), store=True)

    assert item == msgspec.json.decode(PLAIN)


@pytest.mark.parametrize(
    "other",
    [
        ThinkingPart("hm", signature="sig"),
        ThinkingPart("hm", provider_data="opaque"),
        ThinkingPart("hm", provider_data='{"thought_signature":"x"}'),
        ThinkingPart("hm", provider_data='{"reasoning":{"type":"redacted"}}'),
        ThinkingPart("hm", provider_data='{"reasoning":5}'),
    ],
)
def test_another_providers_thought_is_not_sent(other: ThinkingPart) -> None:
    """A fallback route continues a conversation that another model began."""
    assert [item["type"] for item in sent_back(other, TextPart("So."))] == ["message"]


@pytest.mark.parametrize("data", ["opaque", '{"google":{"thought_signature":"x"}}', "[]"])
def test_another_providers_mark_on_a_call_is_not_sent(data: str) -> None:
    """As with thoughts."""
    *_, called = sent_back(thinking(ENCRYPTED), ToolCallPart("call_1", "t", "{}", data))

    assert set(called) == {"type", "call_id", "name", "arguments"}
