"""What an attempt's error says, made fit to be recorded, logged or raised again: no secrets."""

import logging
from typing import Any

from gatebook.errors import ActionError, GatebookError, printable
from gatebook.kernel.raised import bad_hint, sound
from gatebook.kernel.redact import Redactor

MAX_ERROR_TEXT = 2_000  # characters of an error message that are journaled
FIELDS = ("category", "partial")  # beside its text, what is recorded of an error and may be a text

_log = logging.getLogger(__name__)


def text_of(exc: BaseException) -> str:
    """Return an exception's text; user code may have written its `__str__`."""
    try:
        return str(exc)
    except Exception:  # noqa: BLE001 - whatever it raises, there is no text
        return ""


def sounded(error: ActionError, what: str, redactor: Redactor) -> ActionError:
    """Return an error that can be recorded; a retry hint nobody can follow is told and dropped."""
    hint = bad_hint(error)
    if hint is not None:
        told = GatebookError("W_RETRY_AFTER_INVALID", what=what, value=hint)
        _log.warning("%s", redactor.told(str(told)))
    return sound(error)


def clean_error(error: ActionError, redactor: Redactor) -> None:
    """Redact all that is recorded of an error."""
    text = redactor.told(text_of(error))  # first: of a cut secret less is found
    error.message = printable(text[:MAX_ERROR_TEXT])
    if redactor.text(error.code) != error.code:
        error.code = "E_ACTION"
    for name in FIELDS:
        if name in error.fields:
            error.fields[name] = redactor.text(error.fields[name])


def clean_exit(leave: Any, redactor: Redactor) -> None:
    """Redact what a tool's SystemExit says: Python prints it when the process ends."""
    if isinstance(leave, SystemExit) and isinstance(leave.code, str):
        leave.code = redactor.text(leave.code)
        leave.args = (leave.code,)
