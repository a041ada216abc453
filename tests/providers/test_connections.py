"""Connections that are used again, and those that the server is about to close."""

import asyncio
from typing import Any

import pytest

from gatebook.kernel.messages import Timeouts
from gatebook.providers.transport import pool
from gatebook.testing.fault_server import FaultServer, answer
from tests.conformance.adapters import (
    ANTHROPIC_ADAPTER,
    CHAT_ADAPTER,
    RESPONSES_ADAPTER,
    Adapter,
    every_adapter,
    on,
)
from tests.conformance.kit import HELLO, answering, served
from tests.providers.calls import CALL, asking, attempt, failing, failing_whole

SPOKEN_BY_LLAMA = on(CHAT_ADAPTER, RESPONSES_ADAPTER, ANTHROPIC_ADAPTER)
THEIRS_S = 5.0  # uvicorn, Node and llama.cpp's server


async def used(adapter: Adapter, *, streamed: bool, **headers: str) -> FaultServer:
    """Return the server that was asked three times, one after the other."""
    async with served(adapter, answering(adapter, HELLO, **headers)) as it:
        for _ in range(3):
            if streamed:
                await attempt(it.provider, asking())
            else:
                await it.provider.complete(asking(), CALL)
    return it.server


@SPOKEN_BY_LLAMA
def test_a_stream_of_llama_cpp_ends_its_connection(adapter: Adapter) -> None:
    """Its server closes after each stream without saying so; a request in that moment is lost."""
    server = asyncio.run(used(adapter, streamed=True, server="llama.cpp"))

    assert (server.count, server.connections) == (3, 3)


@SPOKEN_BY_LLAMA
def test_a_whole_answer_of_llama_cpp_leaves_its_connection(adapter: Adapter) -> None:
    """There it keeps its word."""
    server = asyncio.run(used(adapter, streamed=False, server="llama.cpp"))

    assert (server.count, server.connections) == (3, 1)


@SPOKEN_BY_LLAMA
def test_a_stream_of_another_server_leaves_its_connection(adapter: Adapter) -> None:
    """A new one for each call would cost a handshake each time."""
    server = asyncio.run(used(adapter, streamed=True, server="nginx"))

    assert (server.count, server.connections) == (3, 1)


@every_adapter
@pytest.mark.parametrize("fails", [failing, failing_whole], ids=["stream", "whole"])
def test_a_redirect_is_not_followed(adapter: Adapter, fails: Any) -> None:
    """It would take the key, or the question, to another address."""

    async def scenario() -> None:
        async with FaultServer(answer(200, "taken")) as other:
            to = answer(307, "", location=f"{other.url}/elsewhere")
            async with served(adapter, to) as it:
                error = await fails(it.provider, asking())

                assert (error.kind, it.server.count, other.count) == ("permanent", 1, 0)

    asyncio.run(scenario())


def test_an_idle_connection_is_given_up_before_servers_give_it_up() -> None:
    """At the same age, a request and the server's close would cross on the way."""
    assert 0 < (pool(2).keepalive_expiry or 0) < THEIRS_S


class Leaping(asyncio.SelectorEventLoop):
    """An event loop whose clock can be put forward."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


@every_adapter
@pytest.mark.parametrize("streamed", [True, False])
def test_making_a_client_is_not_the_providers_time(adapter: Adapter, streamed: bool) -> None:
    """Importing an SDK takes seconds: a first call with a short limit would fail for nothing."""

    async def scenario() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Leaping)
        async with served(adapter, answering(adapter)) as it:
            clients = it.provider._clients
            make = clients._make

            def slowly(module: Any) -> Any:
                loop.ahead_s += 1_000
                return make(module)

            clients._make = slowly
            request = asking(timeouts=Timeouts(first_event_ms=600_000, total_ms=600_000))
            if streamed:
                await attempt(it.provider, request)
            else:
                await it.provider.complete(request, CALL)
            return it.server.count

    with asyncio.Runner(loop_factory=Leaping) as runner:
        assert runner.run(scenario()) == 1
