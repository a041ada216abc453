"""Errors under a status of 200: instead of an answer, or as an event within one."""

from typing import Any

import pytest

from gatebook.runtime.runs.states import Failed, Finished
from gatebook.testing.dialects import CHAT, RESPONSES
from gatebook.testing.dialects.chat import DONE, delta
from gatebook.testing.dialects.story import event
from gatebook.testing.fault_server import answer, streamed
from tests.conformance.adapters import (
    ANTHROPIC_ADAPTER,
    CHAT_ADAPTER,
    RESPONSES_ADAPTER,
    Adapter,
    every_adapter,
    on,
)
from tests.conformance.cases import case
from tests.conformance.cuts import AFTER, BEFORE, emitted, fails_with, opening, spoken, started
from tests.conformance.kit import HELLO, answering, driven, refuses, run, served
from tests.providers.calls import asking, failing, failing_whole

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


@case(27)
@every_adapter
def test_a_whole_answer_to_a_stream_is_asked_for_once_more_at_most(adapter: Adapter) -> None:
    """Case 27: a server that does not stream will not do so the fourth time, and each is paid."""

    async def scenario() -> None:
        async with driven(adapter, answer(200, adapter.dialect.whole(HELLO))) as it:
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
