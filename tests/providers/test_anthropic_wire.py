"""The Messages API's request: what is sent for each neutral field, and what is refused."""

import re
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from gatebook.providers.anthropic_wire import OPTIONS, request_body
from gatebook.providers.chat_wire import tool_names
from tests.providers.calls import asking

REFUND = ToolDefinition("shop.refund", "gives money back", msgspec.Raw(b'{"type":"object"}'))
FIND = ToolDefinition("find")
REDACTED = '{"type":"redacted_thinking","data":"EmwKAhgB=="}'
CITY = b'{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}'


def sent(request: ChatRequest, *, stream: bool = False, fit_schema: Any = dict) -> Any:
    body = request_body(request, tool_names(request), fit_schema=fit_schema, stream=stream)
    return msgspec.json.decode(msgspec.json.encode(body))


def turns(*messages: Message) -> Any:
    return sent(asking(messages=messages))["messages"]


def refusal(request: ChatRequest) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        sent(request)
    return caught.value


def test_the_smallest_request_has_a_limit() -> None:
    """The API refuses a request without one; what is sent is what the budget reserves."""
    assert sent(asking("hi")) == {
        "model": "m",
        "max_tokens": 4_096,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    }


@pytest.mark.parametrize(
    ("fields", "wire"),
    [
        ({"max_output_tokens": 7}, {"max_tokens": 7}),
        ({"temperature": 0.0}, {"temperature": 0.0}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"stop": ("END",)}, {"stop_sequences": ["END"]}),
        ({"reasoning_effort": "high"}, {"output_config": {"effort": "high"}}),
        ({"reasoning_effort": "minimal"}, {"output_config": {"effort": "low"}}),
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        (
            {"provider_options": {"thinking": {"type": "adaptive"}}},
            {"thinking": {"type": "adaptive"}},
        ),
        ({"seed": 1}, {}),
    ],
)
def test_a_setting_goes_into_its_field(fields: dict[str, Any], wire: dict[str, Any]) -> None:
    """A setting in the wrong field is refused by the API, or silently without effect."""
    plain = sent(asking())

    assert sent(asking(**fields)) == plain | wire


def test_only_a_streamed_request_says_so() -> None:
    """The answer's form follows from it."""
    assert sent(asking(), stream=True)["stream"] is True
    assert "stream" not in sent(asking())


def test_instructions_stand_beside_the_conversation() -> None:
    """The API knows no system turn at the beginning."""
    messages = (Message.system("be kind"), Message.user("hi"), Message.system("be brief"))

    body = sent(asking(messages=messages))

    assert [block["text"] for block in body["system"]] == ["be kind", "be brief"]
    assert [turn["role"] for turn in body["messages"]] == ["user"]


def test_all_results_of_a_turn_are_one_user_message_with_the_words_after_them() -> None:
    """The API refuses a call whose result is not in the very next message."""
    first, second = ToolCallPart("1", "shop.refund", '{"n":1}'), ToolCallPart("2", "find")

    asked, called, answered = turns(
        Message.user("go"),
        Message.assistant("now", first, second),
        Message.tool_result("1", "done"),
        Message.tool_result("2", "", is_error=True),
        Message.user("and?"),
    )

    assert asked["content"] == [{"type": "text", "text": "go"}]
    assert called["content"] == [
        {"type": "text", "text": "now"},
        {"type": "tool_use", "id": "1", "name": "shop__refund", "input": {"n": 1}},
        {"type": "tool_use", "id": "2", "name": "find", "input": {}},
    ]
    assert answered["content"] == [
        {"type": "tool_result", "tool_use_id": "1", "content": "done"},
        {"type": "tool_result", "tool_use_id": "2", "is_error": True},
        {"type": "text", "text": "and?"},
    ]


def test_thinking_goes_back_word_for_word() -> None:
    """The API refuses a call's turn whose thinking was changed or left out."""
    parts = (
        ThinkingPart("so", "sig=="),
        ThinkingPart("", "hidden=="),
        ThinkingPart(provider_data=REDACTED),
    )

    (turn,) = turns(Message("assistant", (*parts, TextPart("a"))))

    assert turn["content"] == [
        {"type": "thinking", "thinking": "so", "signature": "sig=="},
        {"type": "thinking", "thinking": "", "signature": "hidden=="},
        {"type": "redacted_thinking", "data": "EmwKAhgB=="},
        {"type": "text", "text": "a"},
    ]


@pytest.mark.parametrize("before", [(), (TextPart("a"),)])
def test_thinking_that_led_to_nothing_is_left_out(before: tuple[TextPart, ...]) -> None:
    """After a call that was cut off, the API would refuse every later question."""
    end = (ThinkingPart("so", "sig=="), ThinkingPart(provider_data=REDACTED))

    found = turns(Message("assistant", before + end))

    assert [turn["content"] for turn in found] == [[{"type": "text", "text": "a"}] for _ in before]


def test_a_call_of_another_model_has_an_id_that_the_api_takes() -> None:
    """Kimi's have dots and colons; a conversation may go on here when its route is down."""
    ids = ["functions.f:0", "functions:f.0", "toolu_01-a"]
    calls = [ToolCallPart(id, "f") for id in ids]
    results = [Message.tool_result(id, "x") for id in ids]

    asked, answered = turns(Message.assistant("", *calls), *results)

    sent_ids = [block["id"] for block in asked["content"]]
    assert [block["tool_use_id"] for block in answered["content"]] == sent_ids
    assert sent_ids[2] == "toolu_01-a"
    assert len(set(sent_ids)) == 3
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", id) for id in sent_ids)


@pytest.mark.parametrize("id", ["call_0", "functions.f:0"])
def test_calls_that_another_model_gave_one_id_get_one_each(id: str) -> None:
    """Some servers count anew in every turn; this API refuses an id that comes twice."""
    turn = (Message.assistant("", ToolCallPart(id, "f")), Message.tool_result(id, "x"))

    told = turns(*turn, *turn, *turn)

    calls = [block["id"] for each in told[::2] for block in each["content"]]
    assert len(set(calls)) == 3
    assert [block["tool_use_id"] for each in told[1::2] for block in each["content"]] == calls
    assert turns(*turn, *turn) == told[:4]  # the same in every request: caches go by the beginning


@pytest.mark.parametrize(
    "part",
    [
        ThinkingPart("unsigned"),
        ThinkingPart("x", provider_data='{"reasoning":{"id":"rs_1"}}'),
        ThinkingPart("x", "c2ln", provider_data="not JSON"),
        TextPart(" \n"),
        RefusalPart(""),
    ],
)
def test_what_the_api_would_refuse_is_left_out_of_an_answer(part: Any) -> None:
    """A conversation may have begun with another vendor's model, or with an empty answer."""
    (turn,) = turns(Message("assistant", (TextPart("a"), part)))

    assert turn["content"] == [{"type": "text", "text": "a"}]


def test_an_empty_turn_is_left_out() -> None:
    """A model sometimes ends its turn without a word; sending that back is refused."""
    assert turns(Message.user("a"), Message.assistant(), Message.user("b")) == [
        {"role": "user", "content": [{"type": "text", "text": word} for word in "ab"]}
    ]


def test_a_refusal_goes_back_as_words() -> None:
    """The API has no block for it."""
    (turn,) = turns(Message("assistant", (RefusalPart("no"),)))

    assert turn["content"] == [{"type": "text", "text": "no"}]


def test_tools_are_described() -> None:
    """Dots are not allowed in names on the wire."""
    body = sent(asking(tools=(REFUND, FIND)))

    assert body["tools"] == [
        {
            "name": "shop__refund",
            "description": "gives money back",
            "input_schema": {"type": "object"},
        },
        {"name": "find", "input_schema": {"type": "object", "properties": {}}},
    ]


@pytest.mark.parametrize(
    ("choice", "parallel", "wire"),
    [
        ("auto", None, {"type": "auto"}),
        ("none", False, {"type": "none"}),
        ("required", None, {"type": "any"}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        ("auto", True, {"type": "auto"}),
        (NamedTool("shop.refund"), None, {"type": "tool", "name": "shop__refund"}),
    ],
)
def test_a_tool_choice_is_said_in_the_apis_words(choice: Any, parallel: Any, wire: Any) -> None:
    """An unknown word is refused; a missing one lets the model talk instead."""
    request = asking(tools=(REFUND,), tool_choice=choice, parallel_tool_calls=parallel)

    assert sent(request)["tool_choice"] == wire


def test_a_choice_without_tools_is_not_sent() -> None:
    """The API refuses it."""
    assert "tool_choice" not in sent(asking(tool_choice="none"))


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (asking(tools=(FIND,), tool_choice=NamedTool("gone")), "gone"),
        (asking(provider_options={"mcp_servers": []}), "mcp_servers"),
        (asking(provider_options={"tools": []}), "tools"),
        (asking(messages=(Message.assistant("", ToolCallPart("1", "find", "[]")),)), "'1'"),
        (asking(messages=(Message.assistant("", ToolCallPart("1", "find", "{")),)), "'1'"),
    ],
)
def test_a_request_that_cannot_be_said_is_not_sent(request_: ChatRequest, told: str) -> None:
    """Hosted tools act outside the gate; the others would be refused after they were paid for."""
    error = refusal(request_)

    assert (error.kind, error.category, error.sent) == ("permanent", "invalid_request", False)
    assert told in error.message


def test_every_option_is_sent() -> None:
    """An option that is allowed and then dropped is worse than a refused one."""
    options = dict.fromkeys(OPTIONS, "x")

    assert options.items() <= sent(asking(provider_options=options)).items()


def test_a_schema_is_sent_natively_in_the_words_the_api_knows() -> None:
    """It refuses the keywords it does not know, which pydantic writes all the time."""
    form = JsonSchemaFormat("City", msgspec.Raw(CITY))

    body = sent(asking(response_format=form), fit_schema=lambda schema: {"fitted": schema})

    assert body["output_config"] == {
        "format": {"type": "json_schema", "schema": {"fitted": msgspec.json.decode(CITY)}}
    }
    assert "system" not in body


@pytest.mark.parametrize(
    "schema",
    [
        b'{"type":"object"}',
        b'{"type":"object","additionalProperties":{"type":"integer"}}',
        b'{"type":"object","properties":{"a":{"type":"object","additionalProperties":true}}}',
        b'{"type":"array","items":{"type":"object","patternProperties":{"^x":{}}}}',
        b'{"$defs":{"A":{"type":"object"}},"type":"array","items":{"$ref":"#/$defs/A"}}',
        b'{"anyOf":[{"type":"null"},{"type":"object"}]}',
        b"true",
    ],
)
def test_a_schema_with_free_keys_is_said_in_words(schema: bytes) -> None:
    """The API closes every object: a dict would always come back empty, and would even fit."""
    messages = (Message.system("be kind"), Message.user("hi"))
    form = JsonSchemaFormat("Any", msgspec.Raw(schema))

    body = sent(asking(messages=messages, response_format=form), fit_schema=_picky)

    assert "output_config" not in body
    assert body["system"][0]["text"] == "be kind"
    assert body["system"][1]["text"].endswith(schema.decode())


@pytest.mark.parametrize(
    ("links", "natively"),
    [
        ({"A": "#/$defs/B", "B": ""}, True),
        ({"A": "#/$defs/A"}, False),
        ({"A": "#/$defs/B", "B": "#/$defs/C", "C": "#/$defs/B"}, False),
        ({"A": "#"}, False),
    ],
)
def test_a_schema_that_holds_itself_is_said_in_words(links: dict[str, str], natively: bool) -> None:
    """The API answers it with 400."""
    held = {
        name: {"type": "array", "items": {"$ref": to} if to else {"type": "integer"}}
        for name, to in links.items()
    }
    schema = msgspec.json.encode({"$defs": held, "$ref": "#/$defs/A"})

    body = sent(asking(response_format=JsonSchemaFormat("A", msgspec.Raw(schema))))

    assert ("output_config" in body) is natively
    assert ("system" in body) is not natively


def _picky(schema: Any) -> Any:
    """Refuse what is no object, as the SDK does."""
    return {**schema}


def test_a_schema_the_sdk_cannot_fit_is_said_in_words() -> None:
    """It asserts on a list of types."""

    def fails(_: Any) -> Any:
        raise AssertionError

    form = JsonSchemaFormat("City", msgspec.Raw(CITY))

    body = sent(asking(response_format=form), fit_schema=fails)

    assert body["system"][0]["text"].endswith(CITY.decode())


PARTS = st.one_of(
    st.builds(TextPart, st.text(max_size=5)),
    st.builds(ThinkingPart, st.text(max_size=5), st.none() | st.just("sig")),
    st.builds(ToolCallPart, st.text(min_size=1, max_size=3), st.sampled_from(["a", "b.c"])),
    st.builds(ToolResultPart, st.text(min_size=1, max_size=3), st.text(max_size=5)),
)
MESSAGES = st.lists(
    st.builds(
        Message,
        st.sampled_from(["system", "user", "assistant", "tool"]),
        st.lists(PARTS, max_size=3).map(tuple),
    ),
    max_size=6,
).map(tuple)


@given(MESSAGES)
def test_no_turn_is_empty_and_no_two_user_turns_meet(messages: tuple[Message, ...]) -> None:
    """The API refuses the first, and results after a second user turn."""
    roles = []

    for turn in turns(*messages):
        assert turn["content"]
        roles.append(turn["role"])

    assert ("user", "user") not in pairwise(roles)
