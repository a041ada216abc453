"""Recorded answers of Gemini, played back byte for byte: what they mean and add up to."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gatebook.errors import ProviderError
from gatebook.kernel.messages import ChatResponse, Message, ToolDefinition, Usage
from gatebook.providers.google import Google
from gatebook.providers.google_wire import kept
from gatebook.testing.fault_server import FaultServer, Play, answer
from tests.providers.calls import CALL, asking, attempt, failing, failing_whole
from tests.providers.test_recordings import (
    SIZES,
    body_of,
    interactions,
    played,
    recorded_bodies,
    status_of,
)

pytestmark = pytest.mark.recordings
CALLS = "gemini_function_call_stream.yaml"
SIGNED = "gemini_tool_call_thought_signature_stream.yaml"


def asked(*plays: Play, times: int, **fields: Any) -> tuple[list[ChatResponse], FaultServer]:
    """Return the answers that the adapter reads when the same is asked so many times."""
    request = asking(model="gemini-3-pro-preview", **fields)

    async def scenario() -> tuple[list[ChatResponse], FaultServer]:
        async with FaultServer(*plays) as server:
            provider = Google("k", base_url=server.url)
            answers = [(await attempt(provider, request))[0] for _ in range(times)]
            await provider.aclose()
        return answers, server

    return asyncio.run(scenario())


def streamed(file: Path, size: int) -> list[ChatResponse]:
    bodies = recorded_bodies(file)
    return asked(*played(bodies, size=size), times=len(bodies))[0]


@SIZES
def test_gemini_streams_two_calls_and_then_a_text(recordings: Path, size: int) -> None:
    """Each call comes whole, with STOP, and no event says that the stream is over."""
    capital, temperature, text = streamed(recordings / CALLS, size)

    calls = [[(c.name, c.arguments) for c in each.tool_calls] for each in (capital, temperature)]
    assert calls == [
        [("get_capital", '{"country": "France"}')],
        [("get_temperature", '{"city": "Paris"}')],
    ]
    assert [each.finish_reason for each in (capital, temperature, text)] == [
        "tool_calls",
        "tool_calls",
        "stop",
    ]
    assert text.text == "The temperature in Paris is 30°C.\n"
    assert (text.id, text.model) == ("11peaI_ZJLq3nvgP0vasuQk", "gemini-2.0-flash")
    assert text.raw_finish_reason == "STOP"
    assert [each.usage for each in (capital, temperature, text)] == [
        Usage(input_tokens=52, output_tokens=5, total_tokens=57),
        Usage(input_tokens=64, output_tokens=5, total_tokens=69),
        Usage(input_tokens=79, output_tokens=12, total_tokens=91),
    ]


@SIZES
def test_gemini_thinks_before_it_calls(recordings: Path, size: int) -> None:
    """The signature comes on the call, the thoughts are counted beside the answer."""
    call, text = streamed(recordings / SIGNED, size)

    (part,) = call.message.content
    assert [(c.name, c.arguments) for c in call.tool_calls] == [("get_country", "{}")]
    assert kept(call.tool_calls[0].provider_data) is not None
    assert part is call.tool_calls[0]  # the empty text beside the finish reason is nothing
    assert call.usage == Usage(
        input_tokens=29, output_tokens=212, reasoning_tokens=202, total_tokens=241
    )
    assert text.text == "The capital of Mexico is Mexico City."
    assert text.usage == Usage(input_tokens=257, output_tokens=8, total_tokens=265)


def test_the_signature_goes_back_as_it_was_recorded(recordings: Path) -> None:
    """The recorded second request was accepted, so ours must carry the same."""
    _first, second = interactions(recordings / SIGNED)
    (call, _) = streamed(recordings / SIGNED, 100_000)
    (part,) = call.tool_calls
    messages = (
        Message.user("What is the capital of the user country? Call the tool"),
        call.message,
        Message.tool_result(part.id, "Mexico"),
    )

    _, server = asked(
        *played([body_of(second["response"])], size=100_000),
        times=1,
        messages=messages,
        tools=(ToolDefinition("get_country"),),
    )

    sent = server.requests[0].json()["contents"]
    recorded = second["request"]["parsed_body"]["contents"]
    (was,) = recorded[1]["parts"]
    (is_,) = sent[1]["parts"]
    assert is_["thoughtSignature"] == was["thoughtSignature"]
    assert is_["functionCall"]["name"] == was["functionCall"]["name"] == "get_country"
    assert [c["role"] for c in sent] == [c["role"] for c in recorded]
    assert sent[2]["parts"][0]["functionResponse"]["id"] == is_["functionCall"]["id"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("gemini_429_retryinfo_in_body.yml", 48_000), ("gemini_429_no_retry_hint.yaml", None)],
)
@pytest.mark.parametrize("fails", [failing, failing_whole], ids=["stream", "whole"])
def test_a_recorded_limit_says_how_long_or_nothing(
    recordings: Path, name: str, hint: int | None, fails: Any
) -> None:
    """The wait is in the body's details; a limit per minute is no quota that is used up."""
    response = interactions(recordings / name)[-1]["response"]

    async def scenario() -> tuple[ProviderError, int]:
        async with FaultServer(answer(status_of(response), body_of(response))) as server:
            provider = Google("k", base_url=server.url)
            error = await fails(provider, asking(model="gemini-2.5-flash"))
            await provider.aclose()
            return error, server.count

    error, count = asyncio.run(scenario())

    assert (error.kind, error.category) == ("rate_limited", "rate_limited")
    assert (error.retry_after_ms, count) == (hint, 1)


def test_a_cut_recording_of_gemini_is_never_a_whole_answer(recordings: Path) -> None:
    """Wherever the connection ends before the finish reason, the answer is truncated."""
    text = recorded_bodies(recordings / CALLS)[-1]
    cuts = range(0, text.rindex(b'"finishReason"'), 61)

    async def scenario() -> set[str]:
        async with FaultServer(*played([text[:cut] for cut in cuts], size=100_000)) as server:
            provider = Google("k", base_url=server.url)
            errors = [await failing(provider, asking()) for _ in cuts]
            await provider.aclose()
        return {error.fields["category"] for error in errors}

    assert asyncio.run(scenario()) == {"truncated"}


def test_a_recorded_answer_in_one_piece_is_the_same(recordings: Path) -> None:
    """A whole answer is the same object as an event of a stream."""
    body = recorded_bodies(recordings / CALLS)[0]
    whole = body.removeprefix(b"data: ").strip()

    async def scenario() -> ChatResponse:
        async with FaultServer(answer(200, whole)) as server:
            provider = Google("k", base_url=server.url)
            got = await provider.complete(asking(), CALL)
            await provider.aclose()
        return got

    assert asyncio.run(scenario()) == streamed(recordings / CALLS, 100_000)[0]
