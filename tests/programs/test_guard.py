"""The guard: a real clock or randomness in a step is an error at the call."""

import datetime
import logging
import os
import random
import secrets
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from gatebook.programs import Workflow, WorkflowContext
from gatebook.programs.guard import guarded
from tests.programs.play import failure, output, started


def run(read: Callable[[], Any]) -> Any:
    """The step of a workflow that calls `read`, guarded."""

    async def f(ctx: WorkflowContext) -> str:
        read()
        return "done"

    return guarded(Workflow(f).begin(started()), program="f").step(())


@pytest.mark.parametrize(
    ("read", "remedy"),
    [
        (time.time, "ctx.now()"),
        (time.time_ns, "ctx.now()"),
        (time.monotonic, "ctx.now()"),
        (time.perf_counter, "ctx.now()"),
        (lambda: time.sleep(0), "await ctx.sleep"),
        (lambda: datetime.datetime.now(datetime.UTC), "ctx.now()"),
        (datetime.datetime.utcnow, "ctx.now()"),
        (datetime.date.today, "ctx.now()"),
        (random.random, "ctx.random()"),
        (lambda: random.choice([1, 2]), "ctx.random()"),
        (lambda: random.shuffle([1, 2]), "ctx.random()"),
        (random.Random, "ctx.random()"),
        (lambda: random.SystemRandom().random(), "ctx."),
        (lambda: os.urandom(1), "ctx.uuid()"),
        (uuid.uuid4, "ctx.uuid()"),
        (uuid.uuid1, "ctx."),
        (secrets.token_hex, "ctx."),
    ],
)
def test_what_would_not_replay_is_caught(read: Callable[[], Any], remedy: str) -> None:
    """The error names the ctx method to use instead."""
    error = failure(run(read)).error

    assert error.code == "E_WORKFLOW_CLOCK"
    assert remedy in error.message


@pytest.mark.parametrize(
    "read",
    [
        lambda: random.Random(7).random(),
        lambda: datetime.datetime(2026, 1, 1).isoformat(),  # noqa: DTZ001
        lambda: datetime.timedelta(seconds=1).total_seconds(),
        lambda: uuid.UUID(int=5).hex,
        lambda: sorted([2, 1]),
        lambda: logging.getLogger("test").warning("still logged"),
    ],
)
def test_what_replays_is_allowed(read: Callable[[], Any]) -> None:
    """Seeded generators and date arithmetic repeat; a log record's stamp is not the program's."""
    assert output(run(read)) == "done"


def test_the_hook_is_gone_after_the_step() -> None:
    """Only the program is watched, not the process."""
    before = sys.getprofile()

    run(time.time)

    assert sys.getprofile() is before


def test_another_hook_comes_back() -> None:
    """A profiler that was at work goes on."""
    seen: list[str] = []

    def profiler(frame: Any, event: str, arg: Any) -> None:
        seen.append(event)

    sys.setprofile(profiler)
    try:
        run(lambda: None)
        found = sys.getprofile()
    finally:
        sys.setprofile(None)

    assert found is profiler


def test_an_unguarded_stepper_is_not_slowed() -> None:
    """The guard is a choice of whoever steps."""

    async def f(ctx: WorkflowContext) -> float:
        return time.time()

    assert output(Workflow(f).begin(started()).step(())) > 0


def test_closing_reaches_the_stepper_inside() -> None:
    """A guarded run is let go of like any other."""
    seen: list[str] = []

    async def f(ctx: WorkflowContext) -> None:
        try:
            await ctx.sleep(1)
        finally:
            seen.append("closed")

    stepper = guarded(Workflow(f).begin(started()))
    stepper.step(())
    stepper.close()

    assert seen == ["closed"]
