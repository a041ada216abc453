"""The decision about a run's start, before anything of it is written."""

from typing import Any

import msgspec

from gatebook.errors import GatebookError, RunDenied
from gatebook.kernel.codec import NULL, Raw, plain
from gatebook.kernel.decisions import MAX_ROUNDS, ask, is_plain, is_stricter, joined, recorded
from gatebook.kernel.events import RunStarted
from gatebook.kernel.policies import may_dawdle
from gatebook.kernel.policy import Decision, Policy, PolicyContext, wants_facts
from gatebook.kernel.redact import Redactor
from gatebook.kernel.rules.facts import History, RunFacts
from gatebook.kernel.rules.past import user_of
from gatebook.ports import Clock, Program, RunKey


class Starts:
    """Decides about starts under one policy."""

    def __init__(self, policy: Policy, *, redactor: Redactor, clock: Clock) -> None:
        self._policy = policy
        self._clean = redactor
        self._watch = clock.monotonic if may_dawdle(policy) else None

    def decide(
        self, program: Program[Any, Any], value: Any, started: RunStarted, *, key: RunKey
    ) -> RunStarted:
        """Return the start as the policy lets it be: with its input and the decision.

        A policy that wants facts is shown the input as plain JSON, any other the value as it was
        given. What is changed is decided again.

        Raises:
            RunDenied: the policy denies, asks or defers, or fails.
        """
        try:
            return self._decided(program, value, started, key)
        except RunDenied:
            raise
        except GatebookError as exc:
            raise self._denied(key, str(exc)) from exc

    def _decided(
        self, program: Program[Any, Any], value: Any, started: RunStarted, key: RunKey
    ) -> RunStarted:
        if getattr(self._policy, "start", None) is None:
            return started
        context = _context(self._policy, program, started, key)
        shown = plain(started.input) if wants_facts(self._policy) else value
        strictest: Decision | None = None
        patch = NULL
        for _ in range(MAX_ROUNDS):
            decision = ask(self._policy.start, program.name, shown, context, watch=self._watch)
            if strictest is None or is_stricter(decision, strictest):
                strictest = decision
            if decision.verdict not in ("modify", "interrupt") or decision.args is None:
                break
            shown, patch = plain(decision.args), joined(patch, decision)
            given = self._clean.raw(Raw(program.accept(shown)))
            started = msgspec.structs.replace(started, input=given)
        else:
            what = f"the start of {program.name}"
            raise GatebookError("E_MODIFY_LOOP", tool=what, limit=MAX_ROUNDS)
        if strictest.verdict not in ("allow", "modify", "interrupt"):
            reason = strictest.reason or f"the policy answered {strictest.verdict}"
            raise self._denied(key, reason)
        if decision.verdict == "modify":
            raise GatebookError("E_POLICY_DECISION", value="modify without args")
        return self._recorded(started, strictest, patch)

    def _recorded(self, started: RunStarted, decision: Decision, patch: Raw) -> RunStarted:
        if is_plain(decision):
            return started
        record = recorded(decision, self._clean)
        if patch is not NULL:
            record = msgspec.structs.replace(record, patch=self._clean.raw(patch))
        return msgspec.structs.replace(started, decision=record)

    def _denied(self, key: RunKey, reason: str) -> RunDenied:
        detail, fix = self._clean.text(reason), "change the policy or the input"
        return RunDenied("E_RUN_DENIED", run=key.id, detail=detail, fix=fix)


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
