"""How loudly a cassette and a program that do not fit fail, and what is said of it."""

import asyncio
from pathlib import Path

import pytest
from tests.providers.calls import CALL, asking
from tests.testing.tapes import answered, failed, record

from gatebook.errors import ActionError, ProviderError
from gatebook.testing.cassette import Cassette, CassetteMiss, CassetteUnused, cassette


def test_a_miss_says_what_differs_from_the_nearest_recording(path: Path) -> None:
    """Nobody can see one changed word in two requests of a hundred lines."""
    record(path, asking("Where is order 16?"), asking("Refund order 17, please."))

    text = failed(Cassette(path), asking("Refund order 18, please.")).message

    assert "the nearest (number 2 of 2)" in text
    assert (
        "messages[0].content[0].text: "
        "'Refund order 17, please.' -> 'Refund order 18, please.'" in text
    )


def test_a_miss_is_permanent_and_free(path: Path) -> None:
    """Asking again cannot help, and nothing was sent that could be billed."""
    error = failed(Cassette(path), asking())

    assert (error.kind, error.sent) == ("permanent", False)


def test_a_miss_says_that_the_recordings_are_used_up(path: Path) -> None:
    """A program that asks twice where it asked once has changed."""
    record(path, asking())
    deck = Cassette(path)
    answered(deck, asking())

    assert "holds this request 1 time(s), all used" in failed(deck, asking()).message


def test_a_miss_says_that_the_answer_was_recorded_in_another_way(path: Path) -> None:
    """The request alone would look the same."""
    record(path, asking())

    with pytest.raises(ProviderError) as caught:
        asyncio.run(Cassette(path).complete(asking(), CALL))

    assert "holds this request streamed only" in caught.value.message


def test_a_miss_names_a_file_that_is_not_there(path: Path) -> None:
    """A mistyped path looks like an empty cassette."""
    assert failed(Cassette(path), asking()).message.startswith(f"{path} holds no recording;")


def test_a_swallowed_miss_still_fails_the_test(path: Path) -> None:
    """Agents and workflows may go on without an answer, and the test would pass for nothing."""
    record(path, asking("a"))

    with (
        pytest.raises(CassetteMiss, match=r"text: 'a' -> 'b'"),
        cassette(path, all_used=False) as deck,
    ):
        failed(deck, asking("b"))


def test_a_miss_is_the_reason_when_the_body_fails_of_it(path: Path) -> None:
    """What follows from a miss hides what differed."""
    with pytest.raises(CassetteMiss) as caught, cassette(path) as deck:
        answered(deck, asking())

    assert isinstance(caught.value.__cause__, ActionError)


def test_a_failure_without_a_miss_stays_itself(path: Path) -> None:
    """An assertion of the test is what its author wants to read."""
    record(path, asking())

    with pytest.raises(ZeroDivisionError), cassette(path):
        raise ZeroDivisionError


def test_unused_recordings_fail_the_test(path: Path) -> None:
    """A recording nobody plays is a behaviour nobody tests any more."""
    record(path, asking("a"), asking("b"))

    with pytest.raises(CassetteUnused, match="openai:m 'b'"), cassette(path) as deck:
        answered(deck, asking("a"))


def test_unused_recordings_can_be_allowed(path: Path) -> None:
    """Several tests may share one file."""
    record(path, asking("a"), asking("b"))

    with cassette(path, all_used=False) as deck:
        answered(deck, asking("a"))

    assert [request["messages"][0]["content"][0]["text"] for request in deck.unused] == ["b"]
