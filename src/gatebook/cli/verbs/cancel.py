"""`gatebook cancel`: cancel a run."""

import asyncio

import click

from gatebook.cli.options import Given, Verb, common, run_argument
from gatebook.cli.output import document, say
from gatebook.cli.steering import after_steering
from gatebook.cli.store import existing, find, whoami

TOLD = {
    "cancelling": "no action of run {run} starts any more",
    "already_cancelling": "run {run} is being cancelled already",
    "already_over": "run {run} is over already",
}


@click.command(cls=Verb, examples=("""gatebook cancel @last --reason "wrong customer\"""",))
@run_argument
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@common()
def command(given: Given, run: str, reason: str) -> None:
    """Cancel a run, durably: no action starts after this.

    What is running is asked to stop; the run ends when a worker has seen that it did.
    """

    async def cancel() -> None:
        async with existing(given) as client:
            row = await find(client, run)
            told = await client.handle(row.run.id).cancel(reason=reason, by=whoami())
            fields, text = await after_steering(client, row.run, given)
        if given.as_json:
            document(run=row.run.id, cancel=told, **fields)
        else:
            say(f"{TOLD[told].format(run=row.run.id)}{text}")

    asyncio.run(cancel())
