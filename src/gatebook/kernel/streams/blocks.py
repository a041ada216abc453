"""The blocks of a streamed answer while they are put together, and what they add up to.

Knows nothing of attempts, retries or readers.
"""

from collections.abc import Set

import msgspec

from gatebook.kernel.messages import (
    FinishReason,
    InvalidCallReason,
    InvalidToolCall,
    Part,
    RefusalDelta,
    RefusalPart,
    StreamEvent,
    TextDelta,
    TextPart,
    ThinkingDelta,
    ThinkingPart,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallPart,
    ToolCallStart,
)

RUNNABLE = ("stop", "tool_calls")  # any other end may have cut a call off in mid-argument

PART_OF: dict[type[StreamEvent], type[TextPart] | type[RefusalPart]] = {
    TextDelta: TextPart,
    RefusalDelta: RefusalPart,
}


def arguments_fault(arguments: str) -> InvalidCallReason | None:
    """Return why these tool arguments must not run, or None when they are one JSON object."""
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return "not_json"
    return None if isinstance(value, dict) else "not_object"


class Block:
    """One content block while it is being put together."""

    __slots__ = ("id", "index", "kind", "name", "pieces", "provider_data", "signature")

    def __init__(self, kind: type[StreamEvent], index: int) -> None:
        self.kind = kind
        self.index = index
        self.pieces: list[str] = []
        self.id = self.name = ""
        self.signature: str | None = None
        self.provider_data: str | None = None


class Assembled:
    """What the blocks add up to: parts, ends of runnable calls, and calls that must not run."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.ends: list[StreamEvent] = []
        self.invalid: list[InvalidToolCall] = []

    def add_call(self, block: Block, arguments: str, reason: FinishReason) -> None:
        fault: InvalidCallReason | None = "cut_off"
        if reason in RUNNABLE:
            fault = arguments_fault(arguments) if block.name else "no_name"
        if fault is None:
            self.parts.append(ToolCallPart(block.id, block.name, arguments, block.provider_data))
            self.ends.append(ToolCallEnd(block.index, block.id, block.name, arguments))
        else:
            self.invalid.append(InvalidToolCall(fault, block.id, block.name, arguments))


class Blocks:
    """The content blocks of one attempt, in the order they began.

    Attributes:
        last: the block that came last, unless what came since is no part of it.
    """

    __slots__ = ("_calls", "_started", "last")

    def __init__(self) -> None:
        self._started: list[Block] = []
        self._calls: dict[int, Block] = {}
        self.last: Block | None = None

    @property
    def kinds(self) -> Set[type[StreamEvent]]:
        """What kinds of blocks there are, by the event that begins one."""
        return {block.kind for block in self._started}

    def take(self, event: StreamEvent) -> bool:
        """Add one event; False when it is about a call that never began."""
        if isinstance(event, TextDelta | RefusalDelta):
            self._block(type(event), event.index).pieces.append(event.text)
        elif isinstance(event, ThinkingDelta):
            block = self._block(ThinkingDelta, event.index)
            block.pieces.append(event.text)
            block.signature = event.signature or block.signature
            block.provider_data = event.provider_data or block.provider_data
        elif isinstance(event, ToolCallStart):
            block = self._begin(ToolCallStart, event.index)
            block.id, block.name = event.id, event.name
            block.provider_data = event.provider_data
            self._calls[event.index] = block
        elif isinstance(event, ToolCallDelta | ToolCallEnd):
            call = self._calls.get(event.index)
            if call is None:
                return False
            if isinstance(event, ToolCallDelta):
                call.pieces.append(event.arguments)
            else:
                call.pieces = [event.arguments]
        return True

    def _block(self, kind: type[StreamEvent], index: int) -> Block:
        last = self.last
        if last is None or last.kind is not kind or last.index != index:
            return self._begin(kind, index)
        return last

    def _begin(self, kind: type[StreamEvent], index: int) -> Block:
        block = self.last = Block(kind, index)
        self._started.append(block)
        return block

    def assembled(self, reason: FinishReason) -> Assembled:
        """Return what the blocks add up to in an answer that ended for this reason."""
        whole = Assembled()
        for block in self._started:
            text = "".join(block.pieces)
            if block.kind is ToolCallStart:
                whole.add_call(block, text if text.strip() else "{}", reason)
            elif block.kind is ThinkingDelta:
                whole.parts.append(ThinkingPart(text, block.signature, block.provider_data))
            elif text:
                whole.parts.append(PART_OF[block.kind](text))
        return whole
