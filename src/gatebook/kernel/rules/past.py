"""What a run has done so far, as rules may ask about it: a fold over its events.

Kept only for policies that want facts; the same events give the same facts, after a crash too.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from gatebook.kernel.actions import describe
from gatebook.kernel.approvals.events import ActionDeferred
from gatebook.kernel.codec import NULL, plain
from gatebook.kernel.events import (
    ActionDenied,
    ActionFailed,
    ActionRequested,
    ActionResolved,
    ActionSucceeded,
    ActionUnknown,
    AnyEvent,
    Event,
    LabelEndorsed,
    RunStarted,
)
from gatebook.kernel.rules.facts import History, Outcome, Request, RunFacts, tool_facts
from gatebook.kernel.tools import ToolSpec

Labeller = Callable[[Request], tuple[str, ...]]

USER = "user"  # the key of a run's context that says for whom it acts


class Past:
    """One run's history and user; changes in place with each event.

    Attributes:
        history: what rules ask about; live, so that it holds what `apply` took in last.
        user: for whom the run acts: the text at "user" of the context it was started with.

    Args:
        returns: labels of what tools bring back, by name: what a person says an action brought
            back carries them.
    """

    __slots__ = ("_deferred", "_names", "_returns", "history", "user")

    def __init__(self, returns: Mapping[str, Iterable[str]] | None = None) -> None:
        self._returns = returns or {}
        self.history = History()
        self.user: str | None = None
        self._names: dict[str, str] = {}  # of open actions, by address
        self._deferred: dict[str, int] = {}  # how often, by address

    def apply(self, event: AnyEvent) -> None:
        """Take in one more event, in journal order."""
        self.history.seq += 1
        effect = _EFFECTS.get(type(event))
        if effect is not None:
            effect(self, event)

    def facts(self, address: str) -> RunFacts:
        """Return what rules may ask about the run when they decide at an address.

        An action that is open there, of which another attempt or the result is decided, does
        not count: it would stand in its own way.
        """
        deferred, history = self._deferred.get(address, 0), self.history
        name = self._names.get(address)
        if name is not None:
            counts = history.counts | {name: history.counts[name] - 1}
            history = msgspec.structs.replace(history, counts=counts)
        return RunFacts(user=self.user, history=history, deferred=deferred)

    def _began(self, event: RunStarted) -> None:
        self.user = user_of(plain(event.context)) if event.context != NULL else None

    def _requested(self, event: ActionRequested) -> None:
        name = self._names[event.address] = describe(event.action)
        self.history.requested(name)

    def _denied(self, event: ActionDenied) -> None:
        self.history.ended(describe(event.action), "denied")

    def _ended(self, address: str, outcome: Outcome, labels: Iterable[str]) -> None:
        name = self._names.pop(address, None)
        if name is not None:
            self.history.ended(name, outcome, labels)

    def _succeeded(self, event: ActionSucceeded) -> None:
        self._ended(event.address, "succeeded", event.labels)

    def _failed(self, event: ActionFailed) -> None:
        self._ended(event.address, "failed", event.labels)

    def _unknown(self, event: ActionUnknown) -> None:
        self.history.ended(self._names.get(event.address, ""), "unknown")

    def _resolved(self, event: ActionResolved) -> None:
        if event.resolution != "retry":
            labels = self._returns.get(self._names.get(event.address, ""), ())
            self._ended(event.address, event.resolution, labels)

    def _put_off(self, event: ActionDeferred) -> None:
        self._deferred[event.address] = self._deferred.get(event.address, 0) + 1

    def _endorsed(self, event: LabelEndorsed) -> None:
        self.history.endorsed(event.label, event.upto)


def of_tools(
    labels: Labeller, tools: Mapping[str, ToolSpec], agent: str
) -> dict[str, tuple[str, ...]]:
    """Return what results of tools are labelled of which nobody knows more than the tool.

    A condition that asks more is unknown, and counts.
    """
    return {
        name: labels(Request(on="result", tool=name, about=tool_facts(spec), agent=agent))
        for name, spec in tools.items()
    }


def user_of(context: Any) -> str | None:
    """Return for whom a run with this context acts, None when it does not say."""
    found = context.get(USER) if isinstance(context, dict) else None
    return found if isinstance(found, str) else None


_EFFECTS: dict[type[Event], Callable[[Past, Any], None]] = {
    RunStarted: Past._began,
    ActionRequested: Past._requested,
    ActionDenied: Past._denied,
    ActionSucceeded: Past._succeeded,
    ActionFailed: Past._failed,
    ActionUnknown: Past._unknown,
    ActionResolved: Past._resolved,
    LabelEndorsed: Past._endorsed,
    ActionDeferred: Past._put_off,
}
