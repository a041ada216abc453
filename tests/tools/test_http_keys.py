"""Keys that the host gives to `http`: who gets them, and that nobody else does."""

import json
from typing import Any

import pytest
from tests.tools.shipped import ask
from tests.tools.web import at, names, redirect, refused, tools, with_server

from gatebook.testing.fault_server import FaultServer, answer


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


@pytest.mark.parametrize("value", ["a\r\nb: c", "é", None])
def test_a_key_that_no_header_may_hold_is_not_sent(value: Any) -> None:
    """Nor is it in the error."""

    async def scenario(server: FaultServer) -> None:
        host = at(server)
        get = tools([host], headers_for={host: {"X-Key": lambda: value}})["get"]

        assert (await refused(get, url=server.url)).code == "E_HTTP_HEADER"
        assert server.count == 0

    with_server(scenario, answer(200, ""))
