"""Errors at the border of a program: records become exceptions, exceptions become records."""

from gatebook.errors import (
    ActionDenied,
    ActionError,
    GatebookError,
    Permanent,
    ProviderError,
    RateLimited,
    SignalTimeout,
    ToolRetry,
    Transient,
    printable,
)
from gatebook.kernel.events import ErrorRecord
from gatebook.ports import Outcome

STOPS = frozenset({"E_BUDGET", "E_RUN_TOO_LONG"})  # denials that no other action can get round
MAX_TEXT = 4_000  # characters of an exception's own text that are kept


def failure_of(outcome: Outcome) -> ActionError:
    """Return the exception a workflow sees for an action that failed or was denied."""
    record = outcome.error or ErrorRecord("E_ACTION", "the action failed")
    if outcome.status == "denied":
        return _coded(ActionDenied(record.message), record)
    return rebuild(record)


def rebuild(record: ErrorRecord) -> ActionError:
    """Return the exception that a record was made from, of the class its fields tell."""
    error: ActionError
    if record.category:
        error = ProviderError(record.message, kind=record.kind, category=record.category)
    elif record.code == "E_SIGNAL_TIMEOUT":
        error = SignalTimeout(record.message)
    elif record.code == "E_TOOL_RETRY":
        error = ToolRetry(record.message)
    elif record.kind == "rate_limited":
        error = RateLimited(record.message)
    elif record.kind == "transient":
        error = Transient(record.message)
    else:
        error = Permanent(record.message)
    return _coded(error, record)


def _coded(error: ActionError, record: ErrorRecord) -> ActionError:
    error.code = record.code
    known = {
        "retry_after_ms": record.retry_after_ms,
        "status": record.status,
        "partial": record.partial or None,
    }
    error.fields.update((name, value) for name, value in known.items() if value is not None)
    return error


def record_of(error: GatebookError) -> ErrorRecord:
    """Return an error of ours as the journal keeps it; the inverse of `rebuild`."""
    try:
        text = writable(str(error))
    except KeyError:  # raised by a user, with a code that has no text here
        text = describe_error(error)
    if not isinstance(error, ActionError):
        return ErrorRecord(error.code, text)
    fields = error.fields
    return ErrorRecord(
        code=error.code,
        message=text,
        kind=error.kind,
        category=fields.get("category") or "",
        retry_after_ms=error.retry_after_ms,
        status=fields.get("status"),
        partial=fields.get("partial") or "",
    )


def describe_error(error: BaseException) -> str:
    """Return the type and text of a foreign exception; never fails, never a traceback."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  the text comes from a user's __str__
        text = "(its text cannot be read)"
    name = type(error).__name__
    return printable(writable(f"{name}: {text}" if text else name))


def writable(text: str) -> str:
    """Return text that JSON can hold: at most 4,000 characters, lone surrogates replaced."""
    return text[:MAX_TEXT].encode("utf-8", "replace").decode()
