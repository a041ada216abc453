"""A worker that is killed while a program runs: what is left, and what the next worker knows."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.tools.shipped import all_gone, linux, pids, wait_until

from gatebook import Runtime, Waiting, workflow
from gatebook.kernel.policies import AllowDeclared
from gatebook.tools import shell

pytestmark = [linux, pytest.mark.crash]

WORKER = """
import asyncio, sys
from tests.tools.test_shell_crash import begin

asyncio.run(begin(sys.argv[1]))
"""
SCRIPT = "echo $$ >> pids; setsid sh -c 'echo $$ >> pids; sleep 1000' & sleep 1000"


def worker_of(folder: str) -> tuple[Runtime, Any]:
    """A worker of one folder, and what it runs."""
    run = shell(["sh"], cwd=folder, env=["PATH"])

    @workflow(tools=[run])
    async def once(ctx: Any) -> None:
        await ctx.call_tool(run, argv=["sh", "-c", SCRIPT])

    url = f"sqlite:///{folder}/runs.db"
    return Runtime(url, programs=[once], policy=AllowDeclared()), once


async def begin(folder: str) -> None:
    """Start the run and wait for its end, which does not come."""
    runtime, once = worker_of(folder)
    async with runtime:
        await (await runtime.start(once, None, run_id="r")).result()


async def recovered(folder: str) -> Any:
    """Where the run comes to rest with the next worker."""
    runtime, _ = worker_of(folder)
    async with runtime:
        return await runtime.handle("r").settled()


def test_the_next_worker_finds_no_program_and_an_unknown_outcome(tmp_path: Path) -> None:
    """It was started once, and is not started again: a person says what it did."""

    async def crash() -> list[int]:
        worker = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, str(tmp_path))
        found = await asyncio.to_thread(pids, tmp_path / "pids", 2)
        worker.kill()
        await worker.wait()
        return found

    found = asyncio.run(crash())
    wait_until(lambda: all_gone(found), "the end of the program and its child")

    state = asyncio.run(recovered(str(tmp_path)))

    assert isinstance(state, Waiting)
    assert state.on == ("resolve 0",)
    assert len(pids(tmp_path / "pids", 2)) == 2
