"""`gatebook tail`: the events of one run, or of all, as they come."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import click

from gatebook.cli.options import Given, Verb, common
from gatebook.cli.output import cell, json_line, on_terminal, safe, stamp
from gatebook.cli.store import existing, find
from gatebook.cli.telling import Teller, event_fields
from gatebook.ports import Recorded
from gatebook.runtime.client import Client
from gatebook.runtime.handles import RunHandle

PAGE = 1_000  # events read at once


@click.command(
    cls=Verb,
    examples=("gatebook tail @last", "gatebook tail --after 1200 --json | jq .event.kind"),
)
@click.argument("run", metavar="[RUN]", required=False)
@click.option(
    "--after", type=click.IntRange(0), metavar="CURSOR",
    help="Go on after this cursor: a seq of a run, a position of the store.",
)  # fmt: skip
@click.option("--no-follow", is_flag=True, help="Stop at the last event there is.")
@common()
def command(given: Given, run: str | None, after: int | None, no_follow: bool) -> None:
    """Follow the events of one run to its end, or of all runs until Ctrl-C.

    The first column is the cursor to come back with. A run is shown from its beginning; the
    store from now on, unless --after says where. With --json, one object a line.
    """
    asyncio.run(_tail(given, run, after, follow=not no_follow))


async def _tail(given: Given, run: str | None, after: int | None, *, follow: bool) -> None:
    teller = Teller()
    async with existing(given) as client:
        if run is None:
            source = _store(client, after, follow=follow)
        else:
            handle: RunHandle[Any] = client.handle((await find(client, run)).run.id)
            for recorded in await client.journal.read(handle.key, limit=after or 0):
                teller.parts(recorded)  # what is asked before the cursor is answered after it
            source = _run(client, handle, after or 0, follow=follow)
        async for recorded in source:
            cursor = recorded.seq if run is not None else recorded.position
            _print(given, teller, recorded, cursor, named=run is None)


async def _run(
    client: Client, handle: RunHandle[Any], after: int, *, follow: bool
) -> AsyncIterator[Recorded]:
    if follow:
        async for recorded in handle.events(after=after):
            yield recorded
        return
    for recorded in await client.journal.read(handle.key, after=after):
        yield recorded


async def _store(client: Client, after: int | None, *, follow: bool) -> AsyncIterator[Recorded]:
    journal = client.journal
    if after is None:
        after = await journal.wait(-1) if follow else 0
    while True:
        page = await journal.tail(client.tenant, after=after, limit=PAGE)
        for recorded in page:
            yield recorded
            after = recorded.position
        if not page:
            if not follow:
                return
            await journal.wait(after)


def _print(given: Given, teller: Teller, recorded: Recorded, cursor: int, *, named: bool) -> None:
    if given.as_json:
        json_line(cursor=cursor, **event_fields(recorded))
        return
    run = recorded.run.id
    if on_terminal(sys.stdout):
        name = f"{run}  " if named else ""
        print(f"{cursor:>6}  {name}{safe(teller.line(recorded))}", flush=True)
        return
    word, address, detail = teller.parts(recorded)
    columns = (str(cursor), run, stamp(recorded.event.time), word, address, detail)
    print("\t".join(map(cell, columns)), flush=True)
