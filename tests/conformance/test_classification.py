"""What an error means, told in each provider's own words."""

import subprocess
import sys
from typing import Any

import pytest

from gatebook.kernel.classify import classify_exception
from gatebook.runtime.runs.states import Finished
from gatebook.testing.fault_server import FaultServer, Play, answer
from tests.conformance.adapters import (
    CHAT_ADAPTER,
    RESPONSES_ADAPTER,
    Adapter,
    every_adapter,
    on,
)
from tests.conformance.cases import case
from tests.conformance.kit import answering, driven, failing_with, refuses, run, served
from tests.providers.calls import asking, failing, failing_whole

PERMANENT_QUOTA = ("permanent", "quota")
OPENAI_QUOTAS = [
    {"type": "insufficient_quota", "code": "insufficient_quota"},
    {"type": "x", "code": "billing_hard_limit_reached"},
    {"type": "x", "code": "project_spend_limit_reached"},
    {"type": "exceeded_current_quota_error", "code": None},
]


async def both(adapter: Adapter, play: Play) -> tuple[str, str]:
    """Return kind and category of an error, the same streamed and whole, one request each."""
    async with served(adapter, play) as it:
        one = await failing(it.provider, asking())
        other = await failing_whole(it.provider, asking())
        assert refuses(one) == refuses(other)
        assert it.server.count == 2
        return refuses(one)


@case(13)
@every_adapter
def test_402_is_a_quota(adapter: Adapter) -> None:
    """Case 13: nobody pays while we wait."""

    async def scenario() -> None:
        assert await both(adapter, answer(402, {"error": {"message": "pay"}})) == PERMANENT_QUOTA

    run(scenario())


@case(13)
@every_adapter
def test_a_vendors_own_words_for_quota_are_permanent(adapter: Adapter) -> None:
    """Case 13: on a 429 as well, where the status says that waiting helps."""

    async def scenario() -> None:
        assert await both(adapter, failing_with(adapter, "quota")) == PERMANENT_QUOTA

    run(scenario())


@case(13)
@on(CHAT_ADAPTER, RESPONSES_ADAPTER)
@pytest.mark.parametrize("error", OPENAI_QUOTAS)
def test_quota_codes_outrank_429_and_should_retry(
    adapter: Adapter, error: dict[str, str | None]
) -> None:
    """Case 13: a limit on spending is not a limit on speed."""

    async def scenario() -> None:
        body = {"error": {"message": "told", **error}}
        play = answer(429, body, retry_after="1", x_should_retry="true")

        assert await both(adapter, play) == PERMANENT_QUOTA

    run(scenario())


@case(13)
@on(CHAT_ADAPTER)
def test_prose_about_quota_is_not_a_quota(adapter: Adapter) -> None:
    """Case 13: some servers write "INSUFFICIENT QUOTA" for a limit per minute; codes count."""

    async def scenario() -> None:
        body = {"error": {"message": "INSUFFICIENT QUOTA", "code": "rate_limit_exceeded"}}

        assert await both(adapter, answer(429, body)) == ("rate_limited", "rate_limited")

    run(scenario())


@case(14)
@every_adapter
@pytest.mark.parametrize("status", [500, 401])
def test_a_server_that_forbids_a_retry_is_obeyed(adapter: Adapter, status: int) -> None:
    """Case 14: it knows that the request is what is wrong."""

    async def scenario() -> None:
        play = answer(status, {"error": {"message": "no"}}, x_should_retry="false")

        kind, _ = await both(adapter, play)

        assert kind == "permanent"

    run(scenario())


@case(15)
@every_adapter
def test_a_full_context_is_permanent_with_status_500(adapter: Adapter) -> None:
    """Case 15: llama.cpp answers so; the same prompt will not become shorter."""

    async def scenario() -> None:
        told = {"message": "Context size has been exceeded.", "type": "server_error", "code": 500}

        assert await both(adapter, answer(500, {"error": told})) == ("permanent", "context_length")

    run(scenario())


@case(15)
@every_adapter
def test_a_vendors_own_words_for_a_full_context_are_read(adapter: Adapter) -> None:
    """Case 15: a fallback to a larger model hangs on this category."""

    async def scenario() -> None:
        found = await both(adapter, failing_with(adapter, "context"))

        assert found == ("permanent", "context_length")

    run(scenario())


@case(16)
@every_adapter
def test_a_gateways_html_page_is_a_server_error(adapter: Adapter) -> None:
    """Case 16: a proxy's page is no answer, and not the provider's last word."""

    async def scenario() -> None:
        page = answer(502, "<html>Bad Gateway</html>", content_type="text/html")

        assert await both(adapter, page) == ("transient", "server")

    run(scenario())


@case(17)
@every_adapter
def test_a_model_that_is_still_loading_is_asked_again(adapter: Adapter) -> None:
    """Case 17, made up: a local server says so for its first half second."""
    told = {"code": 503, "message": "Loading model", "type": "unavailable_error"}
    loading = answer(503, {"error": told})

    async def scenario() -> None:
        async with driven(adapter, loading, loading, answering(adapter)) as it:
            state = await it.end(await it.start())

            assert state == Finished("hello")
            assert {each.error.category for each in await it.failures()} == {"overloaded"}
            assert it.server.count == 3

    run(scenario())


# Names as httpx, httpx2 and aiohttp give them, with the classes they inherit from.
FOREIGN = {
    "PoolTimeout": ("transient", "connection"),
    "ConnectError": ("transient", "connection"),
    "ConnectTimeout": ("transient", "connection"),
    "ReadTimeout": ("transient", "timeout"),
    "ReadError": ("transient", "connection"),
    "RemoteProtocolError": ("transient", "connection"),
    "ServerDisconnectedError": ("transient", "connection"),
    "ClientPayloadError": ("transient", "connection"),
    "ClientConnectorError": ("transient", "connection"),
    "UnsupportedProtocol": ("permanent", "invalid_request"),
    "TypeError": ("permanent", "invalid_request"),
    "ClientConnectorCertificateError": ("permanent", "connection"),
}


@case(43)
@pytest.mark.parametrize("name", FOREIGN)
def test_an_exception_is_known_by_its_name(name: str) -> None:
    """Case 43: the class may come from a package that is not installed here."""
    made = type(name, (Exception,), {})("told")

    error = classify_exception(made)

    assert refuses(error) == FOREIGN[name]


@case(43)
@pytest.mark.parametrize("module", ["httpx2", "httpx", "aiohttp"])
def test_a_subclass_of_a_known_exception_is_known(module: str) -> None:
    """Case 43: real ones where the package is there, and what SDKs derive from them."""
    package = pytest.importorskip(module, reason=f"{module} is not installed")
    name = "ServerDisconnectedError" if module == "aiohttp" else "RemoteProtocolError"
    derived = type("TheirOwn", (getattr(package, name),), {})

    error = classify_exception(derived("gone"), in_stream=True)

    assert refuses(error) == ("transient", "connection")
    assert error.fields["in_stream"]


WITHOUT = """
import sys
for name in ("httpx", "httpx2", "aiohttp", "openai", "anthropic", "google.genai"):
    sys.modules[name] = None
from gatebook.kernel.classify import classify_exception
for name in sys.argv[1:]:
    error = classify_exception(type(name, (Exception,), {})("told"))
    print(error.kind, error.fields["category"])
"""


@case(43)
def test_exceptions_are_classified_without_any_client() -> None:
    """Case 43: the table imports nobody, so that it works with whichever is there."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *FOREIGN], check=True, capture_output=True, text=True
    )

    assert [tuple(line.split()) for line in done.stdout.splitlines()] == list(FOREIGN.values())


@case(44)
@every_adapter
@pytest.mark.parametrize("fails", [failing, failing_whole])
def test_a_server_that_is_not_there_is_named(fails: Any, adapter: Adapter) -> None:
    """Case 44: who wrote the address reads it, but nothing of it that may be secret."""

    async def scenario() -> None:
        async with FaultServer() as server:
            host = server.url.removesuffix("/v1")
        provider = adapter.make(f"{host}/t0ken")

        error = await fails(provider, asking())

        told = f"(at {host}: is it reachable from here? base_url in gatebook.toml names another)"
        assert error.message.endswith(told)
        assert error.message.count(host) == 1
        assert "t0ken" not in error.message
        await provider.aclose()

    run(scenario())


@case(44)
@every_adapter
@pytest.mark.parametrize("fails", [failing, failing_whole])
@pytest.mark.parametrize(
    "play", [answer(401, {"error": "no"}), answer(500, "<html>"), answer(200, "<html>")]
)
def test_an_answer_that_is_none_names_its_server(play: Play, fails: Any, adapter: Adapter) -> None:
    """Case 44: something else may listen where the model was."""

    async def scenario() -> None:
        async with served(adapter, play) as it:
            error = await fails(it.provider, asking())

            assert error.message.endswith(f" (from {it.server.url.removesuffix('/v1')})")

    run(scenario())
