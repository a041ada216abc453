"""Answers whose usage has a shape that nobody knows: what they say counts, what they cost is open.

Some gateways write empty objects as lists and numbers as text; an answer that was paid for must
not be lost over its bill.
"""

from typing import TypeVar

import msgspec

Told = TypeVar("Told")


def without(usage: str, data: bytes | msgspec.Raw, kind: type[Told]) -> Told | None:
    """Return JSON that is no `kind` as one, read without its usage; None if it is none then.

    Args:
        usage: the key that holds it, at the top or in an object there.
    """
    try:
        body = msgspec.json.decode(data)
        places = [body, *body.values()] if isinstance(body, dict) else []
        held = [each for each in places if isinstance(each, dict) and usage in each]
        for each in held:
            del each[usage]
        return msgspec.json.decode(msgspec.json.encode(body), type=kind) if held else None
    except (msgspec.DecodeError, UnicodeError, RecursionError, OverflowError):
        return None
