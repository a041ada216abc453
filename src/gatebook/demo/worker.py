"""The worker: the process that is killed. It starts the day's jobs and drives them to their end.

Started again, it starts the same jobs under the same ids, which are then the runs of before.
"""

import asyncio
from pathlib import Path

from gatebook import RunCancelled, RunDenied, RunFailed, Runtime
from gatebook.demo.cast import POLICY, PROGRAMS, Job, Model, cast_of
from gatebook.demo.desk import Desk


def store_of(folder: Path) -> str:
    """Return the location of a demo folder's journal."""
    return f"sqlite:///{folder / 'journal.db'}"


async def work(folder: Path, model: Model, *, morning: bool) -> None:
    """Do the day's jobs, or those of the morning, until every one is over."""
    cast = cast_of(model)
    desk = Desk(folder, holds=frozenset(cast.holds.values()) if morning else frozenset())
    runtime = Runtime(
        store_of(folder),
        programs=PROGRAMS,
        policy=POLICY,
        providers=cast.providers,
        deps=desk,
    )
    try:
        async with runtime, asyncio.TaskGroup() as group:
            for job in cast.jobs[: cast.first] if morning else cast.jobs:
                group.create_task(_follow(runtime, job))
    finally:
        for provider in cast.providers.values():
            await provider.aclose()


async def _follow(runtime: Runtime, job: Job) -> None:
    run = await runtime.start(job.program, job.given, run_id=job.run_id)
    try:
        result = await run.result()
    except (RunFailed, RunDenied, RunCancelled) as exc:
        print(f"{job.run_id}: {exc}", flush=True)
    else:
        print(f"{job.run_id}: {result.output}", flush=True)
