"""`gatebook approvals`: what waits for somebody's word."""

import asyncio
import sys

import click

from gatebook.cli.asking import approval_fields, arguments, shown
from gatebook.cli.options import Given, Verb, common
from gatebook.cli.output import clock, document, on_terminal, say, stamp, table
from gatebook.cli.store import existing, find
from gatebook.runtime.runs.approvals import Approval


@click.command(
    cls=Verb,
    examples=(
        "gatebook approvals",
        "gatebook approvals @last --json | jq .approvals[0].arguments",
    ),
)
@click.argument("run", metavar="[RUN]", required=False)
@common()
def command(given: Given, run: str | None) -> None:
    """List what waits for an answer, of one run or of all, oldest first.

    The arguments are exactly what will run. Answer with `gatebook approve` and `gatebook deny`.
    """
    found = asyncio.run(_open(given, run))
    if given.as_json:
        document(approvals=[approval_fields(approval) for approval in found])
        return
    if not found:
        say("nothing waits for an answer")
        return
    people = on_terminal(sys.stdout)
    if people and len(found) == 1:
        print("\n".join(shown(found[0])))
    else:
        _table(found, people=people)
    if people:
        ids = [approval.id for approval in found]
        print(f"\n{given.line('approve', *ids)}\n{given.line('deny', *ids)} --reason TEXT")


def _table(found: list[Approval], *, people: bool) -> None:
    moment = clock if people else stamp
    table(
        ("APPROVAL", "ACTION", "ARGUMENTS", "FOR", "UNTIL", "QUESTION"),
        [
            (
                each.id, each.what, arguments(each, people=people), each.requester,
                moment(each.asked.time + each.asked.expires_ms * 1000), _question(each),
            )
            for each in found
        ],
    )  # fmt: skip


def _question(approval: Approval) -> str:
    """Return what is asked, and why an edit before it does not count."""
    refused = approval.asked.refused
    return f"{approval.message}  ({refused})" if refused else approval.message


async def _open(given: Given, run: str | None) -> list[Approval]:
    async with existing(given) as client:
        name = None if run is None else (await find(client, run)).run.id
        return [approval async for approval in client.approvals(name)]
