"""Opening and closing a runtime: more than once, with a world that does not close well."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.kit import Desk, flow, run

from gatebook import AllowDeclared, Runtime, tool
from gatebook.runtime.runs.states import Finished


@tool(effect="read")
async def look() -> int:
    return 1


async def looking(ctx: Any) -> int:
    return int(await ctx.call_tool(look))


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
