"""Opening and closing a runtime, and calls from other event loops than the one it lives in."""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.catalogue.kit import told
from tests.runtime.kit import Desk, flow, run

from gatebook import AllowDeclared, Runtime, tool
from gatebook.errors import ConfigError
from gatebook.runtime.runs.states import Finished


@tool(effect="read")
async def look() -> int:
    return 1


async def looking(ctx: Any) -> int:
    return int(await ctx.call_tool(look))


def test_a_runtime_can_be_made_like_another() -> None:
    """The command line makes one over another store; an option left out would not be in force."""
    policy = AllowDeclared()
    own = {"self", "store", "only"}

    options = Runtime(":memory:", policy=policy, lease_ttl_s=7, only=set()).options

    assert options.keys() == inspect.signature(Runtime.__init__).parameters.keys() - own
    assert (options["policy"], options["lease_ttl_s"], options["hooks"]) == (policy, 7, ())
    assert Runtime(":memory:", **options).options == options


def test_a_runtime_that_is_opened_again_drives_again() -> None:
    """One that took starts and drove nothing would be waited for without end."""

    async def scenario() -> None:
        desk = Desk()
        runtime = desk.runtime()

        for _ in range(2):
            async with runtime:
                handle = await runtime.start(flow(looking, look), None)
                assert await desk.settled(handle) == Finished(1)

    run(scenario())


def test_a_runtime_that_is_open_is_not_opened_again() -> None:
    """Nobody would ever stop the first of its two workers."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            with pytest.raises(ConfigError) as refused:
                await runtime.open()

            handle = await runtime.start(flow(looking, look), None)
            assert await desk.settled(handle) == Finished(1)
        told(refused.value, "E_RUNTIME_OPEN", "this Runtime is open already")

    run(scenario())


def test_the_store_is_closed_although_deps_do_not_close_well(tmp_path: Path) -> None:
    """A store left open keeps its threads and this worker's lock on its runs."""

    @asynccontextmanager
    async def bank() -> AsyncIterator[int]:
        yield 1
        raise ConnectionError("the bank went away")

    async def scenario() -> None:
        store = tmp_path / "runs.db"
        before = set(threading.enumerate())

        with pytest.raises(ConnectionError, match="went away"):
            async with Runtime(str(store), policy=AllowDeclared(), deps=bank) as runtime:
                await (await runtime.start(flow(looking, look), None)).result()

        assert set(threading.enumerate()) == before

    run(scenario())


def test_a_start_from_another_event_loop_is_refused_before_anything_is_created() -> None:
    """What drives the run is not safe to be called from there; the refusal says what is."""

    async def scenario() -> None:
        desk, program = Desk(), flow(looking, look)

        async with desk.open() as runtime:
            with pytest.raises(ConfigError) as refused:
                await asyncio.to_thread(asyncio.run, runtime.start(program, None))
            told(refused.value, "E_RUNTIME_LOOP", "run_coroutine_threadsafe")
            assert await runtime.runs() == []

            loop, start = asyncio.get_running_loop(), runtime.start(program, None)
            handle = await asyncio.to_thread(asyncio.run_coroutine_threadsafe, start, loop)
            assert await desk.settled(await asyncio.wrap_future(handle)) == Finished(1)

    run(scenario())


def test_a_signal_from_another_event_loop_wakes_the_run(tmp_path: Path) -> None:
    """A web request may be served by another thread than the one that drives."""

    async def waiting(ctx: Any) -> Any:
        return await ctx.wait_signal("go")

    async def scenario() -> None:
        asyncio.get_running_loop().set_debug(True)  # refuses calls that are not safe
        async with Runtime(str(tmp_path / "runs.db"), policy=AllowDeclared()) as runtime:
            handle = await runtime.start(flow(waiting), None)
            await handle.settled()

            await asyncio.to_thread(asyncio.run, handle.signal("go", 1))

            assert (await handle.result()).output == 1

    run(scenario())
