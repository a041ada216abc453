"""A model whose answers are written down: a pure function of the request, so a resumed run gets
the same ones. Reads no clock and opens no connection; `script` matches and fills in the rules.
"""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from gatebook.errors import ConfigError, ProviderError
from gatebook.kernel.messages import (
    Call,
    Capabilities,
    ChatRequest,
    ChatResponse,
    MessageEnd,
    MessageStart,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageUpdate,
)
from gatebook.kernel.streams.machine import StreamMachine
from gatebook.providers.script import (
    Reply,
    Script,
    ToolUse,
    call_id,
    estimated_usage,
    read_script,
)

WORDS = re.compile(r"\S+\s*|\s+")

Answerer = Callable[[ChatRequest], Reply | str]


class Scripted:
    """A provider for demos, tests and dry runs.

    `Scripted([{"when": {...}, "say": "..."}])` takes rules as they stand in a script's JSON file,
    `Scripted(script)` a Script, `Scripted(function)` a pure function of the request that returns
    a Reply or plain text (and may raise ProviderError). Usage is an estimate, bytes / 4,
    and says so: `usage.measured` is False.
    """

    def __init__(
        self, answers: Script | Sequence[dict[str, Any]] | Answerer, *, name: str = "scripted"
    ) -> None:
        """Take the rules, or the function.

        Raises:
            ConfigError: E_CONFIG, the rules are not a script.
        """
        if not isinstance(answers, Script) and not callable(answers):
            answers = read_script(msgspec.json.encode({"rules": list(answers)}), "Scripted(...)")
        self.name = name
        self.capabilities = Capabilities()
        self._answer = answers.answer if isinstance(answers, Script) else answers

    @classmethod
    def load(cls, path: str | Path, *, name: str = "scripted") -> "Scripted":
        """Return the model whose rules are in a JSON file.

        Raises:
            ConfigError: E_SCRIPT_FILE, it cannot be read; E_CONFIG, it is not a script.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as exc:
            told = exc.strerror or type(exc).__name__
            raise ConfigError("E_SCRIPT_FILE", path=str(path), detail=told) from exc
        return cls(read_script(data, str(path)), name=name)

    def stream(self, request: ChatRequest, call: Call) -> "ScriptedStream":
        """Return the answer, word by word."""
        return ScriptedStream(lambda: self._events(request))

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Return the answer."""
        machine = StreamMachine(must_call=request.must_call)
        machine.open()
        for event in self._events(request):
            machine.feed(event)
        return machine.response

    async def aclose(self) -> None:
        """Do nothing: nothing is open."""

    def _events(self, request: ChatRequest) -> list[StreamEvent]:
        try:
            reply = self._answer(request)
        except ProviderError:
            raise
        except Exception as exc:
            raise ProviderError(
                f"the scripted model raised {type(exc).__name__}: {exc}",
                kind="permanent",
                category="invalid_request",
                phase="pool",
            ) from exc
        if isinstance(reply, str):
            reply = Reply(say=reply)
        usage = estimated_usage(request, reply)
        reason = reply.finish_reason or ("tool_calls" if reply.call else "stop")
        return [
            MessageStart(request.model, call_id(request, "answer")),
            *(TextDelta(0, word) for word in WORDS.findall(reply.say)),
            *(
                event
                for number, use in enumerate(reply.call)
                for event in _call(request, number, use)
            ),
            UsageUpdate(usage),
            MessageEnd(reason, reason, usage),
        ]


class ScriptedStream:
    """One streamed answer of a scripted model."""

    def __init__(self, events: Callable[[], list[StreamEvent]]) -> None:
        """Take how to get the events."""
        self._events = events

    async def __aenter__(self) -> AsyncIterator[StreamEvent]:
        """Return the events."""
        return _each(self._events())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do nothing: nothing is open."""


async def _each(events: list[StreamEvent]) -> AsyncIterator[StreamEvent]:
    for event in events:
        yield event


def _call(request: ChatRequest, number: int, use: ToolUse) -> list[StreamEvent]:
    return [
        ToolCallStart(number, call_id(request, str(number)), use.tool),
        ToolCallDelta(number, use.arguments()),
    ]
