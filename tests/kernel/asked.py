"""What tests of approvals share: the head of a run that asks, and words about it."""

from typing import Any

import pytest

from gatebook.errors import GatebookError
from gatebook.kernel.actions import CallTool, action_digest
from gatebook.kernel.append import Batch, admit
from gatebook.kernel.approvals.events import ApprovalAnswered, ApprovalAsked
from gatebook.kernel.approvals.standing import binding
from gatebook.kernel.approvals.terms import ApprovalTerms
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import ActionRequested, DecisionRecord, ErrorRecord
from gatebook.kernel.head import Head
from gatebook.testing.journal_facts.kit import started

CALL = CallTool("pay", Raw(b'{"n":1}'))
OTHER = CallTool("pay", Raw(b'{"n":9}'))
ERROR = ErrorRecord("E_X", "no")
DAY_MS = 86_400_000


class Run:
    """A run's head, with one worker and a clock that tests set."""

    def __init__(self) -> None:
        self.head = Head()
        self.now = 1_000
        self.outside(started())
        self.head.epoch = 1

    def outside(self, *events: Any) -> None:
        self._append(Batch(events=events, append_id=b"0" * 8))

    def inside(self, *events: Any) -> None:
        self._append(Batch(events=events, append_id=b"0" * 8, epoch=1, after=self.head.seq))

    def _append(self, batch: Batch) -> None:
        head = self.head.copy()
        admit(head, batch, now=self.now, run="r")
        self.head = head

    @property
    def phase(self) -> str | None:
        entry = self.head.approvals.asked.get("0")
        return None if entry is None else entry.phase


def asks(action: CallTool = CALL, **fields: Any) -> ApprovalAsked:
    facts: dict[str, Any] = {
        "address": "0", "action": action, "digest": action_digest(action),
        "bound": binding("default", "r", "0", action, "f"), "requester": "rita",
        "expires_ms": DAY_MS, "terms": (ApprovalTerms(choices=("approve", "edit", "deny")),),
    }  # fmt: skip
    return ApprovalAsked(**facts | fields)


def says(answer: Any = "approve", by: str = "ann", **fields: Any) -> ApprovalAnswered:
    return ApprovalAnswered(**{"address": "0", "asked": 2, "answer": answer, "by": by} | fields)


def wants(action: CallTool = CALL, **fields: Any) -> ActionRequested:
    decision: dict[str, Any] = {"verdict": "ask"}
    decision["approval"] = binding("default", "r", "0", action, "f")
    return ActionRequested(address="0", action=action, decision=DecisionRecord(**decision | fields))


def waiting(**fields: Any) -> Run:
    run = Run()
    run.inside(asks(**fields))
    return run


def approved() -> Run:
    run = waiting()
    run.outside(says())
    return run


def refused(run: Run, *events: Any, inside: bool = False) -> str:
    with pytest.raises(GatebookError) as caught:
        (run.inside if inside else run.outside)(*events)
    return caught.value.code
