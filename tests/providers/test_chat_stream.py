"""Streams against a real server that breaks them: what was shown, what is retryable, who closes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gatebook.errors import ProviderError
from gatebook.kernel.messages import (
    Capabilities,
    MessageStart,
    StreamEvent,
    TextDelta,
    ToolDefinition,
)
from gatebook.kernel.streams.machine import Phase, StreamMachine, retryable
from gatebook.providers.openai_compatible import OpenAICompatible
from gatebook.testing.fault_server import (
    DONE,
    Chunk,
    Cut,
    EndOfBody,
    FaultServer,
    Hold,
    Play,
    Repeat,
    Reset,
    Stall,
    Step,
    answer,
    delta,
    event,
    stream_head,
    streamed,
    text_events,
    text_stream,
    usage_chunk,
)
from tests.providers.calls import CALL, against, asking, attempt, failing, quick, texts

ROLE = event(delta(role="assistant", content=""))
WORD = event(delta(content="word"))
FINISH = event(delta(finish_reason="stop"))


def chunks(*events: bytes) -> tuple[Step, ...]:
    return (*stream_head(), *(Chunk(data) for data in events))


def play(*steps: Step | bytes) -> Play:
    return Play(*stream_head(), *(Chunk(s) if isinstance(s, bytes) else s for s in steps))


async def shown_of(provider: Any, request: Any) -> tuple[list[StreamEvent], StreamMachine, Any]:
    """Return what a reader saw of an attempt that fails, the machine and the error."""
    machine = StreamMachine()
    shown: list[StreamEvent] = []
    machine.open()
    try:
        async with provider.stream(request, CALL) as events:
            async for part in events:
                shown += machine.feed(part)
    except ProviderError as error:
        return shown, machine, machine.fail(error)
    return shown, machine, machine.eof()


def test_a_streamed_answer_arrives_piece_by_piece() -> None:
    """The simplest thing that must work."""

    async def scenario(provider: OpenAICompatible, server: FaultServer) -> None:
        got, shown = await attempt(provider, asking())

        assert texts(shown) == got.text == "Hello, world"
        assert sum(isinstance(part, TextDelta) for part in shown) == 3
        assert (got.finish_reason, got.usage and got.usage.output_tokens) == ("stop", 2)
        assert server.requests[0].json()["stream"] is True

    asyncio.run(against(FaultServer(text_stream("Hel", "lo, ", "world")), scenario))


def test_a_chunk_cut_anywhere_is_read_whole() -> None:
    """Networks cut in the middle of a character."""
    data = b"".join(text_events("gr", "ün", "€"))
    pieces = [data[i : i + 7] for i in range(0, len(data), 7)]

    async def scenario(provider: OpenAICompatible, _: FaultServer) -> None:
        got, _shown = await attempt(provider, asking())

        assert got.text == "grün€"

    asyncio.run(against(FaultServer(streamed(pieces)), scenario))


@pytest.mark.parametrize(
    ("steps", "category"),
    [
        ([Cut()], "connection"),
        ([Reset()], "connection"),
        ([EndOfBody()], "truncated"),
        ([Stall()], "timeout"),
        ([Repeat(b": ping\n\n", 0.01)], "timeout"),
        ([Repeat(ROLE, 0.01)], "timeout"),
        ([b"data: {\n\n", Stall()], "malformed"),
        ([WORD[:20], EndOfBody()], "truncated"),
        ([event({"error": {"code": "server_error"}}), Stall()], "server"),
        ([b'event: error\ndata: {"message":"boom"}\n\n', Stall()], "server"),
        ([DONE, Stall()], "truncated"),
    ],
    ids=[
        "cut",
        "reset",
        "eof",
        "stall",
        "pings",
        "empty",
        "not-json",
        "half",
        "error",
        "named",
        "done",
    ],
)
@pytest.mark.parametrize("preamble", [[], [ROLE]], ids=["opening", "preamble"])
def test_a_fault_before_output_shows_nothing_and_may_be_retried(
    steps: list[Any], category: str, preamble: list[bytes]
) -> None:
    """A retry that nobody notices is the only kind there is."""

    async def scenario(provider: OpenAICompatible, server: FaultServer) -> None:
        limits = quick(first_event_ms=200) if category == "timeout" else quick()
        shown, _machine, error = await shown_of(provider, asking(timeouts=limits))

        assert (error.category, shown) == (category, [])
        assert retryable(error)
        assert server.count == 1

    asyncio.run(against(FaultServer(play(*preamble, *steps)), scenario))


@pytest.mark.parametrize(
    ("steps", "category"),
    [
        ([Cut()], "connection"),
        ([Reset()], "connection"),
        ([EndOfBody()], "truncated"),
        ([Stall()], "timeout"),
        ([Repeat(b": ping\n\n", 0.01)], "timeout"),
        ([b"data: {\n\n", Stall()], "malformed"),
        ([WORD[:20], EndOfBody()], "truncated"),
        ([event({"error": {"code": "server_error"}}), WORD, FINISH, DONE], "server"),
        ([DONE, Stall()], "truncated"),
    ],
    ids=["cut", "reset", "eof", "stall", "pings", "not-json", "half", "error", "done"],
)
def test_a_fault_after_output_keeps_the_part_and_is_not_retried(
    steps: list[Any], category: str
) -> None:
    """The reader has seen words: a second attempt would say them twice."""

    async def scenario(provider: OpenAICompatible, server: FaultServer) -> None:
        limits = quick(idle_ms=200) if category == "timeout" else quick()
        shown, machine, error = await shown_of(provider, asking(timeouts=limits))

        assert error.category == category
        assert not retryable(error)
        assert machine.partial().text == texts(shown) == "word"
        assert machine.phase is Phase.FAILED
        assert server.count == 1

    asyncio.run(against(FaultServer(play(ROLE, WORD, *steps)), scenario))


def test_an_error_in_one_read_with_output_shows_the_output_first() -> None:
    """What the model said before the error was said."""
    batch = WORD + event({"error": {"code": "server_error"}})

    async def scenario(provider: OpenAICompatible, _: FaultServer) -> None:
        shown, _machine, error = await shown_of(provider, asking())

        assert texts(shown) == "word"
        assert error.fields["emitted"] is True

    asyncio.run(against(FaultServer(play(batch, Stall())), scenario))


def test_an_error_after_the_finish_reason_is_an_error() -> None:
    """Gateways notice late that a filter or a quota struck."""
    steps = (WORD, FINISH, event({"error": {"code": "server_error"}}), DONE, EndOfBody())

    async def scenario(provider: OpenAICompatible, _: FaultServer) -> None:
        error = await failing(provider, asking())

        assert (error.category, error.fields["emitted"]) == ("server", True)

    asyncio.run(against(FaultServer(play(*steps)), scenario))


@pytest.mark.parametrize(
    "end",
    [
        (EndOfBody(),),
        (Cut(),),
        (Reset(),),
        (DONE, Stall()),
        (event(usage_chunk()), EndOfBody()),
    ],
    ids=["eof", "cut", "reset", "done", "usage"],
)
def test_a_finish_reason_makes_an_answer_whole_without_done(end: tuple[Any, ...]) -> None:
    """Several servers never send [DONE], others close without manners."""

    async def scenario(provider: OpenAICompatible, _: FaultServer) -> None:
        got, _shown = await attempt(provider, asking())

        assert (got.text, got.finish_reason) == ("word", "stop")

    asyncio.run(against(FaultServer(play(WORD, FINISH, *end)), scenario))


def test_usage_that_never_comes_is_waited_for_a_little_only() -> None:
    """The answer is whole; a server that holds the line must not hold the run."""

    async def scenario(provider: OpenAICompatible, _: FaultServer) -> None:
        async with asyncio.timeout(30):
            got, _shown = await attempt(provider, asking())

        assert (got.text, got.usage) == ("word", None)

    asyncio.run(against(FaultServer(play(WORD, FINISH, Stall())), scenario))


def test_done_alone_ends_an_answer_only_where_the_server_is_known_for_it() -> None:
    """Ollama sends a null finish reason; from others it means a lost chunk."""

    async def scenario(provider: OpenAICompatible, _: FaultServer) -> None:
        got, _shown = await attempt(provider, asking())

        assert (got.text, got.finish_reason, got.raw_finish_reason) == ("word", "stop", None)

    server = FaultServer(play(WORD, DONE, EndOfBody()))
    asyncio.run(against(server, scenario, capabilities=Capabilities(terminal="done")))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", "truncated"),
        ("<html>login</html>", "malformed"),
        ('{"error":{"code":"rate_limit_exceeded"}}', "rate_limited"),
        ('{\n  "error": {\n    "code": 401\n  }\n}', "auth"),
        (": only comments\n\n: and more\n\n", "truncated"),
    ],
)
def test_a_200_that_is_no_event_stream_is_never_an_answer(body: str, expected: str) -> None:
    """Umbrella libraries made "stop" of all of these."""

    async def scenario(provider: OpenAICompatible, _: FaultServer) -> None:
        error = await failing(provider, asking())

        assert error.category == expected

    asyncio.run(against(FaultServer(answer(200, body)), scenario))


def test_comments_between_events_are_no_noise_to_the_reader() -> None:
    """OpenRouter sends ": OPENROUTER PROCESSING" while it waits."""
    noise = b": OPENROUTER PROCESSING\n\n"

    async def scenario(provider: OpenAICompatible, _: FaultServer) -> None:
        got, shown = await attempt(provider, asking())

        assert got.text == "word"
        assert len(shown) == 3 + 1  # start, text, usage, end

    events = [noise, ROLE, noise, WORD, noise, FINISH, noise, event(usage_chunk()), DONE]
    asyncio.run(against(FaultServer(streamed(events)), scenario))


def test_two_attempts_show_one_start() -> None:
    """The failed attempt's preamble must not reach anybody."""

    async def scenario(provider: OpenAICompatible, server: FaultServer) -> None:
        machine = StreamMachine()
        with pytest.raises(Exception, match="RemoteProtocolError"):
            await attempt(provider, asking(), machine)

        got, shown = await attempt(provider, asking(), machine)

        assert [part for part in shown if isinstance(part, MessageStart)] == [shown[0]]
        assert got.text == "second"
        assert server.count == 2

    asyncio.run(against(FaultServer(play(ROLE, Cut()), text_stream("second")), scenario))


def test_a_streamed_tool_call_is_put_together_under_our_name() -> None:
    """The wire knows no dots."""
    first = {"index": 0, "id": "c1", "function": {"name": "shop__find", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": '{"n":1}'}}
    events = [
        event(delta(tool_calls=[first])),
        event(delta(tool_calls=[more])),
        event(delta(finish_reason="tool_calls")),
        DONE,
    ]

    async def scenario(provider: OpenAICompatible, _: FaultServer) -> None:
        got, _shown = await attempt(provider, asking(tools=(ToolDefinition("shop.find"),)))

        (call,) = got.tool_calls
        assert (call.id, call.name, call.arguments) == ("c1", "shop.find", '{"n":1}')

    asyncio.run(against(FaultServer(streamed(events)), scenario))


def test_a_required_call_that_does_not_come_is_no_success() -> None:
    """The server said "stop" and meant: I ignored you."""

    async def scenario(provider: OpenAICompatible, _: FaultServer) -> None:
        request = asking(tools=(ToolDefinition("f"),), tool_choice="required")
        got, _shown = await attempt(provider, request)

        assert [call.reason for call in got.invalid_tool_calls] == ["not_called"]

    asyncio.run(against(FaultServer(text_stream("no")), scenario))


def test_a_slow_reader_is_not_an_idle_server() -> None:
    """The idle limit measures the server, not us."""
    gate = asyncio.Event()

    async def scenario(provider: OpenAICompatible, _: FaultServer) -> None:
        seen = []
        async with provider.stream(asking(timeouts=quick(idle_ms=1_000)), CALL) as events:
            async for part in events:
                seen.append(part)
                if isinstance(part, TextDelta) and not gate.is_set():
                    gate.set()  # the rest is on its way while we look elsewhere
                    await asyncio.sleep(1.2)

        assert texts(seen) == "wordword"

    steps = (WORD, Hold(gate), WORD, FINISH, DONE, EndOfBody())
    asyncio.run(against(FaultServer(play(*steps)), scenario))


async def first_text(events: AsyncIterator[StreamEvent]) -> None:
    async for part in events:
        if isinstance(part, TextDelta):
            return


ENDLESS = play(ROLE, WORD, Repeat(WORD, 0.005))


def test_leaving_in_the_middle_closes_the_connection() -> None:
    """Vendor clients keep the model writing for nobody after a `break`."""

    async def scenario(provider: OpenAICompatible, server: FaultServer) -> None:
        async with provider.stream(asking(), CALL) as events:
            await first_text(events)

        await server.until(lambda s: s.hangups == 1 and s.open_connections == 0)

    asyncio.run(against(FaultServer(ENDLESS), scenario))


def test_an_exception_in_the_reader_closes_the_connection() -> None:
    """The reader's own bug must not leak a connection each time."""

    async def scenario(provider: OpenAICompatible, server: FaultServer) -> None:
        with pytest.raises(ZeroDivisionError):
            async with provider.stream(asking(), CALL) as events:
                await first_text(events)
                raise ZeroDivisionError

        await server.until(lambda s: s.open_connections == 0)

    asyncio.run(against(FaultServer(ENDLESS), scenario))


@pytest.mark.parametrize(
    "where", ["opening", "reading", "elsewhere"], ids=["opening", "reading", "elsewhere"]
)
@pytest.mark.parametrize("times", [1, 2])
def test_a_cancelled_reader_closes_the_connection(where: str, times: int) -> None:
    """Cancelled once or twice, before, inside or outside a read: nothing stays open."""
    plays = {
        "opening": Play(Stall()),
        "reading": play(ROLE, WORD, Stall()),
        "elsewhere": ENDLESS,
    }

    async def scenario(provider: OpenAICompatible, server: FaultServer) -> None:
        arrived = asyncio.Event()

        async def read() -> None:
            async with provider.stream(asking(), CALL) as events:
                await first_text(events)
                arrived.set()
                if where == "elsewhere":
                    await asyncio.Event().wait()
                await anext(events)

        task = asyncio.create_task(read())
        await server.until(lambda s: s.count == 1)
        if where != "opening":
            await arrived.wait()
            await asyncio.sleep(0)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)

        with pytest.raises(asyncio.CancelledError):
            await task
        await server.until(lambda s: s.open_connections == 0)

    asyncio.run(against(FaultServer(plays[where]), scenario))


def test_fifty_cancelled_streams_leave_a_pool_of_two_healthy() -> None:
    """Each leak takes a slot; after a few the whole process waits for ever."""

    async def scenario(provider: OpenAICompatible, server: FaultServer) -> None:
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
        return ENDLESS if b"endless" in request.body else text_stream("fine")

    asyncio.run(against(FaultServer(choose), scenario, max_connections=2))


def test_a_stream_that_is_never_iterated_is_closed() -> None:
    """Entering has sent the request already."""

    async def scenario(provider: OpenAICompatible, server: FaultServer) -> None:
        async with provider.stream(asking(), CALL):
            pass

        await server.until(lambda s: s.open_connections == 0)

    asyncio.run(against(FaultServer(ENDLESS), scenario))
