"""Recorded streams of OpenAI's Responses API, played back byte for byte through the adapter."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gatebook.errors import ProviderError
from gatebook.kernel.messages import ChatResponse, Message, ThinkingPart, ToolDefinition, Usage
from gatebook.providers.chat_wire import tool_names
from gatebook.providers.openai_responses import OpenAIResponses
from gatebook.providers.responses_wire import request_body
from gatebook.testing.fault_server import Chunk, EndOfBody, FaultServer, Play, answer, stream_head
from tests.providers.calls import asking, attempt, failing
from tests.providers.test_recordings import (
    body_of,
    error_of,
    interactions,
    played,
    recorded_bodies,
)

pytestmark = pytest.mark.recordings

TOOLS = (ToolDefinition("get_capital"), ToolDefinition("final_result"))


def answers(bodies: list[bytes], *, size: int) -> list[ChatResponse]:
    """Return what the adapter reads from these bodies, sent in chunks of `size` bytes."""

    async def scenario() -> list[ChatResponse]:
        async with FaultServer(*played(bodies, size=size)) as server:
            provider = OpenAIResponses("sk-test", base_url=server.url + "/v1")
            try:
                return [(await attempt(provider, asking(tools=TOOLS)))[0] for _ in bodies]
            finally:
                await provider.aclose()

    return asyncio.run(scenario())


SIZES = pytest.mark.parametrize("size", [11, 100_000])


@SIZES
def test_a_call_and_then_a_text(recordings: Path, size: int) -> None:
    """One agent turn of a real model."""
    file = recordings / "openai_responses_tool_call_then_text_stream.yaml"

    call, text = answers(recorded_bodies(file), size=size)

    assert [(c.id, c.name, c.arguments) for c in call.tool_calls] == [
        ("call_kL0PCQV7M2WMoVX8V8OtYSAL", "get_capital", '{"country":"France"}')
    ]
    assert (call.finish_reason, call.model) == ("tool_calls", "gpt-4o-2024-08-06")
    assert (text.text, text.finish_reason) == ("The capital of France is Paris.", "stop")
    assert [(u.input_tokens, u.output_tokens) for u in (call.usage, text.usage) if u] == [
        (255, 16), (278, 9),
    ]  # fmt: skip


@SIZES
def test_a_reasoning_models_thought_call_and_usage(recordings: Path, size: int) -> None:
    """Its output holds what it thought, and the thought is encrypted."""
    file = recordings / "openai_responses_reasoning_usage_stream.yaml"

    (told,) = answers(recorded_bodies(file), size=size)
    thought = told.message.content[0]

    assert [(c.name, c.arguments) for c in told.tool_calls] == [("final_result", '{"result":6666}')]
    assert isinstance(thought, ThinkingPart)
    assert told.usage == Usage(
        input_tokens=53,
        cache_read_tokens=0,
        output_tokens=469,
        reasoning_tokens=448,
        total_tokens=522,
    )


def test_a_thought_is_sent_back_as_it_was_recorded(recordings: Path) -> None:
    """The item of `output_item.done` counts: the one announced before holds another text."""
    file = recordings / "openai_responses_reasoning_usage_stream.yaml"
    (body,) = recorded_bodies(file)
    lines = [line.removeprefix(b"data: ") for line in body.splitlines() if line[:1] == b"d"]
    events = [json.loads(line) for line in lines]
    items = [e["item"] for e in events if e["type"] == "response.output_item.done"]

    (told,) = answers([body], size=100_000)
    request = asking(messages=(Message.user("?"), told.message), tools=TOOLS, model="gpt-5")
    _, thought, call = request_body(request, tool_names(request), stream=True)["input"]

    assert json.loads(bytes(thought)) == items[0]
    assert call == {key: items[1][key] for key in call}
    assert call["id"] == items[1]["id"]


@SIZES
def test_a_background_answer_and_its_resumption_are_the_same(recordings: Path, size: int) -> None:
    """The second begins in the middle, without `response.created`."""
    file = recordings / "openai_responses_background_resume_stream.yaml"

    first, resumed = answers(recorded_bodies(file), size=size)

    assert first.text == resumed.text == "2 + 2 equals 4."
    assert first.id == resumed.id
    assert (
        first.usage
        == resumed.usage
        == Usage(
            input_tokens=15,
            cache_read_tokens=0,
            output_tokens=9,
            reasoning_tokens=0,
            total_tokens=24,
        )
    )


def test_a_quota_that_is_used_up_ends_the_stream_for_good(recordings: Path) -> None:
    """It comes on a 200, as an event, after the answer was announced."""
    file = recordings / "openai_responses_error_event_insufficient_quota.chunks.txt"
    events = [
        f"event: {json.loads(line)['type']}\ndata: {line}\n\n".encode()
        for line in file.read_text().splitlines()
    ]
    play = Play(*stream_head(), *(Chunk(each) for each in events), EndOfBody())

    async def scenario() -> tuple[ProviderError, int]:
        async with FaultServer(play) as server:
            provider = OpenAIResponses("sk-test", base_url=server.url + "/v1")
            try:
                return await failing(provider, asking()), server.count
            finally:
                await provider.aclose()

    error, count = asyncio.run(scenario())

    assert (error.kind, error.category, count) == ("permanent", "quota", 1)
    assert error.fields["provider_code"] == "insufficient_quota"


def test_a_recorded_refusal_of_a_key_is_told_alike_by_the_sdk(recordings: Path) -> None:
    """What the SDK makes of the bytes must lose nothing of them."""
    file = recordings / "openai_401_invalid_key.yaml"
    recorded: dict[str, Any] = interactions(file)[-1]["response"]
    body = body_of(recorded)

    async def scenario() -> tuple[ProviderError, str]:
        async with FaultServer(answer(401, body)) as server:
            provider = OpenAIResponses("sk-test", base_url=server.url + "/v1")
            try:
                return await failing(provider, asking()), server.url
            finally:
                await provider.aclose()

    (error, url), expected = asyncio.run(scenario()), error_of(file)

    assert error.message == f"{expected.message} (from {url})"
    assert (error.kind, error.category) == (expected.kind, expected.category)
