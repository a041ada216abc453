"""What an SDK's exceptions mean, and what is said when its package or its key is not there."""

import sys
from types import SimpleNamespace

import httpx2
import openai
import pytest

from gatebook.errors import ConfigError
from gatebook.providers.sdk import require_extra, sdk_error, truncated, vendor_key

REQUEST = httpx2.Request("POST", "http://127.0.0.1/v1")


def response(status: int, body: str = "", **headers: str) -> httpx2.Response:
    """Return a response that has been read."""
    return httpx2.Response(status, text=body, headers=headers, request=REQUEST)


def status(code: int, body: str = "", **headers: str) -> Exception:
    """Return what an SDK raises for a response with an error status."""
    return openai.APIStatusError("x", response=response(code, body, **headers), body=None)


def wrapped(cause: Exception) -> Exception:
    """Return what an SDK raises for a failure of the transport."""
    error = openai.APIConnectionError(request=REQUEST)
    error.__cause__ = cause
    return error


QUOTA = '{"error": {"code": "insufficient_quota", "message": "no money"}}'


@pytest.mark.parametrize(
    ("exc", "kind", "category", "hint"),
    [
        (status(429, **{"retry-after": "2"}), "rate_limited", "rate_limited", 2_000),
        (status(429, QUOTA), "permanent", "quota", None),
        (status(302), "permanent", "invalid_request", None),
        (wrapped(httpx2.ConnectError("x")), "transient", "connection", None),
        (wrapped(httpx2.ConnectTimeout("x")), "transient", "connection", None),
        (wrapped(httpx2.ReadTimeout("x")), "transient", "timeout", None),
        (openai.APIError("x", REQUEST, body={"code": "server_error"}), "transient", "server", None),
        (openai.APIResponseValidationError(response(200), None), "transient", "malformed", None),
        (httpx2.RemoteProtocolError("x"), "transient", "connection", None),
        (TypeError("our own mistake"), "permanent", "invalid_request", None),
    ],
)  # fmt: skip
def test_an_sdks_exception_is_classified_by_what_it_holds(
    exc: Exception, kind: str, category: str, hint: int | None
) -> None:
    """The names of SDK exceptions change; status, headers, body and cause do not."""
    error = sdk_error(exc)

    assert (error.kind, error.category, error.retry_after_ms) == (kind, category, hint)


def test_inside_a_stream_the_headers_are_not_read() -> None:
    """They are those of the 200, and some vendors put a retry-after on every answer."""
    exc = SimpleNamespace(
        body={"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
        response=response(200, **{"retry-after": "59"}),
    )
    told = type("APIStatusError", (Exception,), vars(exc))()

    error = sdk_error(told, in_stream=True)

    assert (error.kind, error.category, error.retry_after_ms) == ("transient", "overloaded", None)


def test_an_error_of_ours_stays_as_it_is() -> None:
    """Converters say what is wrong better than a table can."""
    error = truncated("req_1")

    assert sdk_error(error) is error


@pytest.mark.parametrize("module", ["no_such_package", "no_such_package.inner", "json.no_such"])
def test_a_missing_extra_says_what_to_install(module: str) -> None:
    """The package of an extra may be a namespace inside another."""
    with pytest.raises(
        ConfigError, match=r'pip install "gatebook\[openai\]" \(or do without\)'
    ) as e:
        require_extra(module, "openai", instead="or do without")

    assert e.value.code == "E_EXTRA_MISSING"


def test_a_present_extra_is_not_imported() -> None:
    """Looking must not cost what importing costs."""
    require_extra("this", "zen")

    assert "this" not in sys.modules


def test_a_given_key_wins_over_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code is nearer than the environment."""
    monkeypatch.setenv("VENDOR_KEY", "from-the-environment")

    assert vendor_key("given", "VENDOR_KEY", base_url=None, provider="x") == "given"


def test_the_variable_is_for_the_vendor_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key must not go to an address that somebody else wrote down."""
    monkeypatch.setenv("VENDOR_KEY", "from-the-environment")

    assert vendor_key(None, "VENDOR_KEY", base_url=None, provider="x") == "from-the-environment"
    assert vendor_key(None, "VENDOR_KEY", base_url="http://a", provider="x") == ""


def test_a_missing_key_names_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text must say what to set."""
    for variable in ("A_KEY", "B_KEY"):
        monkeypatch.delenv(variable, raising=False)

    with pytest.raises(ConfigError, match="A_KEY or B_KEY") as caught:
        vendor_key(None, "A_KEY", "B_KEY", base_url=None, provider="x")

    assert caught.value.code == "E_KEY_MISSING"
