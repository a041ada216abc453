"""The planner: fan-out, long runs, and what a poison action stops."""

import logging
from typing import Any

import msgspec
import pytest
from tests.runtime.kit import RUN, Desk, flow, run

from gatebook import tool
from gatebook.errors import ActionDenied as ActionDeniedError
from gatebook.errors import CommitUnknown
from gatebook.kernel.append import MAX_EVENTS, WARN_EVENTS, Batch
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import (
    ActionDenied,
    ActionRequested,
    AnyEvent,
    Note,
    RunStarted,
    kind_of,
)
from gatebook.kernel.policies import AllowDeclared
from gatebook.kernel.redact import Redactor
from gatebook.kernel.state import RunState
from gatebook.ports import MAX_FANOUT, Appended, Lease, RunKey, Stretch
from gatebook.runtime.driving.planner import Planner
from gatebook.runtime.leases import LeaseKeeper
from gatebook.runtime.models.routes import Providers
from gatebook.runtime.performing.executor import Executor
from gatebook.runtime.replay import Replay, final_args
from gatebook.runtime.runs.states import Finished
from gatebook.runtime.services import Services
from gatebook.runtime.subscriptions import Hub
from gatebook.testing.failpoints import FailpointJournal


@tool(effect="read")
async def look(n: int = 0) -> int:
    return n


async def gathering(ctx: Any, count: int) -> list[int]:
    async def part(n: int) -> int:
        try:
            return await ctx.call_tool(look, n=n)
        except ActionDeniedError:
            return -1

    return await ctx.gather(*(part(n) for n in range(count)))


def planner_of(program: Any, *, events: tuple[AnyEvent, ...] = ()) -> Planner:
    """A planner of a run that has just started, outside any loop."""
    desk = Desk()
    hub, redactor = Hub(), Redactor()
    executor = Executor(providers=Providers({}, {}), hub=hub, redactor=redactor, clock=desk.clock)
    services = Services(
        journal=desk.journal, policy=AllowDeclared(), programs={program.name: program},
        executor=executor, hub=hub, redactor=redactor, clock=desk.clock,
        leases=LeaseKeeper(desk.journal, "w", clock=desk.clock),
    )  # fmt: skip
    started = RunStarted(
        program=program.name, program_kind="workflow", definition=program.digest,
        nonce="00", input=Raw(b"3"), time=desk.clock.now(),
    )  # fmt: skip
    stepper = program.begin(started)
    planner = Planner(
        RunState(), Replay(stepper, final_args(program.tools)), services=services,
        program=program, lease=Lease(RUN, "w", 1), started=started,
    )  # fmt: skip
    planner.fold(Stretch(0, [started, *events], b""))
    return planner


@pytest.mark.parametrize("count", [MAX_FANOUT + 1, 800])
def test_a_fan_out_above_the_limit_is_refused(count: int) -> None:
    """Eight hundred tool calls in one turn are a runaway, also when they fill several appends."""

    async def scenario() -> None:
        desk = Desk()

        state = await desk.ran(flow(gathering, look), count)

        await desk.journal.open()
        requested = await desk.all("r", ActionRequested)
        denied = await desk.all("r", ActionDenied)
        assert (len(requested), len(denied)) == (MAX_FANOUT, count - MAX_FANOUT)
        assert {event.error.code for event in denied} == {"E_FANOUT"}
        assert f"{count} actions were asked for" in denied[-1].error.message
        assert state == Finished([*range(MAX_FANOUT), *[-1] * (count - MAX_FANOUT)])

    run(scenario())


def test_the_limit_of_a_fan_out_outlives_a_lost_answer() -> None:
    """Whoever reads the run anew knows of the rest of a step that it is the rest."""

    async def scenario() -> None:
        desk = Desk()
        unknown = CommitUnknown("E_COMMIT_UNKNOWN", detail="gone")

        class Losing(FailpointJournal):
            async def append(self, run: RunKey, batch: Batch) -> Appended:
                done = await super().append(run, batch)
                if self.calls["append"] == 1:
                    raise unknown
                return done

        await desk.ran(flow(gathering, look), 800, journal=Losing(desk.journal, []))

        assert len(await desk.all("r", ActionRequested)) == MAX_FANOUT
        assert len(await desk.all("r", ActionDenied)) == 800 - MAX_FANOUT

    run(scenario())


@pytest.mark.parametrize("lost", [True, False], ids=["taken over", "in back-off"])
def test_a_run_that_is_full_starts_nothing_again(lost: bool) -> None:
    """Its append would be refused, and refused again: the run would halt instead of ending."""
    planner = planner_of(flow(gathering, look))
    planner.plan(planner.started.time, {}, set())
    head = planner.state.head
    head.seq = MAX_EVENTS
    phase: Any = "started" if lost else "backoff"
    for address, entry in head.open.items():
        head.open[address] = msgspec.structs.replace(entry, phase=phase, due=0, epoch=0)

    events = planner.plan(planner.started.time + 10, {}, set())

    assert [kind_of(event) for event in events] == [*["action_failed"] * 3, "run_failed"]
    assert planner.batch().draft is not None  # which an append would take


def test_a_run_that_is_full_ends_and_asks_for_nothing_more() -> None:
    """A run that cannot be stored must stop in words, not in a loop of refused appends."""
    planner = planner_of(flow(gathering, look))
    planner.state.head.seq = MAX_EVENTS

    events = planner.plan(planner.started.time, {}, set())

    assert [kind_of(event) for event in events] == ["run_failed"]
    assert events[0].error.code == "E_RUN_TOO_LONG"  # type: ignore[union-attr]


def test_a_run_that_becomes_long_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever reads it in time can end the run well; at the maximum it is too late for that."""
    planner = planner_of(flow(gathering, look))
    planner.state.head.seq = WARN_EVENTS

    for _ in range(2):
        planner.plan(planner.started.time, {}, set())

    (told,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert told.startswith("run 'r' has 10003 events and is ended at 50000; ")


def test_a_long_run_that_is_taken_up_again_is_not_told_of_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A run that waits often is taken up often."""
    notes = (Note(text="and so on"),) * WARN_EVENTS
    planner = planner_of(flow(gathering, look), events=notes)

    planner.plan(planner.started.time, {}, set())

    assert planner.state.head.seq > WARN_EVENTS
    assert caplog.records == []


def test_a_plan_folds_what_it_plans() -> None:
    """The next want follows from the outcome, in the same append."""
    planner = planner_of(flow(gathering, look))

    events = planner.plan(planner.started.time, {}, set())

    assert [kind_of(event) for event in events] == ["action_requested"] * 3
    assert planner.state.head.seq == 4
    assert list(planner.state.head.open) == ["0.b0.s0", "0.b1.s0", "0.b2.s0"]


def test_a_stopping_worker_plans_nothing_new() -> None:
    """Closing records what has happened and starts nothing."""
    planner = planner_of(flow(gathering, look))

    assert planner.plan(planner.started.time, {}, set(), quiet=True) == []


def test_a_poison_action_stops_everything_of_its_run() -> None:
    """While a person must look, no other attempt of the run may start."""

    async def both(ctx: Any, count: int) -> None:
        await ctx.gather(ctx.call_tool(look), ctx.sleep(0))

    planner = planner_of(flow(both, look))
    planner.plan(planner.started.time, {}, set())
    entry = planner.state.head.open["0.b0.s0"]
    planner.state.head.open["0.b0.s0"] = msgspec.structs.replace(entry, lost=3, epoch=0)

    events = planner.plan(planner.started.time + 10, {}, set())

    assert [kind_of(event) for event in events] == ["interrupted"]
    assert planner.state.next_due is None
