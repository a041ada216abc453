"""Writes policies as TOML text, so that what is proposed can be read, kept and loaded.

Every character a terminal or an editor would hide is written as an escape.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

WIDTH = 96  # characters of a line, where it can be broken
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def toml(value: Any) -> str:
    """Return a value on one line: a text, number, true, false, list or table."""
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key(name)} = {toml(item)}" for name, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    return f"[{', '.join(toml(item) for item in value)}]"


def key(name: str) -> str:
    """Return a key, quoted when it has to be."""
    return name if _BARE.fullmatch(name) else _text(name)


def pair(name: str, value: Any, note: str = "") -> str:
    """Return `name = value  # note`, a list on several lines when it is long."""
    line = f"{key(name)} = {toml(value)}"
    if len(line) > WIDTH and isinstance(value, list | tuple):
        items = "".join(f"    {toml(item)},\n" for item in value)
        line = f"{key(name)} = [\n{items}]"
    return f"{line:<31} # {note}" if note else line


def table(header: str, values: Mapping[str, Any], notes: Mapping[str, str] | None = None) -> str:
    """Return one `[[header]]` with its keys; a long `where` becomes a table of its own."""
    said = notes or {}
    lines = [f"[[{header}]]"]
    where: Any = None
    for name, value in values.items():
        if name == "where" and len(pair(name, value)) > WIDTH:
            where = value
        else:
            lines.append(pair(name, value, said.get(name, "")))
    if where is not None:
        lines.append(f"[{header}.where]")
        lines += [pair(fact, tests) for fact, tests in where.items()]
    return "\n".join(lines) + "\n"


def comment(text: str) -> str:
    """Return a text as comment lines; nothing in it can end them or hide."""
    return "".join(f"# {visible(line)}".rstrip() + "\n" for line in text.splitlines())


def _text(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(char) or _shown(char) for char in text) + '"'


def visible(text: str) -> str:
    """Return a text with every character that does not show written as an escape."""
    return "".join(_shown(char) for char in text)


def _shown(char: str) -> str:
    if char.isprintable():
        return char
    point = ord(char)
    return f"\\u{point:04X}" if point < 0x10000 else f"\\U{point:08X}"
