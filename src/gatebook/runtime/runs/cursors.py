"""Cursors: a reader's place in one run, as text it can come back with in any process.

"12" is after the event with seq 12. "12+t1.0.57.230" is also after 57 events of the answer that
attempt 0 of action t1 is writing, which hold 230 characters of text. Opaque to everybody else.
"""

import msgspec

from gatebook.errors import InvalidInput

MAX_SEQ = 2**63 - 1


class Shown(msgspec.Struct):
    """What a reader was given of an answer that is being written.

    Attributes:
        index: of the next event of the attempt.
        chars: of text, in all events before it.
    """

    attempt: int = 0
    index: int = 0
    chars: int = 0


def cursor_of(seq: int, shown: dict[str, Shown]) -> str:
    """Return a place as text."""
    places = (f"{a}.{s.attempt}.{s.index}.{s.chars}" for a, s in shown.items())
    return "+".join((str(seq), *places))


def place_of(cursor: int | str) -> tuple[int, dict[str, Shown]]:
    """Return the place a cursor names.

    Raises:
        InvalidInput: E_CURSOR_INVALID.
    """
    try:
        seq, *places = str(cursor).split("+")
        shown = dict(_shown(place) for place in places)
        if type(cursor) in (int, str):
            return _number(seq), shown
    except ValueError:
        pass
    raise InvalidInput("E_CURSOR_INVALID", value=cursor)


def _shown(place: str) -> tuple[str, Shown]:
    address, attempt, index, chars = place.rsplit(".", 3)
    if not address:
        raise ValueError(place)
    return address, Shown(_number(attempt), _number(index), _number(chars))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 19) or int(text) > MAX_SEQ:
        raise ValueError(text)
    return int(text)
