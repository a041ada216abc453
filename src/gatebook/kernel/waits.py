"""What a run is blocked on, for people."""

from gatebook.kernel.actions import Sleep, WaitSignal
from gatebook.kernel.approvals.questions import held_waits
from gatebook.kernel.state import RunState
from gatebook.kernel.status import Status


def waits_of(state: RunState) -> str:
    """Return what a run is blocked on, for people: "resolve t1.0, signal go"."""
    if state.head.status is Status.INTERRUPTED:
        return ", ".join([*held_waits(state.head.approvals), "resume"])
    waits = held_waits(state.head.approvals)
    for address, entry in state.head.open.items():
        action = state.requests[address].action
        if entry.phase == "unknown":
            waits.append(f"resolve {address}")
        elif isinstance(action, WaitSignal):
            waits.append(f"signal {action.name}")
        elif isinstance(action, Sleep):
            waits.append(f"sleep {address}")
        elif entry.phase == "backoff":
            waits.append(f"retry {address}")
    return ", ".join(waits)
