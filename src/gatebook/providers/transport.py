"""What adapters share: connections, bounded closing and bodies, deadlines, keys, refusals.

It knows HTTP, no vendor and no wire format.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from gatebook.errors import ConfigError, GatebookError, ProviderError
from gatebook.kernel.classify import classify_exception, classify_response, malformed
from gatebook.kernel.messages import Timeouts
from gatebook.providers.halves import Halves

if TYPE_CHECKING:
    import httpx2

ApiKey = str | Callable[[], str] | None  # a function is asked before every request

CLOSE_S = 1.0
KEEP_S = 4.0  # an idle connection; llama.cpp, uvicorn and Node close theirs after 5
HANGS_UP = "llama.cpp"  # closes after each stream, though it says keep-alive; measured
MAX_BODY = 64 * 1024 * 1024  # bytes of a whole answer
MAX_ERROR_BODY = 64 * 1024
ERROR_BODY_S = 1.0  # an error is told by its status if its body does not come
KEY_SHOWN = "[key]"
KEY_PART = 8  # characters of a key's beginning that an error may not end in

_log = logging.getLogger(__name__)
_closing: set[asyncio.Task[None]] = set()  # keeps what is being closed from being collected


def pool(max_connections: int) -> "httpx2.Limits":
    """Return how many connections an HTTP client may have, and how long it keeps idle ones."""
    import httpx2

    return httpx2.Limits(
        max_connections=max_connections,
        max_keepalive_connections=max_connections,
        keepalive_expiry=KEEP_S,
    )


def connect_limit(timeouts: Timeouts) -> "httpx2.Timeout":
    """Return the timeout that an HTTP client enforces; reading is bounded where it happens."""
    import httpx2

    connect_s = timeouts.connect_ms / 1000
    return httpx2.Timeout(None, connect=connect_s, pool=connect_s)


def stays_open(response: "httpx2.Response") -> bool:
    """Whether the connection of a streamed answer can be used again once its body has ended.

    One that cannot must not go back to the pool: the next request on it would race with the
    server's close, and lose an attempt.
    """
    return not response.headers.get("server", "").startswith(HANGS_UP)


async def close_within(work: Coroutine[Any, Any, None]) -> None:
    """Finish `work` even when the caller is cancelled, once or twice; wait at most 1 s."""
    task = asyncio.create_task(_quietly(work))
    _closing.add(task)
    task.add_done_callback(_closing.discard)
    await asyncio.wait({task}, timeout=CLOSE_S)


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(Exception):  # a connection that cannot be closed is gone already
        await work


def timed_out(what: str, *, in_stream: bool = False) -> ProviderError:
    """Return the error for a deadline that passed."""
    return ProviderError(
        what, kind="transient", category="timeout", phase="read", in_stream=in_stream
    )


def without_key(error: ProviderError, key: str) -> ProviderError:
    """Return the error without the key: servers like to repeat a key that they refuse.

    A long message was cut, maybe in the middle of the key.
    """
    if key:
        served_as = error.fields.get("request_id")
        if served_as:
            error.fields["request_id"] = served_as.replace(key, KEY_SHOWN)
        text = error.message.replace(key, KEY_SHOWN)
        for size in range(min(len(key), len(text)), KEY_PART - 1, -1):
            if text.endswith(key[:size]):
                text = text[:-size] + KEY_SHOWN
                break
        error.message = text
    return error


def located(error: ProviderError, where: str) -> ProviderError:
    """Return the error with the address it came from, and what to look at when nobody is there.

    With the provider's id of the request, if it gave one: its support desk asks for it.
    """
    asked = "is it reachable from here? base_url in gatebook.toml names another"
    nobody = error.category == "connection" and error.fields.get("phase") == "connect"
    served_as = error.fields.get("request_id")
    came = f"{where}, request {served_as}" if served_as else where
    error.message += f" (at {where}: {asked})" if nobody else f" (from {came})"
    return error


def host_of(base_url: str) -> str:
    """Return the part of an address that is no secret: a path or query may hold one."""
    scheme, _, rest = base_url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].partition('?')[0]}"


def current_key(api_key: ApiKey) -> str:
    """Return the key of this moment, "" for none.

    Raises:
        ProviderError: permanent: the key function failed, or no header can hold the key.
    """
    try:
        key = (api_key() if callable(api_key) else api_key or "").strip()
    except Exception as exc:  # noqa: BLE001 - a user's function may raise anything
        raise _no_key(f"the key function raised {type(exc).__name__}") from None
    if not (key.isascii() and key.isprintable()):
        raise _no_key("the key has a character that no HTTP header may hold")
    return key


def _no_key(what: str) -> ProviderError:
    return ProviderError(what, kind="permanent", category="auth", phase="pool")


def checked_url(base_url: str) -> str:
    """Return an address without its last slash.

    Raises:
        ConfigError: E_CONFIG, it is not http or https, or holds a password.
    """
    scheme, separator, rest = base_url.partition("://")
    detail = ""
    if not separator or scheme.lower() not in ("http", "https") or not rest:
        detail = "it does not begin with http:// or https://"
    elif "@" in rest.partition("/")[0]:
        detail = "it holds a user name or password"
    if detail:
        raise ConfigError(
            "E_CONFIG",
            name="base_url",
            path="the provider",
            detail=detail,
            fix="write for example https://api.openai.com/v1, and pass the key as api_key=",
        )
    return base_url.rstrip("/")


async def whole_body(response: "httpx2.Response", deadline: float) -> bytes:
    """Return the body of an answer, and close it. Raises what `read_body` raises."""
    try:
        return Halves().whole(await read_body(response, MAX_BODY, deadline))
    finally:
        await close_within(response.aclose())


async def read_body(response: "httpx2.Response", limit: int, deadline: float) -> bytes:
    """Return the body of a response.

    Raises:
        ProviderError: it has more than `limit` bytes, came too late, or broke off.
    """
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout_at(deadline):
            async for piece in response.aiter_bytes():
                size += len(piece)
                if size > limit:
                    raise malformed(f"the body has more than {limit} bytes")
                pieces.append(piece)
    except TimeoutError as exc:
        raise timed_out("the answer was not whole in time") from exc
    except ProviderError:
        raise
    except Exception as exc:
        raise classify_exception(exc) from exc
    return b"".join(pieces)


async def refusal_of(response: "httpx2.Response", deadline: float = math.inf) -> ProviderError:
    """Return what a response that is no success means, having read what came of it; closes it."""
    soon = asyncio.get_running_loop().time() + ERROR_BODY_S
    try:
        body = Halves().whole(await read_body(response, MAX_ERROR_BODY, min(deadline, soon)))
    except ProviderError:
        body = b""  # the status says enough
    finally:
        await close_within(response.aclose())
    return refusal(response.status_code, response.headers, body)


def refusal(status: int, headers: Mapping[str, str], body: bytes | str | None) -> ProviderError:
    """Return the error that a response with this status stands for; a bad hint is warned about."""
    error = classify_response(status, headers, body, now=time.time())
    hint = headers.get("retry-after")
    if hint and error.kind != "permanent" and error.retry_after_ms is None:
        what = f"HTTP {status}"
        _log.warning("%s", GatebookError("W_RETRY_AFTER_INVALID", what=what, value=hint))
    return error


class ReadTimer:
    """A deadline for many short waits of one task, with one timer for all of them.

    `asyncio.timeout` around each chunk costs a fifth of the whole streaming time: most chunks
    are there already and nothing waits.
    """

    def __init__(self, limit: float) -> None:
        """Begin with this deadline (loop time); no timer runs before the first wait."""
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._look_at = 0.0  # when the timer fires, if it runs
        self._waiting: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._expired = False

    async def next(self, parts: AsyncIterator[bytes]) -> bytes | None:
        """Return the next part, or None at the end.

        Raises:
            TimeoutError: the deadline passed while waiting.
        """
        task = asyncio.current_task()
        assert task is not None
        self._waiting, self._cancelling = task, task.cancelling()
        if self._handle is None:
            self._start()
        try:
            return await anext(parts, None)
        except asyncio.CancelledError:
            if self._expired and task.uncancel() <= self._cancelling:
                raise TimeoutError from None
            raise
        finally:
            self._waiting = None

    def until(self, limit: float) -> None:
        """Set another deadline for the waits that follow; cheap, so do it as often as you like."""
        self._limit = limit
        if self._look_at > limit:
            self.stop()

    def stop(self) -> None:
        """Drop the timer."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
            self._look_at = 0.0

    def _look(self) -> None:
        """End the wait if its deadline has passed, else look again at the deadline."""
        self._handle, self._look_at = None, 0.0
        if self._waiting is None:
            return
        if self._loop.time() < self._limit:
            self._start()
        else:
            self._expired = True
            self._waiting.cancel()

    def _start(self) -> None:
        self._look_at = self._limit
        self._handle = self._loop.call_at(self._limit, self._look)
