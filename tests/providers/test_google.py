"""The adapter against a real server that fails: one attempt, one request, one clear error."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gatebook.errors import ConfigError, ProviderError
from gatebook.kernel.messages import ChatRequest, Message
from gatebook.ports import Provider
from gatebook.providers.google import Google
from gatebook.testing.dialects.gemini import DAILY, exhausted, retry_info
from gatebook.testing.fault_server import (
    Chunk,
    Cut,
    EndOfBody,
    FaultServer,
    Play,
    Repeat,
    Reset,
    Send,
    Stall,
    answer,
    event,
    head,
    stream_head,
    streamed,
)
from tests.providers.calls import CALL, asking, attempt, failing, failing_whole, quick

KEY = "AIza-test-0123456789"
BOTH = pytest.mark.parametrize("fails", [failing, failing_whole], ids=["stream", "whole"])
Scenario = Callable[[Google, FaultServer], Coroutine[Any, Any, Any]]


def piece(text: str, *, finish: str | None = None) -> bytes:
    """Return one event of a streamed answer."""
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}}
    if finish:
        candidate["finishReason"] = finish
    return event({"candidates": [candidate], "responseId": "r", "modelVersion": "m"})


def against(server: FaultServer, scenario: Scenario, **options: Any) -> Any:
    """Run a scenario with a provider that speaks to this server; both are closed afterwards."""

    async def run() -> Any:
        async with server:
            provider = Google(**{"api_key": KEY, "base_url": server.url, **options})
            try:
                return await scenario(provider, server)
            finally:
                await provider.aclose()

    return asyncio.run(run())


def gemini(**fields: Any) -> ChatRequest:
    return asking(model="gemini-3-flash", **fields)


OK = streamed([piece("two "), piece("words", finish="STOP")])


def test_it_fits_the_contract_and_both_ways_answer_alike() -> None:
    """Which of the two the runtime asks for must not change a run."""
    whole = piece("two words", finish="STOP").removeprefix(b"data: ")

    async def scenario(provider: Google, server: FaultServer) -> None:
        contract: Provider = provider
        got, _ = await attempt(contract, gemini())
        assert got == await contract.complete(gemini(), CALL)
        assert (got.text, got.id, got.model) == ("two words", "r", "m")
        assert [request.path for request in server.requests] == [
            "/v1/models/gemini-3-flash:streamGenerateContent?alt=sse",
            "/v1/models/gemini-3-flash:generateContent",
        ]

    against(FaultServer(OK, answer(200, whole)), scenario)


def test_the_request_carries_keys_once_and_asks_for_no_compression() -> None:
    """A compressor holds deltas back; a second key header would be refused."""

    async def scenario(provider: Google, server: FaultServer) -> None:
        await attempt(provider, gemini())

        headers = server.requests[0].headers
        assert headers["x-goog-api-key"] == KEY
        assert headers["idempotency-key"] == CALL.idempotency_key
        assert headers["accept-encoding"] == "identity"

    against(FaultServer(OK), scenario)


def test_a_key_function_is_asked_before_each_request() -> None:
    """A key can be rotated while a runtime runs."""
    keys = iter(["first", "second"])

    async def scenario(provider: Google, server: FaultServer) -> None:
        await attempt(provider, gemini())
        await attempt(provider, gemini())

        assert [r.headers["x-goog-api-key"] for r in server.requests] == ["first", "second"]

    against(FaultServer(OK), scenario, api_key=lambda: next(keys))


def test_a_gateway_may_need_no_key() -> None:
    """Then none is sent, nor what the SDK was given in its place."""

    async def scenario(provider: Google, server: FaultServer) -> None:
        await attempt(provider, gemini())

        assert "x-goog-api-key" not in server.requests[0].headers

    against(FaultServer(OK), scenario, api_key=None)


def test_a_missing_key_says_which_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of the error can act on it."""
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)

    with pytest.raises(ConfigError, match="GEMINI_API_KEY"):
        Google()


def test_the_surroundings_do_not_redirect_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK reads variables that send the key elsewhere, or turn it into another product's."""
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")

    async def scenario(provider: Google, _: FaultServer) -> None:
        assert (await attempt(provider, gemini()))[0].text == "two words"

    against(FaultServer(OK), scenario)


@BOTH
@pytest.mark.parametrize(
    ("play", "expected"),
    [
        (answer(400, {"error": {"code": 400, "status": "INVALID_ARGUMENT"}}), "invalid_request"),
        (answer(401, {"error": {"code": 401}}), "auth"),
        (answer(404, "no such model"), "not_found"),
        (answer(503, {"error": {"status": "UNAVAILABLE"}}), "server"),
        (answer(503, {"error": {"message": "The model is overloaded."}}), "overloaded"),
        (answer(429, exhausted()), "rate_limited"),
        (answer(429, exhausted(DAILY, retry_info("30s"))), "quota"),
        (answer(502, b"<html>\xff"), "server"),
        (answer(302, "", location="http://127.0.0.1:1/"), "invalid_request"),
        (answer(200, "<html>login</html>"), "malformed"),
        (answer(200, {"error": {"code": 503}}), "server"),
        (answer(200, [{"error": {"code": 401}}]), "auth"),
        (Play(Reset()), "connection"),
        (Play(Cut()), "connection"),
    ],
)
def test_an_error_is_one_request_and_one_class(fails: Any, play: Play, expected: str) -> None:
    """The SDK would send up to five, and one more over aiohttp."""

    async def scenario(provider: Google, server: FaultServer) -> None:
        error = await fails(provider, gemini())

        assert error.fields["category"] == expected
        assert error.kind in ("transient", "rate_limited", "permanent")
        assert server.count == 1

    against(FaultServer(play), scenario)


@pytest.mark.parametrize("status", [429, 503])
def test_the_wait_in_the_body_is_kept(status: int) -> None:
    """The SDK drops it; decimals are usual."""
    body = {"error": {"code": status, "details": [retry_info("45.8s")]}}

    async def scenario(provider: Google, _: FaultServer) -> None:
        error = await failing(provider, gemini())

        assert error.retry_after_ms == 45_800

    against(FaultServer(answer(status, body)), scenario)


def test_an_error_whose_body_never_comes_is_told_by_its_status() -> None:
    """The SDK would wait for it as long as the whole call may take."""
    play = Play(Send(head(503, {"content-length": "9"})), Stall())

    async def scenario(provider: Google, _: FaultServer) -> None:
        error = await failing(provider, gemini())

        assert (error.fields["status"], error.fields["category"]) == (503, "server")

    against(FaultServer(play), scenario)


@pytest.mark.parametrize(
    "body",
    ["", "null", "not json", "[]", {"candidates": []}, {"candidates": [{"content": {}}]}],
)
def test_a_body_that_is_no_answer_is_no_success(body: Any) -> None:
    """The SDK returns None, or an answer without candidates."""

    async def scenario(provider: Google, _: FaultServer) -> None:
        error = await failing_whole(provider, gemini())

        assert (error.kind, error.fields["category"]) == ("transient", "malformed")

    against(FaultServer(answer(200, body)), scenario)


def test_comments_are_noise() -> None:
    """The SDK takes a keep-alive for a broken answer."""
    events = [b": ping\n\n", piece("a"), b": ping\n", b"\n", piece("b", finish="STOP"), b": x\n\n"]

    async def scenario(provider: Google, _: FaultServer) -> None:
        assert (await attempt(provider, gemini()))[0].text == "ab"

    against(FaultServer(streamed(events)), scenario)


@pytest.mark.parametrize(
    ("events", "category"),
    [
        ([piece("a")], "truncated"),
        ([piece("a"), piece("b")[:-30]], "truncated"),
        ([piece("a"), b"data: {broken\n\n"], "malformed"),
        ([piece("a"), event({"error": {"code": 503}}), piece("b", finish="STOP")], "server"),
        ([piece("a", finish="STOP"), event({"error": {"code": 500}})], "server"),
    ],
)
def test_a_stream_that_breaks_off_after_output_is_no_answer(
    events: list[bytes], category: str
) -> None:
    """The SDK ends cleanly, or raises something that says nothing."""

    async def scenario(provider: Google, server: FaultServer) -> None:
        error = await failing(provider, gemini())

        assert (error.fields["category"], error.fields["emitted"]) == (category, True)
        assert server.count == 1

    against(FaultServer(streamed(events)), scenario)


@pytest.mark.parametrize("end", [Reset(), Cut()])
def test_a_lost_connection_is_told_as_one(end: Any) -> None:
    """Raw errors of the HTTP client must not pass."""

    async def scenario(provider: Google, _: FaultServer) -> None:
        error = await failing(provider, gemini())

        assert (error.kind, error.fields["category"]) == ("transient", "connection")

    against(FaultServer(streamed([piece("a")], end)), scenario)


@pytest.mark.parametrize(
    "play",
    [
        Play(Stall()),
        Play(*stream_head(), Stall()),
        Play(*stream_head(), Repeat(b": ping\n\n", 0.01)),
        streamed([piece("a")], Repeat(b": ping\n\n", 0.01)),
    ],
    ids=["no head", "no event", "only comments", "comments after output"],
)
def test_silence_is_a_timeout_that_comments_do_not_lift(play: Play) -> None:
    """Keep-alives say that a proxy lives, not that a model answers."""
    request = gemini(timeouts=quick(first_event_ms=300, idle_ms=300))

    async def scenario(provider: Google, server: FaultServer) -> None:
        await attempt(provider, gemini())  # the client is there before the clock runs
        error = await failing(provider, request)

        assert (error.kind, error.fields["category"]) == ("transient", "timeout")
        await server.until(lambda s: s.hangups == 1)

    against(FaultServer(OK, play), scenario)


def test_nobody_at_the_address_is_a_connection_error() -> None:
    """Nothing was sent, so a retry is free."""

    async def scenario(provider: Google, server: FaultServer) -> None:
        lost = Google(KEY, base_url="http://127.0.0.1:1")
        error = await failing_whole(lost, gemini())
        await lost.aclose()

        assert (error.kind, error.fields["category"]) == ("transient", "connection")
        assert error.fields["phase"] == "connect"

    against(FaultServer(OK), scenario)


@BOTH
def test_the_key_is_never_shown(fails: Any) -> None:
    """Servers like to repeat a key that they refuse."""

    async def scenario(provider: Google, _: FaultServer) -> None:
        error = await fails(provider, gemini())

        assert KEY not in f"{error} {error!r} {error.__cause__!r} {error.__context__!r}"
        assert KEY not in repr(provider)

    against(FaultServer(answer(400, {"error": {"message": f"bad key {KEY}"}})), scenario)


@BOTH
def test_what_the_sdk_does_not_take_is_permanent_and_sends_nothing(fails: Any) -> None:
    """A retry would fail alike."""
    request = gemini(messages=(Message.system("only instructions"),))

    async def scenario(provider: Google, server: FaultServer) -> None:
        error = await fails(provider, request)

        assert (error.kind, error.fields["category"]) == ("permanent", "invalid_request")
        assert server.count == 0

    against(FaultServer(OK), scenario)


async def cancelled(provider: Google) -> None:
    """Begin a stream and cancel it after its first event."""
    seen = asyncio.Event()

    async def consume() -> None:
        async with provider.stream(gemini(), CALL) as events:
            async for _ in events:
                seen.set()

    task = asyncio.create_task(consume())
    await seen.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


STALLED = Play(*stream_head(), Chunk(piece("a")), Stall())


def test_a_cancelled_stream_closes_its_connection() -> None:
    """The server stops working for somebody who left."""

    async def scenario(provider: Google, server: FaultServer) -> None:
        await cancelled(provider)

        await server.until(lambda s: s.open_connections == 0)

    against(FaultServer(STALLED), scenario)


@BOTH
def test_a_call_cancelled_while_the_answer_is_awaited_leaves_nothing(fails: Any) -> None:
    """The connection is inside the SDK then."""

    async def scenario(provider: Google, server: FaultServer) -> None:
        task = asyncio.create_task(fails(provider, gemini()))
        await server.until(lambda s: s.count == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.until(lambda s: s.open_connections == 0)

    against(FaultServer(Play(Stall())), scenario)


def test_fifty_cancelled_streams_leave_a_pool_of_two_healthy() -> None:
    """A connection that leaks is missed when the pool is empty."""

    async def scenario(provider: Google, server: FaultServer) -> None:
        for _ in range(50):
            await cancelled(provider)
        answers = await asyncio.gather(*(attempt(provider, gemini()) for _ in range(2)))

        assert [got.text for got, _ in answers] == ["two words"] * 2
        await server.until(lambda s: s.open_connections <= 2)
        gc.collect()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        assert [t for t in tasks if "FaultServer" not in str(t.get_coro())] == []

    against(FaultServer(*[STALLED] * 50, OK), scenario, max_connections=2)


def test_a_connection_is_used_again_after_a_whole_stream() -> None:
    """A new connection for each call costs a handshake."""

    async def scenario(provider: Google, server: FaultServer) -> None:
        for _ in range(3):
            await attempt(provider, gemini())

        assert (server.count, server.connections) == (3, 1)

    against(FaultServer(OK), scenario)


def test_calls_at_once_get_their_own_answers() -> None:
    """Requests and answers meet in a context variable, one for each task."""

    def echo(request: Any) -> Play:
        said = request.json()["contents"][0]["parts"][0]["text"]
        return streamed([piece(said, finish="STOP")])

    async def scenario(provider: Google, _: FaultServer) -> None:
        asked = [asking(str(n), model="gemini-3-flash") for n in range(20)]
        answers = await asyncio.gather(*(attempt(provider, each) for each in asked))

        assert [got.text for got, _ in answers] == [str(n) for n in range(20)]

    against(FaultServer(echo), scenario)


def test_a_provider_works_in_one_loop_after_another() -> None:
    """The synchronous faces run loops of their own."""
    provider: list[Google] = []

    async def once() -> str:
        async with FaultServer(OK) as server:
            if not provider:
                provider.append(Google(KEY, base_url=server.url))
            provider[0].base_url = server.url
            got, _ = await attempt(provider[0], gemini())
            await provider[0].aclose()
            return got.text

    assert [asyncio.run(once()) for _ in range(2)] == ["two words"] * 2


def test_an_end_that_usage_follows_late_is_waited_for() -> None:
    """The last event of a stream may carry nothing but its cost."""
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
    events = [piece("a", finish="STOP"), event({"usageMetadata": usage})]

    async def scenario(provider: Google, _: FaultServer) -> None:
        got, _shown = await attempt(provider, gemini())

        assert got.usage is not None
        assert got.usage.total_tokens == 5

    against(FaultServer(streamed(events, EndOfBody())), scenario)


def test_an_error_is_a_provider_error_even_when_a_timeout_is_short() -> None:
    """The runtime catches nothing else."""
    request = gemini(timeouts=quick(total_ms=1))

    async def scenario(provider: Google, _: FaultServer) -> None:
        for fails in (failing, failing_whole):
            error = await fails(provider, request)
            assert isinstance(error, ProviderError)
            assert error.fields["category"] == "timeout"

    against(FaultServer(Play(Stall())), scenario)
