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
    writable,
)
from gatebook.kernel.events import ErrorRecord
from gatebook.kernel.raised import sound
from gatebook.ports import Outcome

# Denials that no other action can get round.
STOPS = frozenset({"E_BUDGET", "E_LEDGER", "E_RUN_TOO_LONG"})


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
    if not isinstance(error, ActionError):
        return ErrorRecord(error.code, writable(str(error)))
    error = sound(error)
    fields = error.fields
    return ErrorRecord(
        code=error.code,
        message=error.message,
        kind=error.kind,
        category=fields.get("category") or "",
        retry_after_ms=error.retry_after_ms,
        status=fields.get("status"),
        partial=fields.get("partial") or "",
    )
