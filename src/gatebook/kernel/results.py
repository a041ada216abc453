"""What a policy says about what an action brought back, before the journal and the program see it.

Pure, like the gate. A result that is withheld is not stored either; that the action ended well is.
"""

from typing import Any

import msgspec

from gatebook.errors import GatebookError
from gatebook.kernel.actions import Action, CallLLM, describe
from gatebook.kernel.codec import NULL, Raw, plain
from gatebook.kernel.decisions import MAX_ROUNDS, ask, is_plain, is_stricter, joined, recorded
from gatebook.kernel.events import DecisionRecord
from gatebook.kernel.grounds import Grounds, context_at
from gatebook.kernel.messages import ChatResponse
from gatebook.kernel.policy import Decision, PolicyContext
from gatebook.kernel.refusals import with_policy
from gatebook.kernel.tools import Effect


class JudgedResult(msgspec.Struct, frozen=True):
    """What becomes of a result.

    Attributes:
        output: as the journal and the program may see it; None when there is none to see.
        labels: what it brings into the run.
        decision: as it is recorded, None for a plain allow.
    """

    output: Raw | None
    labels: tuple[str, ...] = ()
    decision: DecisionRecord | None = None

    @property
    def withheld(self) -> bool:
        """Whether nothing of the result may be seen, nor the text of a failure."""
        return self.decision is not None and self.decision.withholds

    @property
    def stops(self) -> bool:
        """Whether the run stops for a person here."""
        return self.decision is not None and self.decision.verdict == "interrupt"


def judge_result(
    address: str, action: Action, effect: Effect, output: Raw | None, grounds: Grounds
) -> JudgedResult:
    """Decide about a result, None for a failure; never raises for anything a policy does."""
    context = context_at(grounds, address, action, effect)
    labels: set[str] = set()
    strictest: Decision | None = None
    patch = NULL
    try:
        for _ in range(MAX_ROUNDS):
            decision = _ask(action, context, output, grounds)
            labels.update(decision.labels)
            if strictest is None or is_stricter(decision, strictest):
                strictest = decision
            if decision.verdict != "modify" or output is None:
                break
            output, patch = _changed(action, decision), joined(patch, decision)
        else:
            raise GatebookError("E_MODIFY_LOOP", tool=describe(action), limit=MAX_ROUNDS)
        assert strictest is not None
    except GatebookError as exc:
        strictest, patch = Decision.deny(str(exc)), NULL
    return _judged(action, strictest, output, patch, tuple(sorted(labels)), grounds)


def undecided(action: Action, error: GatebookError, grounds: Grounds) -> JudgedResult:
    """Return what becomes of a result that nobody can decide about: it is withheld."""
    return _judged(action, Decision.deny(str(error)), None, NULL, (), grounds)


def _judged(
    action: Action,
    decision: Decision,
    output: Raw | None,
    patch: Raw,
    labels: tuple[str, ...],
    grounds: Grounds,
) -> JudgedResult:
    if is_plain(decision):
        return JudgedResult(output, labels)
    record = with_policy(recorded(decision, grounds.redactor), grounds)
    if record.withholds:
        detail = record.reason or f"the policy answered {record.verdict}"
        error = GatebookError("E_RESULT_WITHHELD", tool=describe(action), detail=detail)
        told = msgspec.structs.replace(record, code=error.code, reason=str(error))
        return JudgedResult(None, labels, told)
    if patch is not NULL:
        record = msgspec.structs.replace(record, patch=grounds.redactor.raw(patch))
    return JudgedResult(output, labels, record)


def _ask(action: Action, context: PolicyContext, output: Raw | None, grounds: Grounds) -> Decision:
    given = None if output is None else plain(output)
    outcome: Any = "failed" if output is None else "succeeded"
    decision = ask(
        lambda: grounds.policy.result(action, context, given, outcome=outcome),
        watch=grounds.watch,
    )
    if decision.verdict == "modify" and decision.args is None and output is not None:
        raise GatebookError("E_POLICY_DECISION", value="modify without args")
    return decision


def _changed(action: Action, decision: Decision) -> Raw:
    """Return what takes the place of a result; of a model's answer it must still be one."""
    assert decision.args is not None
    if isinstance(action, CallLLM):
        try:
            msgspec.json.decode(decision.args, type=ChatResponse)
        except msgspec.DecodeError as exc:
            text = f"an answer changed to what is none ({exc})"
            raise GatebookError("E_POLICY_DECISION", value=text) from exc
    return decision.args
