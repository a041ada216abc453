"""`gatebook resolve`: a person says what became of an action nobody knows the outcome of."""

import asyncio
from typing import Any

import click

from gatebook.cli.fitting import program_of
from gatebook.cli.options import Given, Verb, common, read_json, run_argument
from gatebook.cli.output import document, say
from gatebook.cli.steering import after_steering
from gatebook.cli.store import existing, find, whoami
from gatebook.runtime.runs.states import RETRY, Denied, Succeeded


@click.command(
    cls=Verb,
    examples=(
        """gatebook resolve @last t1.0 --succeeded '{"refund": "r-9"}'""",
        """gatebook resolve @last t1.0 --failed "the bank has no such refund\"""",
        "gatebook resolve @last t1.0 --retry",
    ),
)
@run_argument
@click.argument("action", metavar="ACTION")
@click.option("--succeeded", metavar="JSON|@FILE|-", help="It took effect; this is its result.")
@click.option("--failed", metavar="TEXT", help="It did not take effect; this is why.")
@click.option("--retry", is_flag=True, help="Start it again, knowing it may happen twice.")
@common()
def command(
    given: Given, run: str, action: str, succeeded: str | None, failed: str | None, retry: bool
) -> None:
    """Say what became of an action whose outcome is unknown.

    Look at the service first. ACTION is its address, as `gatebook show` names it. A result of
    another type than the tool declares is refused where the program is known.
    """
    if (succeeded is not None) + (failed is not None) + retry != 1:
        raise click.UsageError("give one of --succeeded, --failed and --retry")
    outcome: Any = RETRY
    if succeeded is not None:
        outcome = Succeeded(read_json(succeeded))
    elif failed is not None:
        outcome = Denied(failed)
    word = "retry" if retry else "succeeded" if succeeded is not None else "failed"

    async def resolve() -> None:
        async with existing(given) as client:
            row = await find(client, run)
            program = None if succeeded is None else program_of(given, row)
            await client.handle(row.run.id, program).resolve(action, outcome, by=whoami())
            fields, text = await after_steering(client, row.run, given)
        if given.as_json:
            document(run=row.run.id, action=action, resolution=word, **fields)
        else:
            say(f"action {action} of run {row.run.id} is resolved: {word}{text}")

    asyncio.run(resolve())
