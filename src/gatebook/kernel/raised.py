"""What tools and adapters raise, made fit for the journal: our own class, plain fields, safe text.

Users may subclass our errors and fill them with anything; a record that cannot be read back
would cost the whole run.
"""

from typing import Any

from gatebook import errors
from gatebook.errors import ActionError, described, writable
from gatebook.kernel.hints import MAX_HINT_MS

KINDS = ("transient", "rate_limited", "permanent")
KEPT: dict[str, type] = {
    "category": str, "partial": str, "phase": str, "request_id": str, "status": int,
    "max_retries": int, "emitted": bool, "in_stream": bool,
}  # fmt: skip  # fields that decide something or are recorded


def sound(error: ActionError) -> ActionError:
    """Return an error like this one whose code, kind, fields and text can be recorded.

    A retry hint that is no positive whole number of milliseconds is left out, a longer one than
    a year is cut to that.
    """
    made = _ours(type(error)).__new__(_ours(type(error)))
    fields = _fields(error)
    kept = {name: fields[name] for name, kind in KEPT.items() if type(fields.get(name)) is kind}
    if (hint := usable_hint(fields.get("retry_after_ms"))) is not None:
        kept["retry_after_ms"] = hint
    code: Any = getattr(error, "code", None)
    known = type(code) is str and code.isascii() and code.isprintable() and 0 < len(code) <= 64
    ActionError.__init__(made, _text(error), code=code if known else "E_ACTION", **kept)
    kind: Any = getattr(error, "kind", None)
    made.kind = kind if type(kind) is str and kind in KINDS else "permanent"
    return made


def usable_hint(value: Any) -> int | None:
    """Return a retry hint in milliseconds that can be waited, or None."""
    return min(value, MAX_HINT_MS) if type(value) is int and value > 0 else None


def bad_hint(error: ActionError) -> Any:
    """Return the retry hint of an error that says something and cannot be used, else None."""
    hint = _fields(error).get("retry_after_ms")
    nothing = hint is None or (type(hint) is int and hint == 0)
    return None if nothing or usable_hint(hint) is not None else hint


def _fields(error: ActionError) -> dict[str, Any]:
    fields = vars(error).get("fields")
    return fields if type(fields) is dict else {}


def _ours(cls: type[ActionError]) -> type[ActionError]:
    """Return the class of ours that a user's class is derived from."""
    return next(each for each in cls.__mro__ if each.__module__ == errors.__name__)


def _text(error: ActionError) -> str:
    try:
        text = str.__str__(str(error))
    except Exception:  # noqa: BLE001 - the text comes from a user's __str__
        text = described(error)
    return writable(text)
