"""Keys that the host gives to `http`: who gets them, and that nobody else does."""

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from tests.tools.shipped import ask
from tests.tools.web import at, names, redirect, refused, tools, with_server

from gatebook.kernel.rules.places import HostPattern, read_host
from gatebook.testing.fault_server import FaultServer, Play, Send, answer
from gatebook.tools.exchange import Exchange, resolved
from gatebook.tools.reach import reach

KEY = "canary-7f3e91d2b4"


def test_keys_go_to_their_host_only() -> None:
    """A redirect to another listed host must not carry them along."""
    resolve = names(one=["127.0.0.1"], two=["127.0.0.1"])

    async def scenario(server: FaultServer) -> None:
        one, two = at(server, "one.example"), at(server, "two.example")
        get = tools(
            [one, two], resolve=resolve, headers_for={one: {"Authorization": lambda: "Bearer 1"}}
        )["get"]
        server._plays = (redirect(f"http://{two}/"), answer(200, ""))
        await ask(get, url=f"http://{one}/")

        assert [r.headers.get("authorization") for r in server.requests] == ["Bearer 1", None]

    with_server(scenario, answer(200, ""))


@pytest.mark.parametrize(
    ("schemes", "host", "url", "sent"),
    [
        (["https", "http"], "api.example.com", "https://api.example.com/", True),
        (["https", "http"], "api.example.com", "http://api.example.com/", False),
        (["https", "http"], "api.example.com:80", "http://api.example.com/", True),
        (["http"], "api.example.com", "http://api.example.com/", True),
    ],
)
def test_a_key_goes_over_plain_http_only_where_that_was_said(
    schemes: list[str], host: str, url: str, sent: bool
) -> None:
    """Else a model, or a redirect, could have it shown to everybody on the way."""
    (named,) = [HostPattern(found.name, found.port) for found in [read_host(host)] if found]
    made = Exchange(
        reach=reach("http", ["api.example.com:*"], schemes, ()), resolve=resolved,
        added=[(named, {"authorization": lambda: KEY})], max_bytes=1, tls=None,
    )  # fmt: skip

    headers, keys = made._own(made.reach.check(url))

    assert (headers, keys) == (({"authorization": KEY}, [KEY]) if sent else ({}, []))


def test_a_key_that_a_server_repeats_is_cut() -> None:
    """An answer is journaled, shown to the model and printed."""

    async def scenario(server: FaultServer) -> None:
        host = at(server)
        key = lambda: "Bearer canary-7f3e91d2b4"  # noqa: E731 - as users write it
        get = tools([host], headers_for={host: {"Authorization": key}})["get"]

        found = await ask(get, url=server.url)

        assert "canary" not in json.dumps(found)
        assert found["text"] == "no such key: [key] ([key])"

    said = "no such key: canary-7f3e91d2b4 (Bearer canary-7f3e91d2b4)"
    with_server(scenario, answer(401, said, etag="canary-7f3e91d2b4"))


@pytest.mark.parametrize(
    ("body", "most"),
    [
        (b"pad " + KEY.encode() + b" \xff", 1_000),
        (b"pad " + KEY.encode(), 4 + len(KEY) - 1),
        (b"pad " + KEY.encode(), 4 + 8),
        (b"\xff " + KEY.encode(), 2 + len(KEY) - 1),
    ],
    ids=["no text", "cut before its end", "its beginning", "no text and cut"],
)
def test_a_key_is_cut_out_of_any_body(body: bytes, most: int) -> None:
    """Whoever asks may choose what an echo says, and where it is cut."""

    async def scenario(server: FaultServer) -> None:
        host = at(server)
        get = tools([host], headers_for={host: {"X-Key": lambda: KEY}}, max_bytes=most)["get"]

        found = await ask(get, url=server.url)

        text = found["text"]
        told = base64.b64decode(text) if found["encoding"] == "base64" else text.encode()
        assert KEY[:8].encode() not in told
        assert b"[key]" in told

    with_server(scenario, answer(200, body))


def test_a_key_that_an_error_quotes_is_cut() -> None:
    """What cannot be read as HTTP is shown in the client's error."""

    async def scenario(server: FaultServer) -> None:
        host = at(server)
        get = tools([host], headers_for={host: {"X-Key": lambda: KEY}})["get"]

        with pytest.raises(ConnectionError) as caught:
            await ask(get, url=server.url)

        assert "[key]" in str(caught.value)
        assert KEY not in str(caught.value)

    with_server(scenario, Play(Send(f"HTTP/1.1 200 OK\r\nno {KEY}\r\n\r\n".encode())))


def test_a_key_that_cannot_be_written_is_in_no_error() -> None:
    """A file's last space is enough for that."""

    async def scenario(server: FaultServer) -> None:
        host = at(server)
        get = tools([host], headers_for={host: {"X-Key": lambda: f"{KEY} "}})["get"]

        assert KEY not in str(await refused(get, url=server.url))
        assert server.count == 0

    with_server(scenario, answer(200, ""))


def test_a_key_function_is_asked_each_time() -> None:
    """Keys are renewed while a worker lives."""
    keys = iter(["first", "second"])

    async def scenario(server: FaultServer) -> None:
        host = at(server)
        get = tools([host], headers_for={host: {"X-Key": lambda: next(keys)}})["get"]
        await ask(get, url=server.url)
        await ask(get, url=server.url)

        assert [r.headers["x-key"] for r in server.requests] == ["first", "second"]

    with_server(scenario, answer(200, ""))


ODD = 'can/ary+7f"3e&91~d2b4'


@pytest.mark.parametrize(
    "form",
    [
        json.dumps(ODD).replace("/", "\\/"),
        quote(ODD, safe=""),
        base64.b64encode(f"user:{ODD}".encode()).decode(),
    ],
)
def test_a_key_is_cut_in_whatever_form_a_server_repeats_it(form: str) -> None:
    """PHP escapes the slashes of its JSON; a URL is quoted in an error page."""

    async def scenario(server: FaultServer) -> None:
        host = at(server)
        get = tools([host], headers_for={host: {"X-Key": lambda: ODD}})["get"]

        found = await ask(get, url=server.url)

        assert "[key]" in found["text"]
        assert not any(form[at : at + 12] in found["text"] for at in range(4, len(form) - 16))

    with_server(scenario, answer(401, f"no such key: {form}"))


@pytest.mark.parametrize("value", ["a\r\nb: c", "é", None, " canary"])
def test_a_key_that_no_header_may_hold_is_not_sent(value: Any) -> None:
    """Nor is it in the error."""

    async def scenario(server: FaultServer) -> None:
        host = at(server)
        get = tools([host], headers_for={host: {"X-Key": lambda: value}})["get"]

        error = await refused(get, url=server.url)

        assert error.code == "E_HTTP_HEADER"
        assert "canary" not in str(error)
        assert server.count == 0

    with_server(scenario, answer(200, ""))
