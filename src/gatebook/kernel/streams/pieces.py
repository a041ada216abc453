"""Pieces of an answer that is being written: its events coalesced, without losing their count.

Pure. A reader may leave after any event and come back to pieces that were put together otherwise,
so each text keeps the lengths it came in.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from gatebook.errors import JournalCorrupt
from gatebook.kernel.messages import (
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
)

GROWS: dict[type, str] = {
    TextDelta: "text",
    RefusalDelta: "text",
    ThinkingDelta: "text",
    ToolCallDelta: "arguments",
}


class Strand(msgspec.Struct, frozen=True, array_like=True):
    """Events of one block as one: the event with their whole text, and how long each was."""

    event: StreamEvent
    lengths: tuple[int, ...] = (0,)

    def after(self, count: int) -> StreamEvent:
        """Return the event without the text of the first `count`."""
        if not count:
            return self.event
        name = GROWS[type(self.event)]
        text: str = getattr(self.event, name)[sum(self.lengths[:count]) :]
        return msgspec.structs.replace(self.event, **{name: text})


_encode = msgspec.json.Encoder().encode
_strands = msgspec.json.Decoder(list[Strand])


def coalesce(events: Iterable[StreamEvent]) -> bytes:
    """Return events, in order, as JSON: neighbours of one block become one."""
    strands: list[Strand] = []
    held: list[StreamEvent] = []
    for event in events:
        if held and not _goes_on(held[-1], event):
            strands.append(_strand(held))
            held = []
        held.append(event)
    if held:
        strands.append(_strand(held))
    return _encode(strands)


def _goes_on(last: StreamEvent, event: StreamEvent) -> bool:
    """Whether an event only adds text to the block of the one before."""
    if type(event) is not type(last) or type(event) not in GROWS:
        return False
    return _only_text(last) and _only_text(event) and last.index == event.index  # type: ignore[union-attr]


def _only_text(event: StreamEvent) -> bool:
    if not isinstance(event, ThinkingDelta):
        return True
    return event.signature is None and event.provider_data is None


def _strand(events: Sequence[StreamEvent]) -> Strand:
    name = GROWS.get(type(events[0]))
    if name is None:
        return Strand(events[0])
    texts = [getattr(event, name) for event in events]
    whole = msgspec.structs.replace(events[0], **{name: "".join(texts)})
    return Strand(whole, tuple(map(len, texts)))


def split(body: bytes, *, after: int = 0) -> Iterator[tuple[int, StreamEvent]]:
    """Yield what a piece holds after its first `after` events, as (how many events, event).

    Raises:
        JournalCorrupt: E_PIECE_INVALID.
    """
    try:
        strands = _strands.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise JournalCorrupt("E_PIECE_INVALID", detail=str(exc)) from exc
    for strand in strands:
        count = len(strand.lengths)
        if after < count:
            yield count - after, strand.after(after)
        after = max(0, after - count)
