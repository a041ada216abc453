"""How a driver waits: for news, and for the others in one turn of the event loop."""

import asyncio
from collections.abc import Generator
from types import coroutine


class News:
    """An event for the one who waits for it; half as dear as asyncio's.

    Attributes:
        came: they came since whoever waits for them set this to False.
    """

    __slots__ = ("_loop", "_waiter", "came")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiter = loop.create_future()
        self.came = False

    def come(self) -> None:
        """Wake the waiter, now or when it begins to wait."""
        self.came = True
        if not self._waiter.done():
            self._waiter.set_result(None)

    def wait(self) -> asyncio.Future[None]:
        """Return what is done once news come; call it when none `came`."""
        self._waiter = self._loop.create_future()
        return self._waiter


@coroutine
def turn() -> Generator[None]:
    """Wait for the others in this turn of the loop, as `asyncio.sleep(0)`, at half its price."""
    yield
