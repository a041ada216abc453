"""Pieces: an answer's events coalesced, and taken apart wherever a reader left."""

import pytest

from gatebook.errors import JournalCorrupt
from gatebook.kernel.messages import (
    MessageEnd,
    MessageStart,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)
from gatebook.kernel.streams.pieces import coalesce, split

EVENTS: list[StreamEvent] = [
    MessageStart("m", "id"), ThinkingDelta(0, "hm"), ThinkingDelta(0, "…"),
    ThinkingDelta(0, "", "signed"), TextDelta(0, "naïve"), TextDelta(0, " 🙂"), TextDelta(0, "!"),
    TextDelta(1, "b"), RefusalDelta(1, "no"), ToolCallStart(0, "1", "t"), ToolCallDelta(0, "{"),
    ToolCallDelta(0, "}"), ToolCallEnd(0, "1", "t", "{}"), MessageEnd("tool_calls", None, None),
]  # fmt: skip


def said(events: list[StreamEvent]) -> list[tuple[str, object, str]]:
    """What events say, however they are cut: neighbours of one block put together."""
    found: list[tuple[str, object, str]] = []
    for event in events:
        text = getattr(event, "text", getattr(event, "arguments", ""))
        key = (type(event).__name__, getattr(event, "index", None))
        if found and found[-1][:2] == key:
            text = found.pop()[2] + text
        found.append((*key, text))
    return found


@pytest.mark.parametrize("left", range(len(EVENTS) + 1))
def test_a_reader_that_left_after_any_event_goes_on_there(left: int) -> None:
    """Nothing is lost and nothing said twice, though the pieces do not end where it left."""
    rest = list(split(coalesce(EVENTS), after=left))

    assert said([event for _, event in rest]) == said(EVENTS[left:])
    assert sum(count for count, _ in rest) == len(EVENTS) - left


def test_text_of_one_block_becomes_one() -> None:
    """Twenty thousand small chunks are a few pieces."""
    body = coalesce([TextDelta(0, "ab ")] * 1_000)

    assert list(split(body)) == [(1_000, TextDelta(0, "ab " * 1_000))]
    assert len(body) < 5_200


def test_a_piece_that_does_not_read_says_so() -> None:
    """A damaged store is not taken for an empty answer."""
    with pytest.raises(JournalCorrupt) as caught:
        list(split(b'[["x"]]'))

    assert caught.value.code == "E_PIECE_INVALID"
