"""Recovery: what a worker finds open after another one died, and what it may do about it."""

from pathlib import Path
from typing import Any

import pytest
from tests.runtime.crashing import Bank, crash_during_the_tool
from tests.runtime.kit import CutJournal, Desk, eventually, flow, handle_of, run

from gatebook.errors import Permanent, Transient
from gatebook.journals import SqliteJournal
from gatebook.kernel.events import (
    ActionDenied,
    ActionFailed,
    ActionRequested,
    ActionSucceeded,
    ActionUnknown,
    AttemptFailed,
    AttemptStarted,
    Interrupted,
)
from gatebook.kernel.policies import AllowDeclared
from gatebook.kernel.policy import Decision, Policy
from gatebook.runtime.driving.planner import MAX_LOST
from gatebook.runtime.runs.states import Finished, Waiting


def test_a_lost_at_most_once_action_is_unknown_and_the_run_waits() -> None:
    """Nobody can know whether the refund was paid; guessing pays it twice."""

    async def scenario() -> None:
        desk, bank = Desk(), Bank()
        program = bank.program("at_most_once")
        await crash_during_the_tool(desk, bank, program)
        desk.lapse()

        state = await desk.taken_up(program)
        unknown = await desk.only("r", ActionUnknown)

        assert state == Waiting(("resolve 0",))
        assert (unknown.address, unknown.error.code) == ("0", "E_UNKNOWN_LOST")
        assert len(bank.keys) == 1

    run(scenario())


@pytest.mark.parametrize("effect", ["read", "idempotent"])
def test_a_repeatable_action_is_sent_again_with_its_key(effect: str) -> None:
    """The service recognises the key, whatever process sends it."""

    async def scenario() -> None:
        desk, bank = Desk(), Bank()
        program = bank.program(effect)
        await crash_during_the_tool(desk, bank, program)
        desk.lapse()

        state = await desk.taken_up(program)
        again = await desk.only("r", AttemptStarted)

        assert state == Finished("done 1")
        assert (again.attempt, again.cause) == (1, "recovery")
        assert len(set(bank.keys)) == 1
        assert bank.attempts == [0, 1]

    run(scenario())


def test_a_live_lease_keeps_others_away() -> None:
    """A worker that is only slow still has the run."""

    async def scenario() -> None:
        desk, bank = Desk(), Bank()
        program = bank.program("read")
        await crash_during_the_tool(desk, bank, program)
        desk.clock.advance(20)

        async with desk.open(program):
            await desk.clock.settle()

            assert len(bank.keys) == 1

    run(scenario())


def test_a_result_that_was_not_recorded_is_not_guessed() -> None:
    """The refund went through, its record did not: still unknown."""

    async def scenario() -> None:
        desk, bank = Desk(), Bank()
        bank.hang = False
        program = bank.program("at_most_once")
        journal = CutJournal(desk.journal, append=2)
        async with desk.open(program, journal=journal) as runtime:
            await runtime.start(program, None, run_id="r")
            await eventually(lambda: journal.dead, "the store was lost")
            await desk.clock.settle()
        desk.lapse()

        state = await desk.taken_up(program)

        assert state == Waiting(("resolve 0",))
        assert len(bank.keys) == 1

    run(scenario())


def test_a_recorded_success_is_never_repeated() -> None:
    """What is in the journal is done."""

    async def scenario() -> None:
        desk, bank = Desk(), Bank()
        bank.hang = False
        act = bank.tool("read")

        async def body(ctx: Any) -> str:
            done = await ctx.call_tool(act)
            await ctx.sleep(100)
            return f"{done}, once"

        program = flow(body, act)
        runtime = desk.runtime(program)
        await runtime.open()
        await desk.settled(await runtime.start(program, None, run_id="r"))
        await desk.crash(runtime)
        desk.clock.advance(100)

        state = await desk.taken_up(program)

        assert (state, len(bank.keys)) == (Finished("done 0, once"), 1)

    run(scenario())


def test_a_back_off_survives_a_crash_at_its_own_time() -> None:
    """The wait was chosen once; a new worker neither shortens it nor begins it anew."""

    async def scenario() -> None:
        desk, bank = Desk(), Bank()
        bank.hang, bank.error = False, Transient("busy")
        program = bank.program("read")
        runtime = desk.runtime(program)
        await runtime.open()
        await runtime.start(program, None, run_id="r")
        await eventually(lambda: bank.keys, "the first attempt")
        await desk.clock.settle()
        await desk.crash(runtime)
        failed = await desk.only("r", AttemptFailed)
        bank.error = None
        desk.lapse()

        state = await desk.taken_up(program)
        again = await desk.only("r", AttemptStarted)

        assert failed.delay_ms > 0
        assert (state, again.cause, again.attempt) == (Finished("done 1"), "retry", 1)

    run(scenario())


def test_an_action_that_kills_its_workers_is_stopped() -> None:
    """A poison action must not take down worker after worker; a person must look."""

    async def scenario() -> None:
        desk, bank = Desk(), Bank()
        program = bank.program("read")
        await crash_during_the_tool(desk, bank, program)
        for lost in range(1, MAX_LOST + 1):
            bank.hang, bank.expected = True, lost + 1
            desk.lapse()
            runtime = desk.runtime(program)
            await runtime.open()
            await eventually(lambda: len(bank.keys) == bank.expected, "it was called again")
            await desk.crash(runtime)
        bank.hang = False
        desk.lapse()

        async with desk.open(program) as runtime:
            handle = handle_of(runtime)
            stopped = await desk.settled(handle)
            calls = len(bank.keys)
            error = (await desk.only("r", Interrupted)).error
            await handle.resume(by="ann")
            state = await desk.settled(handle)

        assert stopped == Waiting(("resume",))
        assert (calls, error.code) == (MAX_LOST + 1, "E_ACTION_POISON")
        assert state == Finished(f"done {MAX_LOST + 1}")

    run(scenario())


@pytest.mark.parametrize(
    ("effect", "kind"), [("read", ActionFailed), ("idempotent", ActionUnknown)]
)
def test_a_lost_attempt_that_may_not_be_repeated_is_not_denied(effect: str, kind: Any) -> None:
    """A deny after an attempt without outcome cannot say that nothing happened."""

    class NoRetries(Policy):
        """Allows a first attempt only."""

        def authorize(self, action: Any, context: Any) -> Decision:
            return Decision.allow() if context.attempt == 0 else Decision.deny("no more")

    async def scenario() -> None:
        desk, bank = Desk(policy=NoRetries()), Bank()
        program = bank.program(effect)
        await crash_during_the_tool(desk, bank, program)
        desk.lapse()

        await desk.taken_up(program)
        ended = await desk.only("r", kind)
        denied = await desk.all("r", ActionDenied)

        assert (ended.error.code, denied, len(bank.keys)) == ("E_POLICY_DENIED", [], 1)

    run(scenario())


def test_an_idempotent_action_that_fails_after_a_lost_attempt_is_unknown() -> None:
    """The second attempt failed for good; of the first nobody knows."""

    async def scenario() -> None:
        desk, bank = Desk(), Bank()
        program = bank.program("idempotent")
        await crash_during_the_tool(desk, bank, program)
        bank.error = Permanent("closed")
        desk.lapse()

        state = await desk.taken_up(program)
        unknown = await desk.only("r", ActionUnknown)

        assert state == Waiting(("resolve 0",))
        assert (unknown.attempt, unknown.error.message) == (1, "closed")

    run(scenario())


def test_two_workers_on_one_file_take_a_dead_workers_run_at_once(tmp_path: Path) -> None:
    """The lock of a dead process is free: nobody has to wait for its lease."""

    async def scenario() -> None:
        desk, bank = Desk(), Bank()
        program = bank.program("idempotent")
        desk.journal = SqliteJournal(tmp_path / "runs.db")
        runtime = desk.runtime(program, clock=None)
        await runtime.open()
        await runtime.start(program, None, run_id="r")
        await eventually(lambda: bank.keys, "the tool was called")
        await desk.crash(runtime)
        await desk.journal.close()
        bank.hang = False

        desk.journal = SqliteJournal(tmp_path / "runs.db")
        async with desk.open(program, clock=None) as runtime:
            state = await runtime.handle("r").settled()

        assert state == Finished("done 1")
        assert len(set(bank.keys)) == 1

    run(scenario())


def test_each_recovery_is_charged() -> None:
    """A lost attempt was an attempt; its reservation is spent."""

    async def scenario() -> None:
        desk, bank = Desk(policy=AllowDeclared()), Bank()
        program = bank.program("read")
        await crash_during_the_tool(desk, bank, program)
        desk.lapse()

        async with desk.open(program) as runtime:
            handle = handle_of(runtime)
            await desk.settled(handle)
            head = (await handle.row()).head

        assert (head.spent.tool_calls, head.reserved.tool_calls) == (2, 0)

    run(scenario())


def test_after_recovery_every_request_has_one_outcome() -> None:
    """Same address, one final answer, whatever happened in between."""

    async def scenario() -> None:
        desk, bank = Desk(), Bank()
        program = bank.program("read")
        await crash_during_the_tool(desk, bank, program)
        desk.lapse()

        await desk.taken_up(program)
        asked = [event.address for event in await desk.all("r", ActionRequested)]
        answered = [event.address for event in await desk.all("r", ActionSucceeded)]

        assert asked == answered == ["0"]

    run(scenario())
