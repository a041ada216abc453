"""What a failed model call means: the classification table, row by row."""

import ssl
from typing import Any

import msgspec
import pytest

from gatebook.errors import ProviderError
from gatebook.kernel.classify import (
    classify_event,
    classify_exception,
    classify_response,
    malformed,
    read_fault,
)

NOW = 1_781_000_000.0


def answered(status: int, body: Any = None, headers: dict[str, str] | None = None) -> ProviderError:
    data = body if isinstance(body, str | bytes) else msgspec.json.encode(body)
    return classify_response(status, headers or {}, data, now=NOW)


def error(**fields: Any) -> dict[str, Any]:
    return {"error": fields}


def verdict(found: ProviderError) -> tuple[str, str]:
    return found.kind, found.category


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, ("permanent", "invalid_request")),
        (401, ("permanent", "auth")),
        (402, ("permanent", "quota")),
        (403, ("permanent", "auth")),
        (404, ("permanent", "not_found")),
        (405, ("permanent", "invalid_request")),
        (413, ("permanent", "invalid_request")),
        (415, ("permanent", "invalid_request")),
        (422, ("permanent", "invalid_request")),
        (302, ("permanent", "invalid_request")),
        (408, ("transient", "timeout")),
        (409, ("transient", "server")),
        (425, ("transient", "server")),
        (429, ("rate_limited", "rate_limited")),
        (500, ("transient", "server")),
        (501, ("permanent", "server")),
        (502, ("transient", "server")),
        (503, ("transient", "server")),
        (504, ("transient", "timeout")),
        (505, ("permanent", "server")),
        (520, ("transient", "server")),
        (523, ("transient", "server")),
        (524, ("transient", "timeout")),
        (529, ("transient", "overloaded")),
    ],
)
def test_a_bare_status_decides_alone(status: int, expected: tuple[str, str]) -> None:
    """Proxies answer without any body worth reading."""
    found = answered(status, "<html>nope</html>")

    assert verdict(found) == expected
    assert found.fields["status"] == status


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (429, error(code="insufficient_quota"), ("permanent", "quota")),
        (429, error(type="exceeded_current_quota_error"), ("permanent", "quota")),
        (400, error(code="billing_hard_limit_reached"), ("permanent", "quota")),
        (429, error(code="team_spend_limit_reached"), ("permanent", "quota")),
        (400, error(type="billing_error"), ("permanent", "quota")),
        (400, error(code="context_length_exceeded"), ("permanent", "context_length")),
        (400, error(type="exceed_context_size_error"), ("permanent", "context_length")),
        (
            400,
            error(type="invalid_request_error", message="prompt is too long: 9 > 8"),
            ("permanent", "context_length"),
        ),
        (
            400,
            error(
                type="invalid_request_error",
                message="input length and `max_tokens` exceed context limit: 7 + 2 > 8, decrease",
            ),
            ("permanent", "context_length"),
        ),
        (
            500,
            error(code=500, message="Context size has been exceeded.", type="server_error"),
            ("permanent", "context_length"),
        ),
        (
            400,
            error(
                status="INVALID_ARGUMENT",
                message="The input token count exceeds the maximum number of tokens allowed 8.",
            ),
            ("permanent", "context_length"),
        ),
        (
            400,
            error(
                type="BadRequestError", message="This model's maximum context length is 8 tokens."
            ),
            ("permanent", "context_length"),
        ),
        (400, error(code="content_filter"), ("permanent", "content_filter")),
        (
            503,
            error(type="unavailable_error", message="Loading model"),
            ("transient", "overloaded"),
        ),
        (503, error(message="The model is overloaded"), ("transient", "overloaded")),
        (404, error(type="invalid_request_error"), ("permanent", "not_found")),
        (500, error(type="invalid_request_error"), ("transient", "server")),
        (400, error(code="rate_limit_exceeded"), ("rate_limited", "rate_limited")),
        (
            429,
            error(message="INSUFFICIENT QUOTA for this minute", code="rate_limit_exceeded"),
            ("rate_limited", "rate_limited"),
        ),
        (403, error(message="agreement acceptance is pending"), ("transient", "auth")),
    ],
)
def test_a_code_says_more_than_a_status(status: int, body: Any, expected: tuple[str, str]) -> None:
    """A quota error retried for a minute costs a minute; a rate limit given up costs a run."""
    assert verdict(answered(status, body)) == expected


@pytest.mark.parametrize(
    ("said", "status", "kind"),
    [("false", 500, "permanent"), ("true", 400, "transient"), ("true", 429, "rate_limited")],
)
def test_x_should_retry_is_obeyed(said: str, status: int, kind: str) -> None:
    """The vendor knows whether its own error will pass."""
    assert answered(status, None, {"X-Should-Retry": said}).kind == kind


def test_x_should_retry_does_not_soften_a_used_up_quota() -> None:
    """OpenAI sends the header with quota errors too."""
    found = answered(429, error(code="insufficient_quota"), {"x-should-retry": "true"})

    assert verdict(found) == ("permanent", "quota")


@pytest.mark.parametrize(
    "body",
    [
        {"error": "no money"},
        {"error": {"message": "no money"}},
        [{"error": {"message": "no money"}}],
        {"type": "error", "error": {"type": "x", "message": "no money"}},
        {"object": "error", "message": "no money", "code": 400},
        {"detail": "no money"},
        {"type": "response.failed", "response": {"error": {"message": "no money"}}},
    ],
)
def test_every_shape_of_error_object_is_understood(body: Any) -> None:
    """Each vendor wraps its error differently."""
    assert read_fault(body).message == "no money"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'"text"',
        b'{"code":"%s"}' % (b"9" * 5_000),
    ],
)
def test_a_body_that_makes_no_sense_is_no_crash(body: bytes) -> None:
    """The status still decides when a proxy sends rubbish."""
    assert verdict(answered(502, body)) == ("transient", "server")


def test_a_hint_comes_only_with_errors_worth_waiting_for() -> None:
    """A wait on a permanent error would only delay telling anybody."""
    headers = {"Retry-After": "7"}

    assert answered(500, None, headers).retry_after_ms == 7_000
    assert answered(401, None, headers).retry_after_ms is None


def test_a_header_hint_wins_over_the_bodys() -> None:
    """A gateway in front knows its own limits better."""
    body = error(details=[{"@type": "RetryInfo", "retryDelay": "48s"}], status="UNAVAILABLE")

    assert answered(503, body, {"retry-after": "2"}).retry_after_ms == 2_000
    assert answered(503, body).retry_after_ms == 48_000


def test_a_daily_quota_of_gemini_is_not_waited_for() -> None:
    """Its RetryInfo says seconds, its quota says tomorrow."""
    details = [
        {"violations": [{"quotaId": "GenerateRequestsPerDayPerProject"}]},
        {"retryDelay": "30s"},
    ]

    found = answered(429, error(status="RESOURCE_EXHAUSTED", details=details))

    assert verdict(found) == ("permanent", "quota")
    assert found.retry_after_ms is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": {"code": "server_error"}}, ("transient", "server")),
        ({"error": {"code": "rate_limit_exceeded"}}, ("rate_limited", "rate_limited")),
        ({"error": {"code": "invalid_prompt"}}, ("permanent", "invalid_request")),
        ({"error": {"code": 429, "message": "slow"}}, ("rate_limited", "rate_limited")),
        ({"error": {"code": "502"}}, ("transient", "server")),
        ({"error": {"message": "x"}, "status_code": 401}, ("permanent", "auth")),
        ({"error": {"type": "overloaded_error"}}, ("transient", "overloaded")),
        ({"error": {"type": "api_error"}}, ("transient", "server")),
        ({"error": {"type": "invalid_request_error"}}, ("permanent", "invalid_request")),
        ({"error": {"status": "UNAVAILABLE"}}, ("transient", "server")),
        ({"error": {"message": "something new"}}, ("transient", "server")),
    ],
)
def test_an_error_inside_a_200_is_classified_by_what_it_says(
    body: Any, expected: tuple[str, str]
) -> None:
    """The status of the response says only that the stream began."""
    found = classify_event(body, request_id="req_1")

    assert verdict(found) == expected
    assert found.fields["in_stream"] is True
    assert found.fields["request_id"] == "req_1"


def make(name: str, *bases: type) -> Exception:
    """Return an exception of a class with this name, as another package would define it."""
    found: Exception = type(name, bases or (Exception,), {})("boom")
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("PoolTimeout", ("transient", "connection", "pool")),
        ("ConnectTimeout", ("transient", "connection", "connect")),
        ("ConnectError", ("transient", "connection", "connect")),
        ("WriteError", ("transient", "connection", "write")),
        ("ReadTimeout", ("transient", "timeout", "read")),
        ("ReadError", ("transient", "connection", "read")),
        ("RemoteProtocolError", ("transient", "connection", "read")),
        ("LocalProtocolError", ("permanent", "invalid_request", "connect")),
        ("UnsupportedProtocol", ("permanent", "invalid_request", "connect")),
        ("ServerDisconnectedError", ("transient", "connection", "read")),
        ("ClientPayloadError", ("transient", "connection", "read")),
        ("JSONDecodeError", ("transient", "malformed", "response")),
        ("SomethingElse", ("permanent", "invalid_request", "response")),
    ],
)
def test_a_transport_error_is_known_by_its_name(name: str, expected: tuple[str, str, str]) -> None:
    """httpx, httpx2 and aiohttp must be told apart without importing any of them."""
    found = classify_exception(make(name))

    assert (found.kind, found.category, found.fields["phase"]) == expected


def test_a_subclass_of_a_known_error_is_known() -> None:
    """Packages rename their errors from one version to the next."""
    parent = type(make("ConnectError"))

    assert classify_exception(make("NewConnectError", parent)).fields["phase"] == "connect"


def test_only_an_error_before_sending_says_that_nothing_was_sent() -> None:
    """An attempt that may have been billed is not free to repeat."""
    assert classify_exception(make("ConnectError")).sent is False
    assert classify_exception(make("ReadError")).sent is True


def test_a_certificate_error_is_permanent_however_deep_it_lies() -> None:
    """Clients wrap it twice in errors that look like a hiccup."""
    cause = ssl.SSLCertVerificationError("certificate verify failed")
    middle, outer = make("ConnectError"), make("ConnectError")
    middle.__cause__, outer.__context__ = cause, middle

    assert classify_exception(outer).kind == "permanent"


def test_an_error_of_ours_passes_unchanged() -> None:
    """Classifying twice must not lose what the first look found."""
    first = malformed("no choices")

    assert classify_exception(first) is first
    assert first.fields["max_retries"] == 1


def test_messages_are_short_and_plain() -> None:
    """An error page of a megabyte does not belong into an error."""
    page = answered(502, "<!DOCTYPE html>" + "x" * 1_000_000)
    prose = answered(500, error(message="a\n" * 10_000))

    assert str(page) == "HTTP 502: an HTML page"
    assert len(str(prose)) < 400
    assert "\n" not in str(prose)
