"""`gatebook grants`: tools that are not asked about again in one run, until a time."""

import asyncio
import re
import sys
from datetime import datetime, timedelta
from typing import Any

import click

from gatebook.cli.answering import author_of, by_option, group_option, whole
from gatebook.cli.options import Given, Verb, common, run_argument
from gatebook.cli.output import document, on_terminal, safe, say, table
from gatebook.cli.steering import after_steering
from gatebook.cli.store import existing, find
from gatebook.runtime.runs.grants import GrantGiven

UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@click.command(
    cls=Verb,
    examples=(
        "gatebook grants @last",
        "gatebook grants ticket-17 --grant refund --until 8h",
        "gatebook grants ticket-17 --revoke ticket-17#12",
    ),
)
@run_argument
@click.option("--grant", "tool", metavar="TOOL", help="Also allow this tool in this run.")
@click.option("--until", metavar="DATE", help="2026-12-31T18:00, or from now: 30m, 8h, 2d.")
@click.option("--revoke", metavar="RUN#SEQ", help="Take a grant back.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@by_option
@group_option
@common()
def command(given: Given, run: str, tool: str | None, until: str | None, **options: Any) -> None:
    """List the grants of a run, give one or take one back.

    A grant answers what is asked about a tool, as far as you could approve it yourself. It opens
    nothing that policy denies, and ends when the tool's definition changes.
    """
    revoke = options.pop("revoke")
    if (tool is None) != (until is None) or (tool is not None and revoke is not None):
        raise click.UsageError("give --grant TOOL with --until DATE, or --revoke RUN#SEQ")
    moment = None if until is None else _moment(until)
    asyncio.run(_grants(given, run, (tool, moment), revoke, author_of(**options)))


def _moment(text: str) -> datetime | timedelta:
    spelt = re.fullmatch(r"(\d{1,5})([mhd])", text)
    if spelt:
        return timedelta(**{UNITS[spelt[2]]: int(spelt[1])})
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise click.BadParameter(
            "write 2026-12-31T18:00, or from now 30m, 8h, 2d", param_hint="--until"
        ) from None


async def _grants(
    given: Given,
    name: str,
    grant: tuple[str | None, datetime | timedelta | None],
    revoke: str | None,
    author: dict[str, Any],
) -> None:
    said = text = ""
    tool, moment = grant
    async with existing(given) as client:
        run = (await find(client, name)).run
        if tool is not None and moment is not None:
            made = await client.grant(run.id, tool, until=moment, **author)
            said = f"grant {made.id}: {tool} until {_local(made)}"
            _, text = await after_steering(client, run, given)
        if revoke is not None:
            id = await whole(client, revoke)
            await client.revoke(id, by=author["by"], reason=author["reason"])
            said = f"grant {id} is revoked"
        found = await client.grants(run.id)
    if given.as_json:
        document(run=run.id, grants=[_fields(each) for each in found])
        return
    if said:
        say(f"{safe(said)}{text}")
        return
    if not found:
        say(f"run {run.id} has no grants")
        return
    people = on_terminal(sys.stdout)
    table(
        ("GRANT", "TOOL", "UNTIL", "BY", "STATE"),
        [
            (
                each.id, each.tool, _local(each) if people else each.until.isoformat(), each.by,
                "over" if each.over else "in force",
            )
            for each in found
        ],
    )  # fmt: skip


def _local(grant: GrantGiven) -> str:
    return grant.until.astimezone().isoformat(" ", "minutes")


def _fields(grant: GrantGiven) -> dict[str, Any]:
    return {
        "grant": grant.id,
        "tool": grant.tool,
        "until": grant.until.isoformat(),
        "by": grant.by,
        "over": grant.over,
    }
