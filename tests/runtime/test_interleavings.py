"""Runs whose store refuses, loses and delays, while people speak at any time and workers die.

Whatever comes in between: every run comes to one end, nothing happens twice, nothing that is known
is lost, and a replay of the journal finds what the live run decided.
"""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.interleaving import AGENT, FAN_OUT, STEPS
from tests.runtime.kit import RUN, run
from tests.runtime.results import PHONE
from tests.runtime.unruly import DEEDS, Play

from gatebook.kernel.codec import idempotency_key
from gatebook.kernel.events import (
    ActionDenied,
    ActionRequested,
    ActionResolved,
    ActionSucceeded,
    AnyEvent,
    HookAnswered,
    Interrupted,
    Note,
)
from gatebook.kernel.head import Head
from gatebook.kernel.status import RUNNING
from gatebook.kernel.verify import verify_facts
from gatebook.runtime.replay import final_args, replay
from gatebook.runtime.runs.audit import audit_ledgers
from gatebook.runtime.runs.states import Cancelled, Failed, Finished

BRANCHES = st.lists(
    st.lists(st.sampled_from(STEPS), min_size=1, max_size=4), min_size=1, max_size=3
)
LEFT = st.sampled_from([None, 2, 5, 8])
DEEDS_OF_A_RUN = st.lists(st.sampled_from(["pass", *DEEDS]), max_size=14)


def played(branches: list[list[str]], deeds: list[str], left: int | None, agent: bool) -> None:
    """Play a run to its end and check all that holds of every run."""

    async def scenario() -> None:
        play = Play(branches, deeds, left=left, agent=agent)
        state = await play.end()
        recorded, row = await play.desk.journal.read(RUN), await play.desk.journal.row(RUN)
        events = [each.event for each in recorded]

        assert not play.endless
        assert isinstance(state, Finished | Cancelled | Failed), state
        if isinstance(state, Failed):
            assert agent
            assert state.error.code == "E_LEDGER"
        assert not isinstance(state, Cancelled) or "cancel" in deeds
        verify_facts("r", events, row.head)
        assert all(each.ok for each in await audit_ledgers(play.desk.journal, "default"))
        begun: list[Any] = list(play.world.done)
        started: Any = events[0]
        replay(play.program.begin(started), final_args(play.program.tools), recorded)
        assert play.world.done == begun
        check_effects(play, events)
        check_lines(play, events, whole=isinstance(state, Finished))
        check_decisions(events)
        check_fan_out(play, events, whole=isinstance(state, Finished))
        assert PHONE.encode() not in await play.desk.stored()

    run(scenario())


def check_effects(play: Play, events: list[AnyEvent]) -> None:
    """Every effect was asked for, none was had too often, and none is forgotten."""
    started: Any = events[0]
    had = Counter(key for key, _ in play.world.done)
    ordered = Counter(e.address for e in events if isinstance(e, ActionResolved))
    requests = [event for event in events if isinstance(event, ActionRequested)]
    succeeded = {event.address for event in events if isinstance(event, ActionSucceeded)}
    for request in requests:
        if (tool := getattr(request.action, "tool", "")) == "":
            continue
        key = idempotency_key("default", "r", started.nonce, request.address)
        times = had.pop(key, 0)
        if request.effect == "at_most_once":
            assert times <= 1 + ordered[request.address], request
        assert times or request.address not in succeeded, request
        if tool == "pay" and key in play.world.paid:
            assert request.action.arguments == {"n": play.world.paid[key]}  # type: ignore[union-attr]
    assert not had


def check_lines(play: Play, events: list[AnyEvent], *, whole: bool) -> None:
    """What the program logged is there once."""
    told = [event.text for event in events if isinstance(event, Note)]
    lines = [line for line in told if not line.startswith("late outcome")]
    logged = [
        f"line {10 * b + n} {'[redacted:api-key]' if n % 2 else ''}"
        for b, steps in enumerate(play.branches)
        for n, name in enumerate(steps)
        if name == "log"
    ]
    assert len(lines) == len(set(lines))
    assert set(lines) == set(logged) if whole else set(lines) <= set(logged)


def check_decisions(events: list[AnyEvent]) -> None:
    """What came in is labelled and cut, what stops the run does, and hooks are asked once."""
    head, touched, stops = Head(), False, False
    asked = Counter[tuple[str, str, int, str]]()
    for event in events:
        assert not stops or isinstance(event, Interrupted)
        stops = False
        match event:
            case ActionSucceeded(decision=decision) if decision is not None:
                if decision.verdict == "modify":
                    assert event.labels == ("personal",)
                    touched = True
                stops = decision.verdict == "interrupt" and head.status is RUNNING
            case ActionRequested(action=action):
                assert getattr(action, "tool", "") != "send" or not touched
            case HookAnswered():
                asked[event.point, event.address, event.attempt, event.hook] += 1
            case _:
                pass
        head.apply(event)
    assert all(times == 1 for times in asked.values())


def check_fan_out(play: Play, events: list[AnyEvent], *, whole: bool) -> None:
    """Of the first step, which is the only one that asks for several, the rest was refused.

    Of an agent it is each turn.
    """
    denied = [e for e in events if isinstance(e, ActionDenied) and e.error.code == "E_FANOUT"]
    beyond = max(0, sum(set(steps) != {"log"} for steps in play.branches) - FAN_OUT)
    if play.program is AGENT:
        beyond = sum(max(0, len(steps) - FAN_OUT) for steps in play.branches)
    assert len(denied) == beyond if whole else len(denied) <= beyond


@given(branches=BRANCHES, deeds=DEEDS_OF_A_RUN, left=LEFT, agent=st.booleans())
@settings(max_examples=150)
def test_a_run_comes_to_one_end_whatever_comes_in_between(
    branches: list[list[str]], deeds: list[str], left: int | None, agent: bool
) -> None:
    """What a refused plan leaves behind, and what only memory knew, is where promises break."""
    played(branches, deeds, left, agent)


@pytest.mark.soak
@given(branches=BRANCHES, deeds=DEEDS_OF_A_RUN, left=LEFT, agent=st.booleans())
def test_many_runs_come_to_one_end_each(
    branches: list[list[str]], deeds: list[str], left: int | None, agent: bool
) -> None:
    """The same, with other runs each time."""
    played(branches, deeds, left, agent)
