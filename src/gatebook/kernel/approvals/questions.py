"""What the worker that drives a run remembers of its approvals and deferrals, beside the head.

A fold like the head's: the same events give the same memory.
"""

from collections import deque
from typing import Any, Protocol

from gatebook.kernel.approvals.events import ApprovalAnswered, ApprovalAsked, DeferralEnded
from gatebook.kernel.approvals.standing import NOBODY_ASKED, Approvals, HeadPart
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import HookAnswered
from gatebook.kernel.hooks.answers import place_of_acts
from gatebook.kernel.records import Event

Question = tuple[ApprovalAsked, ApprovalAnswered | None]  # what was asked, and the last answer


class StatePart(Protocol):
    """What is known here of a run's fold; `head` is not changed."""

    asked: dict[str, Question]

    @property
    def head(self) -> HeadPart:
        """What appends are checked against."""

    @property
    def signals(self) -> dict[str, deque[tuple[int, Raw]]]:
        """Signals nobody has taken yet, by name: (seq, payload)."""


def note_asked(state: StatePart, event: ApprovalAsked) -> None:
    """Remember what was asked."""
    state.asked[event.address] = (event, None)


def note_answered(state: StatePart, event: ApprovalAnswered) -> None:
    """Remember the last answer."""
    state.asked[event.address] = (state.asked[event.address][0], event)


def note_resumed(state: StatePart, _: Event) -> None:
    """Forget what is asked anew."""
    kept = state.head.approvals.asked
    state.asked = {address: found for address, found in state.asked.items() if address in kept}


def note_hook_answered(state: StatePart, event: HookAnswered) -> None:
    """Forget what was asked about acts of a hook that waits for nothing any more."""
    if state.asked:
        acts, kept = place_of_acts(event.address, event.hook, event.attempt), state.asked
        state.asked = {a: found for a, found in kept.items() if not a.startswith(acts)}


def note_undeferred(state: StatePart, event: DeferralEnded) -> None:
    """Take the signal that a deferred action waited for."""
    if event.consumed is not None:
        for name, kept in state.signals.items():
            state.signals[name] = deque(one for one in kept if one[0] != event.consumed)


STATE_NOTES: dict[type[Event], Any] = {
    ApprovalAsked: note_asked,
    ApprovalAnswered: note_answered,
    DeferralEnded: note_undeferred,
    HookAnswered: note_hook_answered,
}


def next_held(approvals: Approvals) -> int | None:
    """Return when an approval expires or a deferral ends next, None for never."""
    if approvals is NOBODY_ASKED:
        return None
    times = [entry.expires for entry in approvals.asked.values() if entry.phase == "open"]
    times += [held.due for held in approvals.deferred.values() if held.due is not None]
    return min(times, default=None)


def held_waits(approvals: Approvals) -> list[str]:
    """Return what a run waits for before actions may start: "approval 7", "deferred t1.0"."""
    waits = [f"approval {e.seq}" for e in approvals.asked.values() if e.phase == "open"]
    for address, held in approvals.deferred.items():
        if held.due is not None:
            waits.append(f"deferred {address}")
        waits += [f"signal {name}" for name in held.signals]
    return waits
