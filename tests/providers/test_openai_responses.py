"""The adapter over the official OpenAI SDK: what it sends, how often, and what it leaves open."""

import asyncio
import contextlib
import gzip
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from gatebook.errors import ConfigError, ProviderError
from gatebook.kernel.messages import Message, ToolDefinition
from gatebook.providers.local import LocalModel
from gatebook.providers.openai_responses import OpenAIResponses
from gatebook.testing.dialects import RESPONSES, Say, Story
from gatebook.testing.fault_server import (
    Chunk,
    EndOfBody,
    FaultServer,
    Play,
    Repeat,
    Reset,
    answer,
    stream_head,
    tells,
)
from tests.providers.calls import CALL, asking, attempt, failing, failing_whole, quick, texts

KEY = "sk-secret-0123456789"
STORY = Story((Say("Hello ", "there."),))
TOLD = tells(RESPONSES, STORY)
DELTA = b'data: {"type":"response.output_text.delta","delta":"word "}\n\n'

Scenario = Callable[[OpenAIResponses, FaultServer], Coroutine[Any, Any, Any]]


def serve(server: FaultServer, scenario: Scenario, api_key: Any = KEY) -> Any:
    """Run a scenario with an adapter that speaks to this server; both are closed afterwards."""

    async def run() -> Any:
        async with server:
            provider = OpenAIResponses(api_key, base_url=server.url + "/v1/")
            try:
                return await scenario(provider, server)
            finally:
                await provider.aclose()

    return asyncio.run(run())


async def streamed(provider: OpenAIResponses, server: FaultServer) -> Any:
    """Make one streamed attempt."""
    return (await attempt(provider, asking()))[0]


async def blocking(provider: OpenAIResponses, server: FaultServer) -> Any:
    """Make one blocking attempt."""
    return await provider.complete(asking(), CALL)


ways = pytest.mark.parametrize("way", [streamed, blocking])


@ways
def test_an_answer_is_read(way: Scenario) -> None:
    """The plain case."""
    told = serve(FaultServer(TOLD), way)

    assert (told.text, told.finish_reason) == ("Hello there.", "stop")


@ways
def test_the_request_is_the_sdks_with_our_key_and_our_name_for_it(way: Scenario) -> None:
    """The idempotency key is the same on every attempt, so it must not be the SDK's own."""
    server = FaultServer(TOLD)

    serve(server, way)
    (request,) = server.requests

    assert (request.method, request.path) == ("POST", "/v1/responses")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["idempotency-key"] == CALL.idempotency_key
    assert request.headers["content-type"] == "application/json"
    assert "OpenAI" in request.headers["user-agent"]
    assert request.json()["store"] is False


def test_without_a_key_none_is_sent() -> None:
    """A server in the house needs none, and an empty one is refused by some."""
    server = FaultServer(TOLD)

    serve(server, streamed, api_key=None)

    assert "authorization" not in server.requests[0].headers


def test_the_key_may_change_between_requests() -> None:
    """Keys are rotated while a process runs."""
    keys = iter(["one", "two"])
    server = FaultServer(TOLD)

    async def scenario(provider: OpenAIResponses, server: FaultServer) -> None:
        await streamed(provider, server)
        await blocking(provider, server)

    serve(server, scenario, api_key=lambda: next(keys))

    assert [r.headers["authorization"] for r in server.requests] == ["Bearer one", "Bearer two"]


def test_the_environment_does_not_move_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a key goes is said in one place."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/elsewhere")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    server = FaultServer(TOLD)

    serve(server, streamed)

    assert server.count == 1
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("attempted", [failing, failing_whole])
@pytest.mark.parametrize(
    ("status", "kind"), [(401, "permanent"), (429, "rate_limited"), (503, "transient")]
)
def test_an_error_is_one_request(attempted: Any, status: int, kind: str) -> None:
    """The SDK retries by default; there is one owner of retries, and it is not here."""
    server = FaultServer(answer(status, {"error": {"message": f"bad {KEY}"}}, retry_after=1))

    error = serve(server, lambda provider, _: attempted(provider, asking()))

    assert (error.kind, server.count) == (kind, 1)
    assert KEY not in str(error)


@pytest.mark.parametrize("attempted", [failing, failing_whole])
def test_a_lost_connection_is_one_attempt(attempted: Any) -> None:
    """The provider may have begun to work, and to charge."""
    server = FaultServer(Play(Reset()))

    error = serve(server, lambda provider, _: attempted(provider, asking()))

    assert (error.kind, error.category, server.connections) == ("transient", "connection", 1)
    assert error.sent


def test_a_refused_connection_was_not_sent() -> None:
    """Such an attempt costs nothing."""

    async def scenario() -> ProviderError:
        provider = OpenAIResponses(KEY, base_url="http://127.0.0.1:1/v1")
        try:
            return await failing(provider, asking())
        finally:
            await provider.aclose()

    error = asyncio.run(scenario())

    assert (error.category, error.sent) == ("connection", False)


def test_a_request_that_cannot_be_sent_is_not() -> None:
    """What this API lacks is known before."""
    server = FaultServer(TOLD)

    error = serve(server, lambda provider, _: failing(provider, asking(seed=1)))

    assert (error.kind, error.sent, server.count) == ("permanent", False, 0)


def test_a_connection_is_used_again_after_a_whole_answer() -> None:
    """A new one for each call would cost a handshake each time."""
    server = FaultServer(TOLD)

    async def scenario(provider: OpenAIResponses, server: FaultServer) -> None:
        for _ in range(3):
            await streamed(provider, server)
            await blocking(provider, server)

    serve(server, scenario)

    assert (server.count, server.connections) == (6, 1)


TALKS = Play(*stream_head(), Repeat(DELTA, 0.005))


def test_a_break_closes_the_connection() -> None:
    """The SDK's own stream object would keep it."""

    async def scenario(provider: OpenAIResponses, server: FaultServer) -> None:
        async with provider.stream(asking(), CALL) as events:
            async for _ in events:
                break
        await server.until(lambda s: s.open_connections == 0)

    serve(FaultServer(TALKS), scenario)


def test_a_cancelled_reader_closes_the_connection() -> None:
    """Otherwise the model goes on writing, at our cost."""

    async def scenario(provider: OpenAIResponses, server: FaultServer) -> None:
        begun = asyncio.Event()

        async def read() -> None:
            async with provider.stream(asking(), CALL) as events:
                async for _ in events:
                    begun.set()

        reading = asyncio.create_task(read())
        await begun.wait()
        reading.cancel()
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        await server.until(lambda s: s.open_connections == 0)

    serve(FaultServer(TALKS), scenario)


def test_a_compressed_stream_is_read() -> None:
    """Some proxies compress whatever was asked for."""
    body = b"".join([*RESPONSES.opening(STORY), *RESPONSES.output(STORY), *RESPONSES.ending(STORY)])
    play = Play(*stream_head(content_encoding="gzip"), Chunk(gzip.compress(body)), EndOfBody())

    told = serve(FaultServer(play), streamed)

    assert told.text == "Hello there."


def test_a_stream_that_never_ends_ends_at_the_total_limit() -> None:
    """A model may repeat itself for ever."""

    async def scenario(provider: OpenAIResponses, server: FaultServer) -> ProviderError:
        return await failing(provider, asking(timeouts=quick(total_ms=400)))

    error = serve(FaultServer(TALKS), scenario)

    assert (error.category, error.fields["emitted"]) == ("timeout", True)


@pytest.mark.parametrize("url", ["api.openai.com", "https://me:secret@proxy/v1", "ftp://a"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    """At once, and not with the first call."""
    with pytest.raises(ConfigError) as caught:
        OpenAIResponses(KEY, base_url=url)

    assert caught.value.code == "E_CONFIG"


def test_the_key_is_not_shown() -> None:
    """Objects end up in logs."""
    assert KEY not in repr(OpenAIResponses(KEY))


def test_the_sdk_is_imported_with_the_first_call_only() -> None:
    """It costs a second."""
    probe = (
        "import sys; from gatebook.providers import OpenAIResponses; OpenAIResponses('k');"
        "print('openai' in sys.modules)"
    )

    told = subprocess.run(
        [sys.executable, "-c", probe], check=True, capture_output=True, text=True
    ).stdout

    assert told.strip() == "False"


NUMBERS = msgspec.Raw(
    b'{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},'
    b'"required":["a","b"]}'
)
ADD = ToolDefinition("math.add", "Add two numbers", NUMBERS)


@pytest.mark.local_model
def test_a_real_server_of_this_api_is_understood() -> None:
    """llama.cpp speaks it too: a call, its result, and an answer in one conversation."""

    async def scenario() -> None:
        local = LocalModel()
        tools, chat = [
            OpenAIResponses(base_url=(await local.provider(template)).base_url)
            for template in ("tools", "chat")
        ]
        question = Message.user("Add 2 and 40.")
        try:
            called, _ = await attempt(
                tools,
                asking(
                    messages=(question,), tools=(ADD,), tool_choice="required", max_output_tokens=64
                ),
            )
            (call,) = called.tool_calls
            result = Message.tool_result(call.id, "42")
            talk = asking(
                messages=(question, Message.assistant("It is 42."), Message.user("Thank you.")),
                max_output_tokens=16,
            )
            answered, shown = await attempt(chat, talk)
            after = await chat.complete(
                asking(messages=(question, called.message, result), max_output_tokens=16), CALL
            )
        finally:
            for provider in (tools, chat, local):
                await provider.aclose()
        assert (call.name, set(msgspec.json.decode(call.arguments))) == ("math.add", {"a", "b"})
        assert texts(shown) == answered.text != ""
        for told in (called, answered, after):
            assert told.usage is not None
            assert told.usage.measured

    asyncio.run(scenario())
