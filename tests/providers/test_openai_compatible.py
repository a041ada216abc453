"""The adapter against a real server that fails: one attempt, one request, one clear error."""

import asyncio
import email.utils
import json
import time
from typing import Any

import pytest

from gatebook.errors import ConfigError
from gatebook.providers.openai_compatible import OpenAICompatible
from gatebook.testing.fault_server import (
    Chunk,
    Cut,
    FaultServer,
    Hold,
    Play,
    Reset,
    Send,
    Stall,
    answer,
    head,
    stream_head,
    text_answer,
    text_stream,
)
from tests.providers.calls import (
    CALL,
    against,
    asking,
    attempt,
    failing,
    failing_whole,
    quick,
)

KEY = "sk-test-0123456789"
BOTH = pytest.mark.parametrize("fails", [failing, failing_whole], ids=["stream", "whole"])
QUOTA = {"code": "insufficient_quota"}


def test_a_whole_answer_is_returned() -> None:
    """The simplest thing that must work."""

    async def scenario(provider: OpenAICompatible, server: FaultServer) -> None:
        got = await provider.complete(asking(), CALL)

        assert (got.text, got.finish_reason, got.state) == ("hello", "stop", "complete")
        assert (got.id, got.usage and got.usage.total_tokens) == ("chatcmpl-1", 5)
        assert server.count == 1

    asyncio.run(against(FaultServer(text_answer("hello")), scenario))


def test_the_request_carries_key_idempotency_key_and_path() -> None:
    """A second attempt with the same key may be answered from the first."""

    async def scenario(provider: OpenAICompatible, server: FaultServer) -> None:
        await provider.complete(asking(max_output_tokens=5), CALL)

        (request,) = server.requests
        assert (request.method, request.path) == ("POST", "/v1/chat/completions")
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["idempotency-key"] == CALL.idempotency_key
        assert request.json()["max_tokens"] == 5

    asyncio.run(against(FaultServer(text_answer("x")), scenario, api_key=KEY))


@BOTH
@pytest.mark.parametrize(
    ("play", "expected"),
    [
        (answer(401, {"error": {"code": "invalid_api_key"}}), ("permanent", "auth")),
        (answer(503, {"error": "x"}), ("transient", "server")),
        (answer(429, {"error": "x"}), ("rate_limited", "rate_limited")),
        (answer(429, {"error": QUOTA | {"message": "cut in \ud83d"}}), ("permanent", "quota")),
        (answer(502, "<html>bad gateway</html>"), ("transient", "server")),
        (answer(302, "", location="http://127.0.0.1:1/"), ("permanent", "invalid_request")),
        (answer(200, "<html>login</html>"), ("transient", "malformed")),
        (answer(200, {"error": {"code": "server_error"}}), ("transient", "server")),
        (answer(200, {"error": {"code": 401}}), ("permanent", "auth")),
        (Play(Reset()), ("transient", "connection")),
        (Play(Cut()), ("transient", "connection")),
        (Play(Send(b"SMTP ready\r\n\r\n")), ("transient", "connection")),
    ],
)
def test_an_error_is_one_request_and_one_class(
    fails: Any, play: Play, expected: tuple[str, str]
) -> None:
    """Nobody but the runtime retries, and it must know what it is told."""

    async def scenario(provider: OpenAICompatible, server: FaultServer) -> None:
        error = await fails(provider, asking())

        assert (error.kind, error.category) == expected
        assert server.count == 1

    asyncio.run(against(FaultServer(play), scenario))


@pytest.mark.parametrize(
    ("play", "category"),
    [
        (answer(200, ""), "malformed"),
        (answer(200, {"id": "x", "choices": []}), "malformed"),
        (answer(200, {"choices": [{"message": {"content": "a"}}]}), "malformed"),
        (answer(200, "[" * 100_000), "malformed"),
        (Play(Send(head(200, {"content-length": "9"})), Send(b"{"), Cut()), "connection"),
    ],
)
def test_a_body_that_is_no_answer_is_no_success(play: Play, category: str) -> None:
    """A client that makes "stop" of it returns an answer nobody gave."""

    async def scenario(provider: OpenAICompatible, _: FaultServer) -> None:
        error = await failing_whole(provider, asking())

        assert (error.kind, error.category) == ("transient", category)

    asyncio.run(against(FaultServer(play), scenario))


def date_in(seconds: float) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"retry_after": "1"}, 1_000, 1_000),
        ({"retry_after": "1.5"}, 1_500, 1_500),
        ({"retry_after_ms": "0", "retry_after": "1"}, 1_000, 1_000),
        ({"retry_after_ms": "250"}, 250, 250),
        ({"retry_after": date_in(1_000)}, 1, 1_000_000),
    ],
)
def test_a_hint_is_handed_on(headers: dict[str, str], low: int, high: int) -> None:
    """The adapter only reads it; the runtime waits."""

    async def scenario(provider: OpenAICompatible, _: FaultServer) -> None:
        error = await failing(provider, asking())

        assert low <= (error.retry_after_ms or 0) <= high

    asyncio.run(against(FaultServer(answer(429, {"error": "slow"}, **headers)), scenario))


def test_a_hint_on_a_success_is_ignored() -> None:
    """Recorded answers carry retry-after beside a 200."""

    async def scenario(provider: OpenAICompatible, _: FaultServer) -> None:
        assert (await provider.complete(asking(), CALL)).text == "fine"

    play = answer(
        200,
        {"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]},
        retry_after="59",
    )
    asyncio.run(against(FaultServer(play), scenario))


def test_a_refused_connection_was_not_sent() -> None:
    """What was never sent is free to repeat."""

    async def scenario() -> None:
        async with FaultServer(text_answer("x")) as server:
            url = server.url
        provider = OpenAICompatible(url)

        error = await failing_whole(provider, asking())

        assert (error.kind, error.category, error.sent) == ("transient", "connection", False)
        await provider.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("fails", "limit"),
    [(failing, "total_ms"), (failing, "first_event_ms"), (failing_whole, "total_ms")],
)
def test_a_server_that_never_answers_is_left(fails: Any, limit: str) -> None:
    """Every attempt has a finite deadline."""

    async def scenario(provider: OpenAICompatible, server: FaultServer) -> None:
        error = await fails(provider, asking(timeouts=quick(**{limit: 50})))

        assert (error.kind, error.category) == ("transient", "timeout")
        await server.until(lambda s: s.open_connections == 0)

    asyncio.run(against(FaultServer(Play(Stall())), scenario))


def test_an_error_whose_body_never_comes_is_told_by_its_status() -> None:
    """Waiting for prose must not hold a retry up."""
    play = Play(Send(head(401, {"content-length": "99"})), Stall())

    async def scenario(provider: OpenAICompatible, _: FaultServer) -> None:
        error = await failing(provider, asking())

        assert (error.kind, error.fields["status"]) == ("permanent", 401)

    asyncio.run(against(FaultServer(play), scenario))


@BOTH
def test_a_key_that_the_server_repeats_is_not_shown(fails: Any) -> None:
    """Errors are logged, journaled and pasted into chats."""
    body = {"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}}

    async def scenario(provider: OpenAICompatible, _: FaultServer) -> None:
        error = await fails(provider, asking())

        assert KEY not in str(error) + repr(error) + repr(error.fields) + repr(provider)
        assert "[key]" in str(error)

    asyncio.run(against(FaultServer(answer(401, body)), scenario, api_key=KEY))


@BOTH
def test_a_key_that_a_long_error_is_cut_in_is_not_shown(fails: Any) -> None:
    """Tokens of identity providers are longer than the part of an error that is told."""
    token = "eyJ" + KEY * 100
    body = {"error": {"message": f"the token {token} has expired"}}

    async def scenario(provider: OpenAICompatible, _: FaultServer) -> None:
        error = await fails(provider, asking())

        assert token[:8] not in str(error)
        assert "the token [key]" in str(error)

    asyncio.run(against(FaultServer(answer(401, body)), scenario, api_key=token))


def test_a_key_that_the_server_repeats_inside_a_stream_is_not_shown() -> None:
    """The same, where the status said 200."""
    play = Play(
        *stream_head(), Chunk(b'data: {"error":{"message":"bad %s"}}\n\n' % KEY.encode()), Cut()
    )

    async def scenario(provider: OpenAICompatible, _: FaultServer) -> None:
        error = await failing(provider, asking())

        assert KEY not in str(error)

    asyncio.run(against(FaultServer(play), scenario, api_key=KEY))


@BOTH
def test_a_key_that_no_header_can_hold_is_refused_unseen(fails: Any) -> None:
    """The client's own error would print the whole header."""

    async def scenario(provider: OpenAICompatible, server: FaultServer) -> None:
        error = await fails(provider, asking())

        assert (error.kind, error.category, error.sent) == ("permanent", "auth", False)
        assert "secret" not in str(error)
        assert server.count == 0

    asyncio.run(against(FaultServer(text_answer("x")), scenario, api_key="secret\nx: y"))


def test_a_key_function_is_asked_before_every_request() -> None:
    """Short-lived keys expire while a run waits."""
    keys = iter(["one", "two"])

    async def scenario(provider: OpenAICompatible, server: FaultServer) -> None:
        await provider.complete(asking(), CALL)
        await provider.complete(asking(), CALL)

        said = [request.headers["authorization"] for request in server.requests]
        assert said == ["Bearer one", "Bearer two"]

    server = FaultServer(text_answer("x"))
    asyncio.run(against(server, scenario, api_key=lambda: next(keys)))


def test_a_key_function_that_fails_is_an_auth_error() -> None:
    """Its message may hold the secret it failed over."""

    def broken() -> str:
        raise RuntimeError("vault said: token abc")

    async def scenario(provider: OpenAICompatible, _: FaultServer) -> None:
        error = await failing_whole(provider, asking())

        assert (error.kind, error.category) == ("permanent", "auth")
        assert "abc" not in str(error)

    asyncio.run(against(FaultServer(text_answer("x")), scenario, api_key=broken))


@pytest.mark.parametrize("url", ["api.openai.com/v1", "ftp://x", "https://", "https://u:p@x/v1"])
def test_a_base_url_that_cannot_work_is_refused_at_once(url: str) -> None:
    """Found at the first call, it would cost a run."""
    with pytest.raises(ConfigError):
        OpenAICompatible(url)


def test_openai_itself_gets_its_own_name_of_the_limit() -> None:
    """Its reasoning models refuse `max_tokens`, most other servers know nothing else."""
    openai = OpenAICompatible("https://api.openai.com/v1")
    other = OpenAICompatible("https://example.org/v1")

    assert openai.dialect.max_tokens_field == "max_completion_tokens"
    assert other.dialect.max_tokens_field == "max_tokens"


def test_one_provider_serves_several_event_loops() -> None:
    """The synchronous face runs on a loop of its own, and tests start many."""

    async def scenario() -> str:
        async with FaultServer(text_answer("x")) as server:
            provider.base_url = server.url
            got = await provider.complete(asking(), CALL)
            await provider.aclose()
            return got.text

    provider = OpenAICompatible("http://127.0.0.1:1")

    assert [asyncio.run(scenario()), asyncio.run(scenario())] == ["x", "x"]


def test_connections_are_used_again() -> None:
    """A handshake for every call costs more than many a call."""

    async def scenario(provider: OpenAICompatible, server: FaultServer) -> None:
        for _ in range(3):
            await provider.complete(asking(), CALL)
            await attempt(provider, asking())

        assert (server.count, server.connections) == (6, 1)

    def choose(request: Any) -> Play:
        return text_stream("a") if json.loads(request.body).get("stream") else text_answer("a")

    asyncio.run(against(FaultServer(choose), scenario))


def test_a_cancelled_call_closes_its_connection() -> None:
    """A call nobody awaits must not go on costing."""

    async def scenario(provider: OpenAICompatible, server: FaultServer) -> None:
        task = asyncio.create_task(provider.complete(asking(), CALL))
        await server.until(lambda s: s.count == 1)
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        await server.until(lambda s: s.open_connections == 0)

    asyncio.run(against(FaultServer(Play(Stall())), scenario))


def test_a_full_pool_is_an_error_that_was_not_sent() -> None:
    """A waiter must not wait for ever behind calls that never end."""

    async def scenario(provider: OpenAICompatible, server: FaultServer) -> None:
        first = asyncio.create_task(provider.complete(asking(), CALL))
        await server.until(lambda s: s.count == 1)

        error = await failing_whole(provider, asking(timeouts=quick(connect_ms=50)))
        gate.set()

        assert (error.category, error.fields["phase"]) == ("connection", "pool")
        assert (await first).text == "late"

    gate = asyncio.Event()
    play = Play(Hold(gate), *text_answer("late").steps)
    asyncio.run(against(FaultServer(play), scenario, max_connections=1))
