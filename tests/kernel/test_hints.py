"""How long a provider asks us to wait: every form, and every hint that is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatebook.kernel.hints import MAX_HINT_MS, body_hint, duration_ms, header_hint, retry_after

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", 1_000),
        (" 2 ", 2_000),
        ("1.5", 1_500),
        ("0.0001", 1),
        ("45.83", 45_830),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10_000),
        ("Sun, 06 Nov 1994 08:49:60 GMT", 23_000),
        ("Sun Nov  6 08:49:38 1994", 1_000),
        ("999999999999999", MAX_HINT_MS),
    ],
)
def test_a_wait_is_read_in_every_form_it_has(value: str, expected: int) -> None:
    """RFC 9110 allows seconds and three forms of date; servers send decimals as well."""
    assert retry_after(value, NOW) == expected


def test_the_obsolete_date_form_is_read() -> None:
    """RFC 9110 still obliges clients to read RFC 850 dates."""
    assert retry_after("Tuesday, 09-Jun-26 10:13:21 GMT", 1_781_000_000.0) == 1_000


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "0",
        "0.0",
        "-1",
        "nan",
        "inf",
        "1e9",
        "1_000",
        "0x10",
        "soon",
        "٣",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1993 08:49:37 GMT",
        "Sun, 99 Nov 1994 08:49:37 GMT",
        "Sun, 06 Foo 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 CET",
    ],
)
def test_what_cannot_be_waited_for_is_no_hint(value: str | None) -> None:
    """A hint of zero hammers the server, and one that is not a number crashed clients."""
    assert retry_after(value, NOW) is None


def test_milliseconds_win_over_seconds_unless_they_are_zero() -> None:
    """A recorded answer says 0 ms and 1 s; the second is meant."""
    assert header_hint({"retry-after-ms": "250", "retry-after": "9"}, NOW) == 250
    assert header_hint({"retry-after-ms": "0", "retry-after": "1"}, NOW) == 1_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("6m0s", 360_000),
        ("76ms", 76),
        ("1s", 1_000),
        ("45.8s", 45_800),
        ("1h2m3.5s", 3_723_500),
        ("1d", 86_400_000),
        ("48.939935699s", 48_940),
        ("0s", None),
        ("", None),
        ("6", None),
        ("-1s", None),
        ("9" * 400 + "s", MAX_HINT_MS),
    ],
)
def test_durations_are_read(text: str, expected: int | None) -> None:
    """OpenAI writes resets and Gemini delays in this form."""
    assert duration_ms(text) == expected


def test_only_an_exhausted_bucket_is_waited_for() -> None:
    """The other buckets' resets are always there and mean nothing."""
    headers = {
        "x-ratelimit-remaining-requests": "12",
        "x-ratelimit-reset-requests": "9m",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "6m0s",
    }

    assert header_hint(headers, NOW) == 360_000


def test_of_two_exhausted_buckets_the_later_counts() -> None:
    """Waiting for the first only meets the second."""
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "2s",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "90ms",
    }

    assert header_hint(headers, NOW) == 2_000


def test_anthropic_resets_are_dates_of_exhausted_buckets() -> None:
    """Anthropic names its buckets itself and says when, not how long."""
    headers = {
        "anthropic-ratelimit-requests-remaining": "5",
        "anthropic-ratelimit-requests-reset": "1994-11-06T09:49:37Z",
        "anthropic-ratelimit-input-tokens-remaining": "0",
        "anthropic-ratelimit-input-tokens-reset": "1994-11-06T08:49:40Z",
        "anthropic-ratelimit-output-tokens-remaining": "0",
        "anthropic-ratelimit-output-tokens-reset": "not a date",
    }

    assert header_hint(headers, NOW) == 3_000


def test_a_date_without_a_zone_is_no_hint() -> None:
    """Read as local time it would differ from machine to machine."""
    headers = {
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": "1994-11-06T08:49:40",
    }

    assert header_hint(headers, NOW) is None


def test_a_retry_info_is_found_among_other_details() -> None:
    """Gemini sends help links and quota facts in the same list."""
    assert body_hint(({"links": []}, "text", {"retryDelay": "45.8s"})) == 45_800
    assert body_hint(({"links": []},)) is None


@given(st.text(max_size=40), st.floats(0, 4e9))
def test_no_header_value_crashes_or_asks_for_less_than_a_millisecond(
    value: str, now: float
) -> None:
    """Headers come from outside."""
    hint = retry_after(value, now)

    assert hint is None or 1 <= hint <= MAX_HINT_MS
