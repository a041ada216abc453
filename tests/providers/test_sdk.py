"""What the adapters over vendor SDKs share: deadlines, closing, errors, keys, lazy imports."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import httpx2
import pytest

from gatebook.errors import ProviderError
from gatebook.kernel.messages import (
    ChatResponse,
    MessageEnd,
    MessageStart,
    StreamEvent,
    TextDelta,
    Timeouts,
)
from gatebook.providers.sdk import (
    Opened,
    SdkStream,
    completed,
    truncated,
)
from tests.providers.calls import asking, quick, texts

KEY = "sk-secret-0123456789"
PING, LAST, DONE = "", "<last>", "<done>"


class Words:
    """A converter of words: each is text, an empty one a ping."""

    def __init__(self) -> None:
        self.finished = self.done = False

    def feed(self, raw: str) -> Iterable[StreamEvent]:
        self.done = self.done or raw == DONE
        self.finished = self.finished or raw in (LAST, DONE)
        return [TextDelta(0, raw)] if raw and not self.finished else []

    def end(self) -> Iterable[StreamEvent]:
        if not self.finished:
            raise truncated()
        return [MessageEnd("stop")]


class Wire:
    """An SDK's stream: what it gives is written down, and whether it was closed can be asked."""

    def __init__(self, *raws: str | BaseException, then: Awaitable[Any] | None = None) -> None:
        self.closed = 0
        self.read = 0
        self._raws = raws
        self._then = then

    async def send(self, key: str) -> Opened:
        return Opened(self._each(), Words(), self.close)

    async def close(self) -> None:
        self.closed += 1

    async def _each(self) -> AsyncIterator[str]:
        for raw in self._raws:
            self.read += 1
            if isinstance(raw, BaseException):
                raise raw
            yield raw
        if self._then is not None:
            await self._then

    def stream(self, key: str = KEY, **milliseconds: int) -> SdkStream:
        return SdkStream(self.send, quick(**milliseconds), key)


class Endless(Wire):
    """A stream that repeats its last word every few milliseconds."""

    async def _each(self) -> AsyncIterator[str]:
        for raw in self._raws:
            yield str(raw)
        while True:
            await asyncio.sleep(0.005)
            yield str(self._raws[-1])


async def forever(begun: asyncio.Event) -> None:
    begun.set()
    await asyncio.Event().wait()


async def heard(stream: SdkStream) -> list[StreamEvent]:
    """Return all events of a stream."""
    async with stream as events:
        return [event async for event in events]


async def failure(stream: SdkStream) -> ProviderError:
    """Return the error a stream ends with."""
    with pytest.raises(ProviderError) as caught:
        await heard(stream)
    return caught.value


def test_a_whole_answer_is_read_and_the_stream_is_closed() -> None:
    """The plain case."""
    wire = Wire("Hello ", PING, "there", LAST)

    events = asyncio.run(heard(wire.stream()))

    assert texts(events) == "Hello there"
    assert events[-1] == MessageEnd("stop")
    assert wire.closed == 1


def test_nothing_is_read_after_the_converter_is_done() -> None:
    """Some servers keep a stream open that has nothing more to say."""

    async def scenario() -> int:
        wire = Wire("Hello", DONE, "x", then=asyncio.Event().wait())
        async with wire.stream() as events:
            async for _ in events:
                pass
            return wire.read

    assert asyncio.run(scenario()) == 2


def test_an_end_without_the_terminal_marker_is_truncated() -> None:
    """No SDK notices, so it is noticed here."""
    wire = Wire("Hello")

    error = asyncio.run(failure(wire.stream()))

    assert (error.kind, error.category, wire.closed) == ("transient", "truncated", 1)


def test_an_answer_stays_whole_when_only_its_tail_is_lost() -> None:
    """After the marker only the usage may still be missing."""
    wire = Wire("Hello", LAST, httpx2.ReadError("gone"))

    assert texts(asyncio.run(heard(wire.stream()))) == "Hello"


def test_a_break_closes_the_stream() -> None:
    """An SDK's stream object that is left alone keeps its connection."""

    async def scenario(wire: Wire) -> None:
        async with wire.stream() as events:
            async for _ in events:
                break

    wire = Wire("a", "b", LAST)
    asyncio.run(scenario(wire))

    assert wire.closed == 1


def test_the_readers_own_error_closes_the_stream_and_goes_on() -> None:
    """What the reader does wrong is not the provider's error."""

    async def scenario(wire: Wire) -> None:
        async with wire.stream() as events:
            async for _ in events:
                raise LookupError

    wire = Wire("a", "b", LAST)
    with pytest.raises(LookupError):
        asyncio.run(scenario(wire))

    assert wire.closed == 1


@pytest.mark.parametrize("cancels", [1, 2, 3])
def test_a_cancelled_reader_closes_the_stream(cancels: int) -> None:
    """Impatient people press Ctrl-C more than once."""

    async def scenario() -> int:
        begun, release, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

        class Slow(Wire):
            async def close(self) -> None:
                await release.wait()
                await super().close()
                closed.set()

        wire = Slow("a", then=forever(begun))
        reading = asyncio.create_task(heard(wire.stream()))
        await begun.wait()
        for _ in range(cancels):
            reading.cancel()
            await asyncio.sleep(0.01)
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await closed.wait()
        return wire.closed

    assert asyncio.run(scenario()) == 1


def test_a_stream_that_will_not_close_does_not_hold_up_the_reader() -> None:
    """Closing is given a second, no more."""

    class Stuck(Wire):
        async def close(self) -> None:
            await asyncio.Event().wait()

    assert texts(asyncio.run(heard(Stuck("a", LAST).stream()))) == "a"


def test_a_cancelled_attempt_to_send_is_cancelled() -> None:
    """There is nothing to close yet, and nothing to wait for."""

    async def scenario() -> None:
        async def never(key: str) -> Opened:
            await asyncio.Event().wait()
            raise AssertionError

        sending = asyncio.create_task(heard(SdkStream(never, Timeouts(), KEY)))
        await asyncio.sleep(0)
        sending.cancel()
        await sending

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(scenario())


@pytest.mark.parametrize("limit", ["first_event_ms", "total_ms"])
def test_an_answer_that_never_begins_times_out(limit: str) -> None:
    """The SDK's own limit is minutes."""

    async def scenario() -> ProviderError:
        async def never(key: str) -> Opened:
            await asyncio.Event().wait()
            raise AssertionError

        return await failure(SdkStream(never, quick(**{limit: 20}), KEY))

    error = asyncio.run(scenario())

    assert (error.kind, error.category) == ("transient", "timeout")


def test_pings_do_not_count_as_the_first_event() -> None:
    """A server that only says it lives has not begun to answer."""
    error = asyncio.run(failure(Endless(PING).stream(first_event_ms=40)))

    assert error.category == "timeout"
    assert error.fields["in_stream"]


def test_the_beginning_of_an_answer_does_not_count_as_its_first_event() -> None:
    """Servers announce an answer long before they have one."""

    class Announced(Words):
        def feed(self, raw: str) -> Iterable[StreamEvent]:
            return [MessageStart("m")]

    class Announcing(Endless):
        async def send(self, key: str) -> Opened:
            return Opened(self._each(), Announced(), self.close)

    error = asyncio.run(failure(Announcing("x").stream(first_event_ms=40, idle_ms=60_000)))

    assert error.category == "timeout"


def test_pings_do_not_extend_the_idle_limit() -> None:
    """A stalled model behind a lively proxy must not hang a run."""
    wire = Endless("word", PING)

    error = asyncio.run(failure(wire.stream(idle_ms=40)))

    assert (error.category, wire.closed) == ("timeout", 1)


def test_a_talkative_answer_ends_at_the_total_limit() -> None:
    """A model may repeat itself for ever."""
    error = asyncio.run(failure(Endless("word ").stream(total_ms=60)))

    assert error.category == "timeout"


def test_a_slow_reader_is_not_a_silent_stream() -> None:
    """The limits are the provider's: what the reader does with an event may take its time."""

    async def scenario() -> list[StreamEvent]:
        seen = []
        async with Wire("a", "b", LAST).stream(idle_ms=20, first_event_ms=20) as events:
            async for event in events:
                seen.append(event)
                await asyncio.sleep(0.04)
        return seen

    assert texts(asyncio.run(scenario())) == "ab"


def test_what_came_before_an_error_is_given_out() -> None:
    """The caller decides by it whether a retry is still invisible."""

    async def scenario() -> str:
        seen: list[StreamEvent] = []
        with pytest.raises(ProviderError):
            async with Wire("a", "b", httpx2.ReadError("gone")).stream() as events:
                async for event in events:
                    seen.append(event)
        return texts(seen)

    assert asyncio.run(scenario()) == "ab"


def test_the_key_is_in_no_error_and_no_traceback() -> None:
    """Servers repeat the key they refuse, and SDKs put bodies into their errors."""
    error = asyncio.run(failure(Wire("a", ValueError(f"no such key {KEY}")).stream()))

    assert KEY not in str(error)
    assert error.__cause__ is None


def test_the_key_of_each_attempt_is_asked_for() -> None:
    """Keys are rotated while a process runs."""
    keys = iter(["one", "two"])
    used = []

    async def send(key: str) -> Opened:
        used.append(key)
        return await Wire("a", LAST).send(key)

    for _ in range(2):
        asyncio.run(heard(SdkStream(send, Timeouts(), lambda: next(keys))))

    assert used == ["one", "two"]


def answered(
    ask: Callable[[str], Awaitable[Iterable[StreamEvent]]], **milliseconds: int
) -> ChatResponse:
    """Return the answer of one blocking attempt."""
    return asyncio.run(completed(ask, asking(timeouts=quick(**milliseconds)), KEY))


def test_a_whole_answer_is_put_together() -> None:
    """A blocking attempt means the same as a streamed one."""

    async def ask(key: str) -> list[StreamEvent]:
        return [MessageStart("m", "id"), TextDelta(0, "hi"), MessageEnd("stop")]

    answer = answered(ask)

    assert (answer.text, answer.model, answer.finish_reason) == ("hi", "m", "stop")


def test_a_whole_answer_without_an_end_is_malformed() -> None:
    """It cannot be told from one that was cut off."""

    async def ask(key: str) -> list[StreamEvent]:
        return [TextDelta(0, "hi")]

    with pytest.raises(ProviderError) as caught:
        answered(ask)

    assert caught.value.category == "malformed"


def test_a_blocking_attempt_ends_at_the_total_limit() -> None:
    """The SDK's own limit is ten minutes."""

    async def ask(key: str) -> list[StreamEvent]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(ProviderError) as caught:
        answered(ask, total_ms=20)

    assert caught.value.category == "timeout"


def test_a_blocking_attempt_does_not_tell_the_key() -> None:
    """As a streamed one."""

    async def ask(key: str) -> list[StreamEvent]:
        raise ValueError(f"bad key {key}")

    with pytest.raises(ProviderError) as caught:
        answered(ask)

    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None
