"""How a policy sees arguments: as their tool's schema declares them.

Decimals travel as text and are compared as numbers. Knows JSON Schema only as far as needed.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from gatebook.kernel.codec import plain

MAX_DECIMAL = 40  # characters of a decimal that travels as text


class View:
    """Sees arguments as a schema declares them: decimals that travel as text become numbers."""

    def __init__(self, schema: bytes | msgspec.Raw) -> None:
        self._schema: Any = plain(schema)
        found = self._schema.get("$defs", {}) if isinstance(self._schema, dict) else {}
        self._defs: dict[str, Any] = found
        self._needed = b'"number"' in bytes(schema) and b'"string"' in bytes(schema)

    def of(self, args: Any) -> Any:
        """Return the arguments with declared decimals as numbers; changes nothing in place."""
        return self._seen(args, self._schema) if self._needed else args

    def _seen(self, value: Any, schema: Any) -> Any:
        options = list(branches(schema, self._defs))
        if type(value) is str:
            types = {option.get("type") for option in options}
            return _decimal(value) if {"number", "string"} <= types else value
        if type(value) is dict:
            return {key: self._field(key, item, options) for key, item in value.items()}
        if type(value) is list:
            items = [o["items"] for o in options if isinstance(o.get("items"), dict)]
            return [self._seen(item, {"anyOf": items}) for item in value] if items else value
        return value

    def _field(self, key: str, value: Any, options: list[dict[str, Any]]) -> Any:
        found = []
        for option in options:
            named = option.get("properties", {}).get(key, option.get("additionalProperties"))
            if isinstance(named, dict):
                found.append(named)
        return self._seen(value, {"anyOf": found}) if found else value


def branches(schema: Any, defs: Mapping[str, Any], depth: int = 0) -> Iterable[dict[str, Any]]:
    """Yield a schema, or every alternative it offers, with references followed."""
    if not isinstance(schema, dict) or depth > 16:
        return
    reference = schema.get("$ref")
    if isinstance(reference, str):
        yield from branches(defs.get(reference.removeprefix("#/$defs/")), defs, depth + 1)
        return
    parts = [part for word in ("anyOf", "oneOf", "allOf") for part in schema.get(word, ())]
    if not parts:
        yield schema
    for part in parts:
        yield from branches(part, defs, depth + 1)


def _decimal(text: str) -> Any:
    body = text[1:] if text[:1] == "-" else text
    if len(text) > MAX_DECIMAL or not body.replace(".", "", 1).isdigit() or not text.isascii():
        return text
    return Decimal(text)
