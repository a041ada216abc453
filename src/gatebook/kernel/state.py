"""The fold: what is true of a run after its events, as the worker that drives it must know it.

Like its `Head`, it changes in place (docs/design.md, "The fold").
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from gatebook.kernel.actions import WaitSignal
from gatebook.kernel.approvals.questions import STATE_NOTES, Question, next_held, note_resumed
from gatebook.kernel.codec import Raw, digest
from gatebook.kernel.events import (
    DOUBTFUL,
    ActionDenied,
    ActionFailed,
    ActionRequested,
    ActionResolved,
    ActionSucceeded,
    ActionUnknown,
    AnyEvent,
    AttemptFailed,
    AttemptStarted,
    DecisionRecord,
    DefinitionChanged,
    Event,
    Resumed,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    SignalReceived,
)
from gatebook.kernel.head import Head
from gatebook.kernel.status import RUNNING


class RunState:
    """Everything the worker that drives a run must know, as a fold of its events.

    Attributes:
        head: what appends are checked against.
        started: the run's first event, None before it.
        requests: the open actions' requests, by address.
        signals: signals nobody has taken yet, by name, first in first out: (seq, payload).
        waits: addresses that wait for a signal, by name, first in first out.
        errors: the last error of open actions, by address.
        doubts: open actions of which some attempt may have taken effect and nobody knows.
        ordered: open actions that a person ordered to be started again.
        end: the terminal event, None while the run goes on.
        definition: the definition digest in force.
        policy: the digest of the policy that decided last.
        asked: approvals of actions that have not started, by address, with the last answer.
    """

    __slots__ = (
        "asked", "definition", "doubts", "end", "errors", "head", "ordered", "policy", "requests",
        "signals", "started", "waits",
    )  # fmt: skip

    def __init__(self) -> None:
        self.head = Head()
        self.started: RunStarted | None = None
        self.requests: dict[str, ActionRequested] = {}
        self.signals: dict[str, deque[tuple[int, Raw]]] = {}
        self.waits: dict[str, deque[str]] = {}
        self.errors: dict[str, Any] = {}
        self.doubts: set[str] = set()
        self.ordered: set[str] = set()
        self.end: RunCompleted | RunFailed | RunCancelled | None = None
        self.definition = ""
        self.policy = ""
        self.asked: dict[str, Question] = {}

    def apply(self, event: AnyEvent) -> None:
        """Fold one more event; see `Head.apply` for what it raises."""
        self.head.apply(event)
        self.note(event)

    def note(self, event: AnyEvent) -> None:
        """Take in what an event that the head has folded already means for the worker."""
        note: Callable[[RunState, Any], None] = _NOTES.get(type(event), _pass_by)
        note(self, event)

    def _began(self, event: RunStarted) -> None:
        self.started, self.definition, self.policy = event, event.definition, event.policy

    def _requested(self, event: ActionRequested) -> None:
        address, action = event.address, event.action
        self.requests[address] = event
        if type(action) is WaitSignal:
            self.waits.setdefault(action.name, deque()).append(address)
        if event.decision.policy:
            self.policy = event.decision.policy
        if self.asked:
            self.asked.pop(address, None)

    def _denied(self, event: ActionDenied) -> None:
        self._ruled(event.decision)
        self.asked.pop(event.address, None)

    def _ruled(self, decision: DecisionRecord | None) -> None:
        self.policy = (decision.policy if decision else "") or self.policy

    def _erred(self, event: ActionUnknown | AttemptFailed) -> None:
        self.errors[event.address] = event.error
        if type(event) is ActionUnknown:
            self._ruled(event.decision)
        if type(event) is ActionUnknown or event.error.category == DOUBTFUL:
            self.doubts.add(event.address)

    def _began_again(self, event: AttemptStarted) -> None:
        self.ordered.discard(event.address)
        self._ruled(event.decision)
        if event.cause != "retry":
            self.doubts.add(event.address)

    def _resolved(self, event: ActionResolved) -> None:
        if event.address in self.head.open:
            self.ordered.add(event.address)
        else:
            self._forget(event.address)

    def _signalled(self, event: SignalReceived) -> None:
        self.signals.setdefault(event.name, deque()).append((self.head.seq, event.payload))

    def _redefined(self, event: DefinitionChanged) -> None:
        self.definition = event.after

    def _over(self, event: RunCompleted | RunFailed | RunCancelled) -> None:
        self.end = event

    def _close(self, event: ActionSucceeded | ActionFailed) -> None:
        if event.decision is not None:
            self._ruled(event.decision)
        action = self.requests.pop(event.address).action
        if self.errors or self.doubts or self.ordered:
            self._forget(event.address)
        if type(action) is WaitSignal:
            name = action.name
            self.waits[name].remove(event.address)
            if isinstance(event, ActionSucceeded) and event.consumed is not None:
                self.signals[name] = deque(
                    kept for kept in self.signals[name] if kept[0] != event.consumed
                )

    def _forget(self, address: str) -> None:
        self.requests.pop(address, None)
        self.errors.pop(address, None)
        self.doubts.discard(address)
        self.ordered.discard(address)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Addresses of the actions that wait for a person's word."""
        return tuple(a for a, entry in self.head.open.items() if entry.phase == "unknown")

    @property
    def next_due(self) -> int | None:
        """When time alone moves the run next (microseconds UTC), None when it never does."""
        if self.head.status is not RUNNING:
            return None
        soonest: int | None = next_held(self.head.approvals)
        for entry in self.head.open.values():
            if entry.due is not None and (soonest is None or entry.due < soonest):
                soonest = entry.due
        return soonest

    def digest(self) -> str:
        """Return the digest of the whole state: equal for equal journals, on every machine."""
        facts = {
            "head": msgspec.to_builtins(self.head, order="deterministic"),
            "open": sorted(self.requests),
            "signals": {n: [seq for seq, _ in kept] for n, kept in self.signals.items() if kept},
            "definition": self.definition,
            "policy": self.policy,
            "end": self.end,
        }
        return digest(msgspec.json.encode(facts, order="deterministic"))


def _pass_by(state: RunState, event: Any) -> None:
    """Learn nothing from an event that concerns the head alone."""


_NOTES: dict[type[Event], Callable[[RunState, Any], None]] = {
    RunStarted: RunState._began,
    ActionRequested: RunState._requested,
    ActionDenied: RunState._denied,
    ActionSucceeded: RunState._close,
    ActionFailed: RunState._close,
    ActionUnknown: RunState._erred,
    AttemptFailed: RunState._erred,
    AttemptStarted: RunState._began_again,
    ActionResolved: RunState._resolved,
    SignalReceived: RunState._signalled,
    DefinitionChanged: RunState._redefined,
    RunCompleted: RunState._over,
    RunFailed: RunState._over,
    RunCancelled: RunState._over,
    Resumed: note_resumed,
    **STATE_NOTES,
}
