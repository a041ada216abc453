"""`gatebook replay`: does the program still ask for what the journal says it asked for."""

import asyncio
from typing import Any

import click

from gatebook.cli.apps import app_for, beside
from gatebook.cli.main import OK
from gatebook.cli.options import Given, Verb, common, run_argument
from gatebook.cli.output import document, say
from gatebook.cli.store import existing, find
from gatebook.errors import Diverged
from gatebook.kernel.events import RunStarted
from gatebook.kernel.state import RunState
from gatebook.ports import Program, Recorded, RunRow
from gatebook.programs.guard import GuardedStepper, guarded
from gatebook.runtime.replay import ReplayReport, final_args
from gatebook.runtime.replay import replay as step_along


@click.command(
    cls=Verb, examples=("gatebook replay @last", "gatebook replay 0199a0f1 --app app:runtime")
)
@run_argument
@common(driving=True)
def command(given: Given, run: str) -> int:
    """Step the program over a run's journal: no effect, no clock, nothing written.

    Exits with 3 when the program asks for something else than the journal records, or reads a
    real clock or randomness. The state digest is the same on every machine.
    """
    given = beside(given)
    row, recorded = asyncio.run(_read(given, run))
    app = app_for(given, [row.program])
    program = app.program(row.program)
    report = _step(program, recorded)
    digest = _fold(recorded).digest()
    changed = program.digest != row.definition
    if given.as_json:
        document(
            run=row.run.id, program=row.program, events=report.events, actions=report.actions,
            pending=list(report.pending), ended=report.ended, state_digest=digest,
            definition_changed=changed,
        )  # fmt: skip
        return OK
    if changed:
        say(f"the definition of {row.program} changed since the run began; it asks for the same")
    print(f"{row.run.id}\t{report.events} events\t{report.actions} actions\tstate {digest}")
    say("replayed: the program asks for what the journal records")
    if report.pending and not row.head.terminal:
        say(f"next it would ask for: {', '.join(report.pending)}")
    return OK


def _step(program: Program[Any, Any], recorded: list[Recorded]) -> ReplayReport:
    """Step the program along.

    Raises:
        Diverged: E_WORKFLOW_CLOCK when it read a real clock or randomness, whatever came of that;
            E_NONDETERMINISM when it asks for something else for another reason.
    """
    started = recorded[0].event
    assert isinstance(started, RunStarted)
    stepper = guarded(program.begin(started), program=program.name)
    try:
        report = step_along(stepper, final_args(program.tools), recorded)
    except Diverged:
        _check_clock(stepper)
        raise
    _check_clock(stepper)
    return report


def _check_clock(stepper: GuardedStepper) -> None:
    if stepper.caught is not None:
        raise Diverged(stepper.caught.code, **stepper.caught.fields)


async def _read(given: Given, name: str) -> tuple[RunRow, list[Recorded]]:
    async with existing(given) as client:
        row = await find(client, name)
        return row, await client.journal.read(row.run)


def _fold(recorded: list[Recorded]) -> RunState:
    state = RunState()
    for each in recorded:
        state.apply(each.event)
    return state
