"""Redaction of an answer while it is written: a secret may come in several pieces.

Holds back the end of what came while it may be the beginning of a secret, and not a character
more. Pure; what passes adds up to what the redacted whole answer says, block by block.
"""

import msgspec

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
from gatebook.kernel.redact import Redactor

LONG = 4_096  # characters held; from there on it is looked at again when it has grown by a part
PART = 8


class Held:
    """One text that comes in pieces."""

    __slots__ = ("_redactor", "_start", "_tail", "_unseen")

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._tail = ""  # one character that has passed, then what is held back
        self._start = 0
        self._unseen = 0

    def add(self, piece: str) -> str:
        """Take in more text and return what may pass."""
        if self._start == len(self._tail) and self._redactor.glance(piece) is None:
            self._tail, self._start = piece[-1:], len(piece[-1:])
            return piece
        tail = self._tail + piece
        self._unseen += len(piece)
        if len(tail) > LONG and self._unseen * PART < len(tail):
            self._tail = tail
            return ""
        self._unseen = 0
        passed, end = self._redactor.settled(tail, self._start)
        if end:
            self._tail, self._start = tail[end - 1 :], 1
        else:
            self._tail = tail
        return passed

    def end(self) -> str:
        """Return what was held back, redacted: nothing more comes."""
        passed = self._redactor.rest(self._tail, self._start)
        self._tail, self._start = "", 0
        return passed


class Holdback:
    """Redacts the events of one attempt, in order."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._kind: type[TextDelta] | type[RefusalDelta] | type[ThinkingDelta] | None = None
        self._index = 0
        self._block = Held(redactor)
        self._calls: dict[int, Held] = {}

    def feed(self, event: StreamEvent) -> tuple[StreamEvent, ...]:
        """Take one event and return what readers may see now."""
        if event.__class__ is TextDelta and self._kind is TextDelta and self._index == event.index:
            passed = self._block.add(event.text)
            if passed == event.text:
                return (event,)
            return (TextDelta(self._index, passed),) if passed else ()
        match event:
            case TextDelta() | RefusalDelta() | ThinkingDelta():
                return self._of_block(event)
            case ToolCallStart():
                return (*self._end_block(), self._clean(event))
            case ToolCallDelta():
                return self._of_call(event)
            case ToolCallEnd():
                return (*self._end_call(event.index), self._clean(event))
            case MessageEnd():
                return (*self.end(), self._clean(event))
            case MessageStart():
                return (self._clean(event),)
            case _:
                return (event,)

    def end(self) -> tuple[StreamEvent, ...]:
        """Return what is still held back: the attempt is over."""
        calls = [event for index in list(self._calls) for event in self._end_call(index)]
        return (*self._end_block(), *calls)

    def _of_block(self, event: TextDelta | RefusalDelta | ThinkingDelta) -> tuple[StreamEvent, ...]:
        ended: tuple[StreamEvent, ...] = ()
        if (type(event), event.index) != (self._kind, self._index):
            ended = self._end_block()
            self._kind, self._index = type(event), event.index
        passed = self._block.add(event.text)
        shown = self._clean(msgspec.structs.replace(event, text=""))
        if passed or shown != type(event)(event.index, text=""):
            return (*ended, msgspec.structs.replace(shown, text=passed))
        return ended

    def _end_block(self) -> tuple[StreamEvent, ...]:
        kind, self._kind = self._kind, None
        passed = self._block.end()
        return (kind(self._index, text=passed),) if kind is not None and passed else ()

    def _of_call(self, event: ToolCallDelta) -> tuple[StreamEvent, ...]:
        held = self._calls.get(event.index)
        if held is None:
            held = self._calls[event.index] = Held(self._redactor)
        passed = held.add(event.arguments)
        return (ToolCallDelta(event.index, passed),) if passed else ()

    def _end_call(self, index: int) -> tuple[StreamEvent, ...]:
        held = self._calls.pop(index, None)
        passed = held.end() if held is not None else ""
        return (ToolCallDelta(index, passed),) if passed else ()

    def _clean(self, event: StreamEvent) -> StreamEvent:
        """Redact the texts of an event that come whole."""
        changed = {}
        for name in event.__struct_fields__:
            value = getattr(event, name)
            if type(value) is str and value and (clean := self._redactor.text(value)) != value:
                changed[name] = clean
        return msgspec.structs.replace(event, **changed) if changed else event
