"""Recorded answers of Anthropic's API, played back byte for byte through the adapter.

Every expected value was read from the recording by hand.
"""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gatebook.errors import ProviderError
from gatebook.kernel.messages import (
    ChatResponse,
    JsonSchemaFormat,
    Message,
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolDefinition,
    Usage,
)
from gatebook.providers.anthropic import Anthropic
from gatebook.testing.fault_server import FaultServer, answer
from tests.providers.anthropic_events import against
from tests.providers.calls import CALL, asking, attempt, failing, failing_whole
from tests.providers.test_recordings import (
    SIZES,
    body_of,
    headers_of,
    interactions,
    played,
    recorded_bodies,
    status_of,
)

pytestmark = pytest.mark.recordings
pytest.importorskip("anthropic", reason="the extra anthropic is not installed")

RECORDED = ("anthropic_tool_use_stream.txt", "anthropic_refusal_stream.txt")


def streamed(body: bytes, *, size: int, **fields: Any) -> ChatResponse:
    """Return the answer that the adapter reads from this recorded stream."""

    async def scenario(provider: Anthropic, server: FaultServer) -> ChatResponse:
        got, _ = await attempt(provider, asking(**fields))
        assert server.count == 1
        return got

    (play,) = played([body], size=size)
    got: ChatResponse = asyncio.run(against(FaultServer(play), scenario))
    return got


def thinking_body(recordings: Path) -> bytes:
    (body,) = recorded_bodies(recordings / "anthropic_thinking_signature_stream.yaml")
    return body


def no_arguments_body(recordings: Path) -> bytes:
    """Return the stream whose data lines alone were recorded: its events have no names."""
    lines = (recordings / "anthropic_tool_no_args.chunks.txt").read_bytes().splitlines()
    return b"".join(b"data: " + line + b"\n\n" for line in lines)


@SIZES
def test_a_text_and_a_call_are_read(recordings: Path, size: int) -> None:
    """The recording ends without the last empty line."""
    body = (recordings / "anthropic_tool_use_stream.txt").read_bytes()

    got = streamed(body, size=size, tools=(ToolDefinition("get.weather"),))

    assert got.text == "I'll check the current weather in Paris for you."
    assert [(c.id, c.name, c.arguments) for c in got.tool_calls] == [
        ("toolu_01NRLabsLyVHZPKxbKvkfSMn", "get_weather", '{"location": "Paris"}')
    ]
    assert (got.id, got.model) == ("msg_019Q1hrJbZG26Fb9BQhrkHEr", "claude-sonnet-4-20250514")
    assert (got.finish_reason, got.raw_finish_reason) == ("tool_calls", "tool_use")
    assert got.usage == Usage(
        input_tokens=377,
        cache_read_tokens=0,
        cache_write_tokens=0,
        output_tokens=65,
        total_tokens=442,
    )


@SIZES
def test_a_call_without_arguments_has_an_empty_object(recordings: Path, size: int) -> None:
    """The only piece of its arguments is empty."""
    got = streamed(no_arguments_body(recordings), size=size)

    assert got.text == "I'll update the issue list for you."
    assert [(c.id, c.name, c.arguments) for c in got.tool_calls] == [
        ("toolu_01QE1WLsSVp5hy5Q3GmGTmjP", "updateIssueList", "{}")
    ]
    assert got.usage == Usage(
        input_tokens=565,
        cache_read_tokens=0,
        cache_write_tokens=0,
        output_tokens=48,
        total_tokens=613,
    )


@SIZES
def test_a_refusal_is_told_with_its_reason(recordings: Path, size: int) -> None:
    """There is no other text in it; output of zero tokens was measured."""
    got = streamed((recordings / "anthropic_refusal_stream.txt").read_bytes(), size=size)

    assert got.message.content == (RefusalPart("This request was refused due to policy."),)
    assert (got.finish_reason, got.raw_finish_reason, got.state) == (
        "refusal",
        "refusal",
        "complete",
    )
    assert got.usage == Usage(input_tokens=20, output_tokens=0, total_tokens=20)


@SIZES
def test_thinking_comes_with_its_signature(recordings: Path, size: int) -> None:
    """Then the answer; the recording has padding behind most of its data."""
    got = streamed(thinking_body(recordings), size=size)

    thinking, text = got.message.content
    assert isinstance(thinking, ThinkingPart)
    assert thinking.text == (
        "This is a straightforward question about pedestrian safety. I should provide clear, "
        "helpful advice about how to safely cross a street. This is basic safety information "
        "that could help prevent accidents."
    )
    assert thinking.signature is not None
    assert thinking.signature.startswith("EvMCCkYICxgCKkCHP2cSuEdcJK")
    assert thinking.signature.endswith("Gxb7XsYeb1vgb7wwzDvP/UhjfQYAQ==")
    assert isinstance(text, TextPart)
    assert text.text.startswith("Here are the basic steps for safely crossing the street:\n\n")
    assert text.text.endswith("Always prioritize safety over speed when crossing streets.")
    assert (got.finish_reason, got.usage and got.usage.output_tokens) == ("stop", 282)


def test_thinking_goes_back_as_it_came(recordings: Path) -> None:
    """A signature that lost a character costs the whole conversation."""
    body = thinking_body(recordings)

    async def scenario(provider: Anthropic, server: FaultServer) -> dict[str, Any]:
        got, _ = await attempt(provider, asking())
        messages = (Message.user("hi"), got.message, Message.user("thanks"))
        await attempt(provider, asking(messages=messages))
        turn: dict[str, Any] = server.requests[1].json()["messages"][1]
        return turn

    turn = asyncio.run(against(FaultServer(*played([body, body], size=1_000)), scenario))

    thinking, text = turn["content"]
    assert set(thinking) == {"type", "thinking", "signature"}
    assert thinking["signature"].encode() in body
    assert text["type"] == "text"


def test_a_success_that_carries_retry_after_is_a_success(recordings: Path) -> None:
    """Headers of a 200 say nothing about waiting; the answer is typed, and compressed."""
    file = recordings / "anthropic_200_with_retry_after_header.yaml"
    response = interactions(file)[0]["response"]
    told = headers_of(response)
    held = {
        "retry_after": told["retry-after"],
        "request_id": told["request-id"],
        "content_encoding": told["Content-Encoding"],
    }
    schema = msgspec.Raw(b'{"type":"object","properties":{"joke":{"type":"string"}}}')

    async def scenario(provider: Anthropic, server: FaultServer) -> ChatResponse:
        form = JsonSchemaFormat("Joke", schema)
        got = await provider.complete(asking(response_format=form), CALL)
        assert server.count == 1
        return got

    server = FaultServer(answer(200, body_of(response), **held))
    got: ChatResponse = asyncio.run(against(server, scenario))

    assert msgspec.json.decode(got.text) == {
        "joke": "Why did the developer break up with OpenTelemetry? "
        "Because they had too many traces of their ex in the logs!",
        "rating": 7,
    }
    assert (got.finish_reason, got.request_id) == ("stop", "req_011CVQtbM68bFJThHxEH4KeC")
    assert got.usage == Usage(
        input_tokens=222,
        cache_read_tokens=0,
        cache_write_tokens=0,
        output_tokens=39,
        total_tokens=261,
    )


@pytest.mark.parametrize("fails", [failing, failing_whole], ids=["stream", "whole"])
def test_a_recorded_refusal_of_the_key_is_permanent(recordings: Path, fails: Any) -> None:
    """It says so itself: x-should-retry is false."""
    file = recordings / "anthropic_401_x_should_retry_false.yaml"
    response = interactions(file)[0]["response"]
    held = {"x_should_retry": "false", "request_id": headers_of(response)["request-id"]}

    async def scenario(provider: Anthropic, server: FaultServer) -> ProviderError:
        error: ProviderError = await fails(provider, asking())
        assert server.count == 1
        return error

    server = FaultServer(answer(status_of(response), body_of(response), **held))
    error: ProviderError = asyncio.run(against(server, scenario))

    assert (error.kind, error.category) == ("permanent", "auth")
    assert error.fields["provider_type"] == "authentication_error"
    assert error.fields["request_id"] == "req_013JyjhVcnhy8mfJkvBTqMNB"
    assert "invalid x-api-key" in error.message


@pytest.mark.parametrize("name", RECORDED)
def test_a_cut_recording_is_never_a_whole_answer(recordings: Path, name: str) -> None:
    """Wherever the connection ends before `message_stop` is whole, the answer is truncated."""
    body = (recordings / name).read_bytes().rstrip()
    cuts = [*range(0, len(body), 61), len(body) - 1]

    async def scenario(provider: Anthropic, _: FaultServer) -> list[ProviderError]:
        return [await failing(provider, asking()) for _cut in cuts]

    server = FaultServer(*played([body[:cut] for cut in cuts], size=100_000))
    errors: list[ProviderError] = asyncio.run(against(server, scenario))

    assert {error.category for error in errors} == {"truncated"}
