"""`gatebook resume`: take a run up again."""

import asyncio
from typing import Any

import click

from gatebook.cli.apps import App, app_for, beside, load_policy, remembered_of
from gatebook.cli.driving import runtime_for
from gatebook.cli.gone import app_without
from gatebook.cli.main import (
    ENDED_BADLY,
    ERROR,
    HUNG_UP,
    INTERRUPTED,
    OK,
    TERMINATED,
    WAITS,
    report_error,
)
from gatebook.cli.options import Given, Verb, common, on_ask_option
from gatebook.cli.outcome import drive_and_report
from gatebook.cli.output import say
from gatebook.cli.store import existing, find, open_runs, whoami
from gatebook.errors import ConfigError, GatebookError, StoreError
from gatebook.journals import open_journal
from gatebook.kernel.policies import AllowListPolicy
from gatebook.kernel.status import Status
from gatebook.ports import RunKey, RunRow
from gatebook.runtime.runs.handles import RunHandle
from gatebook.runtime.runtime import Runtime

GRAVE = (OK, WAITS, ENDED_BADLY, ERROR, HUNG_UP, INTERRUPTED, TERMINATED)  # the worst last


@click.command(
    cls=Verb,
    examples=(
        "gatebook resume @last",
        "gatebook resume --all --app app:runtime",
    ),
)
@click.argument("run", metavar="RUN|--all", required=False)
@click.option("--all", "every", is_flag=True, help="Every run that is not over, one by one.")
@click.option("--adopt", is_flag=True, help="Go on though the program changed or hooks are gone.")
@on_ask_option
@common(driving=True)
def command(given: Given, run: str | None, every: bool, adopt: bool, on_ask: Any) -> int:
    """Let a run go on, and drive it until it ends or waits for somebody.

    Takes up what was paused, what lost its worker, what was interrupted and what was parked.
    Without --app and --policy it goes on with the program and the policy that `gatebook run` was
    given for this run.
    """
    if (run is None) == (not every):
        raise click.UsageError("give a RUN or --all")
    given = beside(given)
    rows = asyncio.run(_rows(given, run))
    if not rows:
        say(f"no run of {given.settings.store} is open")
        return OK
    worst = OK
    for row in rows:
        try:
            code = asyncio.run(_resume(given, row, adopt=adopt, on_ask=on_ask))
        except StoreError:
            raise
        except GatebookError as exc:
            if not every:
                raise
            code = report_error(exc, run=row.run.id, as_json=given.as_json)
            if not given.as_json:  # else the document names it
                say(f"run {row.run.id} was not taken up")
        worst = max(worst, code, key=GRAVE.index)
        if worst >= HUNG_UP:
            break
    return worst


async def _rows(given: Given, run: str | None) -> list[RunRow]:
    async with existing(given) as client:
        if run is not None:
            return [await find(client, run)]
        return await open_runs(client)


async def _resume(given: Given, row: RunRow, *, adopt: bool, on_ask: Any) -> int:
    app, policy = _app_and_policy(given, row)
    journal = open_journal(given.settings.store)
    runtime = runtime_for(app, journal, policy=policy, only={row.run}, adopt=adopt)

    async def take_up() -> Any:
        runtime.check_providers(app.program(row.program))
        return await _let_go_on(runtime, row.run, app)

    return await drive_and_report(
        runtime, journal, take_up, given, since=row.head.seq, on_ask=on_ask
    )


def _app_and_policy(given: Given, row: RunRow) -> tuple[App, Any]:
    """Return what a run goes on with. A cancelled one ends without its program, if it is gone."""
    past = remembered_of(given, row)
    try:
        app = app_for(given, [row.program], past)
    except ConfigError:
        if row.head.status is not Status.CANCELLING:
            raise
        return app_without(row.program), AllowListPolicy(tools=[], providers=[])
    return app, load_policy(given, app, past, run=row.run.id)


async def _let_go_on(runtime: Runtime, key: RunKey, app: App) -> RunHandle[Any]:
    """Undo what keeps a run from going on: an interruption, or having been parked for good."""
    row = await runtime.journal.row(key)
    run = runtime.handle(key.id, app.program(row.program))
    if row.head.status is Status.INTERRUPTED or row.parked_reason:
        await run.resume(by=whoami())
    else:
        runtime.touched(key)
    return run
