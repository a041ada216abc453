"""`gatebook signal`: send a signal to a run."""

import asyncio

import click

from gatebook.cli.fitting import check_signal
from gatebook.cli.options import Given, Verb, common, read_json, run_argument
from gatebook.cli.output import document, say
from gatebook.cli.steering import after_steering
from gatebook.cli.store import existing, find, whoami


@click.command(
    cls=Verb,
    examples=(
        """gatebook signal @last go '{"by": "ann"}'""",
        "gatebook signal ticket-17 answer @answer.json",
    ),
)
@run_argument
@click.argument("name")
@click.argument("payload", required=False, metavar="[JSON|@FILE|-]")
@common()
def command(given: Given, run: str, name: str, payload: str | None) -> None:
    """Send a signal to a run.

    It is kept until the run waits for it. The payload is JSON, null unless given. A payload that
    does not fit the type the run waits for is refused where the program is known: from the
    settings or an earlier run.
    """
    value = None if payload is None else read_json(payload)

    async def send() -> None:
        async with existing(given) as client:
            row = await find(client, run)
            await check_signal(client, given, row, name, value)
            await client.handle(row.run.id).signal(name, value, by=whoami())
            fields, text = await after_steering(client, row.run, given)
        if given.as_json:
            document(run=row.run.id, signal=name, payload=value, **fields)
        else:
            say(f"signal {name} is kept for run {row.run.id}{text}")

    asyncio.run(send())
