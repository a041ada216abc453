"""Driving a run for a person: show it, wait, and report how it stands, with an exit code."""

import sys
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from gatebook.cli.asking import Asker, OnAsk
from gatebook.cli.asking import on_ask as how_to_ask
from gatebook.cli.driving import Signals, cancelling, pause, settle
from gatebook.cli.latest import seen
from gatebook.cli.main import ENDED_BADLY, OK, WAITS
from gatebook.cli.options import Given
from gatebook.cli.output import (
    document,
    filter_logs,
    halts_untold,
    log_to_stderr,
    on_terminal,
    safe,
    safe_lines,
    say,
)
from gatebook.cli.screen import view_for, watching
from gatebook.cli.store import is_kept
from gatebook.cli.words import BROKEN, UNDRIVEN, next_steps, run_fields, status_of, waits
from gatebook.kernel.codec import plain
from gatebook.kernel.events import (
    ActionDenied,
    CancelRequested,
    RunCancelled,
    RunCompleted,
    RunFailed,
)
from gatebook.kernel.policy import policy_name
from gatebook.kernel.review.decisions import refused_by_policy
from gatebook.ports import Journal, Recorded, RunRow
from gatebook.runtime.runs.handles import RunHandle
from gatebook.runtime.runtime import Runtime

LOST = "its store ends with this command; without --store :memory: it can go on later"

Start = Callable[[], Awaitable[RunHandle[Any]]]


class Standing(NamedTuple):
    """How a run stands now that nobody here drives it."""

    row: RunRow
    recorded: list[Recorded]
    now: int
    code: int

    @property
    def end(self) -> RunCompleted | RunFailed | RunCancelled | None:
        """The run's last word, None while it has none."""
        for each in reversed(self.recorded):
            if isinstance(each.event, RunCompleted | RunFailed | RunCancelled):
                return each.event
        return None

    @property
    def denial(self) -> int | None:
        """The seq of the run's last denial, None when policy denied it nothing."""
        for each in reversed(self.recorded):
            if isinstance(each.event, ActionDenied):
                return each.seq if refused_by_policy(each.event.decision) else None
        return None

    @property
    def broken(self) -> str:
        """Why nothing that anybody could answer moves it on, "" for any other run."""
        return self.row.parked_reason if self.row.parked_reason in BROKEN else ""

    @property
    def word(self) -> str:
        """One word for it: a status of the run, or "paused" when a signal stopped us."""
        return "paused" if self.code and self.end is None else status_of(self.row, self.now)


async def drive_and_report(
    runtime: Runtime,
    journal: Journal,
    start: Start,
    given: Given,
    *,
    since: int = 0,
    on_ask: OnAsk | None = None,
) -> int:
    """Open the runtime, start or take up a run, drive it, report it; return the exit code.

    `since` is the last event that the reader knows already, `on_ask` what is done with questions.
    """
    if not given.as_json:
        log_to_stderr()
        filter_logs(runtime.log_filter())
    run: RunHandle[Any] | None = None
    view = view_for(as_json=given.as_json, since=since)
    how = how_to_ask(on_ask, quiet=given.as_json or given.no_input)
    asker = Asker(runtime, how, pause=view.close, go_on=view.open)
    with Signals(cancelling(lambda: run)) as signals, halts_untold():
        try:
            try:
                await runtime.open()
                run = await start()
                if not given.as_json:
                    say(f"run {run.id}  policy: {policy_name(runtime.policy)}")
                view.open()
                async with watching(run, view):
                    await settle(run, signals, asker)
            finally:
                await pause(runtime)
            standing = await _standing(run, journal, signals.code)
            for recorded in standing.recorded[view.seq :]:
                view.take(recorded)
            view.close(standing.word)
        finally:
            view.close()
    return report(standing, given)


async def _standing(run: RunHandle[Any], journal: Journal, code: int) -> Standing:
    await journal.open()
    try:
        row = await seen(journal, await journal.row(run.key))
        return Standing(row, await journal.read(run.key), journal.now(), code)
    finally:
        await journal.close()


def report(standing: Standing, given: Given) -> int:
    """Say how a run stands; return the exit code."""
    end = standing.end
    if given.as_json:
        _document(standing, given)
    elif isinstance(end, RunCompleted):
        _answer(end)
    elif end is not None:
        _say_end(standing, end, given)
    elif standing.code:
        _say_paused(standing.row, given)
    else:
        _say_waiting(standing, given)
    if isinstance(end, RunCompleted):
        return OK
    waits_on = end is None and not standing.broken
    return standing.code or (WAITS if waits_on else ENDED_BADLY)


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


def _say_end(standing: Standing, end: RunFailed | RunCancelled, given: Given) -> None:
    run = standing.row.run.id
    if isinstance(end, RunFailed):
        word = "was denied what it needs" if end.denied else "failed"
        say(f"run {run} {word}: {safe(end.error.message)}")
        denial = standing.denial if end.denied else None
        if denial is not None:
            say(f"  {given.line('policy', 'explain', f'{run}#{denial}')}")
        return
    reasons = (e.event.reason for e in standing.recorded if isinstance(e.event, CancelRequested))
    reason = next(reasons, end.reason)
    say(f"run {run} was cancelled{f': {safe(reason)}' if reason else ''}")
    for address in end.unknown:
        say(f"the outcome of {address} is unknown: look at the service")


def _say_paused(row: RunRow, given: Given) -> None:
    if not is_kept(given):
        say(f"stopped: {LOST}")
        return
    say(f"paused: nothing drives run {row.run.id} until")
    say(f"  {given.driving_line('resume', row.run.id)}")
    say(f"  {given.driving_line('worker')}")


def _say_waiting(standing: Standing, given: Given) -> None:
    run = standing.row.run.id
    if not is_kept(given):
        say(f"run {run} waits for {safe(', '.join(waits(standing.row)))}: {LOST}")
        return
    steps = next_steps(standing.row, given, standing.now)
    word = f"is {standing.broken}" if standing.broken else "waits"
    for what, line in steps:
        told = "" if what == UNDRIVEN else f" {word}"
        say(f"run {run}{told}: {safe(what)}\n  {line}")
    verbs = {line.split(" ")[1] for _, line in steps}
    if verbs & {"signal", "resolve", "approve"} and "resume" not in verbs:
        say(f"then\n  {given.driving_line('resume', run)}")


def _document(standing: Standing, given: Given) -> None:
    row, now = standing.row, standing.now
    still = standing.broken or "waiting"
    outcome: dict[str, Any] = {"outcome": "paused" if standing.code else still}
    match standing.end:
        case RunCompleted(output=output):
            outcome = {"outcome": "completed", "output": plain(output)}
        case RunFailed(error=error, denied=denied):
            facts = {"code": error.code, "message": error.message}
            outcome = {"outcome": "denied" if denied else "failed", "error": facts}
        case RunCancelled(reason=reason, unknown=unknown):
            outcome = {"outcome": "cancelled", "reason": reason, "unknown": list(unknown)}
        case _:
            steps = next_steps(row, given, now) if is_kept(given) else []
            outcome["next"] = [line for _, line in steps]
    document(**run_fields(row, now), **outcome)
