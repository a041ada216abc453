"""What tests of cassettes share: providers to record, recordings, and attempts on them."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

from tests.providers.calls import asking, attempt, failing

from gatebook.errors import ProviderError
from gatebook.kernel.messages import ChatRequest, ChatResponse, StreamEvent
from gatebook.providers import OpenAICompatible, Reply, Scripted
from gatebook.testing.cassette import Cassette
from gatebook.testing.fault_server import FaultServer, Play

KEY = "sk-proj-0123456789abcdefghijklmnop"
SECRET = "correct-horse-battery-staple"


def echo() -> Scripted:
    """Return a provider that says what it was told."""
    return Scripted(lambda request: f"you said {request.messages[-1].text}")


def refusing(error: ProviderError) -> Scripted:
    """Return a provider that fails."""

    def refuse(_: ChatRequest) -> Reply:
        raise error

    return Scripted(refuse)


def record(path: Path, *requests: ChatRequest, provider: Any = None, **options: Any) -> None:
    """Record requests, whatever becomes of them."""
    deck = Cassette(path, provider=provider or echo(), mode="record", **options)

    async def scenario() -> None:
        for request in requests:
            with contextlib.suppress(ProviderError):
                await attempt(deck, request)

    asyncio.run(scenario())


def record_served(path: Path, play: Play, *, key: str | None = None) -> None:
    """Record one request to a server that plays this, whatever becomes of it."""

    async def scenario() -> None:
        async with FaultServer(play) as server:
            provider = OpenAICompatible(server.url, key)
            with contextlib.suppress(ProviderError):
                await attempt(Cassette(path, provider=provider, mode="record"), asking())
            await provider.aclose()

    asyncio.run(scenario())


def answered(deck: Any, request: ChatRequest) -> ChatResponse:
    """Return the answer of one attempt."""
    return asyncio.run(attempt(deck, request))[0]


def shown(deck: Any, request: ChatRequest) -> list[StreamEvent]:
    """Return what a reader of one attempt saw."""
    return asyncio.run(attempt(deck, request))[1]


def failed(deck: Any, request: ChatRequest) -> ProviderError:
    """Return the error of one attempt."""
    return asyncio.run(failing(deck, request))


def stored(path: Path) -> list[dict[str, Any]]:
    """Return the recordings in a file."""
    found: list[dict[str, Any]] = json.loads(path.read_text())["recordings"]
    return found
