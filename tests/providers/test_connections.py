"""Connections that are used again, and those that the server is about to close."""

import asyncio

from gatebook.providers.transport import pool
from gatebook.testing.fault_server import FaultServer
from tests.conformance.adapters import (
    ANTHROPIC_ADAPTER,
    CHAT_ADAPTER,
    RESPONSES_ADAPTER,
    Adapter,
    on,
)
from tests.conformance.kit import HELLO, answering, served
from tests.providers.calls import CALL, asking, attempt

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


def test_an_idle_connection_is_given_up_before_servers_give_it_up() -> None:
    """At the same age, a request and the server's close would cross on the way."""
    assert 0 < (pool(2).keepalive_expiry or 0) < THEIRS_S
