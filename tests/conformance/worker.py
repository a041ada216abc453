"""A worker process that asks one model once, to be killed: what a crash leaves is in its store.

Prints each piece of text as it comes, then how the run stands: "over", or "waiting".
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from gatebook import Runtime, Waiting, workflow
from gatebook.journals import SqliteJournal
from gatebook.kernel.policies import AllowDeclared, RetryWithBackoffPolicy
from gatebook.runtime.clock import SystemClock
from tests.conformance.adapters import ADAPTERS

RUN = "r1"
POLICY = RetryWithBackoffPolicy(AllowDeclared(), 3, 20, 60_000)


class LaterClock(SystemClock):
    """A clock of a worker that is started later than it is."""

    def __init__(self, ahead_s: float) -> None:
        self._ahead_us = round(ahead_s * 1e6)

    def now(self) -> int:
        return super().now() + self._ahead_us


@workflow(version="1", models=["it:m"])
async def asks(ctx: Any, _: int) -> str:
    """One model call."""
    return str((await ctx.call_llm("it:m", "hi")).text)


async def work(adapter: str, url: str, store: Path, ahead_s: float) -> None:
    """Start the run or take it up, and leave when it is over or waits for long."""
    (made,) = (each for each in ADAPTERS if each.name == adapter)
    provider, clock = made.make(url), LaterClock(ahead_s)
    journal = SqliteJournal(store, clock=clock)
    options: dict[str, Any] = {"policy": POLICY, "clock": clock, "providers": {"it": provider}}
    async with Runtime(journal, programs=[asks], **options) as runtime:
        handle = await runtime.start(asks, 0, run_id=RUN)
        telling = asyncio.create_task(_tell(handle))
        state = await handle.settled()
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
    await provider.aclose()
    print("waiting" if isinstance(state, Waiting) else "over", flush=True)


async def _tell(handle: Any) -> None:
    async for piece in handle.text():
        print("text", piece, flush=True)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2], Path(sys.argv[3]), float(sys.argv[4])))
