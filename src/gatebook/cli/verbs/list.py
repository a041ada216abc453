"""`gatebook list`: runs, newest first."""

import asyncio
import re
import sys
import time

import click

from gatebook.cli.latest import seen
from gatebook.cli.options import Given, Verb, common, read_labels
from gatebook.cli.output import clock, document, on_terminal, say, stamp, table
from gatebook.cli.store import existing
from gatebook.cli.words import run_fields, status_of, waits
from gatebook.kernel.status import Status
from gatebook.ports import EVERY, ParkedReason, RunQuery, RunRow

UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
STATUSES = (
    "running", "idle", "waiting", "interrupted", "cancelling", *map(str, ParkedReason),
    "completed", "failed", "cancelled",
)  # fmt: skip
OPEN = (Status.RUNNING, Status.CANCELLING)  # as the store says all of the others but these
STORED = {name: (name,) for name in ("completed", "failed", "cancelled", "interrupted")}


@click.command(
    cls=Verb,
    examples=("gatebook list --status waiting", "gatebook list --since 2d --label team=desk"),
)
@click.option("--status", type=click.Choice(STATUSES), multiple=True, help="Only of this status.")
@click.option("--program", default="", metavar="NAME", help="Only runs of this program.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only with this label.")
@click.option("--since", metavar="AGE", help="Only started within 30m, 2h, 2d, 1w.")
@click.option(
    "--limit",
    default=50,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="At most so many.",
)
@common()
def command(
    given: Given,
    status: tuple[str, ...],
    program: str,
    labels: tuple[str, ...],
    since: str | None,
    limit: int,
) -> None:
    """List runs, newest first.

    On a terminal this is a table; piped, tab-separated values: run, program, status, events,
    started, last event, what it waits for.
    """
    query = RunQuery(
        program=program,
        labels=read_labels(labels),
        since=None if since is None else int(time.time() * 1e6) - _age_us(since),
        statuses=tuple({stored for word in status for stored in STORED.get(word, OPEN)}),
        limit=limit if not status else EVERY,
    )
    rows, now = asyncio.run(_rows(given, query))
    shown = [row for row in rows if not status or status_of(row, now) in status][:limit]
    if given.as_json:
        document(store=given.settings.store, runs=[run_fields(row, now) for row in shown])
        return
    time_text = clock if on_terminal(sys.stdout) else stamp
    table(
        ("RUN", "PROGRAM", "STATUS", "EVENTS", "STARTED", "LAST EVENT", "WAITS FOR"),
        [
            (
                row.run.id, row.program, status_of(row, now), str(row.head.seq),
                time_text(row.created), time_text(row.updated), ", ".join(waits(row)),
            )
            for row in shown
        ],
        styled=2,
        least=("STARTED", "EVENTS", "LAST EVENT"),
    )  # fmt: skip
    if not shown:
        narrowed = status or program or labels or since
        say(f"no {'such runs' if narrowed else 'runs'} in {given.settings.store}")
    elif len(rows) == limit and not status:
        say(f"the newest {limit}; --limit shows more")


async def _rows(given: Given, query: RunQuery) -> tuple[list[RunRow], int]:
    async with existing(given) as client:
        rows = [await seen(client.journal, row) for row in await client.runs(query)]
        return rows, client.journal.now()


def _age_us(text: str) -> int:
    match = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    if match is None:
        raise click.BadParameter(f"an age is like 30m, 2h, 2d or 1w, got {text!r}")
    return int(match[1]) * UNITS_S[match[2]] * 1_000_000
