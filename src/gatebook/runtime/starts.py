"""The decision about a run's start, before anything of it is written."""

from typing import Any

import msgspec

from gatebook.errors import GatebookError, InvalidInput, RunDenied
from gatebook.kernel.codec import NULL, Raw, plain
from gatebook.kernel.decisions import is_plain, is_stricter, joined, recorded
from gatebook.kernel.events import RunStarted
from gatebook.kernel.gate import MAX_ROUNDS
from gatebook.kernel.policy import Decision, Policy, PolicyContext, wants_facts
from gatebook.kernel.redact import Redactor
from gatebook.kernel.rules.facts import History, RunFacts
from gatebook.kernel.rules.past import user_of
from gatebook.ports import Program, RunKey


def decide_start(
    policy: Policy,
    program: Program[Any, Any],
    value: Any,
    started: RunStarted,
    *,
    key: RunKey,
    redactor: Redactor,
) -> RunStarted:
    """Return the start as the policy lets it be: its input may be changed, the decision is in it.

    A policy that wants facts is shown the input as plain JSON, any other the value as it was
    given. What is changed is decided again.

    Raises:
        RunDenied: the policy answers anything but allow or modify, or fails.
    """
    try:
        return _decided(policy, program, value, started, key, redactor)
    except (GatebookError, InvalidInput) as exc:
        if isinstance(exc, RunDenied):
            raise
        raise _denied(key, redactor.text(str(exc))) from exc


def _decided(
    policy: Policy,
    program: Program[Any, Any],
    value: Any,
    started: RunStarted,
    key: RunKey,
    redactor: Redactor,
) -> RunStarted:
    if getattr(policy, "start", None) is None:
        return started
    context = _context(policy, program, started, key)
    shown = plain(started.input) if wants_facts(policy) else value
    strictest: Decision | None = None
    patch = NULL
    for _ in range(MAX_ROUNDS):
        decision = _ask(policy, program.name, shown, context)
        if strictest is None or is_stricter(decision, strictest):
            strictest = decision
        if decision.verdict != "modify" or decision.args is None:
            break
        shown, patch = plain(decision.args), joined(patch, decision)
        given = redactor.raw(Raw(program.accept(shown)))
        started = msgspec.structs.replace(started, input=given)
    else:
        raise GatebookError("E_MODIFY_LOOP", tool=f"the start of {program.name}", limit=MAX_ROUNDS)
    if strictest.verdict not in ("allow", "modify"):
        reason = strictest.reason or f"the policy answered {strictest.verdict}"
        raise _denied(key, redactor.text(reason))
    if decision.verdict == "modify":
        raise GatebookError("E_POLICY_DECISION", value="modify without args")
    if is_plain(strictest):
        return started
    record = recorded(strictest, redactor)
    if patch is not NULL:
        record = msgspec.structs.replace(record, patch=redactor.raw(patch))
    return msgspec.structs.replace(started, decision=record)


def _context(
    policy: Policy, program: Program[Any, Any], started: RunStarted, key: RunKey
) -> PolicyContext:
    run = None
    if wants_facts(policy):
        user = user_of(plain(started.context)) if started.context != NULL else None
        run = RunFacts(user=user, history=History())
    return PolicyContext(
        run_id=key.id,
        tenant=key.tenant,
        program=program.name,
        address="",
        tools=frozenset(program.tools),
        models=frozenset(program.models),
        limits=started.limits,
        labels=started.labels,
        run=run,
    )


def _ask(policy: Policy, program: str, value: Any, context: PolicyContext) -> Decision:
    try:
        decision: Any = policy.start(program, value, context)
    except Exception as exc:
        raise GatebookError("E_POLICY_ERROR", detail=type(exc).__name__) from exc
    if type(decision) is not Decision:
        raise GatebookError("E_POLICY_DECISION", value=decision)
    return decision


def _denied(key: RunKey, reason: str) -> RunDenied:
    return RunDenied(
        "E_RUN_DENIED", run=key.id, detail=reason, fix="change the policy or the input"
    )
