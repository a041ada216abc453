"""Chat-completions answers, whole or in chunks, read into neutral events. Does no I/O."""

from typing import Any

import msgspec

from gatebook.errors import ProviderError
from gatebook.kernel.classify import classify_event, malformed, parse_body
from gatebook.kernel.messages import (
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
from gatebook.providers.chat_wire import ToolNames, finish_reason
from gatebook.providers.unmeasured import without

Count = int | float | None


class _PromptDetails(msgspec.Struct):
    cached_tokens: Count = None
    cache_write_tokens: Count = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: Count = None


class _Usage(msgspec.Struct):
    prompt_tokens: Count = None
    completion_tokens: Count = None
    total_tokens: Count = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: Any = None  # text; an object from servers that parse it for us


class _ToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    extra_content: Any = None  # Gemini: the thought signature of a call


class _ContentBlock(msgspec.Struct):
    type: str = ""
    text: str | None = None
    thinking: Any = None


class _Delta(msgspec.Struct):
    content: str | list[_ContentBlock] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    index: int | None = None
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class AnswerReader:
    """Read one answer, chunk by chunk, into events; a whole answer is one chunk.

    After a finish reason the answer is `finished`; `end` gives the events that close it. The
    caller decides how long to wait for usage in between.
    """

    def __init__(self, names: ToolNames, *, request_id: str | None = None) -> None:
        """Begin an answer to a request with these tool names."""
        self.request_id = request_id
        self.raw_finish_reason: str | None = None
        self.usage: Usage | None = None
        self.begun = False
        self._names = names
        self._calls = ToolCallAssembly()

    @property
    def finished(self) -> bool:
        """Whether a finish reason has come."""
        return self.raw_finish_reason is not None

    def read(self, data: bytes) -> list[StreamEvent]:
        """Read one chunk or one whole answer and return its events.

        Raises:
            ProviderError: malformed JSON, an error object, or a finish reason "error".
        """
        try:
            chunk = _decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
            told = without("usage", data, _Chunk)
            if told is None:
                raise self._unreadable(data) from exc
            chunk = told
        if chunk.error or (chunk.choices is None and _says_error(data)):
            raise classify_event(parse_body(data), request_id=self.request_id)
        events: list[StreamEvent] = []
        if not self.begun and (chunk.id or chunk.model):
            self.begun = True
            self._calls.prefix = chunk.id or ""
            events.append(MessageStart(chunk.model or "", chunk.id or "", self.request_id))
        for choice in chunk.choices or ():
            if choice.index or self.finished:
                continue  # one answer was asked for; what follows its end is noise
            part = choice.delta or choice.message
            if part is not None:
                self._part(part, events)
            if choice.finish_reason:
                self._finish(choice.finish_reason)
        if chunk.usage is not None:
            self.usage = read_usage(chunk.usage) or self.usage
        return events

    def end(self) -> list[StreamEvent]:
        """Return the events that close a finished answer."""
        raw = self.raw_finish_reason
        events = self._calls.close()
        if self.usage is not None:
            events.append(UsageUpdate(self.usage))
        events.append(MessageEnd(finish_reason(raw) if raw else "stop", raw, self.usage))
        return events

    def _part(self, part: _Delta, events: list[StreamEvent]) -> None:
        thinking = part.reasoning_content or part.reasoning
        if thinking:
            events.append(ThinkingDelta(0, thinking))
        if part.content:
            if isinstance(part.content, str):
                events.append(TextDelta(0, part.content))
            else:
                events += _blocks(part.content)
        if part.refusal:
            events.append(RefusalDelta(0, part.refusal))
        for call in part.tool_calls or ():
            function = call.function or _Function()
            name = function.name
            events += self._calls.add(
                index=call.index,
                id=call.id,
                name=self._names.ours(name) if name else name,
                arguments=_arguments(function.arguments),
                provider_data=_opaque(call.extra_content),
            )

    def _finish(self, raw: str) -> None:
        if raw == "error":
            raise ProviderError(
                "the provider ended the answer with an error it does not name",
                kind="transient",
                category="server",
                phase="response",
                in_stream=True,
                request_id=self.request_id,
            )
        self.raw_finish_reason = raw

    def _unreadable(self, data: bytes) -> ProviderError:
        """The error for data that is not a chunk: it may still be an error in an odd shape."""
        try:
            body = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return malformed("an event is not JSON", in_stream=True, request_id=self.request_id)
        if isinstance(body, list) and body and isinstance(body[0], dict) and "error" in body[0]:
            return classify_event(body, request_id=self.request_id)
        return malformed("an event is not a chat chunk", in_stream=True, request_id=self.request_id)


def _says_error(data: bytes) -> bool:
    """Whether a flat object calls itself an error: {"object": "error"} or {"type": "error"}."""
    body = parse_body(data)
    return isinstance(body, dict) and "error" in (body.get("object"), body.get("type"))


def read_usage(told: _Usage) -> Usage | None:
    """Return inclusive buckets; None when nothing was measured (all zero on aborted answers)."""
    sent, made = _count(told.prompt_tokens), _count(told.completion_tokens)
    total = _count(told.total_tokens)
    if not (sent or made or total):
        return None
    prompt = told.prompt_tokens_details or _PromptDetails()
    output = told.completion_tokens_details or _OutputDetails()
    reasoning = _count(output.reasoning_tokens)
    if reasoning and sent is not None and made is not None and total == sent + made + reasoning:
        made += reasoning  # xAI counts reasoning beside the completion, not inside
    return Usage(
        input_tokens=sent,
        cache_read_tokens=_count(prompt.cached_tokens),
        cache_write_tokens=_count(prompt.cache_write_tokens),
        output_tokens=made,
        reasoning_tokens=reasoning,
        total_tokens=total,
    )


def _count(value: Count) -> int | None:
    return int(value) if value is not None and 0 <= value < 2**53 else None


def _arguments(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value).decode()


def _blocks(blocks: list[_ContentBlock]) -> list[StreamEvent]:
    """Content as a list of blocks, as Mistral's reasoning models send it."""
    events: list[StreamEvent] = []
    for block in blocks:
        if block.type == "thinking":
            inner = block.thinking if isinstance(block.thinking, list) else [block.thinking]
            texts = (part.get("text") if isinstance(part, dict) else part for part in inner)
            events.append(ThinkingDelta(0, "".join(t for t in texts if isinstance(t, str))))
        elif block.text:
            events.append(TextDelta(0, block.text))
    return events


def _opaque(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
