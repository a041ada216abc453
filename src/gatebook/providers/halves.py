"""Characters beyond the first 65,536 that came in two halves. Does no I/O.

Servers whose language counts in UTF-16 cut texts between the halves of such a character: the end
of one event is the first half, the beginning of a later one the second, each as an escape of its
own. A half by itself is no text.
"""

import json
from typing import Any

import msgspec

ESCAPES = (b"\\ud", b"\\uD")  # how a half, but also a whole character, begins in JSON
WHOSE = ("type", "index", "output_index")  # what of an event says to which text its pieces belong


class Halves:
    """Joins halves over the events of one answer. What never gets its other half is U+FFFD."""

    def __init__(self) -> None:
        """Begin with none."""
        self._held: dict[tuple[Any, ...], str] = {}  # the first halves, by the place of their text
        self._changed = False

    def whole(self, data: bytes) -> bytes:
        """Return an event's JSON, or a whole answer's, without the halves of characters.

        A first half at the end of a text is kept for the event that goes on with it.
        """
        if not self._held and ESCAPES[0] not in data and ESCAPES[1] not in data:
            return data
        self._changed = False
        try:
            event = json.loads(data)
            whose = [event.get(name) for name in WHOSE] if isinstance(event, dict) else []
            joined = self._joined(event, tuple(map(str, whose)))
            return msgspec.json.encode(joined) if self._changed else data
        except (ValueError, RecursionError, OverflowError):
            return data  # whoever reads it says what is wrong

    def _joined(self, value: Any, place: tuple[Any, ...]) -> Any:
        if isinstance(value, dict):
            return {key: self._joined(each, (*place, key)) for key, each in value.items()}
        if isinstance(value, list):
            return [self._joined(each, (*place, index)) for index, each in enumerate(value)]
        return self._text(value, place) if isinstance(value, str) else value

    def _text(self, text: str, place: tuple[Any, ...]) -> str:
        if text.isascii() and place not in self._held:
            return text
        given = self._held.pop(place, "") + text
        if "\ud800" <= given[-1:] <= "\udbff":
            self._held[place], given = given[-1], given[:-1]
        made = given.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        self._changed = self._changed or made != text
        return made
