"""The words of a model call: messages, requests, answers, usage and stream events.

Provider-neutral and frozen. It knows no vendor and no wire format; adapters translate. JSON text
that must survive unread (tool arguments, schemas, opaque provider data) stays text here.
"""

from typing import Any, Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal[
    "stop", "length", "tool_calls", "content_filter", "refusal", "pause", "error"
]
AnswerState = Literal["complete", "incomplete", "interrupted", "suspended"]
InvalidCallReason = Literal["not_json", "not_object", "no_name", "cut_off", "not_called"]
Terminal = Literal["finish_reason", "done", "event"]


class TextPart(msgspec.Struct, frozen=True, tag="text", omit_defaults=True):
    """Plain text."""

    text: str


class ThinkingPart(msgspec.Struct, frozen=True, tag="thinking", omit_defaults=True):
    """What the model thought aloud; `signature` and `provider_data` go back to it verbatim.

    `origin` names the provider these are bound to, see `kernel.origins`.
    """

    text: str = ""
    signature: str | None = None
    provider_data: str | None = None
    origin: str = ""


class ToolCallPart(msgspec.Struct, frozen=True, tag="tool_call", omit_defaults=True):
    """A tool call the model asks for; `arguments` is the JSON text of one object.

    An answer holds only calls that are fit to run: the others are its `invalid_tool_calls`.
    `origin` names the provider that `provider_data` is bound to.
    """

    id: str
    name: str
    arguments: str = "{}"
    provider_data: str | None = None
    origin: str = ""


class ToolResultPart(msgspec.Struct, frozen=True, tag="tool_result", omit_defaults=True):
    """What a tool call gave back, as the text the model reads."""

    tool_call_id: str
    content: str
    is_error: bool = False


class RefusalPart(msgspec.Struct, frozen=True, tag="refusal", omit_defaults=True):
    """The model's words for not answering."""

    text: str


Part = TextPart | ThinkingPart | ToolCallPart | ToolResultPart | RefusalPart


class Message(msgspec.Struct, frozen=True):
    """One message of a conversation: who speaks, and the parts in order."""

    role: Role
    content: tuple[Part, ...] = ()

    @classmethod
    def system(cls, text: str) -> "Message":
        """Return instructions for the model."""
        return cls("system", (TextPart(text),))

    @classmethod
    def user(cls, text: str) -> "Message":
        """Return what the user says."""
        return cls("user", (TextPart(text),))

    @classmethod
    def assistant(cls, text: str = "", *calls: ToolCallPart) -> "Message":
        """Return what the model says, then the tools it calls."""
        return cls("assistant", ((TextPart(text),) if text else ()) + calls)

    @classmethod
    def tool_result(cls, tool_call_id: str, content: str, *, is_error: bool = False) -> "Message":
        """Return the result of one tool call."""
        return cls("tool", (ToolResultPart(tool_call_id, content, is_error),))

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.content if type(part) is TextPart)

    @property
    def tool_calls(self) -> tuple[ToolCallPart, ...]:
        """The tool calls, in the model's order."""
        return tuple(part for part in self.content if type(part) is ToolCallPart)


class ToolDefinition(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool as the model sees it; `schema` is the JSON Schema of its arguments, as JSON bytes."""

    name: str
    description: str = ""
    schema: msgspec.Raw = msgspec.Raw(b'{"type":"object","properties":{}}')


class NamedTool(msgspec.Struct, frozen=True):
    """A tool choice: this tool and no other."""

    name: str


ToolChoice = Literal["auto", "none", "required"] | NamedTool


class JsonSchemaFormat(msgspec.Struct, frozen=True, omit_defaults=True):
    """A response format: JSON text that fits `schema` (JSON Schema, as JSON bytes)."""

    name: str
    schema: msgspec.Raw
    strict: bool = True


class Timeouts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How long one attempt may take, in milliseconds.

    Attributes:
        connect_ms: to get a connection, name lookup and TLS included.
        first_event_ms: from the request to the first meaningful event of a stream.
        idle_ms: between meaningful events of a stream; pings and comments do not count.
        total_ms: the whole attempt.
    """

    connect_ms: int = 10_000
    first_event_ms: int = 120_000  # models that think silently take minutes to say a first word
    idle_ms: int = 60_000
    total_ms: int = 600_000  # the bound of the vendors' own clients

    def __post_init__(self) -> None:
        if min(self.connect_ms, self.first_event_ms, self.idle_ms, self.total_ms) <= 0:
            raise ValueError("a timeout must be at least 1 ms")


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything one model call says. Unset options are left to the provider.

    Attributes:
        response_format: None for text.
        provider_options: extra fields of the provider's own; adapters take an allow-list.
    """

    provider: str
    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolDefinition, ...] = ()
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool | None = None
    response_format: JsonSchemaFormat | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    reasoning_effort: str | None = None
    timeouts: Timeouts = Timeouts()
    provider_options: dict[str, Any] = {}

    @property
    def must_call(self) -> bool:
        """Whether an answer without a tool call breaks the request."""
        return bool(self.tools) and self.tool_choice not in ("auto", "none")


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Tokens of one call. Buckets are inclusive: input holds cache reads and writes, output
    holds reasoning. None is "not reported", which is not zero.

    Attributes:
        measured: the provider counted; False for an estimate of ours.
    """

    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None
    measured: bool = True


class InvalidToolCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool call that must never run, and why.

    `reason`: "not_json" or "not_object" (the arguments), "no_name", "cut_off" (the answer ended
    before it was whole), "not_called" (a call was required and none came).
    """

    reason: InvalidCallReason
    id: str = ""
    name: str = ""
    arguments: str = ""


class ChatResponse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer of a model.

    Attributes:
        finish_reason: why it ended, in our words; `raw_finish_reason` in the provider's.
        usage: None when the provider did not report any.
        state: "complete"; "incomplete" (length, content filter, error); "interrupted" (we
            stopped reading: the message is a part); "suspended" (the provider paused its turn).
        invalid_tool_calls: calls that are not in the message because they must not run.
        request_id: the provider's id of the request, for its support desk.
    """

    model: str
    message: Message
    finish_reason: FinishReason
    id: str = ""
    raw_finish_reason: str | None = None
    usage: Usage | None = None
    state: AnswerState = "complete"
    invalid_tool_calls: tuple[InvalidToolCall, ...] = ()
    request_id: str | None = None

    @property
    def text(self) -> str:
        """The text of the answer."""
        return self.message.text

    @property
    def tool_calls(self) -> tuple[ToolCallPart, ...]:
        """The calls that may go to the gate, in the model's order."""
        return self.message.tool_calls


class MessageStart(msgspec.Struct, frozen=True, tag="message_start", omit_defaults=True, gc=False):
    """The provider accepted the call and begins to answer."""

    model: str = ""
    id: str = ""
    request_id: str | None = None


class TextDelta(msgspec.Struct, frozen=True, tag="text_delta", gc=False):
    """More text of the content block `index`."""

    index: int
    text: str


class ThinkingDelta(
    msgspec.Struct, frozen=True, tag="thinking_delta", omit_defaults=True, gc=False
):
    """More thinking of the block `index`; a signature or provider data closes it."""

    index: int
    text: str = ""
    signature: str | None = None
    provider_data: str | None = None


class RefusalDelta(msgspec.Struct, frozen=True, tag="refusal_delta", gc=False):
    """More text of a refusal."""

    index: int
    text: str


class ToolCallStart(
    msgspec.Struct, frozen=True, tag="tool_call_start", omit_defaults=True, gc=False
):
    """A tool call begins; `index` counts the calls of this answer from 0."""

    index: int
    id: str
    name: str
    provider_data: str | None = None


class ToolCallDelta(msgspec.Struct, frozen=True, tag="tool_call_delta", gc=False):
    """More of the arguments' JSON text."""

    index: int
    arguments: str


class ToolCallEnd(msgspec.Struct, frozen=True, tag="tool_call_end", gc=False):
    """A tool call is whole and fit to go to the gate. Calls that are not have no end."""

    index: int
    id: str
    name: str
    arguments: str


class UsageUpdate(msgspec.Struct, frozen=True, tag="usage_update"):
    """The usage so far; it replaces what was said before."""

    usage: Usage


class MessageEnd(msgspec.Struct, frozen=True, tag="message_end", omit_defaults=True):
    """The provider's terminal marker came: the answer is whole."""

    finish_reason: FinishReason
    raw_finish_reason: str | None = None
    usage: Usage | None = None


StreamEvent = (
    MessageStart
    | TextDelta
    | ThinkingDelta
    | RefusalDelta
    | ToolCallStart
    | ToolCallDelta
    | ToolCallEnd
    | UsageUpdate
    | MessageEnd
)


class Capabilities(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an adapter's endpoint can do.

    Attributes:
        terminal: what ends a stream: a finish reason, a `[DONE]` line alone, or a named event.
        reports_usage_in_stream: whether a stream says what it cost.
        forced_tool_choice: whether `required` and a named tool are obeyed.
        json_schema: whether a response format is understood; else the model is told in words.
    """

    terminal: Terminal = "finish_reason"
    reports_usage_in_stream: bool = True
    forced_tool_choice: bool = True
    json_schema: bool = True


class Call(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which attempt of which action a request belongs to; the key is the same on every attempt."""

    idempotency_key: str
    attempt: int = 0
