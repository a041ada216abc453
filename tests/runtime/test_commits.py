"""What is committed before, with and after an effect, also when the store fails or refuses."""

from typing import Any

import pytest
from tests.runtime.kit import (
    RUN,
    Desk,
    Model,
    RefusingJournal,
    acting,
    eventually,
    flow,
    run,
    said,
)

from gatebook import Decision, tool
from gatebook.errors import CommitUnknown, InvalidInput, StoreError, Transient
from gatebook.kernel.actions import WaitSignal
from gatebook.kernel.append import Batch, BudgetShort
from gatebook.kernel.events import (
    ActionRequested,
    ActionSucceeded,
    AttemptFailed,
    Note,
    RunCompleted,
    kind_of,
)
from gatebook.kernel.messages import Usage
from gatebook.kernel.policies import AllowDeclared, RetryWithBackoffPolicy
from gatebook.ports import Appended, RunKey
from gatebook.runtime.runs.states import Finished, Waiting
from gatebook.testing.clock import VirtualClock
from gatebook.testing.failpoints import Failpoint, FailpointJournal

KEY = "sk-ant-" + "api03-abcdefghijklmnopqrstuvwxyz0123456789abcdefgh"


def short() -> BudgetShort:
    """What an append raises that finds the budget used up."""
    return BudgetShort("E_BUDGET", meter="tool_calls", tool="t", limit=1)


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

        await desk.ran(flow(body, act), journal=Slow(desk.journal, []))

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

        state = await desk.ran(flow(body, act), journal=journal)

        assert (state, calls) == (Finished(3), [0, 1, 2])
        assert journal.calls["append"] == 4

    run(scenario())


@pytest.mark.parametrize("append", [1, 2, 3])
@pytest.mark.parametrize(
    "when", [pytest.param("after", id="it holds"), pytest.param("before", id="it does not hold")]
)
def test_an_unknown_commit_repeats_no_effect(when: Any, append: int) -> None:
    """A lost answer is not a lost event; what is not there is decided again, not done again."""

    async def scenario() -> None:
        desk, calls = Desk(), list[Any]()
        act = acting(calls)

        async def body(ctx: Any) -> int:
            return await ctx.call_tool(act, n=1) + await ctx.call_tool(act, n=2)

        journal = FailpointJournal(desk.journal, [Failpoint(when, "append", append, "unknown")])
        async with desk.open(journal=journal) as runtime:
            state = await desk.settled(await runtime.start(flow(body, act), None))

        assert (state, calls) == (Finished(3), [1, 2])

    run(scenario())


@pytest.mark.parametrize("tries", [pytest.param(2, id="a while"), pytest.param(40, id="minutes")])
def test_an_outcome_waits_for_a_store_that_does_not_answer(tries: int) -> None:
    """Money went out, and the disk is full: given up, what came of it would be unknown."""

    async def scenario() -> None:
        desk, calls = Desk(), list[Any]()
        act = acting(calls)
        plan = [Failpoint("before", "append", n, "error") for n in range(2, 2 + tries)]
        journal = FailpointJournal(desk.journal, plan)

        async def body(ctx: Any) -> int:
            return await ctx.call_tool(act, n=1) + await ctx.call_tool(act, n=2)

        async with desk.open(journal=journal) as runtime:
            state = await desk.settled(await runtime.start(flow(body, act), None))

        assert (state, calls) == (Finished(3), [1, 2])

    run(scenario())


def test_a_worker_that_stops_does_not_wait_for_the_store() -> None:
    """Who stops a worker has a reason; what it leaves open is asked about later."""

    async def scenario() -> None:
        desk, calls = Desk(), list[Any]()
        act = acting(calls)
        plan = [Failpoint("before", "append", n, "error") for n in range(2, 42)]
        journal = FailpointJournal(desk.journal, plan)

        async def body(ctx: Any) -> int:
            return await ctx.call_tool(act, n=1)

        runtime = desk.runtime(journal=journal)
        await runtime.open()
        await runtime.start(flow(body, act), None, run_id="r")
        await desk.clock.settle()
        await desk.clock.until(runtime.close())

        await desk.journal.open()
        assert calls == [1]
        assert await desk.all("r", ActionSucceeded) == []

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

        state = await desk.ran(flow(body, act), journal=journal)

        assert (journal.refused, calls, state) == (1, [1, 2], Finished(3))
        await desk.journal.open()
        assert len(await desk.all("r", ActionSucceeded)) == 2

    run(scenario())


def test_an_outcome_survives_a_refusal_and_then_a_lost_answer() -> None:
    """It is appended alone, and nobody knows whether: it is known here until it is there."""

    async def scenario() -> None:
        desk, calls = Desk(), list[Any]()
        act = acting(calls)
        journal = RefusingJournal(
            desk.journal,
            ({"action_succeeded", "action_requested"}, short()),
            ({"action_succeeded"}, CommitUnknown("E_COMMIT_UNKNOWN", detail="gone")),
        )

        async def body(ctx: Any) -> int:
            return await ctx.call_tool(act, n=1) + await ctx.call_tool(act, n=2)

        state = await desk.ran(flow(body, act), journal=journal)

        assert (journal.refusals, calls, state) == ([], [1, 2], Finished(3))

    run(scenario())


def test_what_stops_a_run_survives_a_refusal_too() -> None:
    """Policy wanted somebody to look at the signal, whatever became of the retry beside it."""

    class Stops(AllowDeclared):
        def sees_results(self, action: Any) -> bool:
            return isinstance(action, WaitSignal)

        def result(self, *_: Any, **__: Any) -> Decision:
            return Decision("interrupt", "look at it")

    async def scenario() -> None:
        desk, tries = Desk(RetryWithBackoffPolicy(Stops(), 9, 3_000)), list[Any]()
        journal = RefusingJournal(desk.journal, ({"attempt_started", "interrupted"}, short()))

        @tool(effect="read")
        async def look() -> int:
            tries.append(desk.clock.now())
            if len(tries) == 1:
                raise Transient("busy")
            return 1

        async def body(ctx: Any) -> Any:
            return await ctx.gather(ctx.call_tool(look), ctx.wait_signal("go"))

        async with desk.open(journal=journal) as runtime:
            handle = await runtime.start(flow(body, look), None, run_id="r")
            await desk.clock.settle()
            desk.clock.advance(5)  # its back-off is over when the signal comes
            await handle.signal("go", 1)
            state = await desk.settled(handle)

        await desk.journal.open()
        assert (journal.refusals, state) == ([], Waiting(on=("resume",)))
        assert (await desk.kinds("r")).count("interrupted") == 1

    run(scenario())


def test_what_is_odd_about_an_outcome_survives_a_refusal_too() -> None:
    """That a model call was charged as reserved is told beside its outcome, not after it."""

    async def scenario() -> None:
        desk, model = Desk(), Model(said("a", usage=Usage(input_tokens=-1)), said("b"))
        kinds = {"note", "action_succeeded", "action_requested"}
        journal = RefusingJournal(desk.journal, (kinds, short()))

        async def body(ctx: Any) -> None:
            await ctx.call_llm("fake:m", "one")
            await ctx.call_llm("fake:m", "two")

        program = flow(body, models=["fake:m"])
        await desk.ran(program, journal=journal, providers={"fake": model})

        (note,) = await desk.all("r", Note)
        assert journal.refusals == []
        assert "E_USAGE_INVALID" in note.text

    run(scenario())


def test_log_lines_are_journaled_once_across_workers() -> None:
    """A line logged before a crash must not be logged again after it, nor one with a secret."""

    async def scenario() -> None:
        desk = Desk()

        async def body(ctx: Any) -> None:
            ctx.log.info(f"the key is {KEY}")
            ctx.log.info("one")
            await ctx.sleep(3600)
            ctx.log.info("two")

        program = flow(body)
        await desk.ran(program)
        async with desk.open(program) as runtime:
            await desk.settled(runtime.handle("r"))
            desk.clock.advance(3600)
            await desk.settled(runtime.handle("r"))

        await desk.journal.open()
        told = [note.text for note in await desk.all("r", Note)]
        assert told == ["the key is [redacted:api-key]", "one", "two"]

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
        state = await desk.taken_up(program)

        assert isinstance(state, Waiting)
        assert (state.on, calls) == (("resolve 0",), [1])

    run(scenario())
