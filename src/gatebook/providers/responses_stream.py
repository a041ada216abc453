"""Answers of OpenAI's Responses API, streamed or whole, read into neutral events. Does no I/O."""

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from gatebook.errors import ProviderError
from gatebook.kernel.classify import (
    CONTENT_CODES,
    NAMED,
    NAMED_IN_STREAM,
    classify_event,
    malformed,
    parse_body,
)
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
from gatebook.providers.chat_stream import DONE
from gatebook.providers.chat_wire import ToolNames
from gatebook.providers.responses_wire import SentItem, Thought
from gatebook.providers.sdk import truncated
from gatebook.providers.sse import Event
from gatebook.providers.unmeasured import without

Told = TypeVar("Told")
Count = int | float | None

TEXT = "response.output_text.delta"
THINKING = ("response.reasoning_summary_text.delta", "response.reasoning_text.delta")
BEGUN = ("response.created", "response.in_progress", "response.queued")
ENDED = ("response.completed", "response.incomplete", "response.failed")

INCOMPLETE: dict[str, FinishReason] = {
    "max_output_tokens": "length",
    "max_messages": "length",
    "content_filter": "content_filter",
}
POLICY_CODES = CONTENT_CODES | {
    "bio_policy",
    "image_content_policy_violation",
    "misalignment_policy_violation",
}


class _Event(msgspec.Struct):
    type: str = ""
    delta: Any = None
    output_index: int | None = None
    summary_index: int | None = None
    item: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()
    error: Any = None


class _Text(msgspec.Struct):
    type: str = ""
    text: str | None = None
    refusal: str | None = None


class _Item(msgspec.Struct):
    type: str = ""
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    summary: list[_Text] | None = None
    content: list[_Text] | None = None
    phase: str | None = None


class _InputDetails(msgspec.Struct):
    cached_tokens: Count = None
    cache_write_tokens: Count = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: Count = None


class _Usage(msgspec.Struct):
    input_tokens: Count = None
    output_tokens: Count = None
    total_tokens: Count = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    status: str | None = None
    error: Any = None
    incomplete_details: _Incomplete | None = None
    output: list[msgspec.Raw] | None = None
    usage: _Usage | None = None


_decode = msgspec.json.Decoder(_Event).decode


class ResponsesConverter:
    """Read one answer, event by event, into neutral events."""

    def __init__(self, names: ToolNames, *, request_id: str | None = None) -> None:
        """Begin an answer to a request with these tool names."""
        self._names = names
        self._request_id = request_id
        self._calls = ToolCallAssembly()
        self._begun = False
        self._itemized = False  # the answer's items come in events of their own
        self._heard: set[int] = set()  # items of which some text or arguments have come
        self._thought: tuple[int, bytes] | None = None  # held until it is known what follows it
        self._end: MessageEnd | None = None

    @property
    def finished(self) -> bool:
        """Whether the answer's last event has come."""
        return self._end is not None

    done = finished  # it carries the usage, so nothing of interest can follow

    def feed(self, raw: Event) -> list[StreamEvent]:
        """Return the events of one server-sent event.

        Raises:
            ProviderError: an error event, or data that is no event.
        """
        name, data = raw
        try:
            event = _decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
            return self._unreadable(data, exc)
        if event.type == TEXT and isinstance(event.delta, str):  # nearly all of a long answer
            index = event.output_index or 0
            if index not in self._heard:
                return [*self._hear(index), TextDelta(index, event.delta)]
            return [TextDelta(index, event.delta)]
        if event.type == "error" or name == "error" or (event.error and not event.type):
            raise classify_event(parse_body(data), request_id=self._request_id)
        return [] if self._end is not None else self._read(event)

    def end(self) -> list[StreamEvent]:
        """Return the events that close the answer.

        Raises:
            ProviderError: transient: the last event never came.
        """
        if self._end is None:
            raise truncated(self._request_id)
        events = self._calls.close()
        if self._end.usage is not None:
            events.append(UsageUpdate(self._end.usage))
        return [*events, self._end]

    def whole(self, body: bytes) -> list[StreamEvent]:
        """Return all events of an answer that was not streamed.

        Raises:
            ProviderError: the body is an error, or no answer.
        """
        answer = self._decoded(body, _Response)
        if answer.error is not None and answer.status is None:
            raise classify_event(parse_body(body), request_id=self._request_id)
        if answer.status is None or (answer.output is None and answer.error is None):
            raise malformed("the answer has no output", request_id=self._request_id)
        events = self._begin(answer)
        if answer.status not in ("completed", "incomplete"):
            raise self._failure(answer)
        events += self._finish(answer.status == "incomplete", answer)
        return [*events, *self.end()]

    def _read(self, event: _Event) -> list[StreamEvent]:
        kind, index = event.type, event.output_index or 0
        if kind in THINKING:
            return [*self._hear(index), ThinkingDelta(index, _text(event.delta))]
        if kind == "response.function_call_arguments.delta":
            held = self._hear(index)
            return held + self._calls.add(
                index=event.output_index, id=None, name=None, arguments=_text(event.delta)
            )
        if kind == "response.refusal.delta":
            return [*self._hear(index), RefusalDelta(index, _text(event.delta))]
        if kind == "response.reasoning_summary_part.added" and event.summary_index:
            return [ThinkingDelta(index, "\n\n")]
        if kind == "response.output_item.added":
            self._itemized = True
            return self._item_begins(index, self._decoded(event.item, _Item))
        if kind == "response.output_item.done":
            self._itemized = True
            return self._item_ends(index, self._decoded(event.item, _Item), event.item)
        if kind in BEGUN or kind in ENDED:
            return self._response(kind, event.response)
        return []

    def _response(self, kind: str, raw: msgspec.Raw) -> list[StreamEvent]:
        answer = self._decoded(raw, _Response)
        events = self._begin(answer)
        if kind in BEGUN:
            return events
        if kind == "response.failed":
            raise self._failure(answer)
        return [*events, *self._finish(kind == "response.incomplete", answer)]

    def _begin(self, answer: _Response) -> list[StreamEvent]:
        if self._begun or not (answer.id or answer.model):
            return []
        self._begun = True
        self._calls.prefix = answer.id or ""
        return [MessageStart(answer.model or "", answer.id or "", self._request_id)]

    def _items(self, output: Sequence[msgspec.Raw]) -> list[StreamEvent]:
        """Return what the items of an answer say that came with its last event only."""
        events: list[StreamEvent] = []
        for index, raw in enumerate(output):
            item = self._decoded(raw, _Item)
            events += self._item_begins(index, item)
            events += self._item_ends(index, item, raw)
        return events

    def _item_begins(self, index: int, item: _Item) -> list[StreamEvent]:
        events = self._told_thought(item if item.type == "message" else None)
        if item.type == "function_call":
            events += self._call(index, item)
        return events

    def _call(self, index: int, item: _Item) -> list[StreamEvent]:
        if item.arguments:
            self._heard.add(index)
        sent = SentItem("function_call", item.id) if item.id else None
        return self._calls.add(
            index=index,
            id=item.call_id or item.id,
            name=self._names.ours(item.name) if item.name else None,
            arguments=item.arguments or "",
            provider_data=msgspec.json.encode(sent).decode() if sent else None,
        )

    def _item_ends(self, index: int, item: _Item, raw: msgspec.Raw) -> list[StreamEvent]:
        """Return what an item holds beyond its deltas: some servers send none."""
        if item.type == "reasoning":
            events = self._told_thought(None)
            self._thought = (index, bytes(raw))
            if index not in self._heard:
                parts = item.summary or item.content or ()
                text = "\n\n".join(part.text for part in parts if part.text)
                events += [ThinkingDelta(index, text)] if text else []
            return events
        called = item.type == "function_call" and item.arguments
        if index in self._heard:
            return self._calls.settle(index, item.arguments or "") if called else []
        events = self._told_thought(item if item.type == "message" else None)
        if called:
            return events + self._call(index, item)
        for part in (item.content or ()) if item.type == "message" else ():
            if part.text:
                events.append(TextDelta(index, part.text))
            if part.refusal:
                events.append(RefusalDelta(index, part.refusal))
        return events

    def _hear(self, index: int) -> list[StreamEvent]:
        """Note that more than the end of an item comes; return the thought that led to it."""
        if index in self._heard:
            return []
        self._itemized = True
        self._heard.add(index)
        return self._told_thought(None)

    def _told_thought(self, message: _Item | None) -> list[StreamEvent]:
        """Return the held thought as it must be sent back, with the message it led to, if any."""
        if self._thought is None:
            return []
        (index, item), self._thought = self._thought, None
        follows = SentItem("message", message.id or "", message.phase) if message else None
        told = msgspec.json.encode(Thought(msgspec.Raw(item), follows))
        return [ThinkingDelta(index, provider_data=told.decode())]

    def _finish(self, incomplete: bool, answer: _Response) -> list[StreamEvent]:
        events = [] if self._itemized else self._items(answer.output or ())
        raw, reason = "completed", "stop"
        if incomplete:
            details = answer.incomplete_details
            raw = details.reason if details and details.reason else "incomplete"
            reason = INCOMPLETE.get(raw, "error")
        usage = _read_usage(answer.usage) if answer.usage is not None else None
        events += self._told_thought(None)
        self._end = MessageEnd(reason, raw, usage)  # type: ignore[arg-type]
        return events

    def _failure(self, answer: _Response) -> ProviderError:
        """Return what a failed response means; a code that no table knows will not get better."""
        told = answer.error if isinstance(answer.error, dict) else {}
        error = classify_event({"error": told}, request_id=self._request_id)
        code = told.get("code")
        if code in POLICY_CODES:
            error.kind, error.fields["category"] = "permanent", "content_filter"
        elif code and error.kind == "transient" and not {code, told.get("type")} & _KNOWN:
            error.kind, error.fields["category"] = "permanent", "invalid_request"
        return error

    def _decoded(self, raw: bytes | msgspec.Raw, kind: type[Told]) -> Told:
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
            read = without("usage", raw, kind)
            if read is not None:
                return read
            told = parse_body(bytes(raw))
            if isinstance(told, dict) and "error" in told:
                raise classify_event(told, request_id=self._request_id) from exc
            what = "the answer is not JSON of this API"
            raise malformed(what, request_id=self._request_id) from exc

    def _unreadable(self, data: bytes, exc: Exception) -> list[StreamEvent]:
        if data == DONE:
            return []  # some routers close with it, after the last event or without one
        told = parse_body(data)
        if isinstance(told, dict) and told.get("error"):
            raise classify_event(told, request_id=self._request_id) from exc
        what = "an event is not JSON" if isinstance(told, str) else "an event has another shape"
        raise malformed(what, in_stream=True, request_id=self._request_id) from exc


_KNOWN = frozenset({*NAMED, *NAMED_IN_STREAM})


def _text(delta: Any) -> str:
    return delta if isinstance(delta, str) else ""


def _read_usage(told: _Usage) -> Usage | None:
    """Return inclusive buckets; None when nothing was measured: all is zero on cut answers."""
    sent, made = _count(told.input_tokens), _count(told.output_tokens)
    total = _count(told.total_tokens)
    if not (sent or made or total):
        return None
    read = told.input_tokens_details or _InputDetails()
    output = told.output_tokens_details or _OutputDetails()
    return Usage(
        input_tokens=sent,
        cache_read_tokens=_count(read.cached_tokens),
        cache_write_tokens=_count(read.cache_write_tokens),
        output_tokens=made,
        reasoning_tokens=_count(output.reasoning_tokens),
        total_tokens=total,
    )


def _count(value: Count) -> int | None:
    return int(value) if value is not None and 0 <= value < 2**53 else None
