"""A filter for logging handlers: what a runtime knows to be secret leaves no log line."""

import logging
import traceback

from gatebook.errors import GatebookError, printable
from gatebook.kernel.redact import Redactor


class SecretFilter(logging.Filter):
    """Redacts the message and the traceback of each record that a handler is given.

    Put it on handlers, not on loggers: a logger's filters do not see what its children say.
    """

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact a record in place; it always passes."""
        try:
            text = record.getMessage()
        except Exception as exc:  # noqa: BLE001 - the arguments may be anybody's objects
            text = f"(a log message that cannot be written: {type(exc).__name__})"
        record.msg, record.args = self._redactor.told(text), ()
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = "".join(traceback.format_exception(record.exc_info[1]))
            record.exc_info = None
        if record.exc_text:
            record.exc_text = self._redactor.told(record.exc_text)
        if record.stack_info:
            record.stack_info = self._redactor.told(record.stack_info)
        return True


def traced(exc: BaseException, redactor: Redactor) -> str:
    """Return an exception with its traceback, redacted, as lines that nothing in it can forge."""
    lines = "".join(traceback.format_exception(exc)).splitlines()
    return "\n".join(printable(line) for line in redactor.told("\n".join(lines)).split("\n"))


def told(exc: BaseException, redactor: Redactor) -> str:
    """Return what a log says of an error: the text of one of ours, the traceback of any other."""
    return redactor.told(str(exc)) if isinstance(exc, GatebookError) else traced(exc, redactor)
