"""Gemini's answers, whole or streamed, read into neutral events: each datum is a whole response.

Reads the JSON as it came, not the SDK's objects: arguments stay the model's own text. No I/O.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from gatebook.errors import ProviderError
from gatebook.kernel.classify import classify_event, malformed, parse_body
from gatebook.kernel.messages import (
    FinishReason,
    MessageEnd,
    MessageStart,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageUpdate,
)
from gatebook.providers.chat_wire import ToolNames
from gatebook.providers.google_partial import Arguments, PartialArg, PathError
from gatebook.providers.google_wire import Kept
from gatebook.providers.sdk import truncated
from gatebook.providers.sse import Event
from gatebook.providers.unmeasured import without

FINISH_REASONS: dict[str, FinishReason] = {
    "STOP": "stop",  # for tool calls too
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",  # one request's share of tokens is used up
    **dict.fromkeys(
        (
            "SAFETY",
            "RECITATION",
            "LANGUAGE",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_RECITATION",
            "MODEL_ARMOR",
            "ESCALATION",
        ),
        "content_filter",
    ),
}
# The model tried to call a tool and no call came of it: it may be asked once more.
BROKEN_CALL = ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL")
Count = int | float | None


class _FunctionCall(msgspec.Struct):
    id: str | None = None
    name: str | None = None
    args: msgspec.Raw = msgspec.Raw()
    partialArgs: list[PartialArg] | None = None  # noqa: N815 - the names Google gives them
    willContinue: bool | None = None  # noqa: N815


class _Part(msgspec.Struct):
    text: str | None = None
    thought: bool | None = None
    thoughtSignature: str | None = None  # noqa: N815
    functionCall: _FunctionCall | None = None  # noqa: N815


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct):
    index: int | None = None
    content: _Content | None = None
    finishReason: str | None = None  # noqa: N815
    finishMessage: str | None = None  # noqa: N815


class _PromptFeedback(msgspec.Struct):
    blockReason: str | None = None  # noqa: N815


class _Usage(msgspec.Struct):
    promptTokenCount: Count = None  # noqa: N815
    cachedContentTokenCount: Count = None  # noqa: N815
    toolUsePromptTokenCount: Count = None  # noqa: N815
    candidatesTokenCount: Count = None  # noqa: N815
    thoughtsTokenCount: Count = None  # noqa: N815
    totalTokenCount: Count = None  # noqa: N815


class _Response(msgspec.Struct):
    responseId: str | None = None  # noqa: N815
    modelVersion: str | None = None  # noqa: N815
    candidates: list[_Candidate] | None = None
    promptFeedback: _PromptFeedback | None = None  # noqa: N815
    usageMetadata: _Usage | None = None  # noqa: N815
    error: Any = None


_decode = msgspec.json.Decoder(_Response).decode


class GoogleConverter:
    """Reads one answer; a stream may end after its finish reason only."""

    done = False  # usage may still come, and nothing but the end of the body says that it won't

    def __init__(self, names: ToolNames, *, request_id: str | None = None) -> None:
        """Begin an answer to a request with these tool names."""
        self.request_id = request_id
        self._names = names
        self._id = ""  # of the answer
        self._ids: list[str] = []  # of its calls
        self._name = ""  # of the last call
        self._partial: Arguments | None = None  # of the last call, while it is not whole
        self._index = 0  # of the text or thinking that is coming
        self._begun = False
        self._raw_reason: str | None = None
        self._reason: FinishReason = "error"
        self._usage: Usage | None = None

    @property
    def finished(self) -> bool:
        """Whether a finish reason has come, or the prompt was blocked."""
        return self._raw_reason is not None

    def feed(self, raw: Event) -> Iterator[StreamEvent]:
        """Yield the events of one server-sent event."""
        name, data = raw
        if name == "error":
            raise classify_event(parse_body(data), request_id=self.request_id)
        return self.read(data)

    def read(self, data: bytes) -> Iterator[StreamEvent]:
        """Yield the events of one response object.

        Raises:
            ProviderError: it is none, or tells of an error.
        """
        response = self._response(data)
        if not self._begun and (response.responseId or response.modelVersion):
            self._begun = True
            self._id = response.responseId or ""
            yield MessageStart(response.modelVersion or "", self._id, self.request_id)
        if response.usageMetadata is not None:
            self._usage = read_usage(response.usageMetadata) or self._usage
        blocked = response.promptFeedback and response.promptFeedback.blockReason
        if blocked and not self.finished:
            self._raw_reason, self._reason = blocked, "content_filter"
        for candidate in response.candidates or ():
            if candidate.index or self.finished:
                continue  # one answer was asked for; what follows its end is noise
            for part in (candidate.content and candidate.content.parts) or ():
                yield from self._part(part)
            if candidate.finishReason:
                yield from self._finish(candidate.finishReason, candidate.finishMessage)

    def end(self) -> Iterator[StreamEvent]:
        """Yield the events that close the answer.

        Raises:
            ProviderError: no finish reason came.
        """
        if self._raw_reason is None:
            raise truncated(self.request_id)
        if self._usage is not None:
            yield UsageUpdate(self._usage)
        yield MessageEnd(self._reason, self._raw_reason, self._usage)

    def _response(self, data: bytes) -> _Response:
        try:
            response = _decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
            read = without("usageMetadata", data, _Response)
            if read is None:
                raise self._unreadable(data) from exc
            response = read
        if response.error:
            raise classify_event(parse_body(data), request_id=self.request_id)
        return response

    def _unreadable(self, data: bytes) -> ProviderError:
        """The error for data that is no response: it may still be an error in an odd shape."""
        body = parse_body(data)
        if isinstance(body, list) and body and isinstance(body[0], dict) and "error" in body[0]:
            return classify_event(body, request_id=self.request_id)
        said = "is not a Gemini response" if isinstance(body, dict | list) else "is not JSON"
        return self._malformed(f"the answer {said}")

    def _part(self, part: _Part) -> Iterator[StreamEvent]:
        if part.functionCall is not None:
            yield from self._call(part.functionCall, part.thoughtSignature)
            return
        text, signature = part.text or "", part.thoughtSignature
        if signature is None:
            if text:
                yield (
                    ThinkingDelta(self._index, text)
                    if part.thought
                    else TextDelta(self._index, text)
                )
            return
        self._index += 1  # what is signed stays apart from what is not
        if part.thought:
            yield ThinkingDelta(self._index, text, provider_data=_kept(Kept(signature)))
        else:
            if text:
                yield TextDelta(self._index, text)
            kept = Kept(signature, "text" if text else "empty")
            yield ThinkingDelta(self._index, provider_data=_kept(kept))
        self._index += 1

    def _call(self, call: _FunctionCall, signature: str | None) -> Iterator[StreamEvent]:
        """Take a whole call, the first part of one, or more of the last one."""
        goes_on = self._partial is not None and self._is_same(call)
        if self._partial is not None and not goes_on:
            yield from self._cut_off()
        if not goes_on:
            yield self._start(call.id or "", self._names.ours(call.name or ""), signature)
        given = bytes(call.args).decode()
        if not (goes_on or call.willContinue or call.partialArgs):
            yield ToolCallDelta(len(self._ids) - 1, "{}" if given in ("", "null") else given)
            return
        self._partial = self._partial or Arguments()
        try:
            for piece in call.partialArgs or ():
                self._partial.add(piece)
        except PathError as exc:
            raise self._malformed(f"a partial argument has no place: {exc}") from exc
        text = ""  # a sign of life: what came so far is no JSON text yet
        if not call.willContinue:
            text, self._partial = self._partial.text(whole=True), None
        yield ToolCallDelta(len(self._ids) - 1, text)

    def _start(self, id: str, name: str, signature: str | None) -> ToolCallStart:
        """Begin a call; Gemini gives most of them no id, so they get one of ours."""
        if not id or id in self._ids:
            seed = f"{self._id}:{len(self._ids)}:{id}".encode()
            id = "call_" + hashlib.sha256(seed).hexdigest()[:20]
        self._ids.append(id)
        self._name = name
        data = _kept(Kept(signature)) if signature else None
        return ToolCallStart(len(self._ids) - 1, id, name, data)

    def _is_same(self, call: _FunctionCall) -> bool:
        """Whether this goes on with the call that is not whole yet; most parts name nothing."""
        named = not call.name or self._names.ours(call.name) == self._name
        return named and (not call.id or call.id == self._ids[-1])

    def _cut_off(self) -> Iterator[StreamEvent]:
        """Yield what came of a call that never ended; it is no JSON, so nobody runs it."""
        if self._partial is not None:
            yield ToolCallDelta(len(self._ids) - 1, self._partial.text(whole=False))
            self._partial = None

    def _finish(self, raw: str, told: str | None) -> Iterator[StreamEvent]:
        yield from self._cut_off()
        self._raw_reason, self._reason = raw, FINISH_REASONS.get(raw, "error")
        if raw in BROKEN_CALL:
            self._reason = "tool_calls"
            yield self._start("", "", None)
            yield ToolCallDelta(len(self._ids) - 1, told or raw)

    def _malformed(self, what: str) -> ProviderError:
        return malformed(what, in_stream=True, request_id=self.request_id)


def read_usage(told: _Usage) -> Usage | None:
    """Return inclusive buckets: Gemini counts thoughts beside the candidates, cached inside."""
    prompt, hosted = _count(told.promptTokenCount), _count(told.toolUsePromptTokenCount)
    made, thoughts = _count(told.candidatesTokenCount), _count(told.thoughtsTokenCount)
    total = _count(told.totalTokenCount)
    if not (prompt or made or thoughts or total):
        return None
    return Usage(
        input_tokens=_sum(prompt, hosted),
        cache_read_tokens=_count(told.cachedContentTokenCount),
        output_tokens=_sum(made, thoughts),
        reasoning_tokens=thoughts,
        total_tokens=total,
    )


def _count(value: Count) -> int | None:
    return int(value) if value is not None and 0 <= value < 2**53 else None


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None and second is None else (first or 0) + (second or 0)


def _kept(kept: Kept) -> str:
    return msgspec.json.encode(kept).decode()
