"""`gatebook worker`: a process that drives runs until it is stopped."""

import asyncio
from typing import Any

import click

from gatebook.cli.apps import App, app_for, beside, load_policy
from gatebook.cli.driving import Signals, pause, runtime_for
from gatebook.cli.main import OK
from gatebook.cli.memory import Remembered, recall, remembered_runs
from gatebook.cli.options import Given, Verb, common
from gatebook.cli.output import json_line, log_to_stderr, safe, say
from gatebook.cli.store import existing, open_runs
from gatebook.cli.telling import Teller, event_fields
from gatebook.errors import ConfigError
from gatebook.journals import open_journal
from gatebook.kernel.policy import policy_digest, policy_name
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
@common(driving=True, following=True)
def command(given: Given, quiet: bool) -> int:
    """Drive the runs of an app until stopped: new ones, and those that lost their worker.

    Without --app it serves the programs that `gatebook run` loaded for this store, and without
    --policy only if all their open runs were given the same one; it looks when it begins.
    SIGTERM, SIGHUP or Ctrl-C lets what is in flight end, gives the runs back and exits with 0.
    What happens is shown on standard error; with --json, on standard output.
    """
    return asyncio.run(_serve(given, quiet=quiet))


async def _serve(given: Given, *, quiet: bool) -> int:
    log_to_stderr()
    given = beside(given)
    app = app_for(given, [])
    journal = open_journal(given.settings.store)
    open_runs = await _open_runs(given)
    _tell_missing(app, open_runs)
    policy = _policy(given, app, journal.url, open_runs)
    runtime = runtime_for(app, journal, policy=policy, only=None)

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


def _tell_missing(app: App, open_runs: list[tuple[str, str]]) -> None:
    """Say whose runs nobody drives here, because their program cannot be loaded any more."""
    for name, error in app.missing.items():
        count = sum(program == name for _, program in open_runs)
        if count:
            say(f"not served, {count} open run{'s' * (count > 1)} of {name}: {error}")


def _policy(given: Given, app: App, url: str, open_runs: list[tuple[str, str]]) -> Any:
    """Return the one policy under which all open runs of an app may be driven.

    Args:
        open_runs: (run, program) of those that are not over.

    Raises:
        ConfigError: E_POLICY_DIFFERS, E_POLICY_MISSING.
    """
    if given.policy:
        return load_policy(given, app)
    known = recall(url)
    remembered = {name: remembered_runs(known, name) for name in app.programs}
    given_to = {
        run: remembered[program].get(run, Remembered())
        for run, program in open_runs
        if program in remembered
    } or {run: told for runs in remembered.values() for run, told in runs.items()}
    if not given_to:
        return load_policy(given, app)
    policies: dict[Remembered, Any] = {}
    for run, told in given_to.items():
        if told not in policies:
            policies[told] = load_policy(given, app_for(given, [], told), told, run=run)
    digests = {told: policy_digest(policy) for told, policy in policies.items()}
    if len(set(digests.values())) > 1:
        firsts = {digests[told]: (told, run) for run, told in reversed(given_to.items())}
        named = [
            f"{told.policy or policy_name(policies[told])} ({run})"
            for told, run in sorted(firsts.values(), key=lambda first: first[1])
        ]
        raise ConfigError("E_POLICY_DIFFERS", detail=", ".join(named))
    return policies.popitem()[1]


async def _open_runs(given: Given) -> list[tuple[str, str]]:
    """Return (run, program) of all runs that are not over; none without a store."""
    try:
        async with existing(given) as client:
            rows = await open_runs(client)
    except ConfigError as exc:
        if exc.code != "E_STORE_MISSING":
            raise
        return []
    return [(row.run.id, row.program) for row in rows]


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
