"""Watching one run: a live block on a terminal, one line an event everywhere else.

Both write to standard error, so that standard output holds the answer and nothing else.
"""

import asyncio
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gatebook.cli.output import STYLES, on_terminal, safe, safe_lines, say, short, span
from gatebook.cli.telling import Teller
from gatebook.cli.verbs.show import as_known, detail
from gatebook.cli.words import METER_NAMES, amount_text, used_text
from gatebook.kernel.events import AnyEvent
from gatebook.kernel.head import Head
from gatebook.kernel.history import TimelineRow, timeline, totals
from gatebook.kernel.messages import TextDelta
from gatebook.ports import Recorded
from gatebook.runtime.runs.handles import RunHandle
from gatebook.runtime.subscriptions import Delta, Live, Progress, Reset

ACTIONS = 8  # rows of the live block
TEXT_LINES = 8  # of an answer that is being written


class View(ABC):
    """Somebody who watches a run. `seq` is the last event that was shown."""

    def __init__(self, *, since: int = 0) -> None:
        self.seq = 0
        self.since = since

    def open(self) -> None:
        """Begin to show."""

    def take(self, recorded: Recorded) -> None:
        """Take in one more event."""
        self.seq = recorded.seq
        self.show(recorded)

    @abstractmethod
    def show(self, recorded: Recorded) -> None:
        """Show one more event."""

    def hear(self, item: Live) -> None:
        """Show a live item: a piece of an answer, progress, a reset."""

    def close(self, state: str = "") -> None:
        """Leave the last picture behind, with the word for how the run stands."""


class Silent(View):
    """Shows nothing: for --json."""

    def show(self, recorded: Recorded) -> None:
        """Show nothing."""


class Lines(View):
    """One line an event, of those after `since`."""

    def __init__(self, *, since: int = 0) -> None:
        super().__init__(since=since)
        self._teller = Teller()

    def show(self, recorded: Recorded) -> None:
        """Write the event's line."""
        line = self._teller.line(recorded)
        if recorded.seq > self.since:
            say(safe(line))


class Block(View):
    """One block that is drawn again as the run goes on: meters, the last actions, the answer."""

    def __init__(self, *, since: int = 0) -> None:
        from rich.console import Console
        from rich.live import Live as Drawing

        super().__init__(since=since)
        self._state = ""
        self._events: list[AnyEvent] = []
        self._head = Head()
        self._text: dict[str, str] = {}
        self._progress: dict[str, str] = {}
        self._console = Console(stderr=True)
        self._drawing = Drawing(
            get_renderable=self._draw,
            console=self._console,
            refresh_per_second=8,
            redirect_stdout=False,
        )

    def open(self) -> None:
        """Begin to draw."""
        self._drawing.start()

    def close(self, state: str = "") -> None:
        """Draw once more and leave it standing."""
        self._state = state
        self._text.clear()
        self._progress.clear()
        self._drawing.stop()

    def show(self, recorded: Recorded) -> None:
        """Fold one more event into the picture."""
        event = recorded.event
        self._events.append(event)
        self._head.apply(event)
        address = getattr(event, "address", "")
        if address and address not in self._head.open:
            self._text.pop(address, None)
            self._progress.pop(address, None)

    def hear(self, item: Live) -> None:
        """Take in a piece of an answer, or how far a tool is."""
        if isinstance(item, Delta) and isinstance(item.event, TextDelta):
            self._text[item.address] = self._text.get(item.address, "") + item.event.text
        elif isinstance(item, Reset):
            self._text.pop(item.address, None)
        elif isinstance(item, Progress):
            self._progress[item.address] = _progress(item)

    def _draw(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        rows = as_known(timeline(self._events), held=self._state in ("", "running"))
        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True, overflow="ellipsis", max_width=32)
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True, justify="right")
        grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for row in rows[-ACTIONS:]:
            grid.add_row(
                Text(row.address, style="dim"),
                Text(safe(row.what)),
                Text(row.status, style=STYLES.get(row.status, "")),
                Text(span(row.duration_us), style="dim"),
                Text(safe(self._progress.get(row.address) or detail(row, limit=200)), style="dim"),
            )
        parts: list[Any] = [self._title(rows), grid]
        for text in self._text.values():
            tail = safe_lines(text).splitlines()[-TEXT_LINES:]
            parts.append(Text("\n".join(tail), style="italic"))
        return Group(*parts)

    def _title(self, rows: list[TimelineRow]) -> Any:
        from rich.text import Text

        status = self._state or str(self._head.status)
        title = Text.assemble((status, STYLES.get(status, "cyan")), "  ")
        told = meters(self._head) or ["no budget used"]
        hidden = len(rows) - ACTIONS
        if hidden > 0:
            told.append(f"{hidden} earlier actions")
        return title.append(_packed(told, self._console.width, indent=len(status) + 2))


def meters(head: Head) -> list[str]:
    """Return the meters that are used or limited, with a bar where there is a limit."""
    found = []
    for meter in totals(head):
        used, shown = meter.spent + meter.reserved, used_text(meter)
        if not shown:
            continue
        if meter.limit is not None:
            limit = amount_text(meter, meter.limit)
            filled = min(8, used * 8 // meter.limit) if meter.limit else 8
            shown = f"{shown}/{limit} {'█' * filled}{'░' * (8 - filled)}"
        found.append(f"{METER_NAMES[meter.name]} {shown}")
    return found


def _packed(parts: list[str], width: int, *, indent: int) -> str:
    """Return parts side by side; one that does not fit begins a line of its own, none is broken."""
    text, column = "", indent
    for part in parts:
        if text and column + 3 + len(part) > width:
            text, column = f"{text}\n{'':{indent}}{part}", indent + len(part)
        else:
            lead = " · " if text else ""
            text, column = f"{text}{lead}{part}", column + len(lead) + len(part)
    return text


def _progress(item: Progress) -> str:
    part = ""
    if item.done is not None:
        part = f"{item.done:g}" + (f"/{item.total:g}" if item.total is not None else "")
    return short(f"{part} {item.detail}".strip(), 60)


def view_for(*, as_json: bool, since: int = 0) -> View:
    """Return the view that fits where standard error goes."""
    if as_json:
        return Silent()
    if on_terminal(sys.stderr) and not os.environ.get("CI"):
        return Block(since=since)
    return Lines(since=since)


@asynccontextmanager
async def watching(run: RunHandle[Any], view: View) -> AsyncIterator[None]:
    """Show a run while the block lasts. Events that come later are the caller's to show.

    A journal that does not read is not told here: whoever reads the run next is.
    """
    tasks = [asyncio.create_task(show(run, view)) for show in (_follow, _listen)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _follow(run: RunHandle[Any], view: View) -> None:
    async for recorded in run.events():
        view.take(recorded)


async def _listen(run: RunHandle[Any], view: View) -> None:
    async for item in run.live():
        view.hear(item)
