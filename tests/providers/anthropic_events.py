"""Events of the Messages API, for tests: what a server sends, one small piece at a time."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from gatebook.providers.anthropic import Anthropic
from gatebook.providers.anthropic_stream import MessageReader
from gatebook.providers.chat_wire import ToolNames
from gatebook.testing.fault_server import Chunk, EndOfBody, FaultServer, Play, Step, stream_head

KEY = "sk-ant-0123456789"
INPUT = {"input_tokens": 3, "output_tokens": 1}


def named(kind: str, **fields: Any) -> bytes:
    """Return one event as it stands on the wire."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


START = named("message_start", message={"id": "msg_1", "model": "claude", "usage": INPUT})
BLOCK = named("content_block_start", index=0, content_block={"type": "text", "text": ""})
PING = named("ping")
BLOCK_END = named("content_block_stop", index=0)
STOP = named("message_stop")
OVERLOADED = named("error", error={"type": "overloaded_error", "message": "Overloaded"})


def begun(index: int, **block: Any) -> bytes:
    """Return the start of a block."""
    return named("content_block_start", index=index, content_block=block)


def delta(index: int, kind: str, **fields: str) -> bytes:
    """Return more of a block."""
    return named("content_block_delta", index=index, delta={"type": kind, **fields})


def word(text: str) -> bytes:
    """Return more of the first block's text."""
    return delta(0, "text_delta", text=text)


def ended(reason: str | None = "end_turn", /, **usage: int) -> bytes:
    """Return the event that says why the answer ended and what it cost."""
    return named("message_delta", delta={"stop_reason": reason}, usage=usage)


def text_events(*pieces: str) -> list[bytes]:
    """Return the events of a complete text answer."""
    return [START, BLOCK, *map(word, pieces), BLOCK_END, ended(output_tokens=2), STOP]


def play(*events: bytes, end: Step | None = None) -> Play:
    """Return a play that streams these events, then ends as told (properly unless said)."""
    return Play(*stream_head(), *map(Chunk, events), end or EndOfBody())


def whole(**fields: Any) -> dict[str, Any]:
    """Return a whole answer."""
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude"}
    content = [{"type": "text", "text": "hello"}]
    return {**message, "content": content, "stop_reason": "end_turn", "usage": INPUT, **fields}


def reader(*names: str) -> MessageReader:
    """Return a reader of one answer to a request with these tools."""
    return MessageReader(ToolNames(names), request_id="req_1")


async def against(
    server: FaultServer,
    scenario: Callable[[Anthropic, FaultServer], Coroutine[Any, Any, Any]],
    **options: Any,
) -> Any:
    """Run a scenario with a provider that speaks to this server; both are closed afterwards."""
    async with server:
        provider = Anthropic(KEY, base_url=server.url, **options)
        try:
            return await scenario(provider, server)
        finally:
            await provider.aclose()
