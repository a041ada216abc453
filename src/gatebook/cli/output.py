"""Writing for people and programs: tables, TSV, JSON documents, times, and safe text.

Data goes to standard output, everything else to standard error. What models and tools wrote is
shown as text only: no control character of theirs reaches the terminal.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging

SCHEMA = 1  # of every JSON document printed here
# Controls above ASCII (U+009B begins what ESC [ does), line ends, and what turns the direction.
HIDDEN = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
FIRST_S, LAST_S = 86_400.0, 253_402_128_000.0  # 2 January 1970 to 30 December 9999

GOOD, BAD, BUSY, QUIET = "green", "red", "yellow", "dim"
STYLES = {
    "succeeded": GOOD, "completed": GOOD, "ok": GOOD,
    "failed": BAD, "denied": BAD, "bad": BAD,
    "diverged": BAD, "definition": BAD, "hooks": BAD, "halted": BAD,
    "unknown": "bold red", "interrupted": "bold yellow", "waiting": BUSY, "backoff": BUSY,
    "warn": BUSY, "running": "cyan", "idle": BUSY, "cancelled": QUIET, "cancelling": BUSY,
    "started": BUSY,
}  # fmt: skip


def on_terminal(stream: IO[str]) -> bool:
    """Whether somebody looks at a stream through a terminal that can draw."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def say(text: str) -> None:
    """Write one line to standard error, after all that was written to standard output."""
    sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)


def log_to_stderr() -> None:
    """Show the library's warnings, one line each."""
    import logging

    logging.addLevelName(logging.WARNING, "warning")
    logging.addLevelName(logging.ERROR, "error")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)


def quiet_logs() -> None:
    """Keep the library's warnings off standard error: with --json a program reads it."""
    import logging

    logging.getLogger("gatebook").addHandler(logging.NullHandler())


@contextmanager
def halts_untold() -> Iterator[None]:
    """Leave why a run was halted to the report on it: in a log line it would be said twice."""
    import logging

    from gatebook.runtime.driving import parking

    log = logging.getLogger(parking.__name__)
    log.addFilter(_no_error)
    try:
        yield
    finally:
        log.removeFilter(_no_error)


def _no_error(record: "logging.LogRecord") -> bool:
    import logging

    return record.levelno < logging.ERROR


def filter_logs(secrets: "logging.Filter") -> None:
    """Let nothing secret onto standard error by way of a log line."""
    import logging

    for handler in logging.getLogger().handlers:
        handler.addFilter(secrets)


def document(**fields: Any) -> None:
    """Write one JSON document to standard output."""
    print(written({"schema": SCHEMA, **fields}, indent=2), flush=True)


def json_line(**fields: Any) -> None:
    """Write one JSON object on a line of its own."""
    print(written({"schema": SCHEMA, **fields}), flush=True)


def written(value: Any, *, indent: int | None = None) -> str:
    """Return JSON in which what a terminal acts on, and JSON may hold as it is, is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    styled: int = -1,
    least: Sequence[str] = (),
) -> None:
    """Write rows to standard output: a table on a terminal, tab-separated values otherwise.

    `styled` is the column whose words are coloured, such as a status; `least` are those that a
    narrow terminal does without, the first of them first.
    """
    if not on_terminal(sys.stdout):
        for row in rows:
            print("\t".join(cell(text) for text in row))
        return
    from gatebook.cli.drawing import draw

    shown = [[safe(text) for text in row] for row in rows]
    draw(columns, shown, styles=STYLES, styled=styled, least=least)


def facts(pairs: Mapping[str, str]) -> None:
    """Write names and values to standard output, aligned."""
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        print(f"{name:<{width}}  {safe(value)}")


def safe(text: str) -> str:
    """Return text on one line with control and bidirectional characters made visible."""
    from gatebook.errors import printable

    return printable(" ".join(text.split("\n")))


def safe_lines(text: str) -> str:
    """Return text with its line ends and tabs, and every other control character made visible."""
    from gatebook.errors import printable

    return "\n".join(printable(line.expandtabs(4)) for line in text.splitlines())


def cell(text: str) -> str:
    """Return text as one TSV cell: tabs and line ends written as escapes, nothing cut."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def short(text: str, limit: int = 60) -> str:
    """Return text cut to a width."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def clock(time_us: int) -> str:
    """Return a time as people read it: local, to the second."""
    when = _when(time_us).astimezone()
    today = when.date() == datetime.now(tz=UTC).astimezone().date()
    return when.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M")


def stamp(time_us: int | None) -> str:
    """Return a time as programs read it: RFC 3339 in UTC, "" for none."""
    if time_us is None:
        return ""
    return _when(time_us).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _when(time_us: int) -> datetime:
    """Return a time, or the nearest that has a date: somebody may have changed what is stored."""
    return datetime.fromtimestamp(max(FIRST_S, min(time_us / 1e6, LAST_S)), tz=UTC)


def span(microseconds: int | None) -> str:
    """Return a length of time in the unit people would use."""
    if microseconds is None:
        return ""
    if microseconds < 1_000_000:
        return f"{microseconds / 1000:.0f} ms"
    seconds = microseconds / 1e6
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 60:
        return f"{int(minutes)} min {int(seconds % 60)} s"
    return f"{int(hours)} h {int(minutes % 60)} min" if hours < 48 else f"{hours / 24:.0f} days"


def number(value: int | None) -> str:
    """Return a count with thousands apart, "" for unknown."""
    return "" if value is None else f"{value:,}"
