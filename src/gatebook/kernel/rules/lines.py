"""Where in a TOML text each key stands: `tomllib` gives values without lines.

Reads only text that `tomllib` has accepted, so it follows structure and checks nothing.
"""

import re
import tomllib
from bisect import bisect_right

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL = re.compile(r"'[^'\n]*'")
_LONG_BASIC = re.compile(r'"""(?:[^"\\]|\\[\s\S]|"{1,2}(?!"))*"{3,5}')
_LONG_LITERAL = re.compile(r"'''(?:[^']|'{1,2}(?!'))*'{3,5}")
_SCALAR = re.compile(r"[^,\]}\n#]+")
_TEXTS = (_LONG_BASIC, _LONG_LITERAL, _BASIC, _LITERAL)


class Lines:
    """The line of every table, key and list item of one TOML text, by path."""

    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._breaks = [i for i, char in enumerate(self._text) if char == "\n"]
        self._at: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}
        self._read()

    def of(self, *path: str | int) -> int:
        """Return the line (from 1) of a path, or of the nearest thing around it."""
        while path:
            if path in self._at:
                return self._at[path]
            path = path[:-1]
        return 1

    @property
    def paths(self) -> frozenset[Path]:
        """Every path that has a line of its own."""
        return frozenset(self._at)

    def _mark(self, path: Path, position: int) -> None:
        line = bisect_right(self._breaks, position - 1) + 1
        for end in range(1, len(path)):
            self._at.setdefault(path[:end], line)
        self._at[path] = line

    def _blank(self, position: int) -> int:
        found = _BLANK.match(self._text, position)
        return found.end() if found else position

    def _read(self) -> None:
        table: Path = ()
        position = self._blank(0)
        while position < len(self._text):
            if self._text[position] == "[":
                table, position = self._header(position)
            else:
                position = self._pair(table, position)
            position = self._blank(position)

    def _header(self, position: int) -> tuple[Path, int]:
        is_list = self._text.startswith("[[", position)
        keys, after = self._key(position + 1 + is_list)
        path: Path = ()
        for key in keys[:-1]:
            path = (*path, key)
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
        path = (*path, keys[-1])
        if is_list:
            index = self._counts.get(path, 0)
            self._counts[path] = index + 1
            path = (*path, index)
        self._mark(path, position)
        return path, self._blank(after) + 1 + is_list

    def _pair(self, table: Path, position: int) -> int:
        keys, after = self._key(position)
        path = (*table, *keys)
        self._mark(path, position)
        return self._value(path, self._blank(self._blank(after) + 1))

    def _key(self, position: int) -> tuple[list[str], int]:
        keys = []
        while True:
            position = self._blank(position)
            quoted = _BASIC.match(self._text, position) or _LITERAL.match(self._text, position)
            found = quoted or _BARE.match(self._text, position)
            if found is None:
                raise ValueError(position)
            keys.append(tomllib.loads(f"k = {found[0]}")["k"] if quoted else found[0])
            position = self._blank(found.end())
            if not self._text.startswith(".", position):
                return keys, position
            position += 1

    def _value(self, path: Path, position: int) -> int:
        first = self._text[position]
        if first == "[":
            return self._list(path, self._blank(position + 1))
        if first == "{":
            return self._inline(path, self._blank(position + 1))
        patterns = _TEXTS if first in "\"'" else (_SCALAR,)
        found = next((m for p in patterns if (m := p.match(self._text, position))), None)
        if found is None:
            raise ValueError(position)
        return found.end()

    def _list(self, path: Path, position: int) -> int:
        index = 0
        while self._text[position] != "]":
            item = (*path, index)
            self._mark(item, position)
            position = self._next(self._value(item, position))
            index += 1
        return position + 1

    def _inline(self, path: Path, position: int) -> int:
        while self._text[position] != "}":
            position = self._next(self._pair(path, position))
        return position + 1

    def _next(self, position: int) -> int:
        position = self._blank(position)
        return self._blank(position + 1) if self._text[position] == "," else position
