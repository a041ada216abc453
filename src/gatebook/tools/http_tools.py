"""`http([...])`: tools that ask listed hosts, at the very addresses that were checked.

Knows methods, headers and what an answer says; how one request is made stands in `exchange`.
"""

import json
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack

from gatebook.errors import ActionError, Permanent, shown
from gatebook.kernel.codec import MAX_PAYLOAD
from gatebook.kernel.rules.places import HostPattern, is_host, read_host
from gatebook.kernel.tools import Effect
from gatebook.tools.context import ToolContext
from gatebook.tools.exchange import (
    HARMLESS,
    NO_VALUE,
    Exchange,
    HeaderValue,
    Resolve,
    Response,
    is_header_value,
    resolved,
)
from gatebook.tools.function import FunctionTool, tool
from gatebook.tools.options import refused
from gatebook.tools.reach import Reach, reach

READS = ("GET", "HEAD")  # RFC 9110, 9.2.1: safe, though what they say leaves the machine
SENDS = ("POST", "PUT", "PATCH", "DELETE")
MAX_TIMES, ROOM = 6, 32 * 1024  # a control character takes six bytes in JSON; url and headers
MAX_BYTES = 1024 * 1024  # of a body, unpacked
MAX_BODY = 1024 * 1024  # of a request
MAX_SHOWN = 64 * 1024  # bytes of an answer that a model reads
TIMEOUT_S = 30.0
# What frames a message, routes it or says who asks is never a model's to say.
OURS = frozenset({
    "host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade",
    "expect", "keep-alive", "accept-encoding", "proxy-authorization", "proxy-connection",
    "via", "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "user-agent",
})  # fmt: skip
TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")  # RFC 9110, 5.6.2


class HttpOptions(TypedDict, total=False):
    """Options of `http(...)`.

    Attributes:
        methods: GET and HEAD make `http.get`; POST, PUT, PATCH and DELETE make `http.send`.
        schemes: `https` unless `http` is listed too.
        private: networks that may be reached although they are not public: ["10.2.0.0/16"].
        headers: names of headers that the model may set, instead of the usual harmless ones. When
            a redirect leads to another host, the harmless ones alone go there.
        headers_for: host -> headers that go to that host only, after a redirect too, and where
            `schemes` has both, by https unless a port is named; a value may be a function, for
            keys: it is asked before each request, and what it returned is cut out of the answer.
        key_header: the header that carries the idempotency key. It makes `http.send`
            `idempotent`: say so only of hosts that keep the promise. Without it: `at_most_once`.
        max_bytes: of an answer's body; the rest is not read.
        timeout: seconds for one attempt, redirects included.
        resolve: async function (host, port) -> addresses, instead of the system's resolver.
        tls: an SSLContext instead of the default one, which checks certificates.
        returns: labels of what answers bring into a run, instead of {"untrusted"}.
        prefix: what the names of the tools begin with, before a dot.
    """

    methods: Sequence[str]
    schemes: Sequence[str]
    private: Sequence[str]
    headers: Sequence[str]
    headers_for: Mapping[str, Mapping[str, HeaderValue]]
    key_header: str
    max_bytes: int
    timeout: float
    resolve: Resolve
    tls: ssl.SSLContext
    returns: Iterable[str]
    prefix: str


@dataclass(frozen=True)
class _Setting:
    """What `http` was told, checked."""

    exchange: Exchange
    headers: frozenset[str]
    limits: Mapping[str, Any]
    hosts: str


def http(
    hosts: Sequence[str], **options: Unpack[HttpOptions]
) -> tuple[FunctionTool[..., Any], ...]:
    """Return tools that make requests to listed hosts: `http.get` and, for other methods,
    `http.send`.

    The scheme, host and port of every URL and every redirect must be listed, all addresses of the
    host must be public (or in `private`), and the connection goes to a checked address. Proxies
    of the environment are not used, cookies not kept. `http.send` follows no redirect.

    Args:
        hosts: as policies list them: `example.com`, `*.example.com`, `10.0.0.7:8080`, `a.com:*`.
        options: see HttpOptions.

    Raises:
        ConfigError: E_TOOL_DECLARATION.
    """
    prefix = options.get("prefix", "http")
    unknown = options.keys() - HttpOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(HttpOptions.__annotations__)
        raise refused(prefix, f"there is no option {min(unknown)}", f"give {known}")
    methods = _methods(prefix, options.get("methods", ("GET",)))
    setting = _setting(prefix, hosts, options)
    made = []
    if reads := tuple(method for method in READS if method in methods):
        made.append(_getter(setting, f"{prefix}.get", reads))
    if sends := tuple(method for method in SENDS if method in methods):
        key_header = _key_header(prefix, options.get("key_header", ""))
        made.append(_sender(setting, f"{prefix}.send", sends, key_header))
    return tuple(made)


def _getter(setting: _Setting, name: str, methods: tuple[str, ...]) -> FunctionTool[..., Any]:
    method_type = Literal[methods]  # type: ignore[valid-type]

    @tool(
        name=name, effect="read", sends=True, **setting.limits,
        description=f"Read a web address, following redirects. Hosts: {setting.hosts}",
    )  # fmt: skip
    async def get(
        url: str, headers: dict[str, str] | None = None, method: method_type = methods[0]
    ) -> Response:
        """Read a web address.

        Args:
            url: the whole address, for example https://example.com/page?id=1
            headers: more headers of the request
            method: of the request
        """
        asked = _asked(setting, headers)
        return await setting.exchange.follow(method, url, asked)

    return get


def _sender(
    setting: _Setting, name: str, methods: tuple[str, ...], key_header: str
) -> FunctionTool[..., Any]:
    method_type = Literal[methods]  # type: ignore[valid-type]
    effect: Effect = "idempotent" if key_header else "at_most_once"

    @tool(
        name=name, effect=effect, on_error="unknown", sends=True, **setting.limits,
        description=f"Send a request to a web address. Hosts: {setting.hosts}",
    )  # fmt: skip
    async def send(
        ctx: ToolContext,
        url: str,
        body: str = "",
        headers: dict[str, str] | None = None,
        method: method_type = methods[0],
    ) -> Response:
        """Send a request to a web address.

        Args:
            url: the whole address, for example https://example.com/orders
            body: of the request; JSON unless a content-type header says else
            headers: more headers of the request
            method: of the request
        """
        asked = _asked(setting, headers)
        data = body.encode()
        if len(data) > MAX_BODY:
            raise ActionError.permanent(f"the body has more than {MAX_BODY} bytes")
        if data:
            asked.setdefault("content-type", _type_of(body))
        if key_header:
            asked[key_header] = ctx.idempotency_key
        return await setting.exchange.send(method, url, asked, data, keyed=bool(key_header))

    return send


def _type_of(body: str) -> str:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return "text/plain; charset=utf-8"
    return "application/json"


def _asked(setting: _Setting, headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return the model's headers by lower-case name. Raises Permanent E_HTTP_HEADER."""
    found: dict[str, str] = {}
    for name, value in (headers or {}).items():
        low = name.lower()
        detail = ""
        if low not in setting.headers:
            detail = f"only these may be set: {', '.join(sorted(setting.headers)) or 'none'}"
        elif low in found:
            detail = "it is given twice"
        elif not is_header_value(value) or len(value) > 4_096:
            detail = f"its value is too long, or {NO_VALUE}"
        if detail:
            raise Permanent(code="E_HTTP_HEADER", value=name, detail=detail)
        found[low] = value
    return found


def _setting(prefix: str, hosts: Sequence[str], options: HttpOptions) -> _Setting:
    allowed = reach(prefix, hosts, options.get("schemes", ("https",)), options.get("private", ()))
    most = MAX_PAYLOAD // MAX_TIMES - ROOM
    max_bytes = options.get("max_bytes", MAX_BYTES)
    if type(max_bytes) is not int or not 1 <= max_bytes <= most:
        raise refused(prefix, f"max_bytes={shown(max_bytes)} is not allowed", f"give 1 to {most}")
    exchange = Exchange(
        reach=allowed,
        resolve=options.get("resolve", resolved),
        added=_added(prefix, allowed, options.get("headers_for", {})),
        max_bytes=max_bytes,
        tls=options.get("tls"),
    )
    limits = {
        "timeout": options.get("timeout", TIMEOUT_S),
        "max_output": MAX_SHOWN,
        "returns": options.get("returns", {"untrusted"}),
    }
    names = _headers(prefix, options.get("headers", HARMLESS))
    return _Setting(exchange, names, limits, ", ".join(hosts))


def _methods(prefix: str, methods: Sequence[str]) -> set[str]:
    known = READS + SENDS
    if isinstance(methods, str) or not methods or not set(methods) <= set(known):
        fix = f"give a list of {', '.join(known)}"
        raise refused(prefix, f"methods={shown(methods)} is not allowed", fix)
    return set(methods)


def _headers(prefix: str, names: Sequence[str]) -> frozenset[str]:
    if isinstance(names, str):
        raise refused(prefix, "headers= is text", 'give a list: headers=["accept"]')
    for name in names:
        _check_header(prefix, name)
    return frozenset(name.lower() for name in names)


def _key_header(prefix: str, name: str) -> str:
    if name:
        _check_header(prefix, name)
    return name.lower()


def _check_header(prefix: str, name: str) -> None:
    if not isinstance(name, str) or not name or not TOKEN.issuperset(name.lower()):
        raise refused(prefix, f"header {shown(name)} is not a name", "give names of headers")
    if name.lower() in OURS:
        raise refused(prefix, f"header {shown(name)} is not yours to set", "leave it out")


def _added(
    prefix: str, allowed: Reach, given: Mapping[str, Mapping[str, HeaderValue]]
) -> list[tuple[HostPattern, dict[str, HeaderValue]]]:
    """Return the declared headers by host, each of which must be a listed one."""
    found = []
    for text, headers in given.items():
        host = read_host(text)
        if host is None or not any(is_host(host, pattern) for pattern in allowed.patterns):
            fix = "name one host of the list, with its port if that has one, without '*'"
            raise refused(prefix, f"headers_for names {shown(text)}", fix)
        for name in headers:
            _check_header(prefix, name)
        named = {name.lower(): value for name, value in headers.items()}
        found.append((HostPattern(host.name, host.port, host.is_ip), named))
    return found
