"""A real HTTP server on the loopback address that plays faults and counts what reached it.

Each request gets the next play; the last play repeats. A play is a list of steps, so a test says
what the wire does: `Play(*stream_head(), Chunk(event), Reset())`. It knows HTTP/1.1 as far as
a client under test needs it, nothing of Gatebook's own; what providers say stands in `dialects`.
"""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from gatebook.testing.dialects import Dialect, Story, Trouble
from gatebook.testing.dialects.chat import DONE, delta, text_events, usage_chunk
from gatebook.testing.dialects.story import event

__all__ = [
    "DONE",
    "Chooser",
    "Chunk",
    "Cut",
    "EndOfBody",
    "FaultServer",
    "Hold",
    "Play",
    "Received",
    "Repeat",
    "Reset",
    "Send",
    "Stall",
    "Step",
    "answer",
    "delta",
    "event",
    "fails",
    "head",
    "stream_head",
    "streamed",
    "tells",
    "text_answer",
    "text_events",
    "text_stream",
    "usage_chunk",
]

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 429: "Too Many Requests"}
MAX_HEAD = 256 * 1024


@dataclass(frozen=True)
class Send:
    """Write these bytes as they are."""

    data: bytes


@dataclass(frozen=True)
class Chunk:
    """Write one chunk of a chunked body."""

    data: bytes


@dataclass(frozen=True)
class EndOfBody:
    """End a chunked body properly: to HTTP, everything is well."""


@dataclass(frozen=True)
class Cut:
    """Close the connection in the middle, as a dying proxy does."""


@dataclass(frozen=True)
class Reset:
    """Close the connection with a TCP reset."""


@dataclass(frozen=True)
class Stall:
    """Say nothing more until the client leaves."""


@dataclass(frozen=True)
class Repeat:
    """Write a chunk every so many seconds until the client leaves."""

    data: bytes
    every_s: float


@dataclass(frozen=True)
class Hold:
    """Go on when the test sets the event."""

    event: asyncio.Event


Step = Send | Chunk | EndOfBody | Cut | Reset | Stall | Repeat | Hold


@dataclass(frozen=True)
class Play:
    """What happens to one request, step by step."""

    steps: tuple[Step, ...]

    def __init__(self, *steps: Step) -> None:
        object.__setattr__(self, "steps", steps)


@dataclass(frozen=True)
class Received:
    """One request as it arrived; header names are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)


Chooser = Callable[[Received], Play]


def answer(
    status: int, body: bytes | str | dict[str, Any] | list[Any], **headers: str | int
) -> Play:
    """Return a play that answers at once; header names are written with underscores."""
    if isinstance(body, dict | list):
        body = json.dumps(body)
    data = body.encode() if isinstance(body, str) else body
    fields = {"content-type": "application/json", "content-length": str(len(data))}
    fields.update({name.replace("_", "-"): str(value) for name, value in headers.items()})
    return Play(Send(head(status, fields) + data))


def stream_head(**headers: str) -> tuple[Step, ...]:
    """Return the step that begins a streamed answer of chunks."""
    fields = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    return (Send(head(200, fields)),)


def head(status: int, fields: dict[str, str]) -> bytes:
    """Return the bytes of a status line and headers."""
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def streamed(events: Iterable[bytes], *end: Step) -> Play:
    """Return a play that streams these events, then ends as told (properly unless said)."""
    return Play(*stream_head(), *(Chunk(data) for data in events), *(end or (EndOfBody(),)))


def text_stream(*pieces: str) -> Play:
    """Return a play that streams this text and ends well."""
    return streamed(text_events(*pieces))


def text_answer(text: str, *, finish_reason: str = "stop") -> Play:
    """Return a play that answers with this text in one piece."""
    message = {"role": "assistant", "content": text}
    return answer(
        200,
        {
            "id": "chatcmpl-1",
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
            "usage": usage_chunk()["usage"],
        },
    )


def tells(dialect: Dialect, story: Story, **headers: str) -> Chooser:
    """Return the play of a story, streamed or whole as each request asks for it."""

    def play(received: Received) -> Play:
        if not dialect.streams(received.path, received.body):
            return answer(200, dialect.whole(story), **headers)
        parts = (Chunk(data) for data in dialect.events(story))
        return Play(*stream_head(**headers), *parts, EndOfBody())

    return play


def fails(dialect: Dialect, trouble: Trouble, **headers: str | int) -> Play:
    """Return a play that answers with an error status, in the words of a provider."""
    status, body = dialect.failure(trouble)
    return answer(status, body, **headers)


class _ClientLeft(Exception):
    """The client closed its side while a play was on."""


class FaultServer:
    """Serve plays on a free loopback port: `async with FaultServer(play, ...) as server`.

    Attributes:
        requests: everything that arrived, in order.
        connections: how many connections were ever opened.
        open_connections: how many are open now.
        hangups: how many requests the client left before their play had ended.
    """

    def __init__(self, *plays: Play | Chooser) -> None:
        """Take one play for each request in turn; the last is for all others.

        A play may be a function of the request, as `tells` makes it.
        """
        self.requests: list[Received] = []
        self.connections = self.open_connections = self.hangups = 0
        self._plays = plays
        self._changed = asyncio.Condition()
        self._writers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The base URL to give to a client, without a path."""
        assert self._server is not None, "the server runs inside `async with` only"
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def count(self) -> int:
        """How many requests arrived."""
        return len(self.requests)

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, limit=MAX_HEAD)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening and drop every connection."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers.values():
            writer.transport.abort()
        await asyncio.gather(*self._writers)
        await self._server.wait_closed()

    async def until(self, what: Callable[["FaultServer"], bool], *, timeout_s: float = 5) -> None:
        """Wait until something is true of this server, for example `lambda s: s.hangups == 1`.

        Raises:
            TimeoutError: it did not become true in time.
        """
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: what(self))

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._writers[task] = writer
        self.connections += 1
        await self._count(open_connections=1)
        try:
            async for received in _requests(reader):
                self.requests.append(received)
                await self._count()
                if not await self._perform(self._next(received), reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            del self._writers[task]
            writer.close()
            await self._count(open_connections=-1)

    def _next(self, received: Received) -> Play:
        play = self._plays[min(self.count, len(self._plays)) - 1]
        return play if isinstance(play, Play) else play(received)

    async def _count(self, *, open_connections: int = 0, hangups: int = 0) -> None:
        async with self._changed:
            self.open_connections += open_connections
            self.hangups += hangups
            self._changed.notify_all()

    async def _perform(
        self, play: Play, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Perform a play; return whether the connection may serve another request."""
        try:
            for step in play.steps:
                if not await _step(step, reader, writer):
                    return False
        except (_ClientLeft, ConnectionError):
            await self._count(hangups=1)
            return False
        return True


async def _step(step: Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    match step:
        case Send(data):
            writer.write(data)
            await writer.drain()
        case Chunk(data):
            writer.write(_chunk(data))
            await writer.drain()
        case EndOfBody():
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        case Cut():
            return False
        case Reset():
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            return False
        case Stall():
            await _until_left(reader)
        case Repeat(data, every_s):
            await _while_present(reader, _repeat(writer, data, every_s))
        case Hold(gate):
            await _while_present(reader, gate.wait())
    return True


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def _repeat(writer: asyncio.StreamWriter, data: bytes, every_s: float) -> None:
    while True:
        writer.write(_chunk(data))
        await writer.drain()
        await asyncio.sleep(every_s)


async def _while_present(reader: asyncio.StreamReader, work: Any) -> None:
    """Do `work` until it ends, or raise _ClientLeft when the client leaves first."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_until_left(reader))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if leaving.done():
            leaving.result()
        working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _until_left(reader: asyncio.StreamReader) -> None:
    """Wait for the client to close; what it sends meanwhile is dropped."""
    with contextlib.suppress(ConnectionError):
        while await reader.read(4096):
            pass
    raise _ClientLeft


async def _requests(reader: asyncio.StreamReader) -> AsyncIterator[Received]:
    """Yield the requests of one connection."""
    while True:
        try:
            raw = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return
        first, *lines = raw.decode("latin-1").rstrip().split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        yield Received(method, path, headers, body)
