"""Streams that stall or babble: silence ends them, noise is neither shown nor an answer."""

from collections.abc import Sequence

import pytest

from gatebook.kernel.messages import TextDelta
from gatebook.testing.dialects import Dialect
from gatebook.testing.fault_server import (
    Chunk,
    EndOfBody,
    Play,
    Repeat,
    Stall,
    stream_head,
    streamed,
)
from tests.conformance.adapters import Adapter, every_adapter
from tests.conformance.cases import case
from tests.conformance.cuts import AFTER, BEFORE, emitted, fails_with, started
from tests.conformance.kit import HELLO, refuses, run, served
from tests.providers.calls import asking, attempt, quick, texts


@case(30)
@every_adapter
@pytest.mark.parametrize("so_far", BEFORE)
def test_silence_before_output_may_be_asked_again(adapter: Adapter, so_far: str) -> None:
    """Case 30: nothing was shown, so nothing is taken back."""

    async def scenario() -> None:
        play = streamed(BEFORE[so_far](adapter.dialect), Stall())
        error = await fails_with(adapter, play, timeouts=quick(first_event_ms=500))

        assert refuses(error) == ("transient", "timeout")
        assert not emitted(error)

    run(scenario())


@case(30)
@every_adapter
def test_silence_after_output_is_final(adapter: Adapter) -> None:
    """Case 30: the idle limit counts from the last word."""

    async def scenario() -> None:
        play = streamed(started(adapter.dialect), Stall())
        error = await fails_with(adapter, play, timeouts=quick(idle_ms=150))

        assert refuses(error) == ("transient", "timeout")
        assert emitted(error)

    run(scenario())


@case(30)
@every_adapter
@pytest.mark.parametrize("so_far", ["preamble", "one word"])
def test_pings_are_silence(adapter: Adapter, so_far: str) -> None:
    """Case 30: a proxy can send comments for ever while the model is dead."""
    dialect = adapter.dialect

    async def scenario() -> None:
        noise = Repeat(dialect.noise(), 0.02)
        play = streamed((BEFORE | AFTER)[so_far](dialect), noise)
        limits = quick(first_event_ms=500) if so_far == "preamble" else quick(idle_ms=200)
        error = await fails_with(adapter, play, timeouts=limits)

        assert refuses(error) == ("transient", "timeout")
        assert emitted(error) is (so_far == "one word")

    run(scenario())


NOISE = [b": OPENROUTER PROCESSING\n\n", b":\n\n", b"\n\n", b"retry: 3000\n\n", b"id: 7\n\n"]


def noisy(events: Sequence[bytes], dialect: Dialect) -> list[bytes]:
    """Return the events with noise of every kind between them."""
    babble = [*NOISE, dialect.noise()]
    return [piece for each in events for piece in (*babble, each)]


@case(31)
@every_adapter
def test_comments_and_pings_are_not_shown(adapter: Adapter) -> None:
    """Case 31: they keep a connection open and mean nothing; one client fails on them."""

    async def scenario() -> None:
        plain = streamed(adapter.dialect.events(HELLO))
        babble = streamed(noisy(adapter.dialect.events(HELLO), adapter.dialect))
        async with served(adapter, plain, babble) as it:
            quiet = await attempt(it.provider, asking())
            loud = await attempt(it.provider, asking())

            assert quiet == loud
            assert loud[0].text == "hello"

    run(scenario())


@case(31)
@every_adapter
def test_noise_alone_is_no_answer(adapter: Adapter) -> None:
    """Case 31: a stream that only ever breathed is truncated."""

    async def scenario() -> None:
        error = await fails_with(adapter, streamed([*NOISE, adapter.dialect.noise()] * 3))

        assert error.kind == "transient"
        assert error.fields["category"] in ("truncated", "malformed")

    run(scenario())


@case(31)
@every_adapter
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_where_the_network_cuts_does_not_matter(adapter: Adapter, size: int) -> None:
    """Case 31: noise is also how bytes are dealt out."""
    body = b"".join(noisy(adapter.dialect.events(HELLO), adapter.dialect))
    chunks = (Chunk(body[at : at + size]) for at in range(0, len(body), size))

    async def scenario() -> None:
        async with served(adapter, Play(*stream_head(), *chunks, EndOfBody())) as it:
            got, shown = await attempt(it.provider, asking())

            assert got.text == texts(shown) == "hello"
            assert len([event for event in shown if isinstance(event, TextDelta)]) == 2

    run(scenario())
