"""How a run stands, in words: its status, what it waits for, and which command moves it on."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from gatebook.cli.options import Given
from gatebook.cli.output import clock, number, span, stamp
from gatebook.kernel.events import (
    CancelRequested,
    Interrupted,
    RunCancelled,
    RunCompleted,
    RunFailed,
)
from gatebook.kernel.history import Meter, totals
from gatebook.kernel.spending.prices import dollars_text
from gatebook.kernel.status import Status
from gatebook.ports import ParkedReason, Recorded, RunRow

METER_NAMES = {
    "tool_calls": "tool calls", "llm_tokens": "tokens", "wall_ms": "action time",
    "usd_micros": "cost",
}  # fmt: skip
_LAST_WORDS = RunCompleted | RunFailed | RunCancelled | Interrupted
TIMED = ("sleep", "retry", "deferred")  # waits that time alone may end
UNKNOWN = "unknown"  # of a cost: never to be read as nothing
UNDRIVEN = "nobody drives it"  # of a run that could go on
BROKEN = (ParkedReason.DIVERGED, ParkedReason.HALTED)  # no answer moves it on, only mending


def status_of(row: RunRow, now: int) -> str:
    """Return one word for where a run stands.

    Beside the statuses that the store knows: a `ParkedReason` when no worker may drive it,
    "waiting" when it is parked, "idle" when it could go on and nobody drives it.
    """
    if row.head.terminal or row.head.status is Status.INTERRUPTED:
        return str(row.head.status)
    if row.parked_reason:
        return row.parked_reason
    if row.head.status is Status.CANCELLING:
        return "cancelling"
    if held(row, now):
        return "running"
    if row.waiting_on and (row.wake_at is None or row.wake_at > now):
        return "waiting"
    return "idle"


def held(row: RunRow, now: int) -> bool:
    """Whether a living worker has the run."""
    return bool(row.owner) and row.lease_until > now


def waits(row: RunRow) -> tuple[str, ...]:
    """Return what a run waits for, one by one; a reason it was parked for stays whole.

    The row is one that `latest.seen` returned. While a worker has the run, these are the approvals
    and outcomes that are missing.
    """
    if row.parked_reason:
        return (row.waiting_on,)
    if row.waiting_on:
        return tuple(row.waiting_on.split(", "))
    interrupted = row.head.status is Status.INTERRUPTED
    return () if row.head.terminal else (*missing(row), *(("resume",) if interrupted else ()))


def missing(row: RunRow) -> list[str]:
    """Return the approvals and outcomes that a run has not got yet."""
    asked = row.head.approvals.asked.values()
    found = [f"approval {each.seq}" for each in asked if each.phase == "open"]
    return found + [f"resolve {at}" for at, e in row.head.open.items() if e.phase == "unknown"]


def moved(row: RunRow) -> bool:
    """Whether the last to append was no worker; see `Journal.append`: this made the run due."""
    return not row.owner and row.wake_at == row.updated


def last_word(row: RunRow, recorded: Sequence[Recorded]) -> tuple[str, str]:
    """Return what to call how a run ended or why it stopped, and that; two "" while it goes on."""
    if row.parked_reason:
        return "reason", row.waiting_on
    events = [each.event for each in recorded]
    end = next((e for e in reversed(events) if isinstance(e, _LAST_WORDS)), None)
    match end:
        case RunCompleted():
            return "answer", bytes(end.output).decode()
        case RunFailed():
            return "error", end.error.message
        case RunCancelled():
            asked = (e.reason for e in events if isinstance(e, CancelRequested))
            unknown = f"outcome unknown: {', '.join(end.unknown)}" if end.unknown else ""
            return "reason", "; ".join(filter(None, (next(asked, end.reason), unknown)))
        case Interrupted() if row.head.status is Status.INTERRUPTED:
            return "reason", end.error.message
        case _:
            return "", ""


def next_steps(row: RunRow, given: Given, now: int) -> list[tuple[str, str]]:
    """Return (what the run waits for, the command that moves it on), for each wait."""
    run = row.run.id
    if row.head.terminal:
        return []
    if row.parked_reason:
        again = given.driving_line("resume", run)
        if row.parked_reason == ParkedReason.DEFINITION:
            return [(row.waiting_on, f"{again} --adopt")]
        return [(row.waiting_on, again)]
    idle = status_of(row, now) in ("idle", "cancelling")
    told = [wait for wait in waits(row) if not (idle and wait.split(" ")[0] in TIMED)]
    steps = [_step(wait, row, given) for wait in told]
    if idle and (not steps or moved(row)):
        steps.append((UNDRIVEN, given.driving_line("resume", run)))
    return steps


def _step(wait: str, row: RunRow, given: Given) -> tuple[str, str]:
    run = row.run.id
    kind, _, name = wait.partition(" ")
    match kind:
        case "resolve":
            line = given.line("resolve", run, name)
            text = f"the outcome of {name} is unknown; look at the service, then say"
            return text, f"{line} --succeeded JSON | --failed TEXT | --retry"
        case "signal":
            text = f"signal {name} has not come"
            return text, f"{given.line('signal', run, name)} [JSON]"
        case "resume":
            return "it was interrupted, see why, then", given.driving_line("resume", run)
        case "approval":
            text = f"approval {run}#{name} is not given; see {given.line('approvals', run)}, then"
            return text, given.line("approve", f"{run}#{name}")
        case "deferred":
            until = f" at {clock(row.wake_at)}" if row.wake_at else ""
            return f"{name} is decided about again{until}", given.driving_line("worker")
        case "sleep" | "retry":
            until = f" until {clock(row.wake_at)}" if row.wake_at else ""
            word = "it sleeps" if kind == "sleep" else f"{name} is tried again, not"
            return f"{word}{until}", given.driving_line("worker")
        case _:
            return wait, given.driving_line("resume", run)


def meter_texts(row: RunRow) -> list[str]:
    """Return the meters that are used or limited, such as "tool calls 3/10"."""
    return [text for meter in totals(row.head) if (text := _meter(meter))]


def _meter(meter: Meter) -> str:
    used = used_text(meter)
    limit = f"/{amount_text(meter, meter.limit)}" if meter.limit is not None else ""
    return f"{METER_NAMES[meter.name]} {used}{limit}" if used else ""


def used_text(meter: Meter) -> str:
    """Return what is used of a meter, "" for nothing of an unlimited one."""
    used = meter.spent + meter.reserved
    if not used and meter.limit is None:
        return "" if meter.whole else UNKNOWN
    text = amount_text(meter, used)
    return text if meter.whole else f"{text} + {UNKNOWN}"


def amount_text(meter: Meter, amount: int) -> str:
    """Return an amount of a meter in the unit people would use."""
    if meter.name == "wall_ms":
        return span(amount * 1000)
    return dollars_text(amount) if meter.name == "usd_micros" else number(amount)


def cost_text(cost_usd: Decimal | None, *, people: bool) -> str:
    """Return what model calls cost: "$0.000315" for people, the number for pipes, or "unknown"."""
    if cost_usd is None:
        return UNKNOWN
    return dollars_text(int(cost_usd.scaleb(6))) if people else str(cost_usd)


def run_fields(row: RunRow, now: int) -> dict[str, Any]:
    """Return a run as JSON documents show it."""
    return {
        "run": row.run.id,
        "program": row.program,
        "kind": row.program_kind,
        "status": status_of(row, now),
        "waiting_on": list(waits(row)),
        "wake_at": stamp(row.wake_at) or None,
        "event_count": row.head.seq,
        "meters": {
            meter.name: {"spent": meter.spent, "reserved": meter.reserved, "limit": meter.limit}
            for meter in totals(row.head)
        },
        "cost_usd": None if (cost := row.head.spent.cost_usd) is None else str(cost),
        "labels": row.labels,
        "created": stamp(row.created),
        "updated": stamp(row.updated),
    }
