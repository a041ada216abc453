"""Tables on a terminal: as wide as it is, with nothing that matters cut off.

Where there is no room, columns go that say least, and then the last one stands below its row.
"""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

WIDE = 40  # characters that every column but the last may have before it is cut
NARROW = 8  # characters that a column is not cut below
ROOM = 24  # characters that a long last column needs beside the others
GAP = 2  # between columns

Row = Sequence[Text]


def draw(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    styles: dict[str, str],
    styled: int,
    least: Sequence[str],
) -> None:
    """Draw rows under the names of their columns; see `output.table`.

    Args:
        columns, rows: names and cells, which hold no control characters.
        styles: of the words in the column number `styled`.
        styled: number of a column, -1 for none.
        least: names of the columns that may be left out, those first that say least.
    """
    console = Console()
    cells = [
        [
            Text(text, style=styles.get(text, "") if n == styled else "")
            for n, text in enumerate(row)
        ]
        for row in rows
    ]
    head = [Text(name, style="bold") for name in columns]
    kept = _kept(columns, rows, least, console.width)
    widths = _widths([[row[n] for n in kept[:-1]] for row in [head, *cells]], console.width)
    room = console.width - _taken(widths)
    below = room < min(ROOM, _widest(rows, kept[-1]))
    for number, row in enumerate([head, *cells]):
        _draw_row(console, [row[n] for n in kept], widths, console.width - 2 if below else room)
        if number == 0:
            rule = "─" if console.encoding.startswith("utf") else "-"
            console.print(Text(rule * console.width))


def _widest(rows: Sequence[Sequence[str]], column: int) -> int:
    return max((cell_len(row[column]) for row in rows), default=0)


def _taken(widths: Sequence[int]) -> int:
    return sum(width + GAP for width in widths)


def _kept(
    columns: Sequence[str], rows: Sequence[Sequence[str]], least: Sequence[str], width: int
) -> list[int]:
    """Return which columns are shown: as many as leave room for the last one."""
    kept = list(range(len(columns)))
    wants = {n: min(WIDE, max(len(columns[n]), _widest(rows, n))) for n in kept}
    wants[kept[-1]] = max(len(columns[-1]), min(ROOM, _widest(rows, kept[-1])))
    empty = [n for n in kept if not _widest(rows, n)]
    for number in [*empty, *map(columns.index, least)]:
        if _taken([wants[n] for n in kept]) - GAP <= width:
            break
        if number in kept:
            kept.remove(number)
    return kept


def _widths(rows: Sequence[Row], width: int) -> list[int]:
    """Return how wide the columns are; the widest are cut until all of them fit."""
    widths = [
        min(WIDE, max(cell.cell_len for cell in column)) for column in zip(*rows, strict=True)
    ]
    while widths and _taken(widths) - GAP > width and max(widths) > NARROW:
        widths[widths.index(max(widths))] -= 1
    return widths


def _draw_row(console: Console, row: Row, widths: Sequence[int], room: int) -> None:
    """Draw a row, and its last cell in the room that is left, or below when that is wider."""
    line = Text()
    for cell, width in zip(row, widths, strict=False):
        cell.truncate(width, overflow="ellipsis", pad=True)
        line.append_text(cell).append(" " * GAP)
    taken = _taken(widths)
    parts = list(row[-1].wrap(console, max(room, NARROW), overflow="fold")) if row[-1] else []
    if taken + room > console.width:
        _print(console, line)
        line, taken = Text(" " * GAP), GAP
    for number, part in enumerate(parts):
        _print(console, (line if number == 0 else Text(" " * taken)).append_text(part))
    if not parts and line.plain.strip():
        _print(console, line)


def _print(console: Console, line: Text) -> None:
    line.rstrip()
    console.print(line, no_wrap=True, overflow="ignore", crop=False)
