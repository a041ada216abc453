"""`gatebook endorse`: what labels a run carries, and vouching for what brought one in."""

import asyncio
from typing import Any

import click

from gatebook.cli.options import Given, Verb, common, run_argument
from gatebook.cli.output import document, say, table
from gatebook.cli.steering import after_steering
from gatebook.cli.store import existing, find, whoami
from gatebook.runtime.runs.handles import RunHandle


@click.command(
    cls=Verb,
    examples=(
        "gatebook endorse @last",
        "gatebook endorse @last untrusted --upto 12 --reason 'read the page'",
    ),
)
@run_argument
@click.argument("label", required=False)
@click.option(
    "--upto", type=int, metavar="SEQ",
    help="The last event you looked at; a label that a later one brought in stays.",
)  # fmt: skip
@click.option("--by", metavar="NAME", help="Who vouches; you, if left out.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@common()
def command(
    given: Given, run: str, label: str | None, upto: int | None, by: str | None, reason: str
) -> None:
    """Show what labels a run carries, or vouch for what brought one in.

    Nothing else takes a label off a run; the next result that carries it brings it back.
    """

    async def endorse() -> None:
        async with existing(given) as client:
            row = await find(client, run)
            handle: RunHandle[Any] = client.handle(row.run.id)
            text = ""
            if label is not None:
                await handle.endorse(label, by=by or whoami(), reason=reason, upto=upto)
                _, text = await after_steering(client, row.run, given)
            labels = await handle.labels()
        if given.as_json:
            document(run=row.run.id, labels=labels)
            return
        if label is None and not labels:
            say(f"run {row.run.id} carries no label")
        elif label is None:
            table(("LABEL", "SINCE"), [(name, str(seq)) for name, seq in labels.items()])
        elif label in labels:
            say(f"run {row.run.id} still carries {label}: event {labels[label]} brought it in")
        else:
            say(f"run {row.run.id} no longer carries {label}{text}")

    asyncio.run(endorse())
