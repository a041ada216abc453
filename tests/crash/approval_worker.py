"""A worker process whose payment a person must approve: `python approval_worker.py STORE LOG`.

Who asks also answers, with another amount. Each payment is a line in the log, written at once.
GATEBOOK_FAILPOINT kills the process.
"""

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from gatebook import RETRY, AllowDeclared, Runtime, Waiting, tool, workflow
from gatebook.errors import InvalidInput
from gatebook.journals import open_journal
from gatebook.runtime.runs.states import Succeeded
from gatebook.testing.failpoints import from_env

STORE, LOG = map(Path, sys.argv[1:])


@tool
async def pay(amount: int) -> int:
    """Pay once."""
    fd = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(fd, f"paid {amount}\n".encode())
    finally:
        os.close(fd)
    return amount


@workflow(version="1", tools=[pay])
async def flow(ctx: Any) -> int:
    """Pay."""
    return await ctx.call_tool(pay, amount=80)


async def main() -> None:
    """Bring the run to its end; a person approves, and settles what is unknown by the log."""
    journal = from_env(open_journal(f"sqlite:///{STORE}"))
    policy = AllowDeclared(ask_before={"at_most_once"})
    async with Runtime(journal, programs=[flow], policy=policy) as runtime:
        handle = await runtime.start(flow, None, run_id="r")
        while isinstance(state := await handle.settled(), Waiting):
            async for approval in runtime.approvals():
                with suppress(InvalidInput):  # answered before a crash, and not used yet
                    await approval.approve(by="ann", edit={"amount": 40})
            if "resolve 0" in state.on:
                await handle.resolve("0", Succeeded(40) if LOG.exists() else RETRY)
        print(state)


asyncio.run(main())
