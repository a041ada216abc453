"""Which hosts and addresses `http` calls, and which it must not."""

import asyncio
import socket
from collections.abc import Sequence

import pytest
from tests.tools.shipped import ask
from tests.tools.web import at, names, refused, tools, with_server

from gatebook.errors import ActionError
from gatebook.testing.fault_server import FaultServer, answer


def test_a_host_that_is_not_listed_is_not_asked() -> None:
    """The list is checked before anything is resolved."""
    resolve = names(evil=["127.0.0.1"])

    async def scenario(server: FaultServer) -> None:
        get = tools([at(server)], resolve=resolve)["get"]
        error = await refused(get, url=f"http://{at(server, 'evil.example')}/")

        assert error.code == "E_HTTP_HOST"
        assert (server.count, resolve.asked) == (0, [])

    with_server(scenario, answer(200, ""))


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "169.254.169.254", "10.0.0.1", "::ffff:127.0.0.1", "0.0.0.0", "fe80::1"],
)
def test_a_listed_host_with_an_address_of_ours_is_not_asked(address: str) -> None:
    """A10: a name can be pointed anywhere by whoever owns it."""
    resolve = names(web=[f"93.184.216.34 {address}"])

    async def scenario(server: FaultServer) -> None:
        host = at(server, "web.example")
        error = await refused(
            tools([host], private=(), resolve=resolve)["get"], url=f"http://{host}"
        )

        assert error.code == "E_HTTP_ADDRESS"
        assert server.connections == 0

    with_server(scenario, answer(200, ""))


def test_an_address_in_a_url_is_checked_as_well() -> None:
    """A10: to list an address is not to say that it may be one of ours."""

    async def scenario(server: FaultServer) -> None:
        error = await refused(tools([at(server)], private=())["get"], url=server.url)

        assert error.code == "E_HTTP_ADDRESS"
        assert server.connections == 0

    with_server(scenario, answer(200, ""))


def test_the_address_that_was_checked_is_the_one_that_is_called() -> None:
    """DNS rebinding: a second look-up would answer otherwise. There is none."""
    resolve = names(web=["127.0.0.1", "169.254.169.254"])

    async def scenario(server: FaultServer) -> None:
        host = at(server, "web.example")
        get = tools([host], resolve=resolve)["get"]
        await ask(get, url=f"http://{host}/a")

        assert [r.headers["host"] for r in server.requests] == [host]
        assert resolve.asked == ["web.example"]
        assert (await refused(get, url=f"http://{host}/b")).code == "E_HTTP_ADDRESS"
        assert server.connections == 1

    with_server(scenario, answer(200, ""))


def test_a_name_that_cannot_be_resolved_is_no_effect() -> None:
    """So even what may happen only once can be tried again."""

    async def fails(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror("no such name")

    async def scenario() -> ActionError:
        return await refused(
            tools(["web.example"], resolve=fails)["send"], url="http://web.example"
        )

    assert asyncio.run(scenario()).kind == "transient"


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    """Nothing was sent to the first."""
    resolve = names(web=["127.0.0.2 127.0.0.1"])

    async def scenario(server: FaultServer) -> None:
        host = at(server, "web.example")
        made = tools([host], private=["127.0.0.0/8"], resolve=resolve)

        assert (await ask(made["send"], url=f"http://{host}/"))["status"] == 200

    with_server(scenario, answer(200, ""))


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would resolve by itself, and be asked for what was refused here."""

    async def scenario(server: FaultServer) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

        assert (await ask(tools([at(server)])["get"], url=server.url))["status"] == 200

    with_server(scenario, answer(200, ""))
