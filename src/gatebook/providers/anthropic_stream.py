"""Answers of Anthropic's Messages API, whole or in events, read into neutral events. Does no I/O.

An answer is whole when `message_stop` has come, and never before. Blocks and events it does not
know are passed over: the API may add some at any time.
"""

from typing import Any

import msgspec

from gatebook.errors import ProviderError
from gatebook.kernel.classify import NAMED, NAMED_IN_STREAM, classify_event, malformed, parse_body
from gatebook.kernel.messages import (
    FinishReason,
    MessageEnd,
    MessageStart,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    Usage,
    UsageUpdate,
)
from gatebook.kernel.streams.fragments import ToolCallAssembly
from gatebook.providers.chat_wire import ToolNames
from gatebook.providers.sdk import truncated
from gatebook.providers.sse import Event
from gatebook.providers.unmeasured import without

STOP_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "refusal": "refusal",
}
Count = int | float | None


class _OutputDetails(msgspec.Struct):
    thinking_tokens: Count = None


class _Usage(msgspec.Struct):
    input_tokens: Count = None
    cache_creation_input_tokens: Count = None
    cache_read_input_tokens: Count = None
    output_tokens: Count = None
    output_tokens_details: _OutputDetails | None = None


class _Block(msgspec.Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None  # of redacted thinking
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _StopDetails(msgspec.Struct):
    explanation: str | None = None


class _Delta(msgspec.Struct):
    """What is new in a block, or in the whole message."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None


class _Message(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    content: list[_Block] | None = None
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None
    usage: _Usage | None = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: Any = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_message = msgspec.json.Decoder(_Message).decode


class MessageReader:
    """Read one answer into events, event by event or whole; `end` gives those that close it."""

    def __init__(self, names: ToolNames, *, request_id: str | None = None) -> None:
        """Begin an answer to a request with these tool names."""
        self.request_id = request_id
        self.finished = False
        self._names = names
        self._calls = ToolCallAssembly()
        self._kinds: dict[int, str] = {}  # of the blocks that have begun
        self._inputs: dict[int, str] = {}  # arguments that came with the start of their call
        self._usage = _Usage()
        self._stop_reason: str | None = None

    @property
    def done(self) -> bool:
        """Whether nothing of interest can follow: usage comes before the end."""
        return self.finished

    def feed(self, raw: Event) -> list[StreamEvent]:
        """Take the name and data of one event and return what it says.

        Raises:
            ProviderError: an error event, or an event that cannot be read.
        """
        if self.finished:
            return []
        name, data = raw
        try:
            event = _decode_event(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
            if name == "error":
                raise read_error(parse_body(data), self.request_id) from exc
            read = without("usage", data, _Event)
            if read is None:
                raise self._malformed("an event cannot be read") from exc
            event = read
        kind = event.type or name
        if kind == "content_block_delta" and event.delta is not None:
            return self._delta(event.index, event.delta)
        if kind == "error" or event.error is not None:
            raise read_error(parse_body(data), self.request_id)
        if not kind:
            raise self._malformed("an event does not say what it is")
        return self._other(kind, event)

    def read(self, body: bytes) -> list[StreamEvent]:
        """Take a whole answer and return all its events but the last ones.

        Raises:
            ProviderError: an error object, or a body that is no answer.
        """
        told = parse_body(body)
        if isinstance(told, dict) and (told.get("type") == "error" or told.get("error")):
            raise read_error(told, self.request_id)
        try:
            message = _decode_message(body)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
            read = without("usage", body, _Message)
            if read is None:
                raise self._malformed("the body is no message") from exc
            message = read
        if message.content is None or message.stop_reason is None:
            raise self._malformed("the body has no content or no stop reason")
        events = self._start(message)
        for index, block in enumerate(message.content):
            events += [*self._begin(index, block), *self._finish_block(index)]
        events += self._stop(message.stop_reason, message.stop_details, message.usage)
        self.finished = True
        return events

    def end(self) -> list[StreamEvent]:
        """Return the events that close a finished answer.

        Raises:
            ProviderError: it is not finished.
        """
        raw = self._stop_reason
        if not self.finished:
            raise truncated(self.request_id)
        if raw is None:
            raise self._malformed("the answer ended without a stop reason")
        usage = read_usage(self._usage)
        events = self._calls.close()
        if usage is not None:
            events.append(UsageUpdate(usage))
        events.append(MessageEnd(STOP_REASONS.get(raw, "error"), raw, usage))
        return events

    def _other(self, kind: str, event: _Event) -> list[StreamEvent]:
        if kind == "content_block_start" and event.content_block is not None:
            return self._begin(event.index, event.content_block)
        if kind == "content_block_stop":
            return self._finish_block(event.index)
        if kind == "message_start" and event.message is not None:
            return self._start(event.message)
        if kind == "message_delta":
            delta = event.delta or _Delta()
            return self._stop(delta.stop_reason, delta.stop_details, event.usage)
        if kind == "message_stop":
            self.finished = True
        return []

    def _start(self, message: _Message) -> list[StreamEvent]:
        self._calls.prefix = message.id or ""
        self._merge(message.usage)
        return [MessageStart(message.model or "", message.id or "", self.request_id)]

    def _begin(self, index: int, block: _Block) -> list[StreamEvent]:
        self._kinds[index] = block.type
        if block.type == "text":
            return [TextDelta(index, block.text)] if block.text else []
        if block.type == "thinking":
            begun = block.thinking or block.signature
            return [ThinkingDelta(index, block.thinking or "", block.signature)] if begun else []
        if block.type == "redacted_thinking":
            held = {"type": block.type, "data": block.data or ""}
            return [ThinkingDelta(index, provider_data=msgspec.json.encode(held).decode())]
        if block.type != "tool_use":
            return []
        self._inputs[index] = bytes(block.input).decode()
        name = self._names.ours(block.name) if block.name else None
        return self._calls.add(index=index, id=block.id, name=name, arguments="")

    def _delta(self, index: int, delta: _Delta) -> list[StreamEvent]:
        if delta.type == "text_delta":
            return [TextDelta(index, delta.text)] if delta.text else []
        if delta.type == "input_json_delta":
            return self._arguments(index, delta.partial_json or "")
        if delta.type == "thinking_delta":
            return [ThinkingDelta(index, delta.thinking)] if delta.thinking else []
        if delta.type == "signature_delta":
            return [ThinkingDelta(index, signature=delta.signature)] if delta.signature else []
        return []

    def _arguments(self, index: int, piece: str) -> list[StreamEvent]:
        if index not in self._kinds:
            raise self._malformed("arguments came for a call that had not begun")
        if not piece or self._kinds[index] != "tool_use":
            return []
        self._inputs.pop(index, None)  # only a placeholder, as more comes
        return self._calls.add(index=index, id=None, name=None, arguments=piece)

    def _finish_block(self, index: int) -> list[StreamEvent]:
        whole = self._inputs.pop(index, "{}")
        if whole in ("{}", "null"):
            return []
        return self._calls.add(index=index, id=None, name=None, arguments=whole)

    def _stop(
        self, reason: str | None, details: _StopDetails | None, usage: _Usage | None
    ) -> list[StreamEvent]:
        self._stop_reason = reason or self._stop_reason
        self._merge(usage)
        explained = details.explanation if details is not None and reason == "refusal" else None
        return [RefusalDelta(len(self._kinds), explained)] if explained else []

    def _merge(self, told: _Usage | None) -> None:
        """Take what is said anew: counts are cumulative, and a field left out has not changed."""
        for field in _Usage.__struct_fields__:
            value = getattr(told, field, None)
            if isinstance(value, _OutputDetails) or _count(value) is not None:
                setattr(self._usage, field, value)

    def _malformed(self, what: str) -> ProviderError:
        return malformed(what, in_stream=True, request_id=self.request_id)


def _count(value: Count) -> int | None:
    return int(value) if value is not None and 0 <= value < 2**53 else None


def read_usage(told: _Usage) -> Usage | None:
    """Return inclusive buckets; None when nothing was measured.

    What is read from the cache or written to it is counted beside `input_tokens` on the wire.
    """
    read, written = _count(told.cache_read_input_tokens), _count(told.cache_creation_input_tokens)
    sent, made = _count(told.input_tokens), _count(told.output_tokens)
    if sent is not None:
        sent += (read or 0) + (written or 0)
    if not (sent or made):
        return None
    details = told.output_tokens_details
    return Usage(
        input_tokens=sent,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=made,
        reasoning_tokens=_count(details.thinking_tokens) if details is not None else None,
        total_tokens=None if sent is None or made is None else sent + made,
    )


def read_error(body: Any, request_id: str | None = None) -> ProviderError:
    """Return the error an error object stands for, by its type: the status beside it is 200.

    A type nobody knows is permanent; the API's documented ones are in the tables.
    """
    error = classify_event(body, request_id=request_id)
    told, status = error.fields.get("provider_type"), error.fields.get("status")
    unknown = told not in (None, "error") and told not in NAMED and told not in NAMED_IN_STREAM
    if unknown and status is None and error.kind == "transient":
        error.kind, error.fields["category"] = "permanent", "invalid_request"
    return error
