"""One HTTP exchange at a checked address, and following redirects from there.

What is known after an error is what counts here: before a connection stands nothing was sent,
after that nobody knows. httpx2 is imported at the first request.
"""

import asyncio
import base64
import codecs
import functools
import re
import socket
import ssl
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal
from urllib.parse import urljoin

from gatebook.errors import ActionError, Permanent, RateLimited, described
from gatebook.kernel.hints import retry_after
from gatebook.kernel.redact import forms
from gatebook.kernel.rules.places import HostPattern, is_host
from gatebook.tools.reach import Reach, Target, bad_url
from gatebook.tools.unpacking import Body

if TYPE_CHECKING:
    import httpx2

MAX_URL = 4_096  # characters, as in policies
MAX_HOPS = 5
MAX_ADDRESSES = 3  # of one host that are tried
CONNECT_S = 10.0  # for resolving, and again for each connection with its handshake
MIN_KEY = 8  # characters; what is shorter cannot be told from other words
KEY_SHOWN = "[key]"
HARMLESS = ("accept", "accept-language", "content-type", "if-none-match", "if-modified-since")
REDIRECTS = (301, 302, 303, 307, 308)
BUSY = (429, 503)  # RFC 6585, RFC 9110: the request was not taken up
AGAIN = (429, 500, 502, 503, 504)  # what a later read may answer otherwise
SHOWN_HEADERS = (
    "content-type", "content-length", "content-language", "etag", "last-modified", "location",
    "link", "retry-after", "date",
)  # fmt: skip
NO_VALUE = "has a character that no header may hold, or a blank at an end"
MAX_HEADER = MAX_URL + 1  # characters of one that is shown: a longer location is too long
# What servers call their texts (WHATWG Encoding); Python would also unpack zlib by that name.
CHARSETS = re.compile(
    r"utf-?8|utf-16(?:le|be)?|(?:us-)?ascii|iso-8859-\d+|latin-?1|windows-125\d|shift_jis"
    r"|euc-(?:jp|kr)|gb2312|gbk|gb18030|big5|koi8-[ru]"
)

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
HeaderValue = str | Callable[[], str]


@dataclass(frozen=True)
class Response:
    """What a server answered.

    Attributes:
        url: the address that answered, after redirects.
        headers: some of them, by lower-case name.
        text: the body, or its beginning.
        encoding: how `text` holds the body: `utf-8` for any text, or `base64`.
        truncated: the body has more than is kept.
    """

    url: str
    status: int
    headers: dict[str, str]
    text: str
    encoding: Literal["utf-8", "base64"]
    truncated: bool


async def resolved(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host as this system resolves them."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


@dataclass(frozen=True)
class Exchange:
    """How requests are made.

    Attributes:
        added: headers for one host each; values may be functions.
        max_bytes: of a body.
    """

    reach: Reach
    resolve: Resolve
    added: Sequence[tuple[HostPattern, Mapping[str, HeaderValue]]]
    max_bytes: int
    tls: ssl.SSLContext | None

    async def follow(self, method: str, url: str, headers: Mapping[str, str]) -> Response:
        """Make a request without effect, and the ones it is redirected to.

        Raises:
            Permanent: E_HTTP_*: an address may not be asked.
            Transient, RateLimited: no connection, or an answer that may change. OSError: the
                connection broke.
        """
        for _ in range(MAX_HOPS + 1):
            answer = await self._ask(method, url, headers)
            if answer.status in REDIRECTS and "location" in answer.headers:
                before, url = url, _led_to(answer)
                if not self._is_one_place(before, url):
                    headers = {name: headers[name] for name in HARMLESS if name in headers}
            elif answer.status in AGAIN:
                raise _refusal(answer)
            else:
                return answer
        raise Permanent(code="E_HTTP_REDIRECTS", value=url, limit=MAX_HOPS)

    def _is_one_place(self, url: str, other: str) -> bool:
        """Whether two URLs lead to one server, so that what is meant for it may go to both."""
        places = [self.reach.check(each) for each in (url, other)]
        return len({(each.scheme, each.host.name, each.port) for each in places}) == 1

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, *, keyed: bool
    ) -> Response:
        """Make one request that may have an effect; a redirect is an answer like any other.

        Raises:
            Permanent: E_HTTP_*. Transient: no connection. RateLimited, Transient: the server is
                busy, and the request is `keyed`. OSError: the connection broke: nobody knows.
        """
        answer = await self._ask(method, url, headers, body)
        if keyed and answer.status in BUSY:
            raise _refusal(answer)
        return answer

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Response:
        url = url.partition("#")[0]
        if len(url) > MAX_URL:
            raise bad_url(url, f"it has more than {MAX_URL} characters")
        target = self.reach.check(url)
        own, keys = self._own(target)
        cleaner = _Cleaner(keys)
        answer: Response | None = None
        refused: Exception | None = None
        for address in await self._addresses(target):
            request = _request(method, url, target, address, {**headers, **own}, body)
            try:
                answer = await self._exchanged(request, target, url, cleaner)
                break
            except _NotConnected as exc:
                refused = exc.__cause__ if isinstance(exc.__cause__, Exception) else exc
        if answer is None:
            raise _unreached(target, refused)
        return cleaner.answer(answer)

    def _own(self, target: Target) -> tuple[dict[str, str], list[str]]:
        """Return the headers that were declared for a host, and those values that are keys.

        A host without a port is meant by its safest scheme: who writes the URL must not be able
        to have a key sent where everybody on the way can read it.
        """
        found: dict[str, str] = {}
        keys = []
        readable = target.scheme == "http" and "https" in self.reach.schemes
        for pattern, headers in self.added:
            if not is_host(target.host, pattern) or (readable and pattern.port is None):
                continue
            for name, value in headers.items():
                found[name] = _current(name, value)
                if callable(value):
                    keys.append(found[name])
        return found, keys

    async def _addresses(self, target: Target) -> list[str]:
        """Return the addresses to call, all of them checked."""
        found: Sequence[str] = [target.host.name]
        if not target.host.is_ip:
            try:
                async with asyncio.timeout(CONNECT_S):
                    found = await self.resolve(target.host.name, target.port)
            except (OSError, UnicodeError) as exc:  # TimeoutError is an OSError
                text = f"the host {target.host.name} cannot be resolved: {described(exc)}"
                raise ActionError.transient(text) from exc
        if not found:
            raise ActionError.transient(f"the host {target.host.name} has no address")
        return self.reach.check_addresses(target, found)[:MAX_ADDRESSES]

    async def _exchanged(
        self, request: "httpx2.Request", target: Target, url: str, cleaner: "_Cleaner"
    ) -> Response:
        """Make one request and read its answer; what errors quote is cleaned.

        Raises:
            _NotConnected: nothing was sent. Permanent: its certificate is not good, or the
                request cannot be written. ConnectionError: it broke after that.
        """
        import httpx2

        # A client for one request: connections are kept by address, so another host's request
        # would go over a connection whose certificate was checked for this one.
        async with httpx2.AsyncClient(
            verify=self.tls or _default_tls(), trust_env=False, follow_redirects=False
        ) as client:
            try:
                response = await client.send(request, stream=True)
                return await self._read(response, url)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as exc:
                if _is_untrusted(exc):
                    text = f"the certificate of {target.host.name} is not good: {described(exc)}"
                    raise ActionError.permanent(text) from exc
                raise _NotConnected from exc
            except (httpx2.LocalProtocolError, httpx2.UnsupportedProtocol) as exc:
                raise bad_url(url, cleaner.text(described(exc))) from exc
            except (httpx2.HTTPError, zlib.error) as exc:
                told = cleaner.text(described(exc))
                text = f"the exchange with {target.host.name} broke: {told}"
                raise ConnectionError(text) from exc

    async def _read(self, response: "httpx2.Response", url: str) -> Response:
        """Return the answer; at most `max_bytes` of its body are unpacked and kept."""
        found = Body(response.headers.get("content-encoding", ""), self.max_bytes)
        try:
            async for piece in response.aiter_raw():
                if not found.take(piece):
                    break
        finally:
            await response.aclose()
        charset = None if found.packed else response.charset_encoding
        text, encoding = _text(bytes(found), charset, final=not found.more)
        shown = (*SHOWN_HEADERS, "content-encoding") if found.packed else SHOWN_HEADERS
        headers = {
            name: response.headers[name][:MAX_HEADER] for name in shown if name in response.headers
        }
        return Response(url, response.status_code, headers, text, encoding, found.more)


class _Cleaner:
    """Cuts the keys of one request out of what comes back: servers quote what they refuse."""

    def __init__(self, keys: Iterable[str]) -> None:
        """Take the values of headers; of `Bearer x` also x alone is a key, however written."""
        found = {word for key in keys for word in (key, key.rpartition(" ")[2])}
        written = {form for word in found if len(word) >= MIN_KEY for form in forms(word)}
        self._words = sorted(written, key=len, reverse=True)

    def answer(self, answer: Response) -> Response:
        """Return an answer without keys, nor the beginning of one where its body was cut."""
        if not self._words:
            return answer
        headers = {name: self.text(value) for name, value in answer.headers.items()}
        if answer.encoding == "base64":
            body = self._body(base64.b64decode(answer.text).decode("latin-1"), answer.truncated)
            body = base64.b64encode(body.encode("latin-1")).decode()
        else:
            body = self._body(answer.text, answer.truncated)
        return replace(answer, url=self.text(answer.url), headers=headers, text=body)

    def text(self, text: str) -> str:
        """Return a text without keys."""
        for word in self._words:
            text = text.replace(word, KEY_SHOWN)
        return text

    def _body(self, text: str, truncated: bool) -> str:
        text = self.text(text)
        for word in self._words if truncated else ():
            for size in range(len(word) - 1, MIN_KEY - 1, -1):
                if text.endswith(word[:size]):
                    return text[:-size] + KEY_SHOWN
        return text


class _NotConnected(Exception):
    """No connection was made to one address, so nothing was sent."""


def _request(
    method: str,
    url: str,
    target: Target,
    address: str,
    headers: Mapping[str, str],
    body: bytes | None,
) -> "httpx2.Request":
    """Return a request for an address in the name of its host.

    Raises:
        Permanent: E_HTTP_URL: the URL is read in two ways.
    """
    import httpx2

    try:
        found = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as exc:
        raise bad_url(url, described(exc)) from exc
    name = found.raw_host.decode().removesuffix(".")
    same = target.host.is_ip or name == target.host.name
    if not same or found.userinfo or (found.port or target.port) != target.port:
        raise bad_url(url, "it can be read in two ways")
    return httpx2.Request(
        method,
        found.copy_with(host=address, port=target.port),
        headers={
            "accept": "*/*",
            "user-agent": "gatebook",
            **headers,
            "host": target.authority,
            "accept-encoding": "gzip, deflate",
            "connection": "close",
        },
        content=body,
        extensions={
            "sni_hostname": target.host.name,
            "timeout": {"connect": CONNECT_S, "pool": CONNECT_S, "read": None, "write": None},
        },
    )


@functools.cache
def _default_tls() -> ssl.SSLContext:
    """Return a context that checks certificates; reading them takes a while, so once."""
    import httpx2

    return httpx2.create_ssl_context()


def _is_untrusted(exc: BaseException) -> bool:
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _unreached(target: Target, cause: Exception | None) -> ActionError:
    why = described(cause) if cause is not None else "it has no address"
    error = ActionError.transient(f"no connection to {target.host.name}: {why}")
    error.__cause__ = cause
    return error


def _current(name: str, value: HeaderValue) -> str:
    try:
        found = value() if callable(value) else value
    except Exception as exc:  # noqa: BLE001 - a user's function may raise anything
        text = f"the function for header {name} raised {type(exc).__name__}"
        raise ActionError.permanent(text) from None
    if not isinstance(found, str) or not is_header_value(found):
        raise Permanent(code="E_HTTP_HEADER", value=name, detail=f"its value {NO_VALUE}")
    return found


def is_header_value(text: str) -> bool:
    """Whether a header may hold a text as it is (RFC 9110, 5.5, without its leftovers).

    Asked before the client is, which repeats in its error what it refuses.
    """
    return text.isascii() and text.isprintable() and text == text.strip(" ")


def _led_to(answer: Response) -> str:
    """Return where a redirect leads. Raises Permanent E_HTTP_URL: nowhere."""
    try:
        return urljoin(answer.url, answer.headers["location"])
    except ValueError as exc:
        raise bad_url(answer.headers["location"], described(exc)) from exc


def _refusal(answer: Response) -> ActionError:
    """Return the error that lets the runtime ask again, after the wait the server wants."""
    text = f"{answer.url} answered {answer.status}"
    hint = retry_after(answer.headers.get("retry-after"), time.time())
    if answer.status == 429 or hint is not None:
        return RateLimited(text, retry_after_ms=hint)
    return ActionError.transient(text)


def _text(
    body: bytes, charset: str | None, *, final: bool
) -> tuple[str, Literal["utf-8", "base64"]]:
    """Return a body as text; a cut never splits a character of it."""
    name = (charset or "").lower()
    try:
        decoder = codecs.getincrementaldecoder(name if CHARSETS.fullmatch(name) else "utf-8")()
        text = decoder.decode(body, final=final)
        text.encode()  # some charsets can write what is no text
    except (LookupError, UnicodeError):
        return base64.b64encode(body).decode(), "base64"
    return text, "utf-8"
