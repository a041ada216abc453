"""`gatebook worker`: a process that drives runs until it is stopped."""

import asyncio

import click

from gatebook.cli.apps import app_for, beside
from gatebook.cli.driving import Signals, pause, runtime_for
from gatebook.cli.main import OK
from gatebook.cli.options import Given, Verb, common
from gatebook.cli.output import json_line, log_to_stderr, safe, say
from gatebook.cli.telling import Teller, event_fields
from gatebook.journals import open_journal
from gatebook.kernel.policy import policy_name
from gatebook.runtime.runtime import Runtime

PAGE = 1_000  # events read at once


@click.command(
    cls=Verb,
    examples=(
        "gatebook worker --app app:runtime",
        "gatebook worker --app app:support --policy allow-declared",
    ),
)
@click.option("--quiet", is_flag=True, help="Do not show the events.")
@common(driving=True)
def command(given: Given, quiet: bool) -> int:
    """Drive the runs of an app until stopped: new ones, and those that lost their worker.

    Without --app it serves the programs that `gatebook run` loaded for this store. SIGTERM or
    Ctrl-C lets what is in flight end, gives the runs back and exits with 0. With --json, one
    event a line on standard output.
    """
    return asyncio.run(_serve(given, quiet=quiet))


async def _serve(given: Given, *, quiet: bool) -> int:
    log_to_stderr()
    given = beside(given)
    app = app_for(given, [])
    journal = open_journal(given.settings.store)
    runtime = runtime_for(app, given, journal, only=None)

    async def nothing() -> None:
        say("still waiting for what is in flight")

    with Signals(nothing) as signals:
        try:
            await runtime.open()
            names = ", ".join(sorted(app.programs))
            say(f"serving {names} on {journal.url}  policy: {policy_name(runtime.policy)}")
            showing = asyncio.create_task(_show(runtime, given, quiet=quiet))
            serving = asyncio.create_task(runtime.serve())
            came = asyncio.create_task(signals.came.wait())
            await asyncio.wait({showing, serving, came}, return_when=asyncio.FIRST_COMPLETED)
            for task in (showing, serving):
                if task.done():
                    task.result()
                task.cancel()
        finally:
            await pause(runtime)
    say("stopped: the runs are given back")
    return OK


async def _show(runtime: Runtime, given: Given, *, quiet: bool) -> None:
    journal, teller = runtime.journal, Teller()
    after = await journal.wait(-1)
    while True:
        await journal.wait(after)
        for each in await journal.tail(runtime.tenant, after=after, limit=PAGE):
            after = each.position
            if given.as_json:
                json_line(cursor=each.position, **event_fields(each))
            elif not quiet:
                say(f"{each.run.id}  {safe(teller.line(each))}")
