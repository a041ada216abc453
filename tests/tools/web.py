"""What tests of the http tool share: a server of this machine, names for it, tools that call it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from tests.runtime.kit import PATIENCE_S
from tests.tools.shipped import ask

from gatebook.errors import ActionError
from gatebook.testing.fault_server import FaultServer, Play, answer
from gatebook.tools import http

Scenario = Callable[[FaultServer], Awaitable[Any]]
HERE = ("127.0.0.1",)


def with_server(scenario: Scenario, *plays: Any) -> Any:
    """Run a scenario beside a server."""

    async def bounded() -> Any:
        async with asyncio.timeout(PATIENCE_S), FaultServer(*plays) as server:
            return await scenario(server)

    return asyncio.run(bounded())


def at(server: FaultServer, host: str = "127.0.0.1") -> str:
    """The server as a host of a list."""
    return f"{host}:{server.url.rpartition(':')[2]}"


def names(**table: Any) -> Any:
    """A resolver that knows a few names, and remembers who was asked for."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        found: list[str] = table[host.partition(".")[0]]
        return found.pop(0).split() if len(found) > 1 else found[0].split()

    asked: list[str] = []
    resolve.asked = asked  # type: ignore[attr-defined]
    return resolve


def tools(hosts: Sequence[str], **options: Any) -> dict[str, Any]:
    """The tools of some hosts, over plain HTTP and on this machine, by the end of their names."""
    given: dict[str, Any] = {"schemes": ["http"], "private": HERE}
    given |= {"methods": ["GET", "POST"], **options}
    return {tool.name.rpartition(".")[2]: tool for tool in http(hosts, **given)}


async def refused(made: Any, **args: Any) -> ActionError:
    """The error that says: refused, and nothing happened."""
    with pytest.raises(ActionError) as caught:
        await ask(made, **args)
    return caught.value


def redirect(to: str, status: int = 302) -> Play:
    """An answer that leads elsewhere."""
    return answer(status, "", location=to)
