"""A worker process whose program is hooked at every point: `python hook_worker.py STORE LOG`.

Each call of a hook or a tool is a line in the log, written at once. GATEBOOK_FAILPOINT kills it.
"""

import asyncio
import os
import sys
from typing import Any

from gatebook import AllowDeclared, Change, Runtime, hook, tool, workflow
from gatebook.journals import open_journal
from gatebook.runtime.runs.states import Succeeded, Waiting
from gatebook.testing.failpoints import from_env

STORE, LOG = sys.argv[1:]


def note(line: str) -> int:
    """Write a line that survives the process; return how many there are."""
    fd = os.open(LOG, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        os.write(fd, f"{line}\n".encode())
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


@tool(effect="read")
async def look(n: int) -> int:
    """Answer a number."""
    note("look")
    return n


@tool
async def pay(n: int) -> int:
    """Pay once."""
    note(f"pay {n}")
    return n


@workflow(version="1", tools=[look, pay])
async def flow(ctx: Any) -> list[int]:
    """Look, then pay."""
    return [await ctx.call_tool(look, n=1), await ctx.call_tool(pay, n=2)]


def hooked(point: Any) -> Any:
    """A hook that answers otherwise each time it is asked."""

    def ask(view: Any) -> Change | None:
        size = note(f"{point} {view.address} {getattr(view, 'attempt', 0)}")
        if point == "before_tool":
            return Change({"n": size})
        return Change(view.result + 1_000) if point == "after_tool" else None

    right: Any = "change" if point.endswith("_tool") else "observe"
    return hook(point, rights=[right], timeout=60, on_failure="closed", name=point)(ask)


async def main() -> None:
    """Bring the run to its end; a person settles what is unknown."""
    journal = from_env(open_journal(f"sqlite:///{STORE}"))
    hooks = [hooked(p) for p in ("on_run_start", "before_tool", "after_tool", "on_run_end")]
    async with Runtime(journal, programs=[flow], policy=AllowDeclared(), hooks=hooks) as runtime:
        handle = await runtime.start(flow, None, run_id="r")
        state = await handle.settled()
        if isinstance(state, Waiting):
            await handle.resolve("1", Succeeded(7))
            state = await handle.settled()
        print(state)


asyncio.run(main())
