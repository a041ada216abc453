"""What the end of an attempt means: an outcome, a wait and another attempt, or *unknown*.

Pure. The rule that carries the third promise stands here: an attempt of an `at_most_once` tool
that may have taken effect is unknown, and nothing repeats it but a person's order.
"""

from typing import Any

import msgspec

from gatebook.errors import EXITS, ActionError, GatebookError, ProviderError, printable, shown
from gatebook.kernel.actions import MAX_SLEEP_DAYS, Action, CallLLM, CallTool
from gatebook.kernel.backoff import MAX_ATTEMPTS, jittered, unit
from gatebook.kernel.codec import NULL
from gatebook.kernel.events import (
    DOUBTFUL,
    ActionFailed,
    ActionRequested,
    ActionSucceeded,
    ActionUnknown,
    AnyEvent,
    AttemptFailed,
    ErrorRecord,
)
from gatebook.kernel.opened import Open
from gatebook.kernel.policies import RetryWithBackoffPolicy
from gatebook.kernel.policy import (
    EDGE_BASE_MS,
    EDGE_CAP_MS,
    EDGE_RETRIES,
    Fail,
    Policy,
    Retry,
    owns_retries,
)
from gatebook.kernel.redact import Redactor
from gatebook.kernel.streams.machine import retryable
from gatebook.kernel.tools import ToolSpec
from gatebook.runtime.performing.ended import Ended

MAX_REASON = 400  # characters of a policy's reason that are kept
EDGE_JITTER = 0.5  # half the wait at most, so that runs started together do not retry together

POLICY_FAULTS = ("E_POLICY_ERROR", "E_POLICY_RETRY")  # a policy that is broken repeats nothing
NEVER = "the policy's retry() asked for another attempt, but a permanent error is never retried"
MAX_WAIT_MS = MAX_SLEEP_DAYS * 86_400_000  # a back-off is no longer than a sleep may be

# Categories that say: this route will not answer, another may. A quota that is used up is a rate
# limit without an end. docs/models.md, "Fallbacks"
ELSEWHERE = frozenset({"overloaded", "not_found", "quota"})

_CLOSED = Policy()


def error_record(error: ActionError, *, doubtful: bool = False) -> ErrorRecord:
    """Return an error as the journal keeps it."""
    return ErrorRecord(
        error.code,
        str(error),
        error.kind,
        DOUBTFUL if doubtful else str(error.fields.get("category", "")),
        error.retry_after_ms,
        error.fields.get("status"),
        str(error.fields.get("partial", "")),
    )


def succeeded(address: str, attempt: int, ended: Ended) -> ActionSucceeded:
    """Return the event that records how an attempt went well."""
    return ActionSucceeded(
        address=address,
        attempt=attempt,
        output=ended.output or NULL,
        usage=ended.usage,
        spent=ended.spent,
        price=ended.price,
        artifact=ended.artifact,
    )


def failed(
    run_id: str,
    request: ActionRequested,
    entry: Open,
    ended: Ended,
    *,
    decide: tuple[Policy, ToolSpec | None],
    doubted: bool,
) -> AnyEvent:
    """Return the event that records how an attempt failed.

    `decide` is the policy in force and the tool's spec (None for a model call); `doubted` says
    that some earlier attempt may have taken effect.
    """
    address, attempt = request.address, entry.attempt
    effect, error = request.effect, ended.error
    assert error is not None  # else it has succeeded
    if ended.answers and error.code == "E_HOOK_WITHHELD":  # it went well
        record = error_record(error)
        return ActionFailed(
            address=address, attempt=attempt, error=record,
            spent=ended.spent, price=ended.price, usage=ended.usage,
        )  # fmt: skip
    doubtful = ended.doubtful and effect != "read"
    record = error_record(error, doubtful=doubtful)
    if doubtful and effect == "at_most_once":
        return ActionUnknown(address=address, attempt=attempt, error=record)
    verdict = retry_verdict(error, request, attempt, *decide, on=(entry.route, entry.since))
    route = next_route(error, request.action, entry, verdict)
    if route is not None:
        verdict = Retry(0)
    if isinstance(verdict, Retry):
        delay = jittered(verdict.after_ms, verdict.jitter_ratio, unit(run_id, address, attempt))
        return AttemptFailed(
            address=address,
            attempt=attempt,
            error=record,
            delay_ms=delay,
            spent=ended.spent,
            price=ended.price,
            route=entry.route if route is None else route,
        )
    if effect == "idempotent" and (doubtful or doubted):
        return ActionUnknown(address=address, attempt=attempt, error=record)
    return ActionFailed(
        address=address,
        attempt=attempt,
        error=_why(record, verdict),
        spent=ended.spent,
        price=ended.price,
    )


def cleaned(event: AnyEvent, redactor: Redactor) -> AnyEvent:
    """Return an outcome without the secrets that a policy's reason may have put into it."""
    if not isinstance(event, ActionFailed):
        return event
    error = msgspec.structs.replace(event.error, message=redactor.text(event.error.message))
    return msgspec.structs.replace(event, error=error)


def next_route(
    error: ActionError, action: Action, entry: Open, verdict: Retry | Fail
) -> str | None:
    """Return the fallback route that a failed model call goes on with at once, None for none.

    It moves on when its route says that it cannot answer, and when retries that might have
    helped there are used up or would wait too long. Never after output was shown, never for an
    error that is of the request (it would fail elsewhere too, or must not succeed there), nor
    for a wrong key, which somebody must see.
    """
    if type(action) is not CallLLM or not action.fallbacks:
        return None
    if not isinstance(error, ProviderError) or error.fields.get("emitted", False):
        return None
    given_up = verdict if isinstance(verdict, Fail) else None
    if entry.attempt + 1 >= MAX_ATTEMPTS or (given_up and given_up.code in POLICY_FAULTS):
        return None
    if error.category in ELSEWHERE or (given_up and retryable(error)):
        return action.after(entry.route)
    return None


def _why(record: ErrorRecord, verdict: Fail) -> ErrorRecord:
    """Return the error of an action that is not repeated, with the reason when there is one."""
    reason = verdict.reason
    match verdict.code:
        case "":
            return record
        case "E_POLICY_ERROR":
            reason = str(GatebookError(verdict.code, detail=reason))
        case "E_POLICY_RETRY":
            reason = str(GatebookError(verdict.code, got=reason))
        case _:
            pass
    text = f"{record.message}; {reason}" if reason else record.message
    return msgspec.structs.replace(record, code=verdict.code, message=text)


def retry_verdict(
    error: ActionError,
    request: ActionRequested,
    attempt: int,
    policy: Policy,
    spec: ToolSpec | None,
    *,
    on: tuple[str, int] = ("", 0),
) -> Retry | Fail:
    """Decide whether a failed attempt is followed by another; the only owner of retries.

    A policy that defines `retry` decides, but a permanent error is never followed by another
    attempt; otherwise model calls and repeatable tools get three retries. `retries=` of the tool
    or the call is the upper bound in either case. `on` is the route of a model call and the first
    attempt there: each route has its retries.
    """
    route, since = on
    if attempt + 1 >= MAX_ATTEMPTS or (isinstance(error, ProviderError) and not retryable(error)):
        return Fail()
    attempt -= since
    if attempt >= error.fields.get("max_retries", MAX_ATTEMPTS):
        return Fail()
    if request.effect == "at_most_once" and error.kind == "permanent":
        return Fail()  # only what states that nothing happened may be started again
    action = request.action.on(route) if type(request.action) is CallLLM else request.action
    own = action.retries if isinstance(action, CallTool) else None
    limit = own if own is not None else (spec.retries if spec is not None else None)
    if limit is not None and attempt >= limit:
        return Fail()
    if owns_retries(policy):
        return _asked(policy, error, action, attempt)
    if limit is None:
        limit = EDGE_RETRIES if request.effect != "at_most_once" else 0
    edge = RetryWithBackoffPolicy(_CLOSED, limit, EDGE_BASE_MS, EDGE_CAP_MS, EDGE_JITTER)
    return edge.retry(error, action, attempt)


def _waitable(verdict: Retry) -> bool:
    after, ratio = verdict.after_ms, verdict.jitter_ratio
    bounded = type(after) is int and 0 <= after <= MAX_WAIT_MS
    return bounded and type(ratio) in (int, float) and 0 <= ratio <= 1


def _asked(policy: Policy, error: ActionError, action: Action, attempt: int) -> Retry | Fail:
    try:
        verdict: Any = policy.retry(error, action, attempt)
    except EXITS:
        raise
    except BaseException as exc:  # noqa: BLE001 - a policy that raises retries nothing
        return Fail("E_POLICY_ERROR", type(exc).__name__)
    if type(verdict) is Retry and _waitable(verdict):
        return Fail(error.code, NEVER) if error.kind == "permanent" else verdict
    if type(verdict) is Fail and type(verdict.code) is str and type(verdict.reason) is str:
        return Fail(printable(verdict.code[:64]), printable(verdict.reason[:MAX_REASON]))
    return Fail("E_POLICY_RETRY", shown(verdict))
