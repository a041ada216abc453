"""HTTP clients and SDKs of adapters: imported and made at first use, away from the event loop.

It knows event loops and threads, nothing of what a client does.
"""

import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module
from types import ModuleType
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

Client = TypeVar("Client")

_modules: dict[str, ModuleType] = {}


class Clients(Generic[Client]):
    """The clients of a provider, one for each event loop: a connection belongs to its loop.

    A client reads certificates when it is made, which takes up to 150 ms, and an SDK takes
    seconds to import: a thread does both, and other runs go on.
    """

    def __init__(
        self,
        module: str,
        make: Callable[[Any], Client],
        close: Callable[[Client], Awaitable[Any]],
    ) -> None:
        """Take which module to import at first use, and how to make a client from it."""
        self._module = module
        self._make = make
        self._close = close
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Client] = WeakKeyDictionary()
        self._making: dict[asyncio.AbstractEventLoop, asyncio.Task[Client]] = {}

    async def get(self) -> Client:
        """Return the client of the running loop."""
        loop = asyncio.get_running_loop()
        client = self._by_loop.get(loop)
        if client is None:
            client = await asyncio.shield(self._making.get(loop) or self._begin(loop))
        return client

    async def aclose(self) -> None:
        """Close the connections of the running loop; the next call makes a new client."""
        loop = asyncio.get_running_loop()
        if loop in self._making:
            await asyncio.wait({self._making[loop]})
        client = self._by_loop.pop(loop, None)
        if client is not None:
            await self._close(client)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> "asyncio.Task[Client]":
        """Make the client that all calls of this moment wait for, also when one is cancelled."""
        making = self._making[loop] = loop.create_task(self._made(loop))
        making.add_done_callback(lambda _: self._making.pop(loop, None))
        return making

    async def _made(self, loop: asyncio.AbstractEventLoop) -> Client:
        module = await imported(self._module)
        client = self._by_loop[loop] = await asyncio.to_thread(self._make, module)
        return client


async def imported(name: str) -> ModuleType:
    """Return a module; the first import, which takes seconds, does not hold up the loop."""
    module = _modules.get(name)
    if module is None:
        module = _modules[name] = await asyncio.to_thread(import_module, name)
    return module
