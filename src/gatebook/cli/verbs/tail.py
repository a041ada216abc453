"""`gatebook tail`: the events of one run, or of all, as they come, and what its models say."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from shutil import get_terminal_size
from typing import Any

import click

from gatebook.cli.main import INTERRUPTED
from gatebook.cli.options import Given, Verb, common
from gatebook.cli.output import cell, json_line, on_terminal, safe, say, stamp
from gatebook.cli.store import existing, find
from gatebook.cli.telling import Teller, event_fields
from gatebook.errors import InvalidInput, printable
from gatebook.kernel.messages import TextDelta
from gatebook.ports import Recorded
from gatebook.runtime.client import Client
from gatebook.runtime.runs.cursors import place_of
from gatebook.runtime.runs.handles import RunHandle
from gatebook.runtime.subscriptions import Delta, Reset

PAGE = 1_000  # events read at once
MARGIN = " " * 29  # what a model says stands under the addresses
WORDS = re.compile(r" *[^ ]+| +")


@click.command(
    cls=Verb,
    examples=("gatebook tail @last", "gatebook tail --after 1200 --json | jq .event.kind"),
)
@click.argument("run", metavar="[RUN]", required=False)
@click.option(
    "--after", metavar="CURSOR",
    help="Go on after this cursor: of a run as tail gave it, or a position of the store.",
)  # fmt: skip
@click.option("--no-follow", is_flag=True, help="Stop at the last event there is.")
@common(following=True)
def command(given: Given, run: str | None, after: str | None, no_follow: bool) -> int:
    """Follow the events of one run to its end, or of all runs until Ctrl-C.

    The first column is the cursor to come back with. A run is shown from its beginning, and the
    answers of its models as they are written, whichever process drives it. All runs are shown
    from now on. --after says where to begin instead.
    """
    place_of(after or 0)
    if run is not None:
        return asyncio.run(_one(given, run, after or 0, follow=not no_follow))
    if after is not None and not after.isdecimal():
        raise InvalidInput("E_CURSOR_INVALID", value=after)
    asyncio.run(_all(given, None if after is None else int(after), follow=not no_follow))
    return 0


async def _one(given: Given, run: str, after: int | str, *, follow: bool) -> int:
    """Show one run; return the exit code."""
    printer = Printer(given, named=False)
    async with existing(given) as client:
        row = await find(client, run)
        handle: RunHandle[Any] = client.handle(row.run.id)
        seq, _ = place_of(after)
        if seq > row.head.seq:
            raise InvalidInput("E_CURSOR_INVALID", value=after)
        for recorded in await client.journal.read(handle.key, limit=seq):
            printer.teller.parts(recorded)  # what is asked before the cursor is answered after it
        if not follow:
            for recorded in await client.journal.read(handle.key, after=seq):
                printer.event(recorded, recorded.seq)
            return 0
        reading = handle.events(after=after, deltas=True)
        try:
            async for item in reading:
                printer.item(handle.id, item, reading.cursor)
        except asyncio.CancelledError:  # Ctrl-C: asyncio cancels its main task
            printer.leaves()
            say(f"go on with: {given.line('tail', handle.id, '--after', str(reading.cursor))}")
            return INTERRUPTED
    return 0


async def _all(given: Given, after: int | None, *, follow: bool) -> None:
    printer = Printer(given, named=True)
    async with existing(given) as client:
        async for recorded in _store(client, after, follow=follow):
            printer.event(recorded, recorded.position)


async def _store(client: Client, after: int | None, *, follow: bool) -> AsyncIterator[Recorded]:
    journal = client.journal
    last = await journal.wait(-1)
    if after is None:
        after = last if follow else 0
    if after > last:
        raise InvalidInput("E_CURSOR_INVALID", value=after)
    while True:
        page = await journal.tail(client.tenant, after=after, limit=PAGE)
        for recorded in page:
            yield recorded
            after = recorded.position
        if not page:
            if not follow:
                return
            await journal.wait(after)


class Printer:
    """Writes what is followed to standard output: lines on a terminal, else columns or JSON."""

    def __init__(self, given: Given, *, named: bool) -> None:
        self.teller = Teller()
        self._as_json = given.as_json
        self._drawn = on_terminal(sys.stdout)
        self._named = named
        self._writing = ""  # the address whose answer the open line holds
        self._column = 0  # how much of that line is written

    def item(self, run: str, item: Recorded | Delta | Reset, cursor: str) -> None:
        """Write an event of a run, what a model says, or that it is to be dropped."""
        if isinstance(item, Recorded):
            self.event(item, int(cursor) if cursor.isdecimal() else cursor)
        elif isinstance(item, Reset):
            self._reset(run, item, cursor)
        elif isinstance(item.event, TextDelta):
            self._text(run, item, item.event.text, cursor)

    def event(self, recorded: Recorded, cursor: int | str) -> None:
        """Write an event."""
        if self._as_json:
            json_line(cursor=cursor, **event_fields(recorded))
            return
        run = recorded.run.id
        if self._drawn:
            self.line_ends()
            name = f"{run}  " if self._named else ""
            print(f"{cursor:>6}  {name}{safe(self.teller.line(recorded))}", flush=True)
            return
        self._columns(cursor, run, stamp(recorded.event.time), *self.teller.parts(recorded))

    def _text(self, run: str, delta: Delta, text: str, cursor: str) -> None:
        if self._as_json:
            said = {"address": delta.address, "attempt": delta.attempt, "index": delta.index}
            json_line(cursor=cursor, run=run, delta={**said, "text": text})
        elif not self._drawn:
            self._columns(cursor, run, "", "says", delta.address, text)
        else:
            self._write(delta.address, text)

    def _write(self, address: str, text: str) -> None:
        """Write more of an answer in a column of its own, broken between words."""
        if self._writing != address:
            self.line_ends()
            self._writing, self._column = address, 0
            print(f"{MARGIN}{address:<7} ", end="")
        room = max(20, get_terminal_size().columns - len(MARGIN) - 9)
        for number, line in enumerate(text.split("\n")):
            if number:
                self._next_line()
            for word in WORDS.findall(printable(line.expandtabs(4))):
                broken = 0 < self._column > room - len(word)
                if broken:
                    self._next_line()
                shown = word.lstrip() if broken else word
                print(shown, end="")
                self._column += len(shown)
        sys.stdout.flush()

    def _next_line(self) -> None:
        self._column = 0
        print(f"\n{MARGIN}{'':<7} ", end="")

    def _reset(self, run: str, reset: Reset, cursor: str) -> None:
        why = f"{reset.instead} asks again" if reset.instead else f"attempt {reset.attempt + 1}"
        if self._as_json:
            fields = {"address": reset.address, "attempt": reset.attempt, "shown": reset.shown}
            json_line(cursor=cursor, run=run, reset={**fields, "instead": reset.instead})
        elif not self._drawn:
            self._columns(cursor, run, "", "drop", reset.address, why)
        else:
            self.line_ends()
            print(f"{MARGIN}{reset.address:<7} what it said does not count: {why}", flush=True)

    def leaves(self) -> None:
        """End the line on which a terminal echoes Ctrl-C, or an answer is being written."""
        if self._drawn:
            print(flush=True)

    def line_ends(self) -> None:
        """End the line that an answer is being written on."""
        if self._writing:
            self._writing = ""
            print(flush=True)

    def _columns(self, cursor: int | str, *columns: str) -> None:
        print("\t".join(map(cell, (str(cursor), *columns))), flush=True)
