"""Messages of rules: `{fact}` is replaced by its value, short and harmless wherever it is shown."""

import re
from decimal import Decimal
from typing import Any

import msgspec

from gatebook.errors import printable
from gatebook.kernel.rules.facts import MISSING, Request, fact

SHOWN = 80  # characters of one value
_FIELD = re.compile(r"\{([^{}]*)\}")


def fields(template: str) -> list[str]:
    """Return the names of the facts a message shows."""
    return _FIELD.findall(template)


def render(template: str, request: Request) -> str:
    """Return the message about one request; a fact that is not known shows as `?`."""
    return _FIELD.sub(lambda found: shown(value_of(found[1], request)), template)


def value_of(name: str, request: Request) -> Any:
    """Return the value of a fact of this request; `tool` is its name."""
    if name == "tool":
        return request.name
    found = fact(name)
    return MISSING if found is None else found.read(request)


def shown(value: Any) -> str:
    """Return a value as people read it: one line, at most 80 characters, nothing that acts."""
    if value is MISSING:
        return "?"
    if type(value) is Decimal:
        text = format(value, "f")
    elif type(value) is str:
        text = value[: SHOWN + 1]
    else:
        plain = sorted(value) if isinstance(value, set | frozenset) else value
        text = msgspec.json.encode(plain, enc_hook=lambda unknown: "?").decode()
    text = printable(text[: SHOWN + 1])
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
