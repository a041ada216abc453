"""Cassettes replay what was recorded: streams, whole answers and failures, each in its turn."""

import asyncio
from pathlib import Path

import pytest
from tests.providers.calls import CALL, asking
from tests.testing.tapes import (
    answered,
    echo,
    failed,
    record,
    record_served,
    refusing,
    shown,
    stored,
)

from gatebook.errors import ProviderError
from gatebook.kernel.messages import ChatRequest, TextDelta, Timeouts
from gatebook.providers import Scripted
from gatebook.testing.cassette import Cassette
from gatebook.testing.fault_server import Cut, delta, event, streamed


def test_a_replayed_stream_comes_as_it_was_recorded(path: Path) -> None:
    """A program under test must not be able to tell the difference, delta by delta."""
    live = shown(echo(), asking("two words"))
    record(path, asking("two words"))

    replayed = shown(Cassette(path), asking("two words"))

    assert replayed == live
    assert len([each for each in live if isinstance(each, TextDelta)]) > 1


def test_a_whole_answer_is_replayed(path: Path) -> None:
    """The port has two ways to ask; a cassette plays both."""
    live = asyncio.run(
        Cassette(path, provider=echo(), mode="record").complete(asking(), CALL),
    )

    replayed = asyncio.run(Cassette(path).complete(asking(), CALL))

    assert replayed == live


def test_a_recorded_failure_is_raised_again(path: Path) -> None:
    """Retry rules are tested with what a provider really answered, hint and all."""
    error = ProviderError(
        "slow down", kind="rate_limited", category="rate_limited", retry_after_ms=1500,
        status=429, phase="response", request_id="req_1",
    )  # fmt: skip
    facts = error.message, error.kind, dict(error.fields)
    record(path, asking(), provider=refusing(error))

    replayed = failed(Cassette(path), asking())

    assert (replayed.message, replayed.kind, replayed.fields) == facts


def test_a_whole_call_that_failed_is_raised_again(path: Path) -> None:
    """A failure has no answer to hang on."""
    error = ProviderError("no", kind="permanent", category="auth", status=401)
    with pytest.raises(ProviderError):
        asyncio.run(
            Cassette(path, provider=refusing(error), mode="record").complete(asking(), CALL)
        )

    with pytest.raises(ProviderError) as caught:
        asyncio.run(Cassette(path).complete(asking(), CALL))

    assert (caught.value.category, caught.value.fields["status"]) == ("auth", 401)


def test_a_stream_that_broke_is_replayed_up_to_the_break(path: Path) -> None:
    """What a reader saw before a connection died is half of what there is to test."""
    record_served(path, streamed([event(delta(content="half an an"))], Cut()))

    replayed = failed(Cassette(path), asking())

    assert replayed.fields["emitted"]
    assert any("half an an" in str(each) for each in stored(path)[0]["events"])


def test_equal_requests_are_answered_in_turn(path: Path) -> None:
    """A retry asks the same again and hopes for another answer."""
    busy = ProviderError("busy", kind="transient", category="overloaded")
    refusals = [busy]

    def next_reply(_: ChatRequest) -> str:
        if refusals:
            raise refusals.pop()
        return "now"

    record(path, asking(), asking(), provider=Scripted(next_reply))
    deck = Cassette(path)

    first, second = failed(deck, asking()), answered(deck, asking())

    assert (first.category, second.text) == ("overloaded", "now")


def test_the_timeouts_of_a_request_do_not_matter(path: Path) -> None:
    """They follow from what is left of a budget of time, which no two runs have alike."""
    record(path, asking(timeouts=Timeouts(total_ms=5_000)))

    replayed = answered(Cassette(path), asking(timeouts=Timeouts(total_ms=4_000)))

    assert replayed.text == "you said hi"


def test_no_provider_is_made_to_replay(path: Path) -> None:
    """A build server has neither keys nor the vendors' packages."""
    record(path, asking())

    def make() -> Scripted:
        raise AssertionError("a provider was made")

    assert answered(Cassette(path, provider=make), asking()).text == "you said hi"
