"""Refusals: how the gate says no, and what is recorded of it."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gatebook.errors import GatebookError
from gatebook.kernel.actions import Action, CallTool, describe
from gatebook.kernel.decisions import recorded
from gatebook.kernel.events import ActionDenied
from gatebook.kernel.grounds import Grounds
from gatebook.kernel.policy import Decision, policy_name
from gatebook.kernel.records import DecisionRecord, ErrorRecord
from gatebook.kernel.redact import Redactor
from gatebook.kernel.secrets import without_literals


class Refused(Exception):
    """An action is not to be done."""

    def __init__(self, action: Action, decision: DecisionRecord, error: ErrorRecord) -> None:
        super().__init__(decision.code)
        self.action, self.decision, self.error = action, decision, error

    def told(self, grounds: Grounds) -> tuple[DecisionRecord, ErrorRecord]:
        """Return the decision and the error as they are recorded."""
        decision, error, clean = self.decision, self.error, grounds.redactor
        decision = msgspec.structs.replace(decision, reason=clean.told(decision.reason))
        error = msgspec.structs.replace(error, message=clean.told(error.message))
        return with_policy(decision, grounds), error

    def event(self, address: str, grounds: Grounds) -> ActionDenied:
        """Return the denial as it is stored."""
        decision, error = self.told(grounds)
        action = redacted(self.action, grounds.redactor, grounds.tools)
        return ActionDenied(address=address, action=action, decision=decision, error=error)


def redacted(action: Action, redactor: Redactor, tools: Mapping[str, Any]) -> Action:
    """Return a refused action as it may be stored, whatever its arguments hold."""
    if isinstance(action, CallTool) and action.tool in tools:
        secret = tools[action.tool].spec.secrets
        if secret:
            args = without_literals(action.args, secret)
            action = msgspec.structs.replace(action, args=args)
    data = msgspec.json.encode(action, order="deterministic")
    clean = redactor.json(data)
    return action if clean is data else msgspec.json.decode(clean, type=Action)


def denial(action: Action, decision: Decision, grounds: Grounds) -> Refused:
    """Return what to raise for an action that policy does not let through."""
    record = recorded(decision, grounds.redactor)
    if decision.verdict == "deny":
        text = f"policy denied {describe(action)!r}: {decision.reason or 'no reason given'}"
        record = msgspec.structs.replace(record, code=decision.code)
        return Refused(action, record, ErrorRecord(decision.code, text))
    if decision.code == "E_TOOL_PIN":
        record = msgspec.structs.replace(record, code=decision.code)
        return Refused(action, record, ErrorRecord(decision.code, decision.reason))
    error = GatebookError("E_VERDICT_UNSUPPORTED", tool=describe(action), value=decision.verdict)
    record = msgspec.structs.replace(record, code=error.code)
    return Refused(action, record, ErrorRecord.of(error))


def refusal(action: Action, error: GatebookError) -> Refused:
    """Return what to raise for an action that is wrong in itself."""
    record = DecisionRecord("deny", code=error.code)
    return Refused(action, record, ErrorRecord.of(error))


def with_policy(record: DecisionRecord, grounds: Grounds) -> DecisionRecord:
    """Return a record with the policy that decided, when it is another than the last."""
    if grounds.policy_digest == grounds.state.policy:
        return record
    return msgspec.structs.replace(
        record, policy=grounds.policy_digest, policy_name=policy_name(grounds.policy)
    )
