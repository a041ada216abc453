"""Streams that are cut, lie, stall or babble: retried before output, failed after, never whole."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from gatebook.errors import ProviderError
from gatebook.kernel.messages import Capabilities, MessageStart, StreamEvent, TextDelta
from gatebook.kernel.streams.machine import retryable
from gatebook.runtime.runs.states import Failed, Finished
from gatebook.runtime.subscriptions import Delta
from gatebook.testing.dialects import CHAT, RESPONSES, Dialect
from gatebook.testing.dialects.chat import DONE, delta
from gatebook.testing.dialects.story import event
from gatebook.testing.fault_server import (
    Chunk,
    Cut,
    EndOfBody,
    Play,
    Repeat,
    Reset,
    Stall,
    answer,
    stream_head,
    streamed,
)
from tests.conformance.adapters import (
    ADAPTERS,
    ANTHROPIC_ADAPTER,
    CHAT_ADAPTER,
    RESPONSES_ADAPTER,
    Adapter,
    every_adapter,
    on,
)
from tests.conformance.cases import case
from tests.conformance.kit import HELLO, Driven, answering, driven, refuses, run, served
from tests.providers.calls import asking, attempt, failing, failing_whole, quick, texts

TRUNCATED = ("transient", "truncated")


def opening(dialect: Dialect) -> list[bytes]:
    """Return the events of an answer before its first word."""
    return dialect.opening(HELLO)


def started(dialect: Dialect) -> list[bytes]:
    """Return the events of an answer up to its first word."""
    output = dialect.output(HELLO)
    first = next(i for i, part in enumerate(output) if b'"hel"' in part)
    return [*opening(dialect), *output[: first + 1]]


def spoken(dialect: Dialect) -> list[bytes]:
    """Return the events of an answer up to its last word, without its terminal marker."""
    return [*opening(dialect), *dialect.output(HELLO)]


BEFORE = {"nothing": lambda _: [], "preamble": opening}
AFTER = {"one word": started, "all words": spoken}


async def fails_with(
    adapter: Adapter, play: Play, *, timeouts: Any = None, **options: Any
) -> ProviderError:
    """Return the error of one streamed attempt, which was one request.

    Before an attempt that is to time out there is one that is answered: what a client does once,
    at its first request, is not what is timed.
    """
    async with served(adapter, *([answering(adapter)] if timeouts else []), play, **options) as it:
        if timeouts is None:
            error = await failing(it.provider, asking())
        else:
            await attempt(it.provider, asking())
            error = await failing(it.provider, asking(timeouts=timeouts))
        assert it.server.count == (1 if timeouts is None else 2)
        return error


def emitted(error: ProviderError) -> bool:
    """Whether a reader saw output before the error, so that nothing may be retried."""
    assert retryable(error) is (error.kind != "permanent" and not error.fields.get("emitted"))
    return bool(error.fields.get("emitted"))


async def shown_by(it: Driven) -> tuple[Any, list[StreamEvent]]:
    """Run one call to its end; return how it ended and what a live reader saw of it."""
    handle = await it.start()
    seen: list[StreamEvent] = []

    async def listen() -> None:
        seen.extend([item.event async for item in handle.live() if isinstance(item, Delta)])

    listening = asyncio.create_task(listen())
    state = await it.end(handle)
    await it.clock.until(listening)
    return state, seen


@case(23)
@every_adapter
@pytest.mark.parametrize("end", [Cut(), Reset()], ids=["cut", "reset"])
def test_a_cut_after_the_preamble_is_asked_again_unseen(adapter: Adapter, end: Any) -> None:
    """Case 23: the reader sees one start: that of the answer it gets."""

    async def scenario() -> None:
        cut = streamed(opening(adapter.dialect), end)
        async with driven(adapter, cut, answering(adapter)) as it:
            state, seen = await shown_by(it)

            assert state == Finished("hello")
            assert [type(event) for event in seen].count(MessageStart) == 1
            assert texts(seen) == "hello"
            assert it.server.count == 2

    run(scenario())


@case(24)
@every_adapter
@pytest.mark.parametrize("end", [Cut(), Reset()], ids=["cut", "reset"])
def test_a_cut_after_the_first_word_is_never_asked_again(adapter: Adapter, end: Any) -> None:
    """Case 24: asked again, the reader would see the beginning twice."""

    async def scenario() -> None:
        cut = streamed(started(adapter.dialect), end)
        async with driven(adapter, cut, answering(adapter)) as it:
            state, seen = await shown_by(it)

            assert isinstance(state, Failed)
            error = (await it.failure()).error
            assert (error.category, error.partial) == ("connection", "hel")
            assert texts(seen) == "hel"
            assert await it.failures() == []
            assert it.server.count == 1

    run(scenario())


@case(25)
@every_adapter
@pytest.mark.parametrize("so_far", [*BEFORE, *AFTER])
def test_a_clean_end_without_the_marker_is_truncated(adapter: Adapter, so_far: str) -> None:
    """Case 25: to HTTP everything is well, and no vendor's client notices."""
    events = (BEFORE | AFTER)[so_far](adapter.dialect)

    async def scenario() -> None:
        error = await fails_with(adapter, streamed(events))

        assert refuses(error) == TRUNCATED
        assert emitted(error) is (so_far in AFTER)

    run(scenario())


@case(25)
@every_adapter
@pytest.mark.parametrize(("so_far", "requests"), [("preamble", 2), ("all words", 1)])
def test_a_truncated_stream_is_asked_again_only_before_output(
    adapter: Adapter, so_far: str, requests: int
) -> None:
    """Case 25: an answer that looks whole is the worst kind of truncated."""
    events = (BEFORE | AFTER)[so_far](adapter.dialect)

    async def scenario() -> None:
        async with driven(adapter, streamed(events), answering(adapter)) as it:
            state = await it.end(await it.start())

            assert it.server.count == requests
            if requests == 2:
                assert state == Finished("hello")
            else:
                assert isinstance(state, Failed)
                error = (await it.failure()).error
                assert (error.category, error.partial) == ("truncated", "hello")

    run(scenario())


@case(26)
@every_adapter
@pytest.mark.parametrize("end", [EndOfBody(), Cut()], ids=["clean", "cut"])
@pytest.mark.parametrize("where", ["first", "middle", "terminal"])
def test_half_an_event_is_no_event(adapter: Adapter, where: str, end: Any) -> None:
    """Case 26: what was said in it was not said, and a half marker ends nothing."""
    dialect = adapter.dialect
    whole = {
        "first": [],
        "middle": started(dialect),
        "terminal": [*spoken(dialect), *dialect.ending(HELLO)[:-1]],
    }[where]
    if dialect is CHAT and where == "terminal":
        whole = spoken(dialect)
    broken = dialect.events(HELLO)[len(whole)]

    async def scenario() -> None:
        error = await fails_with(adapter, streamed([*whole, broken[: len(broken) // 2]], end))

        assert error.kind == "transient"
        assert error.fields["category"] in ("truncated", "malformed", "connection")
        assert emitted(error) is (where != "first")

    run(scenario())


@case(26)
@every_adapter
def test_an_event_that_is_not_json_is_malformed(adapter: Adapter) -> None:
    """Case 26: one client skips it silently; a hole in an answer is no answer."""
    dialect = adapter.dialect

    async def scenario() -> None:
        broken = dialect.output(HELLO)[-1].replace(b'{"', b'{"x', 1)[:-3] + b"\n\n"
        error = await fails_with(adapter, streamed([*opening(dialect), broken]))

        assert refuses(error)[0] == "transient"
        assert error.fields["category"] in ("malformed", "truncated")
        assert not emitted(error)

    run(scenario())


BODIES: dict[str, tuple[Any, str]] = {
    "empty": (b"", "transient"),
    "html": ("<html>log in</html>", "transient"),
    "text": ("upstream connect error", "transient"),
    "error object": ({"error": {"message": "told", "code": "server_error"}}, "transient"),
    "permanent error object": ({"error": {"message": "told", "code": 401}}, "permanent"),
}


@case(27)
@every_adapter
@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
def test_a_200_without_an_answer_is_an_error_streamed_and_whole(
    adapter: Adapter, name: str, content_type: str
) -> None:
    """Case 27: clients made "stop" of all of these, or returned None."""
    body, kind = BODIES[name]

    async def scenario() -> None:
        play = answer(200, body, content_type=content_type)
        async with served(adapter, play) as it:
            one = await failing(it.provider, asking())
            other = await failing_whole(it.provider, asking())

            assert (one.kind, other.kind) == (kind, kind)
            assert not emitted(one)
            assert it.server.count == 2

    run(scenario())


@case(27)
@every_adapter
def test_a_200_that_is_no_answer_is_asked_once_more_at_most(adapter: Adapter) -> None:
    """Case 27: a login page stays a login page."""

    async def scenario() -> None:
        async with driven(adapter, answer(200, "<html>log in</html>")) as it:
            state = await it.end(await it.start())

            assert isinstance(state, Failed)
            assert state.error.category == "malformed"
            assert it.server.count == 2

    run(scenario())


KINDS = {
    "overloaded": "transient",
    "server": "transient",
    "rate_limited": "rate_limited",
    "quota": "permanent",
    "invalid": "permanent",
}


@case(28, 29)
@every_adapter
@pytest.mark.parametrize("trouble", KINDS)
@pytest.mark.parametrize("so_far", [*BEFORE, "one word"])
def test_an_error_event_is_classified_wherever_it_comes(
    adapter: Adapter, so_far: str, trouble: Any
) -> None:
    """Cases 28, 29: its status says 200, so only its own words count; after output it is final."""
    dialect = adapter.dialect
    events = [*(BEFORE | AFTER)[so_far](dialect), dialect.error_event(trouble)]

    async def scenario() -> None:
        error = await fails_with(adapter, streamed(events))

        assert error.kind == KINDS[trouble]
        assert error.fields["in_stream"]
        assert emitted(error) is (so_far == "one word")

    run(scenario())


@case(28)
@every_adapter
def test_more_output_after_an_error_event_changes_nothing(adapter: Adapter) -> None:
    """Case 28: some servers go on as if nothing had happened."""
    dialect = adapter.dialect
    rest = [*dialect.output(HELLO)[-2:], *dialect.ending(HELLO)]

    async def scenario() -> None:
        events = [*started(dialect), dialect.error_event("server"), *rest]
        error = await fails_with(adapter, streamed(events))

        assert error.kind == "transient"
        assert emitted(error)

    run(scenario())


@case(28)
@on(CHAT_ADAPTER)
def test_an_error_after_the_finish_reason_spoils_no_answer_but_is_no_usage(
    adapter: Adapter,
) -> None:
    """Case 28: between the finish reason and the end, the answer is not yet acknowledged."""
    events = [*spoken(CHAT), event(delta(finish_reason="stop")), CHAT.error_event("server")]

    async def scenario() -> None:
        error = await fails_with(adapter, streamed([*events, DONE]))

        assert refuses(error) == ("transient", "server")
        assert emitted(error)

    run(scenario())


@case(28)
@on(RESPONSES_ADAPTER)
@pytest.mark.parametrize("shape", ["flat", "failed"])
@pytest.mark.parametrize("trouble", ["server", "rate_limited", "quota"])
def test_responses_tell_errors_in_two_more_shapes(
    adapter: Adapter, trouble: Any, shape: str
) -> None:
    """Case 28: as the documentation has it, which the vendor's client hands on and ends clean."""
    told = {
        "flat": RESPONSES.flat_error_event(trouble),
        "failed": RESPONSES.failed_event(HELLO, trouble),
    }

    async def scenario() -> None:
        error = await fails_with(adapter, streamed([*opening(RESPONSES), told[shape]]))

        assert error.kind == KINDS[trouble]

    run(scenario())


@case(29)
@every_adapter
@pytest.mark.parametrize(("so_far", "requests"), [("preamble", 2), ("one word", 1)])
def test_an_overloaded_stream_is_asked_again_only_before_output(
    adapter: Adapter, so_far: str, requests: int
) -> None:
    """Case 29: through the runtime, counted at the server."""
    dialect = adapter.dialect
    events = [*(BEFORE | AFTER)[so_far](dialect), dialect.error_event("overloaded")]

    async def scenario() -> None:
        async with driven(adapter, streamed(events), answering(adapter)) as it:
            state = await it.end(await it.start())

            assert it.server.count == requests
            assert isinstance(state, Finished if requests == 2 else Failed)

    run(scenario())


@case(29)
@on(ANTHROPIC_ADAPTER)
def test_an_overloaded_error_in_a_stream_has_its_own_category(adapter: Adapter) -> None:
    """Case 29: a fallback to another provider hangs on it."""

    async def scenario() -> None:
        events = [*opening(adapter.dialect), adapter.dialect.error_event("overloaded")]
        error = await fails_with(adapter, streamed(events))

        assert refuses(error) == ("transient", "overloaded")

    run(scenario())


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


@case(32)
@on(CHAT_ADAPTER)
def test_a_finish_reason_without_done_is_a_whole_answer(adapter: Adapter) -> None:
    """Case 32: some servers never send [DONE]."""

    async def scenario() -> None:
        async with served(adapter, streamed(CHAT.events(HELLO)[:-1])) as it:
            got, _ = await attempt(it.provider, asking())

            assert (got.text, got.finish_reason, got.state) == ("hello", "stop", "complete")

    run(scenario())


@case(32)
@on(CHAT_ADAPTER)
@pytest.mark.parametrize(("terminal", "whole"), [("done", True), ("finish_reason", False)])
def test_done_without_a_finish_reason_is_whole_only_where_declared(
    adapter: Adapter, terminal: Any, whole: bool
) -> None:
    """Case 32: a server known to send null may; from any other it is a truncation."""
    play = streamed([*spoken(CHAT), DONE])

    async def scenario() -> None:
        options = {"capabilities": Capabilities(terminal=terminal)}
        async with served(adapter, play, **options) as it:
            if whole:
                got, _ = await attempt(it.provider, asking())
                assert (got.text, got.state) == ("hello", "complete")
            else:
                assert refuses(await failing(it.provider, asking())) == TRUNCATED

    run(scenario())


@case(32)
@on(*(adapter for adapter in ADAPTERS if adapter is not CHAT_ADAPTER))
def test_done_is_no_terminal_marker_of_the_others(adapter: Adapter) -> None:
    """Case 32: a router that appends [DONE] has not thereby ended the answer."""

    async def scenario() -> None:
        error = await fails_with(adapter, streamed([*spoken(adapter.dialect), DONE]))

        assert error.kind == "transient"
        assert error.fields["category"] in ("truncated", "malformed")
        assert emitted(error)

    run(scenario())


@case(33)
@every_adapter
def test_a_server_that_resets_in_mid_stream_is_a_lost_connection(adapter: Adapter) -> None:
    """Case 33, made up: what a killed server's kernel sends; the real kill is among the live."""

    async def scenario() -> None:
        error = await fails_with(adapter, streamed(started(adapter.dialect), Reset()))

        assert refuses(error) == ("transient", "connection")
        assert emitted(error)

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
