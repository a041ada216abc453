"""Recorded answers of real providers, played back byte for byte: what they mean and add up to."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from gatebook.errors import ProviderError
from gatebook.kernel.classify import classify_event, classify_response
from gatebook.kernel.messages import ChatResponse, ToolDefinition
from gatebook.testing.fault_server import Chunk, EndOfBody, FaultServer, Play, answer, stream_head
from tests.providers.calls import CALL, against, asking, attempt, failing

pytestmark = pytest.mark.recordings

yaml: Any = pytest.importorskip("yaml", reason="recordings are YAML: PyYAML is not installed")
NOW = 1_787_150_111.0


def interactions(file: Path) -> list[dict[str, Any]]:
    """Return the recorded requests and responses of a file."""
    held = yaml.safe_load(file.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = held.get("interactions") or held["http_interactions"]
    return found


def body_of(response: dict[str, Any]) -> bytes:
    """Return the body of a recorded response, whichever recorder wrote it."""
    if "parsed_body" in response:
        return json.dumps(response["parsed_body"]).encode()
    body = response["body"]
    text = body["string"] if isinstance(body, dict) else body
    return text if isinstance(text, bytes) else text.encode()


def status_of(response: dict[str, Any]) -> int:
    """Return the recorded status."""
    status: Any = response.get("code") or response["status"]
    return int(status["code"] if isinstance(status, dict) else status)


def headers_of(response: dict[str, Any]) -> dict[str, str]:
    """Return the recorded headers, the first value of each."""
    return {
        name: values[0] if isinstance(values, list) else values
        for name, values in (response.get("headers") or {}).items()
    }


def error_of(file: Path) -> ProviderError:
    """Return what the last recorded response of a file means."""
    response = interactions(file)[-1]["response"]
    return classify_response(status_of(response), headers_of(response), body_of(response), now=NOW)


@pytest.mark.parametrize(
    ("name", "kind", "category", "hint"),
    [
        ("openai_401_invalid_key.yaml", "permanent", "auth", None),
        ("openai_400_context_length_exceeded.yml", "permanent", "context_length", None),
        ("anthropic_401_x_should_retry_false.yaml", "permanent", "auth", None),
        ("gemini_429_retryinfo_in_body.yml", "rate_limited", "rate_limited", 48_000),
        ("gemini_429_no_retry_hint.yaml", "rate_limited", "rate_limited", None),
        ("openrouter_429_three_hidden_sdk_attempts.yaml", "rate_limited", "rate_limited", None),
        ("huggingface_500_with_retry_after.yaml", "transient", "server", 2_000),
        ("huggingface_402_payment_required.yaml", "permanent", "quota", None),
    ],
)
def test_a_recorded_error_is_classified(
    recordings: Path, name: str, kind: str, category: str, hint: int | None
) -> None:
    """These bytes came from the vendors, so they outrank their documentation."""
    error = error_of(recordings / name)

    assert (error.kind, error.category, error.retry_after_ms) == (kind, category, hint)


def test_a_recorded_quota_error_inside_a_stream_is_permanent(recordings: Path) -> None:
    """The Responses stream says it on a 200, in an event."""
    lines = (
        (recordings / "openai_responses_error_event_insufficient_quota.chunks.txt")
        .read_text()
        .splitlines()
    )

    for line in lines[-2:]:
        error = classify_event(json.loads(line))
        assert (error.kind, error.category) == ("permanent", "quota")


def played(bodies: Iterable[bytes], *, size: int) -> list[Play]:
    """Return one play for each recorded stream, cut into chunks of `size` bytes."""
    return [
        Play(
            *stream_head(),
            *(Chunk(body[i : i + size]) for i in range(0, len(body), size)),
            EndOfBody(),
        )
        for body in bodies
    ]


def streamed_answers(bodies: list[bytes], *, size: int, **fields: Any) -> list[ChatResponse]:
    """Return the answers that the adapter reads from these recorded streams."""

    async def scenario(provider: Any, _: FaultServer) -> list[ChatResponse]:
        return [(await attempt(provider, asking(**fields)))[0] for _body in bodies]

    answers: list[ChatResponse] = asyncio.run(
        against(FaultServer(*played(bodies, size=size)), scenario)
    )
    return answers


def recorded_bodies(file: Path) -> list[bytes]:
    return [body_of(interaction["response"]) for interaction in interactions(file)]


SIZES = pytest.mark.parametrize("size", [11, 100_000])


@SIZES
def test_openai_streams_a_call_and_then_a_text(recordings: Path, size: int) -> None:
    """One agent turn of a real model."""
    bodies = recorded_bodies(recordings / "openai_chat_tool_call_then_text_stream.yaml")

    call, text = streamed_answers(bodies, size=size, tools=(ToolDefinition("get_capital"),))

    assert [(c.name, c.arguments) for c in call.tool_calls] == [("get_capital", '{"country":"UK"}')]
    assert call.finish_reason == "tool_calls"
    assert "London" in text.text
    assert text.finish_reason == "stop"
    assert call.usage is not None
    assert (call.usage.input_tokens or 0) > 0


@SIZES
def test_openai_streams_parallel_calls(recordings: Path, size: int) -> None:
    """Two calls, interleaved by index."""
    bodies = recorded_bodies(recordings / "openai_chat_parallel_tool_calls_stream.yaml")

    first, *_rest, last = streamed_answers(bodies, size=size)

    assert [(c.name, c.arguments) for c in first.tool_calls] == [
        ("add", '{"a": 2, "b": 3}'),
        ("multiply", '{"a": 2, "b": 3}'),
    ]
    assert len({c.id for c in first.tool_calls}) == 2
    assert last.text


@SIZES
def test_azure_streams_begin_with_nothing(recordings: Path, size: int) -> None:
    """No choices, then a choice without a delta, then the answer."""
    bodies = recorded_bodies(recordings / "azure_chat_stream_empty_choices_first.yaml")

    answers = streamed_answers(bodies, size=size)

    assert all(got.finish_reason in ("stop", "length") for got in answers)
    assert answers[0].text.startswith("I'm unable to")


def test_azure_says_content_filter(recordings: Path) -> None:
    """A choice without a message is no answer, and no malformed one either."""
    response = interactions(recordings / "azure_chat_content_filter_finish.yaml")[0]["response"]

    async def scenario(provider: Any, _: FaultServer) -> ChatResponse:
        got: ChatResponse = await provider.complete(asking(), CALL)
        return got

    server = FaultServer(answer(200, body_of(response), x_request_id="cc6ffd40"))
    got: ChatResponse = asyncio.run(against(server, scenario))

    assert (got.finish_reason, got.state, got.text) == ("content_filter", "incomplete", "")
    assert got.usage is not None
    assert (got.usage.output_tokens, got.request_id) == (19, "cc6ffd40")


def test_an_incremental_call_with_a_repeated_empty_name_is_one_call(recordings: Path) -> None:
    """The second delta has an empty name and no id."""
    file = recordings / "openai_compatible_incremental_tool_call.chunks.txt"
    lines = file.read_bytes().splitlines()
    body = b"".join(b"data: " + line + b"\n\n" for line in lines)

    (got,) = streamed_answers([body], size=50)

    assert [(c.id, c.name, c.arguments) for c in got.tool_calls] == [
        (
            "chatcmpl-tool-9f149c74c42f265b",
            "webSearchTool",
            '{"query": "current Berlin weather"}',
        )
    ]
    assert got.usage is not None
    assert (got.usage.cache_read_tokens, got.usage.input_tokens) == (128, 171)


@pytest.mark.parametrize(
    "name", ["huggingface_500_with_retry_after.yaml", "huggingface_402_payment_required.yaml"]
)
def test_a_recorded_error_answers_a_stream(recordings: Path, name: str) -> None:
    """The same bytes through the adapter give the same error as the table alone."""
    response = interactions(recordings / name)[0]["response"]
    keep = {"Retry-After": "retry_after"}
    headers = {keep[k]: v for k, v in headers_of(response).items() if k in keep}

    async def scenario(provider: Any, _: FaultServer) -> ProviderError:
        return await failing(provider, asking())

    server = FaultServer(answer(status_of(response), body_of(response), **headers))
    error: ProviderError = asyncio.run(against(server, scenario))

    expected = error_of(recordings / name)
    assert (error.kind, error.retry_after_ms) == (expected.kind, expected.retry_after_ms)


def test_a_cut_recording_is_never_a_whole_answer(recordings: Path) -> None:
    """Wherever the connection ends before the finish reason, the answer is truncated."""
    (_call, text) = recorded_bodies(recordings / "openai_chat_tool_call_then_text_stream.yaml")
    end = text.index(b'"finish_reason":"stop"')
    cuts = range(0, end, 97)

    async def scenario(provider: Any, _: FaultServer) -> list[ProviderError]:
        return [await failing(provider, asking()) for _cut in cuts]

    server = FaultServer(*played([text[:cut] for cut in cuts], size=100_000))
    errors: list[ProviderError] = asyncio.run(against(server, scenario))

    assert {error.category for error in errors} == {"truncated"}
