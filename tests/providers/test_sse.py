"""Server-sent events out of network reads, however the network cuts them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatebook.providers.sse import Event, EventReader, EventTooLarge

STREAM = (
    b": ping\n\n"
    b"data: {}\n\n"
    b"event: error\ndata: a\ndata: b\n\n"
    b"data:tight\r\n\r\n"
    b"id: 7\nretry: 10\n\n"
    b"data: last\r\r"
    b"\n"
    b"data: [DONE]\n\n"
)
EVENTS = [
    ("", b"{}"),
    ("error", b"a\nb"),
    ("", b"tight"),
    ("", b"last"),
    ("", b"[DONE]"),
]


def read(*parts: bytes) -> list[Event]:
    reader = EventReader()
    found = [event for part in parts for event in reader.feed(part)]
    rest = reader.rest()
    return found if rest is None else [*found, rest]


def test_events_are_read_with_every_line_end() -> None:
    """The standard allows LF, CRLF and CR, and gateways use all of them."""
    assert read(STREAM) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_where_the_network_cuts_makes_no_difference(cuts: list[int]) -> None:
    """A read may end anywhere, in the middle of a line end as well."""
    edges = [0, *sorted(cuts), len(STREAM)]

    parts = [STREAM[a:b] for a, b in pairwise(edges)]

    assert read(*parts) == EVENTS


def test_a_byte_order_mark_is_dropped() -> None:
    """The standard allows one at the beginning, and the network may cut it."""
    for cut in range(4):
        parts = b"\xef\xbb\xbfdata: a\n\n"[:cut], b"\xef\xbb\xbfdata: a\n\n"[cut:]
        assert read(*parts) == [("", b"a")]


@pytest.mark.parametrize("empty", [b"data:\n\n", b"data: \n\n", b"event: ping\ndata:\n\n"])
def test_an_event_without_data_is_dropped(empty: bytes) -> None:
    """Servers keep connections open with them; read as JSON, one would end a good answer."""
    assert read(empty, b"data: a\n\n" + empty) == [("", b"a")]


def test_an_error_without_data_is_still_an_error() -> None:
    """Its name says enough."""
    assert read(b"event: error\ndata:\n\n") == [("error", b"")]


def test_an_event_without_its_empty_line_is_left_over() -> None:
    """Whether it is whole can only be told from its data."""
    reader = EventReader()

    assert reader.feed(b"data: half") == []
    assert reader.rest() == ("", b"half")


def test_an_event_that_never_ends_is_refused() -> None:
    """A server must not fill our memory with one line."""
    reader = EventReader(max_event=10)

    with pytest.raises(EventTooLarge):
        reader.feed(b"data: 0123456789")
