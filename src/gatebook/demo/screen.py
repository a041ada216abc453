"""How the demo speaks: headings, short paragraphs, columns. Bold only on a terminal."""

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

WIDTH = 98  # of rows and quoted output; paragraphs are narrower where the terminal is


def _styled(text: str, code: str) -> str:
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[{code}m{text}\x1b[0m"


def _page() -> int:
    """Return how wide a paragraph may be."""
    return max(60, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))


def heading(text: str) -> None:
    """Print a heading with a line of air above it."""
    print("\n" + _styled(text, "1"), flush=True)


def say(text: str) -> None:
    """Print a paragraph."""
    print(textwrap.fill(" ".join(text.split()), _page()), flush=True)


def labelled(label: str, text: str) -> None:
    """Print a short label and its text; the text is wrapped beside the label."""
    lead = f"    {label:<9}  "
    beside = " " * len(lead)
    told = " ".join(text.split())
    print(textwrap.fill(told, _page(), initial_indent=lead, subsequent_indent=beside), flush=True)


def command(text: str) -> None:
    """Print a command the reader can run, dimmed."""
    print(_styled(f"    $ {text}", "2"), flush=True)


def output(lines: Sequence[str], most: int) -> None:
    """Print what a command said: at most so many lines, cut where the page ends, not wrapped."""
    for line in lines[:most]:
        told = f"      {line.expandtabs(2)}".rstrip()
        print(told if len(told) <= WIDTH else told[: WIDTH - 3] + "...", flush=True)
    if len(lines) > most:
        print(f"      ... and {len(lines) - most} lines more", flush=True)


def columns(rows: Iterable[Sequence[object]], *, indent: str = "    ") -> None:
    """Print rows in columns; the last column is cut, not wrapped."""
    cells = [[str(cell) for cell in row] for row in rows]
    if not cells:
        return
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]) - 1)]
    room = WIDTH - len(indent) - sum(widths) - 2 * len(widths)
    for row in cells:
        lead = "".join(f"{cell:<{width}}  " for cell, width in zip(row, widths, strict=False))
        last = " ".join(row[-1].split())
        cut = last if len(last) <= room else last[: room - 3] + "..."
        print((indent + lead + cut).rstrip(), flush=True)


def verdict(holds: bool, text: str) -> None:
    """Print one check."""
    word = _styled("ok    ", "32") if holds else _styled("FAILED", "1;31")
    print(f"    {word}  {text}", flush=True)
