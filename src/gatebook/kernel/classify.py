"""What a failed model call means: one table for all adapters, from status, headers and body.

Order: structured code, then type, then status, then the transport exception, by class name.
Prose is read only where a vendor gives nothing else. No clock: `now` is an argument. The rows
come from recorded answers and from the vendors' documentation.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from gatebook.errors import ProviderError
from gatebook.kernel.hints import body_hint, header_hint

MESSAGE_CHARS = 300

QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
        "exceeded_current_quota_error",  # Moonshot
        "insufficient_balance",
    }
)
CONTEXT_CODES = frozenset(
    {
        "context_length_exceeded",
        "exceed_context_size_error",  # llama.cpp
        "model_context_window_exceeded",
    }
)
CONTEXT_PROSE = (
    "prompt is too long",  # Anthropic, 400 invalid_request_error
    "exceed context limit",  # Anthropic too, where the prompt alone would fit
    "Context size has been exceeded",  # llama.cpp, with status 500
    "exceeds the maximum number of tokens allowed",  # Gemini, 400 INVALID_ARGUMENT
    "maximum context length is",  # vLLM, 400 BadRequestError
)
CONTENT_CODES = frozenset(
    {"content_filter", "ResponsibleAIPolicyViolation", "content_policy_violation"}
)

# Codes and types that say more than the status they come with.
NAMED: dict[str, tuple[str, str]] = {
    "rate_limit_exceeded": ("rate_limited", "rate_limited"),
    "rate_limit_error": ("rate_limited", "rate_limited"),
    "overloaded_error": ("transient", "overloaded"),
    "unavailable_error": ("transient", "overloaded"),  # llama.cpp, "Loading model"
    "timeout_error": ("transient", "timeout"),
    "invalid_api_key": ("permanent", "auth"),
    "authentication_error": ("permanent", "auth"),
    "permission_error": ("permanent", "auth"),
    "model_not_found": ("permanent", "not_found"),
    "not_found_error": ("permanent", "not_found"),
}
# Types that count only where no status speaks: errors inside a stream that answered 200.
NAMED_IN_STREAM: dict[str, tuple[str, str]] = {
    "server_error": ("transient", "server"),
    "api_error": ("transient", "server"),
    "internal_server_error": ("transient", "server"),
    "internal_error": ("transient", "server"),
    "invalid_request_error": ("permanent", "invalid_request"),
    "invalid_prompt": ("permanent", "invalid_request"),
    "request_too_large": ("permanent", "invalid_request"),
}
GOOGLE_STATUS = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
BY_STATUS: dict[int, tuple[str, str]] = {
    400: ("permanent", "invalid_request"),
    401: ("permanent", "auth"),
    402: ("permanent", "quota"),
    403: ("permanent", "auth"),
    404: ("permanent", "not_found"),
    408: ("transient", "timeout"),
    409: ("transient", "server"),
    425: ("transient", "server"),
    429: ("rate_limited", "rate_limited"),
    500: ("transient", "server"),
    501: ("permanent", "server"),
    502: ("transient", "server"),
    503: ("transient", "server"),
    504: ("transient", "timeout"),
    505: ("permanent", "server"),
    **dict.fromkeys(range(520, 524), ("transient", "server")),
    524: ("transient", "timeout"),
    529: ("transient", "overloaded"),
}
OTHER_STATUS = ("permanent", "invalid_request")

# (kind, category, phase) of what clients raise, by class name along the inheritance chain:
# httpx, httpx2 and aiohttp share most names, and none of them is imported here.
BY_EXCEPTION: dict[str, tuple[str, str, str]] = {
    "PoolTimeout": ("transient", "connection", "pool"),
    "ConnectTimeout": ("transient", "connection", "connect"),
    "ConnectError": ("transient", "connection", "connect"),
    "ProxyError": ("transient", "connection", "connect"),
    "WriteTimeout": ("transient", "timeout", "write"),
    "WriteError": ("transient", "connection", "write"),
    "ReadTimeout": ("transient", "timeout", "read"),
    "ReadError": ("transient", "connection", "read"),
    "CloseError": ("transient", "connection", "read"),
    "RemoteProtocolError": ("transient", "connection", "read"),
    "DecodingError": ("transient", "malformed", "response"),
    "DecodeError": ("transient", "malformed", "response"),
    "JSONDecodeError": ("transient", "malformed", "response"),
    "UnicodeDecodeError": ("transient", "malformed", "response"),
    "LocalProtocolError": ("permanent", "invalid_request", "connect"),
    "UnsupportedProtocol": ("permanent", "invalid_request", "connect"),
    "InvalidURL": ("permanent", "invalid_request", "connect"),
    "TooManyRedirects": ("permanent", "invalid_request", "response"),
    "TypeError": ("permanent", "invalid_request", "connect"),
    "ClientConnectorCertificateError": ("permanent", "connection", "connect"),  # aiohttp, as below
    "ClientConnectorSSLError": ("transient", "connection", "connect"),
    "ClientConnectorError": ("transient", "connection", "connect"),
    "ServerDisconnectedError": ("transient", "connection", "read"),
    "ClientPayloadError": ("transient", "connection", "read"),
    "ServerTimeoutError": ("transient", "timeout", "read"),
    "CancelledError": ("permanent", "cancelled", "read"),
    "TimeoutException": ("transient", "timeout", "read"),
    "ConnectionRefusedError": ("transient", "connection", "connect"),
    "gaierror": ("transient", "connection", "connect"),
    "TimeoutError": ("transient", "timeout", "read"),
    "ConnectionError": ("transient", "connection", "read"),
    "OSError": ("transient", "connection", "read"),
    "NetworkError": ("transient", "connection", "read"),
    "TransportError": ("transient", "connection", "read"),
}
CERTIFICATE = ("SSLCertVerificationError", "CertificateError", "ClientConnectorCertificateError")
CAUSES = 8  # how deep a chain of causes is searched


class Fault(msgspec.Struct, frozen=True):
    """The error object of a body, whatever shape the vendor gave it."""

    message: str = ""
    code: str = ""
    type: str = ""
    status: int | None = None
    details: tuple[Any, ...] = ()

    @property
    def names(self) -> tuple[str, str]:
        """What may be looked up in the tables, most specific first."""
        return self.code, self.type


def parse_body(body: bytes | str | None) -> Any:
    """Return the JSON value of a body, or its text when it is not JSON."""
    if not body:
        return None
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return body if isinstance(body, str) else body.decode("utf-8", "replace")


def read_fault(body: Any) -> Fault:
    """Return the error a decoded body or event tells of.

    Understood: {"error": {...}} and {"error": "text"}, a list of one (Gemini), Anthropic's
    {"type": "error", "error": {...}}, a Responses `response.failed`, flat objects, `detail`.
    """
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return Fault(message=_prose(body))
    inner = body.get("error")
    response = body.get("response")
    if inner is None and isinstance(response, dict):
        inner = response.get("error")
    if isinstance(inner, str):
        return Fault(message=inner, code=_word(body.get("code")), type=_word(body.get("type")))
    source = inner if isinstance(inner, dict) else body
    details = source.get("details")
    return Fault(
        message=_text(source.get("message") or source.get("detail")),
        code=_word(source.get("code")),
        type=_word(source.get("type")),
        status=_status(source) or _status(body),
        details=tuple(details) if isinstance(details, list) else (),
    )


def classify_response(
    status: int, headers: Mapping[str, str], body: bytes | str | None, *, now: float
) -> ProviderError:
    """Return the error an HTTP response with an error status stands for.

    Args:
        status: 300 or above.
        headers: read for retry hints, `x-should-retry` and the request id.
        body: as it came, at most some kilobytes of it.
        now: seconds since the epoch, to read dates by.
    """
    plain = {name.lower(): value for name, value in headers.items()}
    fault = read_fault(parse_body(body))
    kind, category = _verdict(fault, status, plain.get("x-should-retry", "").strip().lower())
    hint = None
    if kind != "permanent":
        hint = header_hint(plain, now) or body_hint(fault.details)
    return ProviderError(
        _message(f"HTTP {status}", fault),
        kind=kind,
        category=category,
        retry_after_ms=hint,
        status=status,
        provider_code=fault.code or None,
        provider_type=fault.type or None,
        phase="response",
        request_id=request_id(plain),
    )


def classify_event(body: Any, *, request_id: str | None = None) -> ProviderError:
    """Return the error that an error object inside a 200 answer or stream stands for.

    The headers are those of the 200, so they are not asked: only the body's own hint counts.
    """
    fault = read_fault(body)
    kind, category = _verdict(fault, fault.status, "")
    return ProviderError(
        _message("error in the answer", fault),
        kind=kind,
        category=category,
        retry_after_ms=body_hint(fault.details) if kind != "permanent" else None,
        status=fault.status,
        provider_code=fault.code or None,
        provider_type=fault.type or None,
        phase="response",
        in_stream=True,
        request_id=request_id,
    )


def classify_body(body: Any, *, request_id: str | None = None) -> ProviderError:
    """Return what a decoded JSON body means where a stream of events was asked for.

    It is the error that it tells of; a whole answer, or anything else, is malformed.
    """
    fault = read_fault(body)
    if fault.message or fault.code or fault.status or fault.type not in ("", "message"):
        return classify_event(body, request_id=request_id)
    return malformed("the answer is no event stream", in_stream=True, request_id=request_id)


def classify_exception(exc: BaseException, *, in_stream: bool = False) -> ProviderError:
    """Return the error that a client's exception stands for, by the names of its classes."""
    if isinstance(exc, ProviderError):
        return exc
    kind, category, phase = "permanent", "invalid_request", "response"
    for cls in type(exc).__mro__:
        if cls.__name__ in BY_EXCEPTION:
            kind, category, phase = BY_EXCEPTION[cls.__name__]
            break
    if _is_certificate(exc):
        kind, category, phase = "permanent", "connection", "connect"
    text = str(exc)[:MESSAGE_CHARS]
    return ProviderError(
        f"{type(exc).__name__}: {text}" if text else type(exc).__name__,
        kind=kind,
        category=category,
        phase=phase,
        in_stream=in_stream,
    )


def malformed(
    what: str, *, in_stream: bool = False, request_id: str | None = None
) -> ProviderError:
    """Return the error for a 200 whose body is not an answer; worth one retry at most."""
    return ProviderError(
        what,
        kind="transient",
        category="malformed",
        status=200,
        phase="response",
        in_stream=in_stream,
        request_id=request_id,
        max_retries=1,
    )


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the provider's id of a request from its (lower-case) response headers."""
    for name in ("x-request-id", "request-id", "apim-request-id", "x-goog-request-id", "cf-ray"):
        if headers.get(name):
            return headers[name][:128]
    return None


def _verdict(fault: Fault, status: int | None, should_retry: str) -> tuple[str, str]:
    decided = _fatal(fault, status)
    if decided is not None:
        return decided
    by_name = _by_name(fault, status)
    by_status = BY_STATUS.get(status, OTHER_STATUS) if status is not None else None
    kind, category = by_name or by_status or ("transient", "server")
    if status == 503 and category == "server" and _says_overloaded(fault):
        category = "overloaded"
    if status == 403 and _is_pending_agreement(fault):
        kind = "transient"
    if should_retry == "false":
        kind = "permanent"
    elif should_retry == "true" and kind == "permanent":
        kind = "transient"
    return kind, category


def _fatal(fault: Fault, status: int | None) -> tuple[str, str] | None:
    """The verdicts that no header may soften: quota, context length, content filter."""
    if status == 402 or any(name in QUOTA_CODES or "_spend_limit_" in name for name in fault.names):
        return "permanent", "quota"
    if _is_daily_quota(fault.details):
        return "permanent", "quota"
    if any(name in CONTEXT_CODES for name in fault.names):
        return "permanent", "context_length"
    if any(prose in fault.message for prose in CONTEXT_PROSE):
        return "permanent", "context_length"
    if any(name in CONTENT_CODES for name in fault.names):
        return "permanent", "content_filter"
    return None


def _by_name(fault: Fault, status: int | None) -> tuple[str, str] | None:
    for name in fault.names:
        if name in NAMED:
            return NAMED[name]
        if status is None and name in NAMED_IN_STREAM:
            return NAMED_IN_STREAM[name]
    return None


def _is_daily_quota(details: tuple[Any, ...]) -> bool:
    """Whether Gemini says that a per-day quota is used up: no wait within a run helps."""
    for detail in details:
        violations = detail.get("violations") if isinstance(detail, dict) else None
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, dict) and "PerDay" in str(violation.get("quotaId", "")):
                return True
    return False


def _says_overloaded(fault: Fault) -> bool:
    said = f"{fault.code} {fault.type} {fault.message}".lower()
    return "overload" in said or "loading model" in said


def _is_pending_agreement(fault: Fault) -> bool:
    """Bedrock answers 403 for some minutes after a model's agreement was accepted."""
    said = fault.message.lower()
    return "agreement" in said and "pending" in said


def _is_certificate(exc: BaseException) -> bool:
    link: BaseException | None = exc
    for _ in range(CAUSES):
        if link is None:
            return False
        if any(cls.__name__ in CERTIFICATE for cls in type(link).__mro__):
            return True
        if "CERTIFICATE_VERIFY_FAILED" in str(link):
            return True
        link = link.__cause__ or link.__context__
    return False


def _status(source: dict[str, Any]) -> int | None:
    for key in ("code", "status_code", "status"):
        value = source.get(key)
        if isinstance(value, str) and value in GOOGLE_STATUS:
            return GOOGLE_STATUS[value]
        number = value
        if isinstance(value, str) and len(value) == 3 and value.isdecimal():
            number = int(value)
        if type(number) is int and 300 <= number < 600:
            return number
    return None


def _word(value: Any) -> str:
    return value[:100] if isinstance(value, str) else str(value) if type(value) is int else ""


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()[:MESSAGE_CHARS]


def _prose(body: Any) -> str:
    """The start of a body that is no JSON object; markup says nothing worth repeating."""
    text = body if isinstance(body, str) else ""
    return "an HTML page" if text.lstrip()[:1] == "<" else text


def _message(what: str, fault: Fault) -> str:
    name = fault.code or fault.type
    told = " ".join(fault.message.split())[:MESSAGE_CHARS]
    return what + (f" {name}" if name else "") + (f": {told}" if told else "")
