"""The driver: what is stored before an effect, what waits, and what a run costs in rounds."""

import asyncio
from typing import Any

from tests.runtime.kit import RUN, Desk, eventually, flow, run

from gatebook import tool
from gatebook.errors import InvalidInput, StoreError, Transient
from gatebook.kernel.append import Batch, BudgetShort
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import (
    ActionRequested,
    ActionSucceeded,
    AttemptFailed,
    DefinitionChanged,
    Note,
    RunCompleted,
    SignalReceived,
    kind_of,
)
from gatebook.ports import Appended, Lease, RunKey
from gatebook.runtime.runs.states import Failed, Finished, Waiting
from gatebook.testing.clock import VirtualClock
from gatebook.testing.failpoints import Failpoint, FailpointJournal


def acting(calls: list[Any], journal_of: Any = None) -> Any:
    """A tool that notes what it did."""

    @tool
    async def act(n: int = 0) -> int:
        calls.append(n)
        return n

    return act


def test_without_its_intent_stored_nothing_happens() -> None:
    """An effect whose request is lost would be an effect nobody can account for."""

    class Refusing(FailpointJournal):
        async def append(self, run: RunKey, batch: Batch) -> Appended:
            await VirtualClock().settle()
            raise StoreError("E_STORE_CLOSED", store=self.url)

    async def scenario() -> None:
        desk, calls = Desk(), list[Any]()
        act = acting(calls)

        async def body(ctx: Any) -> int:
            return await ctx.call_tool(act)

        async with desk.open(journal=Refusing(desk.journal, [])) as runtime:
            await runtime.start(flow(body, act), None, run_id="r")
            await desk.clock.settle()
            await desk.journal.open()
            kinds = await desk.kinds("r")

        assert (calls, kinds) == ([], ["run_started"])

    run(scenario())


def test_a_plan_that_is_refused_again_in_the_same_place_halts_the_run() -> None:
    """Where planner and append disagree, another round would find the same, for ever."""

    class Disagreeing(FailpointJournal):
        async def append(self, run: RunKey, batch: Batch) -> Appended:
            self.calls["append"] = self.calls.get("append", 0) + 1
            if any(isinstance(event, ActionRequested) for event in batch.events):
                raise InvalidInput("E_NOT_STARTING", run=run.id, status="running")
            return await self.inner.append(run, batch)

    async def scenario() -> None:
        desk, calls = Desk(), list[Any]()
        act = acting(calls)
        journal = Disagreeing(desk.journal, [])

        async def body(ctx: Any) -> int:
            return await ctx.call_tool(act)

        async with desk.open(journal=journal) as runtime:
            state = await desk.settled(await runtime.start(flow(body, act), None, run_id="r"))
            told = (await desk.journal.row(RUN)).waiting_on

        assert isinstance(state, Waiting)
        assert state.parked_reason == "halted"
        assert "refused again" in told
        assert (calls, journal.calls["append"]) == ([], 2)

    run(scenario())


def test_the_request_is_in_the_store_when_the_tool_runs() -> None:
    """The effect comes after the commit, not beside it."""

    async def scenario() -> None:
        desk = Desk()
        seen: list[list[str]] = []

        class Slow(FailpointJournal):
            async def append(self, run: RunKey, batch: Batch) -> Appended:
                await desk.clock.settle()
                return await super().append(run, batch)

        @tool
        async def act() -> None:
            seen.append(await desk.kinds("r"))

        async def body(ctx: Any) -> None:
            await ctx.call_tool(act)

        async with desk.open(journal=Slow(desk.journal, [])) as runtime:
            await desk.settled(await runtime.start(flow(body, act), None, run_id="r"))

        assert seen == [["run_started", "action_requested"]]

    run(scenario())


def test_an_outcome_and_the_next_request_are_one_append() -> None:
    """One commit per step, not two."""

    async def scenario() -> None:
        desk = Desk()
        journal = FailpointJournal(desk.journal, [])
        calls: list[Any] = []
        act = acting(calls)

        async def body(ctx: Any) -> int:
            for n in range(3):
                await ctx.call_tool(act, n=n)
            return 3

        async with desk.open(journal=journal) as runtime:
            state = await desk.settled(await runtime.start(flow(body, act), None, run_id="r"))

        assert (state, calls) == (Finished(3), [0, 1, 2])
        assert journal.calls["append"] == 4

    run(scenario())


def test_an_unknown_commit_that_holds_repeats_no_effect() -> None:
    """A lost answer of the store is not a lost event."""

    async def scenario() -> None:
        desk, calls = Desk(), list[Any]()
        act = acting(calls)

        async def body(ctx: Any) -> int:
            return await ctx.call_tool(act, n=1) + await ctx.call_tool(act, n=2)

        for n in (1, 2, 3):
            calls.clear()
            journal = FailpointJournal(desk.journal, [Failpoint("after", "append", n, "unknown")])
            async with desk.open(journal=journal) as runtime:
                state = await desk.settled(await runtime.start(flow(body, act), None))
            await desk.journal.open()

            assert (state, calls) == (Finished(3), [1, 2]), n

    run(scenario())


def test_an_unknown_commit_that_does_not_hold_repeats_no_effect() -> None:
    """What is not there is decided again; what was done is recorded."""

    async def scenario() -> None:
        desk, calls = Desk(), list[Any]()
        act = acting(calls)

        async def body(ctx: Any) -> int:
            return await ctx.call_tool(act, n=1) + await ctx.call_tool(act, n=2)

        for n in (1, 2, 3):
            calls.clear()
            journal = FailpointJournal(desk.journal, [Failpoint("before", "append", n, "unknown")])
            async with desk.open(journal=journal) as runtime:
                state = await desk.settled(await runtime.start(flow(body, act), None))
            await desk.journal.open()

            assert (state, calls) == (Finished(3), [1, 2]), n

    run(scenario())


def test_a_store_that_does_not_answer_for_a_while_is_asked_again() -> None:
    """A full disk that is emptied must not cost the run."""

    async def scenario() -> None:
        desk, calls = Desk(), list[Any]()
        act = acting(calls)
        plan = [Failpoint("before", "append", n, "error") for n in (2, 3)]
        journal = FailpointJournal(desk.journal, plan)

        async def body(ctx: Any) -> int:
            return await ctx.call_tool(act, n=1) + await ctx.call_tool(act, n=2)

        async with desk.open(journal=journal) as runtime:
            state = await desk.settled(await runtime.start(flow(body, act), None))

        assert (state, calls) == (Finished(3), [1, 2])

    run(scenario())


def test_an_outcome_survives_a_budget_that_refuses_what_follows() -> None:
    """A guard on a request must never lose an outcome."""

    class Shrinking(FailpointJournal):
        """Refuses what both records and requests, for as long as anybody would try."""

        refused = 0

        async def append(self, run: RunKey, batch: Batch) -> Appended:
            kinds = {kind_of(event) for event in batch.events}
            if {"action_succeeded", "action_requested"} <= kinds and self.refused < 5:
                self.refused += 1
                raise BudgetShort("E_BUDGET", meter="tool_calls", tool="t", limit=1)
            return await super().append(run, batch)

    async def scenario() -> None:
        desk, calls = Desk(), list[Any]()
        act = acting(calls)
        journal = Shrinking(desk.journal, [])

        async def body(ctx: Any) -> int:
            return await ctx.call_tool(act, n=1) + await ctx.call_tool(act, n=2)

        async with desk.open(journal=journal) as runtime:
            state = await desk.settled(await runtime.start(flow(body, act), None, run_id="r"))

        assert (journal.refused, calls, state) == (1, [1, 2], Finished(3))
        await desk.journal.open()
        assert len(await desk.all("r", ActionSucceeded)) == 2

    run(scenario())


def test_a_short_sleep_is_sat_out_and_a_long_one_parks_the_run() -> None:
    """A parked run costs no memory; parking for a second would cost two commits."""

    async def scenario() -> None:
        desk = Desk()
        journal = FailpointJournal(desk.journal, [])

        async def body(ctx: Any, seconds: float) -> None:
            await ctx.sleep(seconds)

        async with desk.open(journal=journal) as runtime:
            await desk.settled(await runtime.start(flow(body), 1.5))
            parks = journal.calls.get("park", 0)
            state = await desk.settled(await runtime.start(flow(body), 3600.0))

        assert parks == 0
        assert journal.calls["park"] > 0
        assert isinstance(state, Waiting)
        assert state.on == ("sleep 0",)

    run(scenario())


def test_a_parked_run_goes_on_at_its_time() -> None:
    """The timer of a sleep is an absolute time, kept by the store."""

    async def scenario() -> None:
        desk = Desk()

        async def body(ctx: Any) -> str:
            await ctx.sleep(3600)
            return str(ctx.now())

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body), None)
            await desk.settled(handle)
            desk.clock.advance(3599)
            await desk.clock.settle()
            early = (await handle.row()).head.terminal
            state = await desk.settled(handle)

        assert not early
        assert state == Finished("2023-11-14 23:13:20+00:00")

    run(scenario())


def test_a_run_does_not_park_over_a_signal() -> None:
    """One that comes between the look and the parking must be seen without any wake-up."""

    class Crossing(FailpointJournal):
        """Somebody in another process signals while the worker parks; nobody tells it."""

        crossed = False

        async def park(self, lease: Lease, **how: Any) -> None:
            if not self.crossed:
                self.crossed = True
                signal = SignalReceived(name="go", payload=Raw(b"7"))
                await self.inner.append(lease.run, Batch(events=(signal,), append_id=b"x"))
            await super().park(lease, **how)

        async def touched(self) -> frozenset[RunKey]:
            await asyncio.Event().wait()
            return frozenset()

    async def scenario() -> None:
        desk = Desk()

        async def body(ctx: Any) -> Any:
            return await ctx.wait_signal("go")

        async with desk.open(journal=Crossing(desk.journal, [])) as runtime:
            handle = await runtime.start(flow(body), None)

            assert await desk.settled(handle) == Finished(7)
            assert desk.clock.monotonic() < 2, "not by a lease that lapsed"

    run(scenario())


def test_waiting_for_time_beside_a_tool_does_not_spin() -> None:
    """A wake-up that wakes itself burns a core until the tool ends."""

    async def scenario() -> None:
        desk = Desk()
        go = asyncio.Event()

        @tool(effect="read")
        async def slow() -> None:
            await go.wait()

        @tool(effect="read")
        async def quick() -> None:
            return None

        async def body(ctx: Any) -> None:
            await ctx.gather(ctx.call_tool(slow), ctx.call_tool(quick), ctx.sleep(100))

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, slow, quick), None)
            await desk.clock.settle()
            before = len(desk.clock.slept)
            for _ in range(10):
                await desk.clock.settle()
            after = len(desk.clock.slept)
            go.set()
            await desk.settled(handle)

        assert after == before

    run(scenario())


def test_a_program_that_diverges_is_parked_and_its_journal_untouched() -> None:
    """Driving new code along an old journal would make a history nobody ordered."""

    async def scenario() -> None:
        desk, calls = Desk(), list[Any]()
        act = acting(calls)

        async def old(ctx: Any) -> None:
            await ctx.call_tool(act, n=1)
            await ctx.sleep(3600)

        async def new(ctx: Any) -> None:
            await ctx.call_tool(act, n=2)
            await ctx.sleep(3600)

        async with desk.open() as runtime:
            await desk.settled(await runtime.start(flow(old, act, name="f"), None, run_id="r"))
        await desk.journal.open()
        before = await desk.journal.raw(RUN)
        desk.clock.advance(3600)
        changed = flow(new, act, name="f")
        async with desk.open(changed) as runtime:
            state = await desk.settled(runtime.handle("r", changed))
            after = await desk.journal.raw(RUN)

        assert isinstance(state, Waiting)
        assert state.parked_reason == "diverged"
        assert "asks for 'act {\"n\":2} at 0', the journal says" in state.on[0]
        assert (after, calls) == (before, [1])

    run(scenario())


async def changing(desk: Desk, **options: Any) -> Any:
    """Start a run, change its definition, and see where it comes to rest."""

    async def body(ctx: Any) -> int:
        await ctx.sleep(3600)
        return 1

    async with desk.open() as runtime:
        await desk.settled(await runtime.start(flow(body, name="f"), None, run_id="r"))
    await desk.journal.open()
    desk.clock.advance(3600)
    changed = flow(body, name="f", version="2")
    async with desk.open(changed, **options) as runtime:
        state = await desk.settled(runtime.handle("r", changed))
    await desk.journal.open()
    return state


def test_a_changed_definition_is_refused() -> None:
    """A resumed run under other tools or prompts is another run."""

    async def scenario() -> None:
        desk = Desk()

        state = await changing(desk)

        assert isinstance(state, Waiting)
        assert state.parked_reason == "definition"
        assert "on_definition_change='adopt'" in state.on[0]
        assert "definition_changed" not in await desk.kinds("r")

    run(scenario())


def test_an_adopted_definition_is_recorded() -> None:
    """Whoever reads the run must see where its rules changed."""

    async def scenario() -> None:
        desk = Desk()

        state = await changing(desk, on_definition_change="adopt")

        assert state == Finished(1)
        change = await desk.only("r", DefinitionChanged)
        assert change.before != change.after

    run(scenario())


def test_asyncio_inside_a_workflow_raises() -> None:
    """A task that escapes a workflow would act outside the gate."""

    async def scenario() -> None:
        desk = Desk()

        async def escaping(ctx: Any) -> None:
            async with asyncio.timeout(1):  # noqa: ASYNC100 - what it asks of the loop counts
                pass

        async with desk.open() as runtime:
            state = await desk.settled(await runtime.start(flow(escaping), None))

        assert isinstance(state, Failed)
        assert state.error.code == "E_WORKFLOW_AWAIT"

    run(scenario())


def test_log_lines_are_journaled_once_across_workers() -> None:
    """A line logged before a crash must not be logged again after it."""

    async def scenario() -> None:
        desk = Desk()

        async def body(ctx: Any) -> None:
            ctx.log.info("one")
            await ctx.sleep(3600)
            ctx.log.info("two")

        program = flow(body)
        async with desk.open() as runtime:
            await desk.settled(await runtime.start(program, None, run_id="r"))
        await desk.journal.open()
        async with desk.open(program) as runtime:
            await desk.settled(runtime.handle("r"))
            desk.clock.advance(3600)
            await desk.settled(runtime.handle("r"))

        await desk.journal.open()
        assert [note.text for note in await desk.all("r", Note)] == ["one", "two"]

    run(scenario())


def test_every_request_has_exactly_one_final_outcome() -> None:
    """Retries and denials included: what was asked is answered, once, under the same address."""

    async def scenario() -> None:
        desk = Desk()
        tries = 0

        @tool(effect="read")
        async def flaky() -> int:
            nonlocal tries
            tries += 1
            if tries < 3:
                raise Transient("busy")
            return tries

        async def body(ctx: Any) -> list[Any]:
            return await ctx.gather(ctx.call_tool(flaky), ctx.sleep(1), ctx.sleep(5))

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, flaky), None, run_id="r")
            await desk.clock.until(handle.result())

        await desk.journal.open()
        asked = [event.address for event in await desk.all("r", ActionRequested)]
        answered = [event.address for event in await desk.all("r", ActionSucceeded)]
        assert sorted(asked) == sorted(answered) == ["0.b0.s0", "0.b1.s0", "0.b2.s0"]
        assert len(await desk.all("r", AttemptFailed)) == 2
        assert len(await desk.all("r", RunCompleted)) == 1

    run(scenario())


def test_a_driver_that_loses_its_store_leaves_the_run_to_the_next() -> None:
    """Nothing is guessed about a store that answers no more."""

    async def scenario() -> None:
        desk, calls = Desk(), list[Any]()
        act = acting(calls)

        class Deaf(FailpointJournal):
            async def append(self, run: RunKey, batch: Batch) -> Appended:
                if calls:
                    raise StoreError("E_STORE_CORRUPT", store=self.url, detail="x")
                return await super().append(run, batch)

        async def body(ctx: Any) -> int:
            return await ctx.call_tool(act, n=1)

        program = flow(body, act)
        async with desk.open(journal=Deaf(desk.journal, [])) as runtime:
            await runtime.start(program, None, run_id="r")
            await eventually(lambda: calls, "the tool ran")
            await desk.clock.settle()
        await desk.journal.open()
        async with desk.open(program) as runtime:
            state = await desk.settled(runtime.handle("r"))

        assert isinstance(state, Waiting)
        assert (state.on, calls) == (("resolve 0",), [1])

    run(scenario())
