"""Actions as values: routes, durations, digests, and when two are the same."""

from datetime import timedelta
from typing import Any

import pytest

from gatebook.errors import InvalidInput
from gatebook.kernel.actions import (
    CallLLM,
    CallTool,
    Prompt,
    Sleep,
    WaitSignal,
    action_digest,
    describe,
    same_action,
    sleep_ms,
    split_route,
)
from gatebook.kernel.codec import Raw

CALL = CallTool("t", Raw(b'{"n":1}'))


@pytest.mark.parametrize(
    "other",
    [
        CallTool("u", Raw(b'{"n":1}')), CallTool("t", Raw(b'{"n":2}')),
        CallTool("t", Raw(b'{"n":1}'), "c1"), CallTool("t", Raw(b'{"n":1}'), None, 5),
        CallTool("t", Raw(b'{"n":1}'), None, None, 0), Sleep(1), WaitSignal("t"),
    ],
)  # fmt: skip
def test_every_part_of_an_action_counts(other: Any) -> None:
    """An approval or a replay is for exactly these bytes."""
    assert action_digest(other) != action_digest(CALL)
    assert not same_action(other, CALL)


def test_equal_actions_are_the_same() -> None:
    """Whatever objects their bytes came from."""
    again = CallTool("t", Raw(bytearray(b'{"n":1}')))

    assert same_action(again, CALL)
    assert action_digest(again) == action_digest(CALL)


def test_arguments_are_a_fresh_copy() -> None:
    """A policy that changes what it was shown changes nothing."""
    CALL.arguments["n"] = 9

    assert CALL.arguments == {"n": 1}


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (CALL, "t"), (CallLLM("openai", "gpt", Prompt("d")), "openai:gpt"),
        (Sleep(1_500), "sleep 1.5 s"), (WaitSignal("go"), "signal go"),
    ],
)  # fmt: skip
def test_an_action_has_a_few_words_for_people(action: Any, words: str) -> None:
    """In lists, logs and refusals."""
    assert describe(action) == words


def test_a_route_is_split_at_its_first_colon() -> None:
    """Model names may hold colons."""
    assert split_route("local:a:b") == ("local", "a:b")


@pytest.mark.parametrize("route", ["gpt", ":gpt", "openai:", "", None, 7])
def test_a_route_without_two_parts_is_refused(route: Any) -> None:
    """A bare model name would be somebody's default provider."""
    with pytest.raises(InvalidInput) as caught:
        split_route(route)

    assert caught.value.code == "E_ROUTE"


@pytest.mark.parametrize(
    ("value", "ms"),
    [(0, 0), (1, 1_000), (0.0015, 2), (timedelta(hours=1), 3_600_000), (timedelta(0), 0)],
)
def test_a_duration_is_whole_milliseconds(value: Any, ms: int) -> None:
    """From seconds or a timedelta."""
    assert sleep_ms(value) == ms


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (-1, "E_SLEEP_NEGATIVE"), (timedelta(seconds=-1), "E_SLEEP_NEGATIVE"),
        (10**12, "E_SLEEP_TOO_LONG"), (float("inf"), "E_SLEEP_TOO_LONG"),
        (float("nan"), "E_SLEEP_TYPE"), (True, "E_SLEEP_TYPE"), ("1h", "E_SLEEP_TYPE"),
        (None, "E_SLEEP_TYPE"),
    ],
)  # fmt: skip
def test_a_duration_that_makes_no_sense_is_refused(value: Any, code: str) -> None:
    """Ten years is the most; beyond it a unit was probably mistaken."""
    with pytest.raises(InvalidInput) as caught:
        sleep_ms(value)

    assert caught.value.code == code
