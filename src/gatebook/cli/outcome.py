"""Driving a run for a person: show it, wait, and report how it stands, with an exit code."""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

from gatebook.cli.driving import Signals, cancelling, pause, settle
from gatebook.cli.main import ENDED_BADLY, OK, WAITS
from gatebook.cli.options import Given
from gatebook.cli.output import document, on_terminal, safe, safe_lines, say
from gatebook.cli.screen import Watching, view_for
from gatebook.cli.words import next_steps, run_fields
from gatebook.kernel.codec import plain
from gatebook.kernel.events import CancelRequested, RunCancelled, RunCompleted, RunFailed
from gatebook.kernel.policy import policy_name
from gatebook.ports import Journal, Recorded, RunRow
from gatebook.runtime.handles import RunHandle
from gatebook.runtime.runtime import Runtime

Start = Callable[[], Awaitable[RunHandle[Any]]]


async def drive_and_report(runtime: Runtime, journal: Journal, start: Start, given: Given) -> int:
    """Open the runtime, start or take up a run, drive it, report it; return the exit code."""
    run: RunHandle[Any] | None = None
    with Signals(cancelling(lambda: run)) as signals:
        try:
            await runtime.open()
            run = await start()
            say_run(run, runtime, given)
            async with Watching(run, view_for(as_json=given.as_json)) as watching:
                await settle(run, signals)
                await watching.catch_up()
        finally:
            await pause(runtime)
        return await report(run, journal, given, code=signals.code)


def say_run(run: RunHandle[Any], runtime: Runtime, given: Given) -> None:
    """Say first which run this is and under which policy."""
    if not given.as_json:
        say(f"run {run.id}  policy: {policy_name(runtime.policy)}")


async def report(run: RunHandle[Any], journal: Journal, given: Given, *, code: int) -> int:
    """Say how a run stands now that nobody here drives it; return the exit code.

    `code` is that of the signal that stopped us, 0 for none.
    """
    await journal.open()
    try:
        row = await journal.row(run.key)
        recorded = await journal.read(run.key)
        now = journal.now()
    finally:
        await journal.close()
    ending = _ending(recorded)
    if given.as_json:
        _document(row, ending, given, now, stopped=code != 0)
    if isinstance(ending, RunCompleted):
        if not given.as_json:
            _answer(ending)
        return OK
    if ending is not None:
        if not given.as_json:
            _say_end(row, ending, recorded)
        return code or ENDED_BADLY
    if not given.as_json:
        _say_waiting(row, given, now, stopped=code != 0)
    return code or WAITS


def _ending(recorded: list[Recorded]) -> RunCompleted | RunFailed | RunCancelled | None:
    for each in reversed(recorded):
        if isinstance(each.event, RunCompleted | RunFailed | RunCancelled):
            return each.event
    return None


def _answer(end: RunCompleted) -> None:
    """Print the output: text as it is, JSON as one line, or spread out for a person."""
    value = plain(end.output)
    people = on_terminal(sys.stdout)
    if isinstance(value, str):
        print(safe_lines(value) if people else value)
    elif value is None and people:
        return
    elif people:
        import json

        print(safe_lines(json.dumps(value, ensure_ascii=False, indent=2)))
    else:
        print(bytes(end.output).decode())


def _say_end(row: RunRow, end: RunFailed | RunCancelled, recorded: list[Recorded]) -> None:
    if isinstance(end, RunFailed):
        word = "was denied what it needs" if end.denied else "failed"
        say(f"run {row.run.id} {word}: {safe(end.error.message)}")
        return
    reason = next(
        (e.event.reason for e in recorded if isinstance(e.event, CancelRequested)), end.reason
    )
    say(f"run {row.run.id} was cancelled{f': {safe(reason)}' if reason else ''}")
    for address in end.unknown:
        say(f"the outcome of {address} is unknown: look at the service")


def _say_waiting(row: RunRow, given: Given, now: int, *, stopped: bool) -> None:
    run = row.run.id
    steps = next_steps(row, given, now)
    if stopped:
        say(f"paused: nothing drives run {run} until")
        say(f"  {given.driving_line('resume', run)}")
        say(f"  {given.driving_line('worker')}")
        return
    for what, line in steps:
        say(f"run {run} waits for {safe(what)}\n  {line}")
    if any(line.split(" ")[1] in ("signal", "resolve") for _, line in steps):
        say(f"then\n  {given.driving_line('resume', run)}")


def _document(row: RunRow, ending: Any, given: Given, now: int, *, stopped: bool) -> None:
    fields = run_fields(row, now)
    outcome: dict[str, Any] = {"outcome": "paused" if stopped else "waiting"}
    match ending:
        case RunCompleted():
            outcome = {"outcome": "completed", "output": plain(ending.output)}
        case RunFailed():
            error = {"code": ending.error.code, "message": ending.error.message}
            outcome = {"outcome": "denied" if ending.denied else "failed", "error": error}
        case RunCancelled():
            outcome = {
                "outcome": "cancelled",
                "reason": ending.reason,
                "unknown": list(ending.unknown),
            }
        case _:
            outcome["next"] = [line for _, line in next_steps(row, given, now)]
    document(**fields, **outcome)
