"""What adapters over vendor SDKs share: keys, errors, and one attempt, streamed or whole.

An attempt reads under deadlines, raises ProviderErrors only and always closes what it opened. It
knows no vendor: an adapter says how to send, and a converter what the answer means.
"""

import asyncio
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import msgspec

from gatebook.errors import ConfigError, ProviderError
from gatebook.kernel.classify import (
    BY_EXCEPTION,
    CAUSES,
    classify_event,
    classify_exception,
    malformed,
    request_id,
)
from gatebook.kernel.messages import ChatRequest, ChatResponse, MessageStart, StreamEvent, Timeouts
from gatebook.kernel.streams.machine import StreamMachine
from gatebook.providers.chat_stream import DRAIN_S, GRACE_S
from gatebook.providers.transport import (
    MAX_ERROR_BODY,
    ApiKey,
    ReadTimer,
    close_within,
    current_key,
    located,
    pool,
    refusal,
    refusal_of,
    timed_out,
    without_key,
)

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")
Ready = Callable[[], Awaitable[Any]]  # imports and makes what a first call needs

# What SDKs raise for an answer they cannot read, by class name.
UNREADABLE = frozenset(
    {"APIResponseValidationError", "JSONDecodeError", "UnknownApiResponseError", "ValidationError"}
)


class Converter(Protocol):
    """Turns what an SDK gives of one answer into neutral events; pure, one for each stream."""

    @property
    def finished(self) -> bool:
        """Whether the terminal marker has come: only usage may still be missing."""

    @property
    def done(self) -> bool:
        """Whether nothing of interest can follow, so that reading may stop."""

    def feed(self, raw: Any) -> Iterable[StreamEvent]:
        """Return the events of one thing read; none for pings. Raises ProviderError."""

    def end(self) -> Iterable[StreamEvent]:
        """Return the events that close the answer; called once, when no more is read.

        Raises:
            ProviderError: the terminal marker never came: see `truncated`.
        """


class Opened(NamedTuple):
    """A stream that the server has begun to answer: what to read, and how to end it."""

    raws: AsyncIterator[Any]
    converter: Converter
    close: Callable[[], Awaitable[Any]]
    stays_open: bool = True  # its connection, after the answer
    request_id: str | None = None


class SdkStream:
    """One streamed attempt: `async with stream as events`, then `async for event in events`.

    Entering calls `send` with the key of this moment; leaving closes what it opened, also after
    `break`, an error or a cancellation, within a second. All errors are ProviderErrors.
    """

    def __init__(
        self,
        send: Callable[[str], Awaitable[Opened]],
        timeouts: Timeouts,
        api_key: ApiKey,
        *,
        ready: Ready | None = None,
        host: str = "",
    ) -> None:
        """Take how to send the request. `send` sees to the connect timeout itself.

        What `ready` does, once for all calls, is no part of the attempt's time. `host` is named
        in errors, see `transport.located`.
        """
        self._ready = ready
        self._host = host
        self._send = send
        self._timeouts = timeouts
        self._api_key = api_key
        self._opened: Opened | None = None
        self._events: AsyncGenerator[StreamEvent, None] | None = None

    async def __aenter__(self) -> AsyncGenerator[StreamEvent, None]:
        """Send the request and return its events."""
        await _made(self._ready)
        started = asyncio.get_running_loop().time()
        total = started + self._timeouts.total_ms / 1000
        first = min(started + self._timeouts.first_event_ms / 1000, total)
        key = current_key(self._api_key)
        opened = self._opened = await before(first, self._send(key), key, self._host)
        self._events = self._read(opened, key, first, total)
        return self._events

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        if self._opened is not None:
            await close_within(self._close(self._opened))

    async def _close(self, opened: Opened) -> None:
        try:
            if self._events is not None:
                await self._events.aclose()
            if opened.converter.done and opened.stays_open:
                async with asyncio.timeout(DRAIN_S):  # then the connection is used again
                    async for _ in opened.raws:
                        pass
            if isinstance(opened.raws, AsyncGenerator):
                await opened.raws.aclose()
        finally:
            await opened.close()

    async def _read(
        self, opened: Opened, key: str, first: float, total: float
    ) -> AsyncGenerator[StreamEvent, None]:
        raws, converter, clock = opened.raws, opened.converter, asyncio.get_running_loop().time
        idle_s, timer, graced = self._timeouts.idle_ms / 1000, ReadTimer(first), False
        try:
            while not converter.done:
                try:
                    raw = await timer.next(raws)
                except Exception:
                    if converter.finished:
                        break  # the answer is whole; only its usage may be missing
                    raise
                if raw is None:
                    break
                meaningful = False
                for event in converter.feed(raw):
                    meaningful = meaningful or event.__class__ is not MessageStart
                    yield event
                if converter.finished and not graced:
                    graced = True
                    timer.until(min(clock() + GRACE_S, total))
                elif meaningful and not graced:
                    timer.until(min(clock() + idle_s, total))
            for event in converter.end():
                yield event
        except Exception as exc:  # noqa: BLE001 - an SDK may raise anything
            error = sdk_error(exc, in_stream=True)
            if isinstance(exc, TimeoutError):
                error = timed_out("the stream fell silent", in_stream=True)
            error.fields.setdefault("request_id", opened.request_id)
            raise _at(without_key(error, key), self._host) from _cause(exc, key)
        finally:
            timer.stop()


async def completed(
    ask: Callable[[str], Awaitable[Iterable[StreamEvent]]],
    request: ChatRequest,
    api_key: ApiKey,
    *,
    ready: Ready | None = None,
    host: str = "",
) -> ChatResponse:
    """Make one blocking attempt; `ask` sends the request and returns the whole answer's events.

    Raises:
        ProviderError: nothing else.
    """
    await _made(ready)
    deadline = asyncio.get_running_loop().time() + request.timeouts.total_ms / 1000
    key = current_key(api_key)
    events = await before(deadline, ask(key), key, host)
    machine = StreamMachine(must_call=request.must_call)
    machine.open()
    try:
        for event in events:
            machine.feed(event)
    except ProviderError as error:
        raise _at(without_key(error, key), host) from error.__cause__
    if not machine.complete:
        raise _at(malformed("the answer has no end"), host)
    return machine.response


async def _made(ready: Ready | None) -> None:
    try:
        if ready is not None:
            await ready()
    except Exception as exc:
        raise sdk_error(exc) from exc


async def before(deadline: float, work: Awaitable[T], key: str, host: str) -> T:
    """Return what `work` gives if it comes before a deadline in loop time.

    Raises:
        ProviderError: it came too late, or failed in any way; the key is not in its text.
    """
    try:
        async with asyncio.timeout_at(deadline):
            return await work
    except TimeoutError as exc:
        raise _at(timed_out("no answer came in time"), host) from exc
    except Exception as exc:  # noqa: BLE001 - an SDK may raise anything
        raise _at(without_key(sdk_error(exc), key), host) from _cause(exc, key)


def require_extra(module: str, extra: str, *, instead: str = "") -> None:
    """Check that an extra is installed, without importing it.

    Args:
        module: what the extra brings, "google.genai".
        extra: its name; pip knows it as gatebook[extra].
        instead: what does without, for the error: "or use openai-chat:".

    Raises:
        ConfigError: E_EXTRA_MISSING, saying what to install.
    """
    try:
        found = find_spec(module)
    except ModuleNotFoundError:  # the package above it is missing
        found = None
    if found is None:
        command = f'pip install "gatebook[{extra}]"'
        raise ConfigError(
            "E_EXTRA_MISSING",
            what=f"the adapter {extra}",
            command=f"{command} ({instead})" if instead else command,
        )


def vendor_key(
    api_key: ApiKey, *variables: str, base_url: str | None, provider: str
) -> str | Callable[[], str]:
    """Return the key given, else the first of these variables that is set.

    A variable holds the vendor's key, so it is never sent to another address: with a `base_url`,
    no key means none, "".

    Raises:
        ConfigError: E_KEY_MISSING naming the variables.
    """
    if api_key or base_url is not None:
        return api_key or ""
    for variable in variables:
        if key := os.environ.get(variable, "").strip():
            return key
    told = " or ".join(variables)
    fix = f"the environment variable {told}, or pass api_key="
    raise ConfigError("E_KEY_MISSING", provider=provider, fix=fix)


def http_client(max_connections: int) -> "httpx2.AsyncClient":
    """Return an HTTP client for an SDK: a pool of this size, and no redirects followed.

    It raises the error of a response that is no success itself: SDKs wait for all of its body.
    """
    import httpx2

    hooks = {"response": [_refuse]}
    return httpx2.AsyncClient(
        limits=pool(max_connections), follow_redirects=False, event_hooks=hooks
    )


async def _refuse(response: "httpx2.Response") -> None:
    if response.is_success:
        return
    raise await refusal_of(response)


def truncated(request_id: str | None = None) -> ProviderError:
    """Return the error for a stream that ended without its terminal marker."""
    return ProviderError(
        "the stream ended without its terminal marker",
        kind="transient",
        category="truncated",
        status=200,
        phase="response",
        in_stream=True,
        request_id=request_id,
    )


def sdk_error(exc: BaseException, *, in_stream: bool = False) -> ProviderError:
    """Return the error that an SDK's exception stands for.

    Inside a stream the headers are those of the 200, so only the body of the error counts.
    """
    if (ours := _ours(exc)) is not None:
        return ours
    response = getattr(exc, "response", None)
    headers: Any = getattr(response, "headers", None) or {}
    status = _status(exc, response)
    if status >= 300 and not in_stream:
        return refusal(status, headers, _body(exc, response))
    if any(cls.__name__ in UNREADABLE for cls in type(exc).__mro__):
        told = f"the answer cannot be read ({type(exc).__name__})"
        return malformed(told, in_stream=in_stream, request_id=request_id(headers))
    fault = _fault(exc)
    if isinstance(fault, dict | list) and fault:
        return classify_event(fault, request_id=request_id(headers))
    link: BaseException | None = exc
    for _ in range(CAUSES):
        if link is None or any(cls.__name__ in BY_EXCEPTION for cls in type(link).__mro__):
            break
        link = link.__cause__ or link.__context__
    return classify_exception(link or exc, in_stream=in_stream)


def _ours(exc: BaseException) -> ProviderError | None:
    """Return the error of ours that an SDK wrapped in its own, if any."""
    link: BaseException | None = exc
    for _ in range(CAUSES):
        if link is None or isinstance(link, ProviderError):
            return link
        link = link.__cause__
    return None


def _status(exc: BaseException, response: Any) -> int:
    for value in (getattr(response, "status_code", None), getattr(exc, "code", None)):
        if type(value) is int:
            return value
    return 0


def _fault(exc: BaseException) -> Any:
    """Return the decoded error an SDK keeps: OpenAI and Anthropic in `body`, Google `details`."""
    return getattr(exc, "body", None) or getattr(exc, "details", None)


def _body(exc: BaseException, response: Any) -> bytes | str | None:
    try:
        content = response.content
    except Exception:  # noqa: BLE001 - unread, closed or not that kind of response
        content = None
    if isinstance(content, bytes):
        return content[:MAX_ERROR_BODY]
    fault = _fault(exc)
    return fault if fault is None or isinstance(fault, str) else msgspec.json.encode(fault)


def _at(error: ProviderError, host: str) -> ProviderError:
    """Return the error with the address it came from, unless the request was refused here."""
    refused_here = error.kind == "permanent" and error.fields.get("phase") == "pool"
    return located(error, host) if host and not refused_here else error


def _cause(exc: BaseException, key: str) -> BaseException | None:
    """Return what a traceback may show as the cause: nothing that repeats the key."""
    if (ours := _ours(exc)) is not None:
        return ours.__cause__
    return None if key and key in str(exc) else exc
