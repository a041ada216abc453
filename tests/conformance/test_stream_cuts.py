"""Streams that are cut or broken off: asked again before output, failed after, never whole."""

import asyncio
from typing import Any

import pytest

from gatebook.kernel.messages import MessageStart, StreamEvent
from gatebook.runtime.runs.states import Failed, Finished
from gatebook.runtime.subscriptions import Delta
from gatebook.testing.dialects import CHAT
from gatebook.testing.fault_server import Cut, EndOfBody, Reset, streamed
from tests.conformance.adapters import Adapter, every_adapter
from tests.conformance.cases import case
from tests.conformance.cuts import emitted, fails_with, opening, spoken, started
from tests.conformance.kit import HELLO, Driven, answering, driven, refuses, run
from tests.providers.calls import texts


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


@case(33)
@every_adapter
def test_a_server_that_resets_in_mid_stream_is_a_lost_connection(adapter: Adapter) -> None:
    """Case 33, made up: what a killed server's kernel sends; the real kill is among the live."""

    async def scenario() -> None:
        error = await fails_with(adapter, streamed(started(adapter.dialect), Reset()))

        assert refuses(error) == ("transient", "connection")
        assert emitted(error)

    run(scenario())
