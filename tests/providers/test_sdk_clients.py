"""The clients of a provider: one for each event loop, made when first needed, in a thread."""

import asyncio
import contextlib
import gc
import threading

from gatebook.providers.clients import Clients, imported


class Made:
    """A client that knows whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        self.closed = True


def clients() -> Clients[Made]:
    return Clients("json", lambda module: Made(), lambda made: made.close())


def test_calls_that_begin_together_share_one_client() -> None:
    """A second client would be a second pool that nobody closes."""

    async def scenario() -> list[Made]:
        kept = clients()
        return await asyncio.gather(*(kept.get() for _ in range(5)))

    first, *others = asyncio.run(scenario())

    assert all(other is first for other in others)


def test_making_a_client_does_not_hold_up_the_loop() -> None:
    """It reads certificates, and other runs go on meanwhile."""
    may_end = threading.Event()

    def make(_: object) -> Made:
        assert may_end.wait(30)
        return Made()

    async def scenario() -> None:
        kept = Clients("json", make, lambda made: made.close())
        getting = asyncio.create_task(kept.get())
        await asyncio.sleep(0)
        may_end.set()  # reached only if the loop goes on
        assert isinstance(await getting, Made)

    asyncio.run(scenario())


def test_a_caller_that_is_cancelled_spoils_no_other() -> None:
    """They wait for the same client."""
    may_end = threading.Event()

    def make(_: object) -> Made:
        assert may_end.wait(30)
        return Made()

    async def scenario() -> tuple[Made, Made]:
        kept = Clients("json", make, lambda made: made.close())
        first, second = (asyncio.create_task(kept.get()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        may_end.set()
        return await second, await kept.get()

    one, same = asyncio.run(scenario())

    assert one is same


def test_a_client_that_could_not_be_made_is_tried_again() -> None:
    """A certificate file may be there the next time."""
    faults = [OSError("no certificates")]

    def make(_: object) -> Made:
        if faults:
            raise faults.pop()
        return Made()

    async def scenario() -> Made:
        kept = Clients("json", make, lambda made: made.close())
        with contextlib.suppress(OSError):
            await kept.get()
        return await kept.get()

    assert isinstance(asyncio.run(scenario()), Made)


def test_each_event_loop_has_its_own_client() -> None:
    """A connection is bound to the loop it began in."""
    kept = clients()

    first, second = (asyncio.run(kept.get()) for _ in range(2))

    assert first is not second


def test_a_closed_client_is_replaced_when_it_is_needed_again() -> None:
    """A provider can be used again after `aclose`."""

    async def scenario() -> tuple[Made, Made]:
        kept = clients()
        first = await kept.get()
        await kept.aclose()
        await kept.aclose()
        return first, await kept.get()

    first, second = asyncio.run(scenario())

    assert first.closed
    assert not second.closed


def test_the_client_of_a_loop_that_is_gone_is_not_kept() -> None:
    """A process may run thousands of short loops."""
    kept = clients()

    asyncio.run(kept.get())
    gc.collect()

    assert len(kept._by_loop) == 0


def test_the_first_import_does_not_hold_up_the_loop() -> None:
    """An SDK takes seconds to import, and other runs go on meanwhile."""

    async def scenario() -> int:
        turns = 0
        importing = asyncio.create_task(imported("sqlite3.dump"))
        while not importing.done():
            turns += 1
            await asyncio.sleep(0)
        assert importing.result().__name__ == "sqlite3.dump"
        return turns

    assert asyncio.run(scenario()) > 1
