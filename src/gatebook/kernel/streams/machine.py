"""The life of one streamed answer: what may be forwarded, what it adds up to, when it is whole.

Fed with provider-neutral events, ends and errors; never reads a socket or a clock. The rule that
no vendor client keeps is kept here: a stream that ends without its terminal marker is truncated,
never an answer. Retrying is the caller's; this only says whether it is still allowed.
"""

from collections.abc import Set
from enum import Enum

import msgspec

from gatebook.errors import IntegrityError, ProviderError
from gatebook.kernel.messages import (
    AnswerState,
    ChatResponse,
    FinishReason,
    InvalidToolCall,
    Message,
    MessageEnd,
    MessageStart,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
    UsageUpdate,
)
from gatebook.kernel.streams.blocks import Blocks

Events = tuple[StreamEvent, ...]


class Phase(Enum):
    """Where the stream of one attempt stands."""

    OPENING = "opening"  # nothing came yet
    PREAMBLE = "preamble"  # something came, nothing worth showing
    STREAMING = "streaming"  # a reader has seen output: nothing may be retried any more
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Sign(Enum):
    """What an event, an end or an error means for the stream."""

    START = "start"
    EMPTY = "empty"  # role chunks, deltas without text
    USAGE = "usage"
    HELD = "held"  # thinking, when the caller asked to hold it back until the answer begins
    OUTPUT = "output"
    END = "end"  # the terminal marker
    EOF = "eof"
    ERROR = "error"
    CANCEL = "cancel"


class Step(Enum):
    """What the machine does about it."""

    DROP = "drop"
    KEEP = "keep"
    BEGIN = "begin"  # forward the start, what was held, and the event
    FORWARD = "forward"
    FINISH = "finish"
    TRUNCATE = "truncate"
    FAIL = "fail"
    STOP = "stop"


TRANSITIONS: dict[tuple[Phase, Sign], tuple[Phase, Step]] = {
    **{
        (phase, sign): target
        for phase in (Phase.OPENING, Phase.PREAMBLE)
        for sign, target in {
            Sign.START: (Phase.PREAMBLE, Step.KEEP),
            Sign.EMPTY: (Phase.PREAMBLE, Step.DROP),
            Sign.USAGE: (Phase.PREAMBLE, Step.KEEP),
            Sign.HELD: (Phase.PREAMBLE, Step.KEEP),
            Sign.OUTPUT: (Phase.STREAMING, Step.BEGIN),
            Sign.END: (Phase.COMPLETE, Step.FINISH),
            Sign.EOF: (Phase.FAILED, Step.TRUNCATE),
            Sign.ERROR: (Phase.FAILED, Step.FAIL),
            Sign.CANCEL: (Phase.CANCELLED, Step.STOP),
        }.items()
    },
    (Phase.STREAMING, Sign.START): (Phase.STREAMING, Step.DROP),
    (Phase.STREAMING, Sign.EMPTY): (Phase.STREAMING, Step.DROP),
    (Phase.STREAMING, Sign.USAGE): (Phase.STREAMING, Step.FORWARD),
    (Phase.STREAMING, Sign.HELD): (Phase.STREAMING, Step.FORWARD),
    (Phase.STREAMING, Sign.OUTPUT): (Phase.STREAMING, Step.FORWARD),
    (Phase.STREAMING, Sign.END): (Phase.COMPLETE, Step.FINISH),
    (Phase.STREAMING, Sign.EOF): (Phase.FAILED, Step.TRUNCATE),
    (Phase.STREAMING, Sign.ERROR): (Phase.FAILED, Step.FAIL),
    (Phase.STREAMING, Sign.CANCEL): (Phase.CANCELLED, Step.STOP),
    # An answer that is whole stays whole: only its usage may still come.
    **{(Phase.COMPLETE, sign): (Phase.COMPLETE, Step.DROP) for sign in Sign},
    (Phase.COMPLETE, Sign.USAGE): (Phase.COMPLETE, Step.KEEP),
    (Phase.FAILED, Sign.ERROR): (Phase.FAILED, Step.FAIL),
    (Phase.FAILED, Sign.CANCEL): (Phase.CANCELLED, Step.STOP),
    **{(Phase.CANCELLED, sign): (Phase.CANCELLED, Step.DROP) for sign in Sign},
    (Phase.CANCELLED, Sign.ERROR): (Phase.CANCELLED, Step.FAIL),
}

READING = (Phase.OPENING, Phase.PREAMBLE, Phase.STREAMING)

STATE_OF: dict[FinishReason, AnswerState] = {
    "stop": "complete",
    "tool_calls": "complete",
    "refusal": "complete",
    "length": "incomplete",
    "content_filter": "incomplete",
    "error": "incomplete",
    "pause": "suspended",
}


def retryable(error: ProviderError) -> bool:
    """Whether the rules allow another attempt: a retry may help and no output was shown."""
    return error.kind != "permanent" and not error.fields.get("emitted", False)


class StreamMachine:
    """Follow one attempt's stream.

    Call `open` first, `feed` with each event (and forward what it returns), `eof` when the
    provider's iterator ends, `fail` with its error, `cancel` when the caller gives up. The reader
    gets exactly one MessageStart, with the first output it sees; while it has seen none, `open`
    may begin another attempt. After `complete`, `response` is the answer; otherwise `partial` is
    what came of it.

    Providers announce calls by ToolCallStart and ToolCallDelta; the ToolCallEnd that readers get
    comes from here, at the end, for calls that may run.
    """

    def __init__(self, *, must_call: bool = False, hold_thinking: bool = False) -> None:
        """Set up for one attempt.

        Args:
            must_call: an answer without a tool call breaks the request (`request.must_call`).
            hold_thinking: keep thinking back until the answer begins, so that a retry during
                the thinking stays invisible.
        """
        self.must_call = must_call
        self.hold_thinking = hold_thinking
        self.emitted = False  # a reader has seen output
        self._reset(Phase.FAILED)

    def _reset(self, phase: Phase) -> None:
        self.phase = phase
        self._start = MessageStart()
        self._usage: Usage | None = None
        self._held: list[StreamEvent] = []
        self._blocks = Blocks()
        self._response: ChatResponse | None = None

    @property
    def complete(self) -> bool:
        """Whether the whole answer has come."""
        return self.phase is Phase.COMPLETE

    @property
    def response(self) -> ChatResponse:
        """The whole answer.

        Raises:
            IntegrityError: the stream is not complete.
        """
        if self._response is None:
            raise IntegrityError("E_STREAM_ORDER", event="response", phase=self.phase.value)
        return self._response

    def open(self) -> None:
        """Begin an attempt; what an earlier attempt left is discarded.

        Raises:
            IntegrityError: an earlier attempt was shown, is complete or was cancelled.
        """
        if self.emitted or self.phase not in (Phase.FAILED, Phase.OPENING):
            raise IntegrityError("E_STREAM_ORDER", event="open", phase=self.phase.value)
        self._reset(Phase.OPENING)

    def feed(self, event: StreamEvent) -> Events:
        """Take one event of the current attempt and return the events to forward."""
        last = self._blocks.last
        if (  # nearly every chunk of a long answer: more text of the same block
            last is not None
            and event.__class__ is TextDelta
            and last.kind is TextDelta
            and last.index == event.index
        ):
            text = event.text
            if not text:
                return ()
            last.pieces.append(text)
            return (event,)
        return self._take(event, self._sign(event))

    def eof(self) -> ProviderError | None:
        """Note that the provider's events ended: None when whole, else the error to raise."""
        if self._move(Sign.EOF) is not Step.TRUNCATE:
            return None
        return self._marked(
            ProviderError(
                "the stream ended without its terminal marker",
                kind="transient",
                category="truncated",
                phase="response",
                in_stream=True,
            )
        )

    def fail(self, error: ProviderError) -> ProviderError:
        """Note an error and return it, marked with whether output had been shown.

        An error after the whole answer changes nothing: look at `complete`.
        """
        self._move(Sign.ERROR)
        return self._marked(error)

    def cancel(self) -> None:
        """Note that the caller gave up; later events are dropped."""
        self._move(Sign.CANCEL)

    def partial(self) -> ChatResponse:
        """Return what came before the stream broke off: no runnable calls, no usage."""
        whole = self._blocks.assembled("error")
        return ChatResponse(
            id=self._start.id,
            model=self._start.model,
            message=Message("assistant", tuple(whole.parts)),
            finish_reason="error",
            state="interrupted",
            invalid_tool_calls=tuple(whole.invalid),
            request_id=self._start.request_id,
        )

    def _move(self, sign: Sign) -> Step:
        try:
            self.phase, step = TRANSITIONS[self.phase, sign]
        except KeyError:
            raise IntegrityError(
                "E_STREAM_ORDER", event=sign.value, phase=self.phase.value
            ) from None
        if self.phase not in READING:
            self._blocks.last = None
        return step

    def _sign(self, event: StreamEvent) -> Sign:
        match event:
            case MessageStart():
                return Sign.START
            case TextDelta() | RefusalDelta():
                return Sign.OUTPUT if event.text else Sign.EMPTY
            case ThinkingDelta():
                if not (event.text or event.signature or event.provider_data):
                    return Sign.EMPTY
                return Sign.HELD if self.hold_thinking else Sign.OUTPUT
            case ToolCallStart() | ToolCallDelta() | ToolCallEnd():
                return Sign.OUTPUT
            case UsageUpdate():
                return Sign.USAGE
            case MessageEnd():
                return Sign.END

    def _take(self, event: StreamEvent, sign: Sign) -> Events:
        step = self._move(sign)
        if step is Step.DROP:
            return ()
        if isinstance(event, MessageStart):
            self._start = _merged(self._start, event)
            return ()
        if isinstance(event, UsageUpdate):
            self._usage = event.usage
            if self._response is not None:
                self._response = msgspec.structs.replace(self._response, usage=event.usage)
            return (event,) if step is Step.FORWARD else ()
        if isinstance(event, MessageEnd):
            return self._finish(event)
        if not self._blocks.take(event):
            raise IntegrityError("E_STREAM_ORDER", event="tool_call_delta", phase=self.phase.value)
        if isinstance(event, ToolCallEnd):
            return ()
        if step is Step.KEEP:
            self._held.append(event)
            return ()
        return self._begin(event) if step is Step.BEGIN else (event,)

    def _begin(self, *events: StreamEvent) -> Events:
        held, self._held = self._held, []
        self.emitted = True
        return (self._start, *held, *events)

    def _finish(self, end: MessageEnd) -> Events:
        kinds = self._blocks.kinds
        reason = _reason(end.finish_reason, kinds)
        whole = self._blocks.assembled(reason)
        if ToolCallStart not in kinds and (self.must_call or reason == "tool_calls"):
            whole.invalid.append(InvalidToolCall("not_called"))
        self._usage = end.usage or self._usage
        self._response = ChatResponse(
            id=self._start.id,
            model=self._start.model,
            message=Message("assistant", tuple(whole.parts)),
            finish_reason=reason,
            raw_finish_reason=end.raw_finish_reason,
            usage=self._usage,
            state=STATE_OF[reason],
            invalid_tool_calls=tuple(whole.invalid),
            request_id=self._start.request_id,
        )
        last = MessageEnd(reason, end.raw_finish_reason, self._usage)
        return (*whole.ends, last) if self.emitted else self._begin(*whole.ends, last)

    def _marked(self, error: ProviderError) -> ProviderError:
        return error.after_output() if self.emitted else error


def _merged(first: MessageStart, second: MessageStart) -> MessageStart:
    return MessageStart(
        first.model or second.model,
        first.id or second.id,
        first.request_id or second.request_id,
    )


def _reason(said: FinishReason, kinds: Set[type[StreamEvent]]) -> FinishReason:
    """Return the finish reason the content proves: some servers say "stop" for all of them."""
    if said != "stop":
        return said
    if ToolCallStart in kinds:
        return "tool_calls"
    return "refusal" if RefusalDelta in kinds else "stop"
