"""`gatebook budget`: what a run may still use, and raising its limits."""

import asyncio
from typing import Any

import click

from gatebook.cli.budgets import NAMES, amount_text, fields, lines, read_raises
from gatebook.cli.options import Given, Verb, common, run_argument
from gatebook.cli.output import document, say, table
from gatebook.cli.steering import after_steering
from gatebook.cli.store import existing, find, whoami
from gatebook.kernel.spending.ledgers import EMPTY, key_of, renewal
from gatebook.runtime.client import Client


@click.command(
    cls=Verb,
    examples=(
        "gatebook budget @last",
        "gatebook budget @last --raise tool_calls=+10 --reason 'a long ticket'",
        "gatebook budget @last --raise usd=5 --raise wall_clock=+600",
    ),
)
@run_argument
@click.option(
    "--raise", "raises", multiple=True, metavar="METER=AMOUNT",
    help="Raise a limit to an amount, or by +amount. Seconds for wall_clock, dollars for usd.",
)  # fmt: skip
@click.option("--by", metavar="NAME", help="Who raises it; you, if left out.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@common()
def command(given: Given, run: str, raises: tuple[str, ...], by: str | None, reason: str) -> None:
    """Show what a run may still use of its budget and of the ledgers it shares.

    With --raise, raise limits first: recorded, and counting from the next request on.
    """
    try:
        limits, more = read_raises(raises)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc

    async def budget() -> None:
        async with existing(given) as client:
            row = await find(client, run)
            text = ""
            if raises:
                await client.handle(row.run.id).raise_budget(
                    limits, more=more, by=by or whoami(), reason=reason
                )
                _, text = await after_steering(client, row.run, given)
            await _show(client, row.run.id, given)
        if text and not given.as_json:
            say(text.strip())

    asyncio.run(budget())


async def _show(client: Client, run: str, given: Given) -> None:
    row = await client.handle(run).row()
    now = client.journal.now()
    balances = await client.journal.ledgers(client.tenant)
    today = [key_of(name, now) for name in row.head.ledgers or ()]
    found = lines(row.head, {key: balances.get(key, EMPTY) for key in today})
    if given.as_json:
        body: list[dict[str, Any]] = [fields(line) for line in found]
        document(run=run, budget=body)
        return
    table(
        ("OF", "METER", "LIMIT", "SPENT", "RESERVED", "LEFT", ""),
        [
            (
                line.of, NAMES[line.meter], amount_text(line.meter, line.limit) or "none",
                *(
                    "" if line.meter == "fan_out" else amount_text(line.meter, amount)
                    for amount in (line.spent, line.reserved, line.left)
                ),
                "" if line.of == "run" else renewal(line.of),
            )
            for line in found
        ],
    )  # fmt: skip
    if not found:
        say("no limit, and nothing used yet")
