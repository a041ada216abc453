"""The adapter over the official SDK against a real server: one attempt, one request, one error."""

import asyncio
import pickle
from typing import Any

import pytest

from gatebook.kernel.messages import JsonSchemaFormat, MessageStart, TextDelta, ToolDefinition
from gatebook.providers.anthropic import Anthropic
from gatebook.testing.fault_server import (
    Chunk,
    Cut,
    FaultServer,
    Hold,
    Play,
    Repeat,
    Reset,
    Send,
    Stall,
    answer,
    head,
    stream_head,
)
from tests.providers.anthropic_events import (
    BLOCK,
    KEY,
    OVERLOADED,
    PING,
    START,
    against,
    play,
    text_events,
    whole,
    word,
)
from tests.providers.calls import (
    CALL,
    asking,
    attempt,
    failing,
    failing_whole,
    quick,
    texts,
)

pytest.importorskip("anthropic", reason="the extra anthropic is not installed")

BOTH = pytest.mark.parametrize("fails", [failing, failing_whole], ids=["stream", "whole"])
ERROR = {"type": "error", "error": {"type": "api_error", "message": "told to fail"}}
ENDLESS = Play(*stream_head(), Chunk(START + BLOCK), Repeat(word("x"), every_s=0.001))


def test_a_whole_answer_is_returned() -> None:
    """The simplest thing that must work."""

    async def scenario(provider: Anthropic, server: FaultServer) -> None:
        got = await provider.complete(asking(), CALL)

        assert (got.text, got.finish_reason, got.state) == ("hello", "stop", "complete")
        assert (got.request_id, got.usage and got.usage.total_tokens) == ("req_9", 4)
        assert server.count == 1

    asyncio.run(against(FaultServer(answer(200, whole(), request_id="req_9")), scenario))


def test_a_streamed_answer_is_read() -> None:
    """Piece by piece, each once."""

    async def scenario(provider: Anthropic, server: FaultServer) -> None:
        got, shown = await attempt(provider, asking())

        assert (got.text, texts(shown), got.state) == ("hello", "hello", "complete")
        assert [type(event) for event in shown[:3]] == [MessageStart, TextDelta, TextDelta]
        assert server.requests[0].json()["stream"] is True

    asyncio.run(against(FaultServer(play(*text_events("hel", "lo"))), scenario))


def test_the_request_carries_key_idempotency_key_and_path() -> None:
    """And says that nobody has retried it."""

    async def scenario(provider: Anthropic, server: FaultServer) -> None:
        await provider.complete(asking(), CALL)

        (request,) = server.requests
        assert (request.method, request.path) == ("POST", "/v1/messages")
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["idempotency-key"] == CALL.idempotency_key
        assert request.headers["x-stainless-retry-count"] == "0"

    asyncio.run(against(FaultServer(answer(200, whole())), scenario))


def test_a_key_function_is_asked_for_each_request() -> None:
    """Keys are rotated while a process runs."""
    keys = iter(["first", "second"])

    async def scenario(server: FaultServer) -> list[str]:
        async with server:
            provider = Anthropic(lambda: next(keys), base_url=server.url)
            await provider.complete(asking(), CALL)
            await attempt(provider, asking())
            await provider.aclose()
        return [request.headers["authorization"] for request in server.requests]

    server = FaultServer(answer(200, whole()), play(*text_events("a")))
    assert asyncio.run(scenario(server)) == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("fields", [{"temperature": 0.5}, {"provider_options": {"top_k": 3}}])
def test_sampling_asks_for_the_version_that_knows_it(fields: dict[str, Any]) -> None:
    """The SDK's own version, 2026-10-21, answers every temperature with 400."""

    async def scenario(provider: Anthropic, server: FaultServer) -> None:
        await provider.complete(asking(), CALL)
        await provider.complete(asking(**fields), CALL)

        plain, sampled = (request.headers["anthropic-version"] for request in server.requests)
        assert sampled == "2023-06-01" < plain

    asyncio.run(against(FaultServer(answer(200, whole())), scenario))


def test_a_schema_is_sent_as_the_sdk_would_send_it() -> None:
    """The API answers keywords such as `minimum` with 400."""
    schema = b'{"type":"object","properties":{"n":{"type":"integer","minimum":1}}}'

    async def scenario(provider: Anthropic, server: FaultServer) -> None:
        form = JsonSchemaFormat("N", schema)  # type: ignore[arg-type]
        await provider.complete(asking(response_format=form), CALL)

        assert server.requests[0].json()["output_config"]["format"]["schema"] == {
            "type": "object",
            "properties": {"n": {"type": "integer", "description": "{minimum: 1}"}},
            "additionalProperties": False,
        }

    asyncio.run(against(FaultServer(answer(200, whole())), scenario))


@BOTH
@pytest.mark.parametrize(
    ("answered", "expected"),
    [
        (answer(400, ERROR), ("permanent", "invalid_request")),
        (answer(401, ERROR, x_should_retry="false"), ("permanent", "auth")),
        (answer(404, ERROR), ("permanent", "not_found")),
        (answer(429, ERROR, retry_after="0"), ("rate_limited", "rate_limited")),
        (answer(500, ERROR), ("transient", "server")),
        (answer(503, ERROR), ("transient", "server")),
        (answer(529, ERROR), ("transient", "overloaded")),
        (answer(502, "<html>bad gateway</html>"), ("transient", "server")),
        (answer(302, "", location="http://127.0.0.1:1/"), ("permanent", "invalid_request")),
        (answer(200, "<html>login</html>"), ("transient", "malformed")),
        (answer(200, ERROR), ("transient", "server")),
        (Play(Reset()), ("transient", "connection")),
        (Play(Cut()), ("transient", "connection")),
        (Play(Send(b"SMTP ready\r\n\r\n")), ("transient", "connection")),
    ],
)
def test_an_error_is_one_request_and_one_class(
    fails: Any, answered: Play, expected: tuple[str, str]
) -> None:
    """The SDK alone would have sent three for most of these."""

    async def scenario(provider: Anthropic, server: FaultServer) -> None:
        error = await fails(provider, asking())

        assert (error.kind, error.category) == expected
        assert (server.count, server.connections) == (1, 1)

    asyncio.run(against(FaultServer(answered), scenario))


@BOTH
def test_a_server_that_is_not_there_was_sent_nothing(fails: Any) -> None:
    """Such an attempt is free to repeat."""

    async def scenario() -> None:
        async with FaultServer(Play(Stall())) as server:
            nowhere = server.url
        provider = Anthropic(KEY, base_url=nowhere)
        error = await fails(provider, asking())
        await provider.aclose()

        assert (error.kind, error.category, error.sent) == ("transient", "connection", False)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("answered", "category", "emitted"),
    [
        (play(START, PING, end=Cut()), "connection", False),
        (play(START, BLOCK, word("a"), end=Cut()), "connection", True),
        (play(START, BLOCK, word("a"), end=Reset()), "connection", True),
        (play(START, BLOCK, word("a")), "truncated", True),
        (play(START), "truncated", False),
        (play(), "truncated", False),
        (play(PING, b": noise\n\n"), "truncated", False),
        (play(START, BLOCK, word("a"), b"data: {no\n\n", *text_events("b")), "malformed", True),
        (
            play(START, BLOCK, word("a"), b'event: x\ndata: {"de'),
            "truncated",
            True,
        ),
        (play(START, OVERLOADED, end=Stall()), "overloaded", False),
        (play(START, BLOCK, word("a"), OVERLOADED, *text_events("b")), "overloaded", True),
        (play(b'{"type":"error","error":{"type":"overloaded_error"}}'), "overloaded", False),
        (play(b"<html>login</html>"), "malformed", False),
    ],
)
def test_a_stream_that_ends_badly_is_never_an_answer(
    answered: Play, category: str, emitted: bool
) -> None:
    """The SDK ends most of these like whole answers, and the others with raw transport errors."""

    async def scenario(provider: Anthropic, server: FaultServer) -> None:
        error = await failing(provider, asking())

        assert (error.kind, error.category) == ("transient", category)
        assert bool(error.fields.get("emitted")) is emitted
        assert server.count == 1
        await server.until(lambda s: s.open_connections <= 1)

    asyncio.run(against(FaultServer(answered), scenario))


@pytest.mark.parametrize(
    ("steps", "limits"),
    [
        ([Stall()], {"first_event_ms": 50}),
        ([*stream_head(), Chunk(START + PING), Stall()], {"first_event_ms": 50}),
        ([*stream_head(), Chunk(START), Repeat(PING, every_s=0.001)], {"first_event_ms": 50}),
        (
            [*stream_head(), Chunk(START + BLOCK + word("a")), Repeat(PING, every_s=0.001)],
            {"idle_ms": 50},
        ),
        ([*ENDLESS.steps], {"total_ms": 50}),
    ],
)
def test_a_stream_that_says_nothing_ends_in_time(steps: Any, limits: dict[str, int]) -> None:
    """Pings say only that the connection lives."""

    async def scenario(provider: Anthropic, server: FaultServer) -> None:
        error = await failing(provider, asking(timeouts=quick(**limits)))

        assert (error.kind, error.category) == ("transient", "timeout")
        await server.until(lambda s: s.open_connections == 0)

    asyncio.run(against(FaultServer(Play(*steps)), scenario))


@BOTH
def test_an_error_whose_body_never_comes_is_told_by_its_status(fails: Any) -> None:
    """The SDK alone would wait for it until the whole attempt times out."""
    stalled = Play(Send(head(401, {"content-length": "99"})), Stall())

    async def scenario(provider: Anthropic, server: FaultServer) -> None:
        error = await fails(provider, asking())

        assert (error.kind, error.fields["status"]) == ("permanent", 401)
        await server.until(lambda s: s.open_connections == 0)

    asyncio.run(against(FaultServer(stalled), scenario))


@BOTH
def test_a_key_that_the_server_repeats_is_not_shown(fails: Any) -> None:
    """Errors are logged, journaled and pasted into chats."""
    body = {"type": "error", "error": {"type": "authentication_error", "message": f"bad {KEY}"}}

    async def scenario(provider: Anthropic, _: FaultServer) -> None:
        error = await fails(provider, asking())

        shown = [str(error), repr(error), repr(error.fields), repr(provider), repr(error.__cause__)]
        assert not any(KEY in text for text in shown)
        assert "[key]" in str(error)
        assert KEY.encode() not in pickle.dumps(error)

    asyncio.run(against(FaultServer(answer(401, body)), scenario))


def test_a_cancelled_stream_closes_its_connection() -> None:
    """The server must stop, or it goes on billing."""

    async def scenario(provider: Anthropic, server: FaultServer) -> None:
        async def read() -> None:
            async with provider.stream(asking(), CALL) as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        reading.set()

        task = asyncio.create_task(read())
        await reading.wait()
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        await server.until(lambda s: s.hangups == 1 and s.open_connections == 0)

    reading = asyncio.Event()
    asyncio.run(against(FaultServer(ENDLESS), scenario))


def test_a_reader_that_breaks_off_leaves_no_connection() -> None:
    """The SDK's own stream stays open until somebody collects it."""

    async def scenario(provider: Anthropic, server: FaultServer) -> None:
        async with provider.stream(asking(), CALL) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    break

        await server.until(lambda s: s.hangups == 1 and s.open_connections == 0)

    asyncio.run(against(FaultServer(ENDLESS), scenario))


def test_fifty_cancelled_streams_leave_a_pool_of_two_healthy() -> None:
    """Each leak takes a slot; after a few the whole process waits for ever."""

    async def scenario(provider: Anthropic, server: FaultServer) -> None:
        async def read() -> None:
            async with provider.stream(asking("endless"), CALL) as events:
                async for _ in events:
                    pass

        for number in range(50):
            task = asyncio.create_task(read())
            await server.until(lambda s, n=number: s.count == n + 1)  # type: ignore[misc]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        async with asyncio.TaskGroup() as group:
            both = [group.create_task(attempt(provider, asking("fine"))) for _ in range(2)]
        assert [task.result()[0].text for task in both] == ["fine", "fine"]
        assert server.count == 52

    def choose(request: Any) -> Play:
        return ENDLESS if b"endless" in request.body else play(*text_events("fine"))

    asyncio.run(against(FaultServer(choose), scenario, max_connections=2))


def test_whole_streams_use_one_connection() -> None:
    """A new TLS connection for each call costs more than many a call."""

    async def scenario(provider: Anthropic, server: FaultServer) -> None:
        for _ in range(3):
            await attempt(provider, asking())
            await failing(provider, asking("fail"))

        assert (server.count, server.connections) == (6, 1)

    def choose(request: Any) -> Play:
        return answer(529, ERROR) if b"fail" in request.body else play(*text_events("fine"))

    asyncio.run(against(FaultServer(choose), scenario))


def test_a_full_pool_is_an_error_that_was_not_sent() -> None:
    """A waiter must not wait for ever behind calls that never end."""

    async def scenario(provider: Anthropic, server: FaultServer) -> None:
        first = asyncio.create_task(provider.complete(asking(), CALL))
        await server.until(lambda s: s.count == 1)

        error = await failing_whole(provider, asking(timeouts=quick(connect_ms=50)))
        gate.set()

        assert (error.category, error.sent) == ("connection", False)
        assert (await first).text == "hello"

    gate = asyncio.Event()
    held = Play(Hold(gate), *answer(200, whole()).steps)
    asyncio.run(against(FaultServer(held), scenario, max_connections=1))


def test_a_provider_serves_one_loop_after_another() -> None:
    """A sync program makes a loop for each call."""
    provider = Anthropic(KEY, base_url="http://127.0.0.1:1")

    async def ask() -> str:
        async with FaultServer(answer(200, whole())) as server:
            provider.base_url = server.url
            try:
                return (await provider.complete(asking(), CALL)).text
            finally:
                await provider.aclose()

    assert [asyncio.run(ask()) for _ in range(2)] == ["hello", "hello"]


def test_a_request_that_cannot_be_said_is_not_sent() -> None:
    """The SDK is not even asked."""

    async def scenario(provider: Anthropic, server: FaultServer) -> None:
        clash = (ToolDefinition("a.b"), ToolDefinition("a__b"))
        error = await failing(provider, asking(tools=clash))

        assert (error.kind, error.sent, server.count) == ("permanent", False, 0)

    asyncio.run(against(FaultServer(answer(200, whole())), scenario))
