"""A loopback server that streams prepared answers: what every measured reader reads.

A process of its own. It speaks chat completions and OpenAI's Responses, and writes many events
at once as a busy provider's front does. Under /short it says a few words at a model's pace.

    python -m bench.chunks CHUNKS      prints its port
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

from bench.lowlat import ask_for_short_slices

GROUP = 32  # events in one write
SHORT = 3  # chunks of an answer whose first one is waited for
PACE_S = 0.01  # between the writes of such an answer: 100 tokens a second
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n"
)
END = b"0\r\n\r\n"

Event = dict[str, Any]


def word(i: int) -> str:
    """Return the text of one chunk."""
    return f" tok{i % 97}"


def chat(chunks: int) -> Iterator[Event]:
    """Yield a chat completion, as OpenAI streams it."""
    base: Event = {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1760000000,
        "model": "fake", "system_fingerprint": "fp_1",
    }  # fmt: skip

    def said(delta: Event, finish: str | None = None) -> Event:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return base | {"choices": [choice]}

    yield said({"role": "assistant", "content": ""})
    for i in range(chunks):
        yield said({"content": word(i)})
    yield said({}, "stop")
    usage = {"prompt_tokens": 5, "completion_tokens": chunks, "total_tokens": chunks + 5}
    yield base | {"choices": [], "usage": usage}


def responses(chunks: int) -> Iterator[Event]:
    """Yield a Responses answer, as OpenAI streams it."""
    base: Event = {
        "id": "resp_1", "object": "response", "created_at": 1760000000, "model": "fake",
        "status": "in_progress", "output": [], "parallel_tool_calls": True,
        "tool_choice": "auto", "tools": [], "error": None, "incomplete_details": None,
        "instructions": None, "metadata": {}, "temperature": 1.0, "top_p": 1.0,
    }  # fmt: skip
    place: Event = {"output_index": 0, "content_index": 0, "item_id": "msg_1"}
    text = "".join(word(i) for i in range(chunks))
    part: Event = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    item: Event = {"id": "msg_1", "type": "message", "role": "assistant"}
    begun = item | {"status": "in_progress", "content": []}
    whole = item | {"status": "completed", "content": [part]}
    usage = {
        "input_tokens": 5, "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": chunks, "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": chunks + 5,
    }  # fmt: skip
    yield {"type": "response.created", "response": base}
    yield {"type": "response.output_item.added", "output_index": 0, "item": begun}
    yield {"type": "response.content_part.added", **place, "part": part | {"text": ""}}
    for i in range(chunks):
        delta = {"delta": word(i), "logprobs": []}
        yield {"type": "response.output_text.delta", **place, **delta}
    yield {"type": "response.output_text.done", **place, "text": text, "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": part}
    yield {"type": "response.output_item.done", "output_index": 0, "item": whole}
    ended = base | {"status": "completed", "output": [whole], "usage": usage}
    yield {"type": "response.completed", "response": ended}


def chat_writes(chunks: int, *, group: int = GROUP) -> list[bytes]:
    """Return a chat completion as the writes that send it."""
    return writes([*map(_data, chat(chunks)), b"data: [DONE]\n\n"], group)


def responses_writes(chunks: int) -> list[bytes]:
    """Return a Responses answer as the writes that send it; its events have names and numbers."""
    return writes(
        [
            b"event: %b\n%b" % (event["type"].encode(), _data(event | {"sequence_number": number}))
            for number, event in enumerate(responses(chunks))
        ],
        GROUP,
    )


def writes(events: list[bytes], group: int) -> list[bytes]:
    """Return events as HTTP chunks, joined to one write for each group."""
    framed = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
    return [b"".join(framed[i : i + group]) for i in range(0, len(framed), group)]


def _data(event: Event) -> bytes:
    return b"data: %b\n\n" % json.dumps(event, separators=(",", ":")).encode()


def answers(chunks: int) -> dict[str, list[bytes]]:
    """Return what is sent, by path."""
    return {
        "/v1/chat/completions": chat_writes(chunks),
        "/v1/responses": responses_writes(chunks),
        "/short/chat/completions": chat_writes(SHORT, group=2),
    }


async def serve(chunks: int) -> None:
    """Serve until the process is stopped."""
    prepared = answers(chunks)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = head.partition("content-length:")[2].partition("\r\n")[0]
                await reader.readexactly(int(length or 0))
                writer.write(HEAD)
                path = head.split(" ", 2)[1]
                for each in prepared[path]:
                    writer.write(each)
                    await writer.drain()
                    if path.startswith("/short"):
                        await asyncio.sleep(PACE_S)
                writer.write(END)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    ask_for_short_slices()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(int(sys.argv[1])))
