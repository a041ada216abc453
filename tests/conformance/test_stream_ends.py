"""The end of a stream: an answer is whole by its terminal marker, and by nothing else."""

from typing import Any

import pytest

from gatebook.kernel.messages import Capabilities
from gatebook.runtime.runs.states import Failed, Finished
from gatebook.testing.dialects import CHAT
from gatebook.testing.dialects.chat import DONE
from gatebook.testing.fault_server import streamed
from tests.conformance.adapters import ADAPTERS, CHAT_ADAPTER, Adapter, every_adapter, on
from tests.conformance.cases import case
from tests.conformance.cuts import AFTER, BEFORE, TRUNCATED, emitted, fails_with, spoken
from tests.conformance.kit import HELLO, answering, driven, refuses, run, served
from tests.providers.calls import asking, attempt, failing


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
