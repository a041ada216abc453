"""An SDK's answer read from the network as server-sent events, without the SDK's own objects.

Making an object of each small event costs most of a stream's time, so an adapter may take the
SDK's response undecoded: `opened_sse` feeds its network reads to its own converter of events.
"""

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from gatebook.errors import ProviderError
from gatebook.kernel.classify import classify_body, malformed, parse_body
from gatebook.kernel.messages import StreamEvent
from gatebook.providers.chat_stream import MAX_HEAD, MAX_STREAM
from gatebook.providers.halves import Halves
from gatebook.providers.sdk import Converter, Opened
from gatebook.providers.sse import EventReader, EventTooLarge
from gatebook.providers.transport import stays_open

if TYPE_CHECKING:
    import httpx2


def opened_sse(response: "httpx2.Response", answer: Converter, *, request_id: str | None) -> Opened:
    """Return a 200 as a stream to read, whose events go to `answer`."""
    converter = SseConverter(answer, request_id=request_id)
    kept = stays_open(response)
    return Opened(network_reads(response), converter, response.aclose, kept, request_id)


def network_reads(response: "httpx2.Response") -> AsyncIterator[bytes]:
    """Return the network reads of a response's body.

    The undecoded stream saves a third of the time for each read, so it is taken where nothing is
    compressed.
    """
    if response.headers.get("content-encoding", "identity") == "identity":
        return aiter(response.stream)  # type: ignore[arg-type]
    return response.aiter_bytes()


class SseConverter:
    """Feed another converter with the (name, data) of each event in the bytes read.

    What came before a faulty event is still given out. A body that is no event stream is told
    for what it is: an error object, or malformed.
    """

    def __init__(self, inner: Converter, *, request_id: str | None = None) -> None:
        """Take the converter of the events."""
        self._inner = inner
        self._request_id = request_id
        self._reader = EventReader()
        self._halves = Halves()
        self._size = 0
        self._seen = False  # at least one event
        self._head = b""  # what came before the first event: no event stream, if there is none

    @property
    def finished(self) -> bool:
        """Whether the terminal marker has come."""
        return self._inner.finished

    @property
    def done(self) -> bool:
        """Whether nothing of interest can follow."""
        return self._inner.done

    def feed(self, raw: bytes) -> Iterator[StreamEvent]:
        """Yield the events of one network read."""
        self._size += len(raw)
        if self._size > MAX_STREAM:
            raise self._malformed(f"the stream has more than {MAX_STREAM} bytes")
        try:
            found = self._reader.feed(raw)
        except EventTooLarge as exc:
            raise self._malformed("one event never ends") from exc
        if found:
            self._seen = True
        elif not self._seen and len(self._head) < MAX_HEAD:
            self._head += raw[:MAX_HEAD]
        for name, told in found:
            yield from self._inner.feed((name, self._halves.whole(told)))

    def end(self) -> Iterator[StreamEvent]:
        """Yield the events that close the answer; an event may lack its empty line."""
        rest = None if self.done else self._reader.rest()
        if rest is not None:
            self._seen = True  # half an event is a stream that was cut, not a strange body
            told = self._halves.whole(rest[1])
            if isinstance(parse_body(told), dict):
                yield from self._inner.feed((rest[0], told))
        if not self._seen:
            self._refuse_head()
        yield from self._inner.end()

    def _refuse_head(self) -> None:
        body = parse_body(self._head)
        if isinstance(body, dict | list):
            raise classify_body(body, request_id=self._request_id)
        if self._head.strip() and not self._head.lstrip().startswith(b":"):
            raise self._malformed("the answer is no event stream")

    def _malformed(self, what: str) -> ProviderError:
        return malformed(what, in_stream=True, request_id=self._request_id)
