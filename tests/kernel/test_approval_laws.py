"""A law of approvals: whatever is tried, in whatever order, what starts was approved as it runs."""

from contextlib import suppress
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gatebook.errors import GatebookError
from gatebook.kernel.approvals.events import ApprovalAnswered, ApprovalAsked, ApprovalExpired
from gatebook.kernel.events import ActionRequested, ActionSucceeded, Interrupted, Resumed
from tests.kernel.asked import CALL, DAY_MS, ERROR, OTHER, Run, asks, says, wants

ACTIONS = (CALL, CALL, OTHER)
BOUNDS = (None, asks(CALL).bound, asks(CALL).bound, asks(OTHER).bound)
ANSWERS = ("approve", "approve", "approve", "approve", "edit", "deny", "yes")
PEOPLE = ("ann", "ann", "ann", "bob", "rita", "RITA ", "")
KINDS = {
    "ask": 3, "say": 6, "start": 6, "expire": 1, "end": 3, "stop": 1, "resume": 2, "wait": 3,
}  # fmt: skip


def drawn(random: Random) -> tuple[Any, ...]:
    """Draw one step; shared weights make most runs come to an approved action."""
    (kind,) = random.choices(list(KINDS), list(KINDS.values()))
    match kind:
        case "ask":
            return kind, random.choice(ACTIONS), random.random() < 0.2
        case "say":
            return kind, random.choice(ANSWERS), random.choice(PEOPLE)
        case "start":
            return kind, random.choice(ACTIONS), random.choice(BOUNDS)
        case "wait":
            return kind, random.choice((DAY_MS * 400, DAY_MS * 1_000))
        case _:
            return (kind,)


def tried(run: Run, step: Any) -> Any:
    """Append what a step says; return it when it was let in."""
    entry = run.head.approvals.asked.get("0")
    asked = 2 if entry is None else entry.seq
    match step:
        case ("ask", action, stops):
            event: Any = asks(action, stops=stops)
        case ("say", answer, by):
            event = says(answer, by=by, asked=asked)
            run.outside(event)
            return event
        case ("start", action, None):
            event = wants(action, verdict="allow", approval="")
        case ("start", action, bound):
            event = wants(action, approval=bound)
        case ("expire",):
            event = ApprovalExpired(address="0", asked=asked)
        case ("end",):
            event = ActionSucceeded(address="0")
        case ("stop",):
            event = Interrupted(error=ERROR)
        case _:
            event = Resumed()
            run.outside(event)
            return event
    run.inside(event)
    return event


@given(st.randoms(use_true_random=False))
def test_whatever_starts_was_approved_once_in_time_and_as_it_was_shown(random: Random) -> None:
    """The events that were let in are judged by what they say, without the fold's help."""
    run, history = Run(), list[Any]()
    for step in (drawn(random) for _ in range(60)):
        if step[0] == "wait":
            run.now += step[1]
            continue
        before = run.phase
        with suppress(GatebookError):
            history.append((before, run.now, tried(run, step)))

    questions: dict[int, tuple[int, ApprovalAsked]] = {}
    approved, used = 0, set[int]()
    for seq, (before, now, event) in enumerate(history, start=2):
        if isinstance(event, ApprovalAsked):
            questions[seq], approved = (now, event), 0
        elif isinstance(event, ApprovalAnswered):
            since, question = questions[event.asked]
            assert now < since + question.expires_ms * 1000
            assert event.by.strip()
            assert event.by.strip().lower() != "rita" or event.answer == "deny"
            approved = event.asked if event.answer == "approve" else 0
        elif isinstance(event, ActionRequested) and event.decision.verdict == "allow":
            assert before is None
        elif isinstance(event, ActionRequested):
            since, question = questions[approved]
            assert approved not in used
            assert now < since + question.expires_ms * 1000
            assert event.action == question.action
            used.add(approved)
