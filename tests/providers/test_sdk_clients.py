"""The SDK clients of a provider: one for each event loop, made when first needed."""

import asyncio
import gc

from gatebook.providers.sdk import Clients, imported


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
