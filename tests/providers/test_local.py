"""The small model on this machine: real tokens, real failures. Asserts structure, not facts."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from gatebook.errors import ConfigError
from gatebook.kernel.messages import (
    JsonSchemaFormat,
    Message,
    NamedTool,
    TextDelta,
    ToolCallPart,
    ToolDefinition,
)
from gatebook.providers.local import KINDS, Kind, LocalModel, fitted
from tests.providers.calls import CALL, asking, attempt, failing, failing_whole, texts

model = pytest.mark.local_model

NUMBERS = msgspec.Raw(
    b'{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},'
    b'"required":["a","b"]}'
)
ADD = ToolDefinition("math.add", "Add two numbers", NUMBERS)
CITY = msgspec.Raw(
    b'{"type":"object","properties":{"city":{"type":"string"},"people":{"type":"integer"}},'
    b'"required":["city","people"],"additionalProperties":false}'
)


def with_model(
    scenario: Callable[[LocalModel], Coroutine[Any, Any, None]], kind: Kind = "openai-compatible"
) -> None:
    async def run() -> None:
        local = LocalModel(kind=kind)
        try:
            await scenario(local)
        finally:
            await local.aclose()

    asyncio.run(run())


@model
def test_it_streams_text_and_tells_its_usage() -> None:
    """The whole path from socket to answer, with nothing made up."""

    async def scenario(local: LocalModel) -> None:
        got, shown = await attempt(local, asking("Say hello.", max_output_tokens=24))

        assert sum(isinstance(part, TextDelta) for part in shown) > 2
        assert texts(shown) == got.text
        assert got.finish_reason in ("stop", "length")
        assert got.usage is not None
        assert 0 < (got.usage.output_tokens or 0) <= 24

    with_model(scenario)


@model
def test_it_calls_a_tool_and_then_answers() -> None:
    """An agent's turn: a call under our own name, its result, an answer in words."""

    async def scenario(local: LocalModel) -> None:
        ask = Message.user("Add 2 and 40.")
        first, _ = await attempt(local, asking(messages=(ask,), tools=(ADD,)))
        (call,) = first.tool_calls
        result = Message.tool_result(call.id, "42")
        talk = (ask, first.message, result)
        second = await local.complete(
            asking(messages=talk, tools=(ADD,), max_output_tokens=32), CALL
        )

        assert call.name == "math.add"
        assert set(msgspec.json.decode(call.arguments)) == {"a", "b"}
        assert first.finish_reason == "tool_calls"
        assert second.tool_calls == ()
        assert second.text

    with_model(scenario)


@model
@pytest.mark.parametrize("kind", KINDS)
def test_it_answers_in_a_schema(kind: Kind) -> None:
    """A typed answer that validates, streamed and whole, whichever adapter asks for it."""

    async def scenario(local: LocalModel) -> None:
        request = asking(
            "Paris has 2102650 people.", response_format=JsonSchemaFormat("City", CITY)
        )
        got, shown = await attempt(local, request)
        whole = await local.complete(request, CALL)

        for answer in (got, whole):
            assert set(msgspec.json.decode(answer.text)) == {"city", "people"}
            assert (answer.finish_reason, answer.tool_calls) == ("stop", ())
        assert got.text == texts(shown)

    with_model(scenario, kind)


@model
def test_a_call_that_the_limit_cut_off_never_runs() -> None:
    """Real truncated arguments, not invented ones."""

    async def scenario(local: LocalModel) -> None:
        request = asking("Add 2 and 40.", tools=(ADD,), max_output_tokens=5)
        got, _ = await attempt(local, request)

        assert got.tool_calls == ()
        assert (got.finish_reason, got.state) == ("length", "incomplete")
        assert [call.reason for call in got.invalid_tool_calls] == ["cut_off"]

    with_model(scenario)


@model
def test_a_prompt_that_is_too_long_is_a_permanent_error() -> None:
    """llama.cpp says so in its own words, before and inside a stream."""

    async def scenario(local: LocalModel) -> None:
        request = asking("word " * 6_000)

        streamed, whole = await failing(local, request), await failing_whole(local, request)

        assert (streamed.kind, streamed.category) == ("permanent", "context_length")
        assert (whole.kind, whole.category) == ("permanent", "context_length")

    with_model(scenario)


@model
def test_leaving_frees_the_servers_slot() -> None:
    """A cancelled stream that goes on computing makes everybody else wait."""

    async def scenario(local: LocalModel) -> None:
        import httpx2

        provider = await local.provider("chat")
        slots = provider.base_url.removesuffix("/v1") + "/slots"
        async with httpx2.AsyncClient(trust_env=False) as client:

            async def busy() -> bool:
                return any(slot["is_processing"] for slot in (await client.get(slots)).json())

            request = asking("Count to a thousand.", max_output_tokens=1_500)
            async with local.stream(request, CALL) as events:
                async for part in events:
                    if isinstance(part, TextDelta):
                        break
                assert await busy()

            async with asyncio.timeout(10):
                while await busy():  # noqa: ASYNC110 - only asking tells
                    await asyncio.sleep(0.01)

    with_model(scenario)


@model
def test_it_starts_again_after_it_was_closed() -> None:
    """A runtime may be opened twice in one process."""

    async def scenario(local: LocalModel) -> None:
        first = await local.complete(asking("Say hello.", max_output_tokens=4), CALL)
        await local.aclose()

        again = await local.complete(asking("Say hello.", max_output_tokens=4), CALL)

        assert first.text == again.text

    with_model(scenario)


def test_a_vendor_it_cannot_stand_in_for_is_refused() -> None:
    """At once, and not with the first call."""
    with pytest.raises(ConfigError) as caught:
        LocalModel(kind="google")  # type: ignore[arg-type]

    assert caught.value.code == "E_CONFIG"
    assert "openai-compatible, openai, anthropic" in str(caught.value)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_where_a_schema_would_be_dropped_the_answer_is_asked_for_as_a_call(kind: Kind) -> None:
    """And without the model's own words before, after which it would only talk on."""
    talk = (
        Message.system("Be brief."),
        Message.user("Add"),
        Message.assistant("", ToolCallPart("c1", "math.add", '{"a":1}')),
        Message.tool_result("c1", "42"),
    )
    form = JsonSchemaFormat("City", CITY)

    chosen, request = fitted(asking(messages=talk, tools=(ADD,), response_format=form), kind)

    assert (chosen, request.tool_choice, request.response_format) == ("tools", "required", None)
    assert [(tool.name, bytes(tool.schema)) for tool in request.tools] == [("City", bytes(CITY))]
    assert [message.role for message in request.messages] == ["user"]


@pytest.mark.parametrize(
    ("fields", "template", "choice"),
    [
        ({}, "chat", "auto"),
        ({"tools": (ADD,)}, "tools", "required"),
        ({"tools": (ADD,), "tool_choice": "none"}, "chat", "auto"),
        ({"tools": (ADD,), "tool_choice": NamedTool("math.add")}, "tools", NamedTool("math.add")),
    ],
)
def test_the_server_is_chosen_by_what_is_asked(
    fields: dict[str, Any], template: str, choice: Any
) -> None:
    """The template that forces calls cannot talk, and the other cannot call."""
    chosen, request = fitted(asking("x", **fields))

    assert (chosen, request.tool_choice) == (template, choice)
    assert request.max_output_tokens == 256


def test_after_a_result_the_talking_server_is_asked_in_plain_talk() -> None:
    """Forced to call, the model would call for ever."""
    talk = (
        Message.user("Add"),
        Message.assistant("", ToolCallPart("c1", "math.add", '{"a":1}')),
        Message.tool_result("c1", "42"),
    )

    chosen, request = fitted(asking(messages=talk, tools=(ADD,)))

    assert (chosen, request.tools) == ("chat", ())
    assert [message.role for message in request.messages] == ["user", "assistant", "user"]
    assert request.messages[-1].text == "Result: 42"
