"""Gatebook, measured: a workflow that awaits one trivial tool in a loop, with everything on.

Policy, typed arguments and results, deadlines, leases, redaction and the hash chain are what they
are in any run; the store is a file, synced at every commit. `resume` takes up a run of 10,000
steps whose process died.
"""

import asyncio
import json
import os
import time
from pathlib import Path

from bench.meter import Meter, arguments

from gatebook import AllowDeclared, Runtime, WorkflowContext, tool, workflow
from gatebook.journals.sqlite import SqliteJournal

entered: list[float] = []  # when the steps began
begun = asyncio.Event()
deadly: set[int] = set()  # the step in which the process dies


@tool(effect="read")
async def step(i: int) -> int:
    """Do what the measured step does: nothing that takes time."""
    entered.append(time.perf_counter())
    begun.set()
    if i in deadly:
        os._exit(0)
    return i


@workflow(tools=[step])
async def steps(ctx: WorkflowContext, count: int) -> int:
    """Make the steps of one run; return the sum of their results."""
    total = 0
    for i in range(count):
        total += await ctx.call_tool(step, i=i)
    return total


def runtime(path: Path) -> Runtime:
    """Return a runtime on a file."""
    return Runtime(SqliteJournal(path), programs=[steps], policy=AllowDeclared())


async def measure(path: Path, runs: int, count: int) -> None:
    """Make all steps of all runs and report."""
    meter = Meter(path)
    async with runtime(path) as worker:
        await (await worker.start(steps, 20)).result()
        entered.clear()
        meter.begin()
        handles = await asyncio.gather(*(worker.start(steps, count) for _ in range(runs)))
        await asyncio.gather(*(handle.result() for handle in handles))
        meter.end(runs * count)
    meter.report(runs * count + 20, entered if runs == 1 else [])


async def fill(path: Path, count: int) -> None:
    """Make this many steps and die in the next."""
    deadly.add(count)
    async with runtime(path) as worker:
        await (await worker.start(steps, count + 5)).result()


async def resume(path: Path) -> None:
    """Open the store and wait for the step that was not finished."""
    began = time.perf_counter()
    async with runtime(path):
        await begun.wait()
    print(json.dumps({"resume_ms": (entered[0] - began) * 1e3}))


def main() -> None:
    chosen = arguments("steps", "fill", "resume")
    if chosen.case == "fill":
        asyncio.run(fill(chosen.store, chosen.steps))
    elif chosen.case == "resume":
        asyncio.run(resume(chosen.store))
    else:
        asyncio.run(measure(chosen.store, chosen.runs, chosen.steps))


if __name__ == "__main__":
    main()
