"""TOML tables read with their lines: every wrong key or value becomes an error that names one.

Knows types and texts; knows nothing of what a policy means.
"""

import re
import tomllib
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from gatebook.errors import ConfigError
from gatebook.kernel.rules.document import place
from gatebook.kernel.rules.lines import Lines, Path

MAX_FILE = 1024 * 1024  # characters of a policy file
MAX_WHOLE = 2**53  # every JSON reader keeps whole numbers up to here
MAX_DAYS = 3_660  # of a duration: ten years, as for sleeps
_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(?:(\d{1,12})(ms|s|m|h|d))")
_MONEY = re.compile(r"\d{1,12}(\.\d{1,6})?")
_AT_LINE = re.compile(r"at line (\d+)")


class Source:
    """One policy text: its tables, its lines and the errors found so far."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.errors: list[ConfigError] = []
        self.root: dict[str, Any] = {}
        self._lines = Lines("")
        self._read(text)

    def _read(self, text: str) -> None:
        if len(text) > MAX_FILE:
            self._broken(1, f"it has more than {MAX_FILE} characters")
            return
        try:
            self.root = tomllib.loads(text, parse_float=Decimal)
            self._lines = Lines(text)
        except tomllib.TOMLDecodeError as exc:
            found = _AT_LINE.search(str(exc))
            last = len(text.splitlines()) or 1
            self._broken(int(found[1]) if found else last, str(exc))
        except (RecursionError, ValueError, ArithmeticError):
            self.root = {}
            self._broken(1, "it is nested too deep, or a number in it is too long")

    def _broken(self, line: int, detail: str) -> None:
        path = place(self.name, line)
        self.errors.append(ConfigError("E_POLICY_SYNTAX", path=path, detail=detail, line=line))

    def line(self, path: Path) -> int:
        """Return the line of a path."""
        return self._lines.of(*path)

    def table(self) -> "Table":
        """Return the whole file as a table."""
        return Table(self, self.root, (), "a policy")


class Table:
    """One table of a source; every reader returns its default after recording an error."""

    def __init__(self, source: Source, value: dict[str, Any], path: Path, what: str) -> None:
        self.source, self.value, self.path, self.what = source, value, path, what

    def __contains__(self, key: str) -> bool:
        return key in self.value

    @property
    def line(self) -> int:
        return self.source.line(self.path)

    def line_of(self, key: str) -> int:
        """Return the line of one of this table's keys."""
        return self.source.line((*self.path, key))

    def where(self, key: str | None = None) -> str:
        """Return "file:line" of a key, or of the table itself."""
        return place(self.source.name, self.line if key is None else self.line_of(key))

    def only(self, allowed: Iterable[str]) -> None:
        """Record every key that is not one of these."""
        known = sorted(allowed)
        for key in self.value:
            if key not in known:
                self.source.errors.append(
                    ConfigError(
                        "E_POLICY_KEY",
                        path=self.where(key),
                        value=key,
                        what=self.what,
                        names=", ".join(known) or "none",
                        line=self.line_of(key),
                    )
                )

    def bad(self, key: str, want: str, *, value: Any = None) -> None:
        """Record that a key's value is not what is wanted."""
        found = self.value.get(key) if value is None else value
        self.source.errors.append(
            ConfigError(
                "E_POLICY_VALUE",
                path=self.where(key),
                what=key,
                value=found if found is not None else "missing",
                want=want,
                line=self.line_of(key),
            )
        )

    def text(self, key: str, default: str = "", *, limit: int = 500) -> str:
        found = self.value.get(key, default)
        if type(found) is not str or len(found) > limit:
            self.bad(key, f"a text of at most {limit} characters")
            return default
        return found

    def choice(self, key: str, options: Sequence[str], default: str | None = None) -> Any:
        found = self.value.get(key, default)
        if type(found) is not str or found not in options:
            self.bad(key, f"one of {', '.join(options)}")
            return default
        return found

    def texts(self, key: str, options: Sequence[str] = ()) -> tuple[str, ...]:
        """Return a text or a list of texts as a tuple; () when the key is absent."""
        if key not in self.value:
            return ()
        given = self.value[key]
        found = [given] if type(given) is str else given
        want = f"some of {', '.join(options)}" if options else "a text or a list of texts"
        if type(found) is not list or not found or not all(type(t) is str and t for t in found):
            self.bad(key, want)
            return ()
        if options and not set(found) <= set(options):
            self.bad(key, want)
            return ()
        return tuple(found)

    def flag(self, key: str) -> bool:
        found = self.value.get(key, False)
        if type(found) is not bool:
            self.bad(key, "true or false")
            return False
        return found

    def whole(self, key: str, limit: int = MAX_WHOLE) -> int | None:
        found = self.value.get(key)
        if key in self.value and (type(found) is not int or not 0 <= found <= limit):
            self.bad(key, f"a whole number from 0 to {limit}")
            return None
        return found

    def money(self, key: str) -> Decimal | None:
        """Return dollars: a text, because a float is never the amount it seems to be."""
        found = self.value.get(key)
        if found is None:
            return None
        if type(found) is not str or not _MONEY.fullmatch(found):
            self.bad(key, 'an amount as text, for example "1.50"')
            return None
        return Decimal(found)

    def duration(self, key: str) -> int | None:
        """Return milliseconds of "500ms", "30s", "10m", "8h", "1d" or several: "1h30m"."""
        found = self.value.get(key)
        if found is None:
            return None
        parts = _DURATION.findall(found) if type(found) is str else []
        total = sum(int(count) * _UNITS[unit] for count, unit in parts)
        spelt = "".join(count + unit for count, unit in parts)
        if not parts or spelt != found or not 0 < total <= MAX_DAYS * _UNITS["d"]:
            self.bad(key, 'a duration such as "500ms", "30s", "10m", "8h" or "1h30m"')
            return None
        return total

    def table(self, key: str, what: str = "") -> "Table | None":
        """Return a table within this one, None when it is absent or no table."""
        if key not in self.value:
            return None
        found = self.value[key]
        if type(found) is not dict:
            self.bad(key, "a table")
            return None
        return Table(self.source, found, (*self.path, key), what or key)

    def tables(self, key: str) -> list["Table"]:
        """Return the tables of a `[[key]]`, without what is no table."""
        found = self.value.get(key, [])
        if type(found) is not list or not all(type(item) is dict for item in found):
            self.bad(key, f"[[{key}]] tables")
            return []
        return [
            Table(self.source, item, (*self.path, key, at), f"a [[{key}]]")
            for at, item in enumerate(found)
        ]


def as_json(value: Any) -> Any:
    """Return a TOML value as plain JSON: fractions as floats.

    Raises:
        ValueError: a date, a time, NaN or infinity is in it.
    """
    if type(value) is Decimal:
        if not value.is_finite():
            raise ValueError(value)
        return float(value)
    if type(value) is list:
        return [as_json(item) for item in value]
    if type(value) is dict:
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, date | datetime | time):
        raise ValueError(value)
    return value
