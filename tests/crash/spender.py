"""A worker process whose runs spend of one ledger: `python -m tests.crash.spender FOLDER`.

It drives what is due until it is killed. Each execution of the tool leaves one byte in the file
`executed`, which no death of a process takes back.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from gatebook import (
    ActionDenied,
    ActionError,
    AllowDeclared,
    Budget,
    RetryWithBackoffPolicy,
    Runtime,
    ToolContext,
    Transient,
    tool,
    workflow,
)
from gatebook.journals import open_journal
from gatebook.testing.failpoints import from_env

POLICY = RetryWithBackoffPolicy(AllowDeclared(), max_retries=2, base_ms=1)


@tool(effect="read")
async def spend(ctx: ToolContext[int], number: int) -> int:
    """Spend one unit; every third call fails once, so it spends two."""
    os.write(ctx.deps, b".")
    if number % 3 == 0 and ctx.attempt == 0:
        raise Transient("busy")
    return number


@workflow(version="1", tools=[spend])
async def spender(ctx: Any, number: int) -> str:
    """Spend one unit; say what came of it."""
    try:
        await ctx.call_tool(spend, number=number)
    except (ActionDenied, ActionError) as error:
        return str(error.code)
    return "spent"


def runtime(folder: Path, limit: int) -> Runtime:
    """A worker over the store in a folder, under a ledger of so many calls."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return Runtime(
        from_env(open_journal(f"sqlite:///{folder / 'journal.db'}")),
        programs=[spender],
        policy=POLICY,
        deps=os.open(folder / "executed", flags, 0o600),
        ledgers={"tenant": Budget(tool_calls=limit), "day": Budget()},
    )


async def _serve(folder: Path, limit: int) -> None:
    async with runtime(folder, limit) as worker:
        await worker.serve()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
