"""Requests in Gemini's words: what the SDK is given, and what reaches the server through it."""

import asyncio
import base64
import json
from typing import Any

import msgspec
import pytest

from gatebook.errors import ProviderError
from gatebook.kernel.messages import (
    ChatRequest,
    JsonSchemaFormat,
    Message,
    NamedTool,
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolDefinition,
    ToolResultPart,
)
from gatebook.providers.google import Google
from gatebook.providers.google_wire import FOREIGN_CALL, Kept, wire_request
from gatebook.testing.fault_server import FaultServer, answer
from tests.providers.calls import CALL, asking

SIGNATURE = "Ep/+CA=="
SIGNED = msgspec.json.encode(Kept(SIGNATURE)).decode()
ADD = ToolDefinition("add", "Add.", msgspec.Raw(b'{"type":"object","properties":{"_a":{}}}'))
CITY = JsonSchemaFormat("city", msgspec.Raw(b'{"type":"object","properties":{"name":{}}}'))


def talk(*messages: Message, model: str = "gemini-2.5-flash", **fields: Any) -> ChatRequest:
    """Return a request with this conversation."""
    return asking(model=model, messages=messages, **fields)


def contents(*messages: Message, model: str = "gemini-2.5-flash") -> list[dict[str, Any]]:
    return wire_request(talk(*messages, model=model)).contents


def config(model: str = "gemini-3-pro", **fields: Any) -> dict[str, Any]:
    return wire_request(talk(Message.user("hi"), model=model, **fields)).config


def assistant(*parts: Any) -> Message:
    return Message("assistant", parts)


def test_system_messages_leave_the_conversation() -> None:
    """Gemini takes instructions beside the contents, wherever they were said."""
    wire = wire_request(
        talk(Message.system("be brief"), Message.user("hi"), Message.system("be kind"))
    )

    assert wire.contents == [{"role": "user", "parts": [{"text": "hi"}]}]
    assert wire.config["system_instruction"] == {
        "parts": [{"text": "be brief"}, {"text": "be kind"}]
    }


def test_the_results_of_a_turn_are_one_content() -> None:
    """Gemini refuses a turn whose calls and results differ in number."""
    calls = (ToolCallPart("1", "add", '{"a":1}'), ToolCallPart("2", "my.add"))
    said = contents(
        Message.user("go"),
        Message.assistant("", *calls),
        Message.tool_result("1", "three"),
        Message.tool_result("2", "no", is_error=True),
        Message.user("and?"),
    )

    assert [content["role"] for content in said] == ["user", "model", "user", "user"]
    assert said[1]["parts"] == [
        {"function_call": {"id": "1", "name": "add", "args": {"a": 1}}},
        {"function_call": {"id": "2", "name": "my__add", "args": {}}},
    ]
    assert said[2]["parts"] == [
        {"function_response": {"id": "1", "name": "add", "response": {"output": "three"}}},
        {"function_response": {"id": "2", "name": "my__add", "response": {"error": "no"}}},
    ]
    assert said[3]["parts"] == [{"text": "and?"}]


def test_an_empty_answer_is_left_out() -> None:
    """A content without parts is refused."""
    said = contents(Message.user("a"), Message.assistant(), Message.user("b"))

    assert [content["role"] for content in said] == ["user", "user"]


def test_a_refusal_goes_back_as_text() -> None:
    """Gemini has no other word for it."""
    (_, said) = contents(Message.user("a"), assistant(RefusalPart("no")))

    assert said == {"role": "model", "parts": [{"text": "no"}]}


def test_a_call_takes_its_signature_along() -> None:
    """Gemini 3 refuses the turn without it."""
    call = ToolCallPart("1", "add", "{}", provider_data=SIGNED)
    (_, said) = contents(Message.user("a"), Message.assistant("", call))

    assert said["parts"][0]["thought_signature"] == base64.b64decode(SIGNATURE)


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        ("part", [{"text": "a"}, {"text": "hm", "thought_signature": b"S", "thought": True}]),
        ("text", [{"text": "a", "thought_signature": b"S"}]),
        ("empty", [{"text": "a"}, {"text": "hm", "thought_signature": b"S"}]),
    ],
)
def test_a_signature_returns_to_what_it_came_on(on: Any, expected: list[Any]) -> None:
    """Google asks that signed and unsigned parts are never merged."""
    data = msgspec.json.encode(Kept(base64.b64encode(b"S").decode(), on)).decode()
    (_, said) = contents(
        Message.user("q"), assistant(TextPart("a"), ThinkingPart("hm", provider_data=data))
    )

    assert said["parts"] == expected


@pytest.mark.parametrize("data", [None, "", "sig", "[1]", '{"google":{"thought_signature":"x"}}'])
def test_thinking_without_a_signature_of_gemini_stays_here(data: str | None) -> None:
    """Another provider's opaque data would be refused."""
    thinking = ThinkingPart("hm", signature="anthropic's", provider_data=data)
    (_, said) = contents(Message.user("q"), assistant(thinking, TextPart("a")))

    assert said["parts"] == [{"text": "a"}]


def test_calls_that_another_model_made_are_vouched_for_since_gemini_3() -> None:
    """A fallback route hands over a conversation whose calls have no signature."""
    calls = (ToolCallPart("1", "add"), ToolCallPart("2", "add"))
    talk_so_far = (Message.user("q"), Message.assistant("", *calls))

    new, old = contents(*talk_so_far, model="gemini-3-pro"), contents(*talk_so_far)

    first, second = new[1]["parts"]
    assert base64.urlsafe_b64encode(first["thought_signature"]).decode() == FOREIGN_CALL
    assert "thought_signature" not in second
    assert all("thought_signature" not in part for part in old[1]["parts"])


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([Message.tool_result("9", "x")], "which nobody made"),
        ([Message.assistant("", ToolCallPart("1", "add", "[]"))], "not a JSON object"),
        ([Message.assistant("", ToolCallPart("1", "add", "{"))], "not a JSON object"),
        (
            [Message.assistant("", ToolCallPart("1", "add", "{}", '{"thoughtSignature":"!"}'))],
            "not base64",
        ),
    ],
)
def test_a_conversation_that_cannot_be_said_is_refused(messages: list[Message], told: str) -> None:
    """Sending half of it would get an answer to something else."""
    with pytest.raises(ProviderError, match=told) as raised:
        contents(*messages)

    assert (raised.value.kind, raised.value.category) == ("permanent", "invalid_request")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        (NamedTool("add"), {"mode": "ANY", "allowed_function_names": ["add"]}),
    ],
)
def test_tool_choices_are_modes(choice: Any, expected: dict[str, Any]) -> None:
    """All four can be said to Gemini."""
    said = config(tools=(ADD,), tool_choice=choice)

    assert said["tool_config"] == {"function_calling_config": expected}


def test_a_choice_of_no_tool_is_refused() -> None:
    """Gemini would answer with a text instead."""
    with pytest.raises(ProviderError, match="not among the tools"):
        config(tools=(ADD,), tool_choice=NamedTool("sub"))


def test_a_request_without_tools_says_nothing_of_them() -> None:
    """A mode without functions is refused."""
    said = config(tool_choice="required")

    assert "tools" not in said
    assert "tool_config" not in said


def test_a_schema_is_a_hint_that_old_models_do_not_take_beside_tools() -> None:
    """Before Gemini 3 the two together are an error, and local validation decides anyway."""
    both: dict[str, Any] = {"tools": (ADD,), "response_format": CITY}

    assert config(**both)["response_json_schema"]["type"] == "object"
    assert "response_json_schema" not in config("gemini-2.5-pro", **both)
    alone = config("models/gemini-2.5-pro", response_format=CITY)
    assert alone["response_mime_type"] == "application/json"


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        ("gemini-3-pro", "high", {"thinking_level": "HIGH"}),
        ("gemini-3-flash", "minimal", {"thinking_level": "MINIMAL"}),
        ("gemini-flash-latest", "none", {"thinking_budget": 0}),
        ("gemini-2.5-flash", "medium", {"thinking_budget": 8_192}),
        ("models/gemini-2.5-flash", "none", {"thinking_budget": 0}),
    ],
)
def test_effort_is_a_level_or_a_budget(model: str, effort: str, expected: dict[str, Any]) -> None:
    """Each generation takes one of the two only."""
    assert config(model, reasoning_effort=effort)["thinking_config"] == expected


def test_an_unknown_effort_is_refused() -> None:
    """The SDK would send it with a warning."""
    with pytest.raises(ProviderError, match="reasoning effort 'huge'"):
        config(reasoning_effort="huge")


def test_options_of_its_own_are_an_allow_list() -> None:
    """Hosted tools and cached contents act outside the gate."""
    said = config(
        reasoning_effort="low",
        provider_options={"top_k": 3, "thinking_config": {"include_thoughts": True}},
    )

    assert said["top_k"] == 3
    assert said["thinking_config"] == {"thinking_level": "LOW", "include_thoughts": True}
    for name in ("cached_content", "tools", "http_options", "automatic_continuation"):
        with pytest.raises(ProviderError, match="allow-list"):
            config(provider_options={name: {}})


def test_the_sdk_sends_what_was_meant() -> None:
    """The SDK's own conversion stands between this wire and the server's."""
    call = ToolCallPart("1", "add", '{"_a":null,"b_c":1.0,"n":9007199254740993}', SIGNED)
    request = talk(
        Message.system("sys"),
        Message.user("hi"),
        Message.assistant("", call),
        Message("tool", (ToolResultPart("1", '{"x":1}'),)),
        model="gemini-3-pro",
        tools=(ADD,),
        tool_choice=NamedTool("add"),
        response_format=CITY,
        max_output_tokens=7,
        temperature=0.5,
        top_p=0.25,
        stop=("END",),
        seed=4,
        reasoning_effort="high",
        provider_options={"thinking_config": {"include_thoughts": True}},
    )

    async def scenario() -> Any:
        async with FaultServer(answer(400, {})) as server:
            provider = Google(base_url=server.url)
            with pytest.raises(ProviderError):
                await provider.complete(request, CALL)
            await provider.aclose()
            return server.requests[0].json()

    sent = asyncio.run(scenario())

    parts = [part for content in sent["contents"] for part in content["parts"]]
    assert parts[0] == {"text": "hi"}
    assert parts[1]["functionCall"] == {
        "id": "1",
        "name": "add",
        "args": json.loads(call.arguments),
    }
    returned = parts[1]["thoughtSignature"]
    assert base64.urlsafe_b64decode(returned) == base64.b64decode(SIGNATURE)
    assert parts[2]["functionResponse"] == {
        "id": "1",
        "name": "add",
        "response": {"output": '{"x":1}'},
    }
    assert sent["systemInstruction"]["parts"] == [{"text": "sys"}]
    (declared,) = sent["tools"][0]["functionDeclarations"]
    assert declared["parameters_json_schema"] == json.loads(bytes(ADD.schema))
    assert sent["toolConfig"]["functionCallingConfig"] == {
        "mode": "ANY",
        "allowedFunctionNames": ["add"],
    }
    assert sent["generationConfig"] == {
        "maxOutputTokens": 7,
        "temperature": 0.5,
        "topP": 0.25,
        "stopSequences": ["END"],
        "seed": 4,
        "responseMimeType": "application/json",
        "responseJsonSchema": json.loads(bytes(CITY.schema)),
        "thinkingConfig": {"thinking_level": "HIGH", "include_thoughts": True},
    }
