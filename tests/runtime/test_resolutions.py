"""What a person says of an action nobody knows the end of, or of a run that was stopped."""

from typing import Any

import pytest
from tests.runtime.crashing import Bank, crash_during_the_tool
from tests.runtime.kit import RUN, Desk, flow, handle_of, run

from gatebook import RETRY, Denied, Succeeded
from gatebook.errors import InvalidInput
from gatebook.kernel.append import Batch
from gatebook.kernel.events import ActionResolved, AttemptStarted, ErrorRecord, Interrupted
from gatebook.ports import ParkedReason
from gatebook.runtime.runs.states import Finished


@pytest.mark.parametrize(
    ("word", "output", "calls"),
    [
        (Succeeded("paid"), "paid", 1),
        (Denied("it was not paid"), "Permanent it was not paid", 1),
        (RETRY, "done 1", 2),
    ],
)
def test_a_person_says_what_became_of_an_unknown_action(word: Any, output: str, calls: int) -> None:
    """Whoever looked at the service knows; the run goes on from their word."""

    async def scenario() -> None:
        desk, bank = Desk(), Bank()
        program = bank.program("at_most_once")
        await crash_during_the_tool(desk, bank, program)
        desk.lapse()

        async with desk.open(program) as runtime:
            handle = runtime.handle("r", program)
            await desk.settled(handle)
            await handle.resolve("0", word, by="ann")
            state = await desk.settled(handle)
            resolved = await desk.only("r", ActionResolved)

        assert state == Finished(output)
        assert (len(bank.keys), resolved.by) == (calls, "ann")

    run(scenario())


def test_an_ordered_start_says_so() -> None:
    """An action that ran twice must show who wanted it."""

    async def scenario() -> None:
        desk, bank = Desk(), Bank()
        program = bank.program("at_most_once")
        await crash_during_the_tool(desk, bank, program)
        desk.lapse()

        async with desk.open(program) as runtime:
            handle = handle_of(runtime)
            await desk.settled(handle)
            await handle.resolve("0", RETRY)
            await desk.settled(handle)
            again = await desk.only("r", AttemptStarted)

        assert (again.attempt, again.cause) == (1, "resolved")
        assert bank.keys[0] == bank.keys[1]

    run(scenario())


def test_the_second_resolution_of_an_action_is_refused() -> None:
    """The first word wins; the second person is told."""

    async def scenario() -> None:
        desk, bank = Desk(), Bank()
        program = bank.program("at_most_once")
        await crash_during_the_tool(desk, bank, program)
        desk.lapse()

        async with desk.open(program) as runtime:
            handle = handle_of(runtime)
            await desk.settled(handle)
            await handle.resolve("0", Succeeded("paid"))
            with pytest.raises(InvalidInput) as caught:
                await handle.resolve("0", Denied("no"))

        assert caught.value.code in ("E_ACTION_NOT_UNKNOWN", "E_RUN_TERMINAL")

    run(scenario())


def test_a_resolution_that_does_not_fit_the_tool_is_refused() -> None:
    """The program would fail on it after the chance to correct it has passed."""

    async def scenario() -> None:
        desk, bank = Desk(), Bank()
        program = bank.program("at_most_once")
        await crash_during_the_tool(desk, bank, program)
        desk.lapse()

        async with desk.open(program) as runtime:
            handle = runtime.handle("r", program)
            await desk.settled(handle)
            with pytest.raises(InvalidInput) as caught:
                await handle.resolve("0", Succeeded({"not": "text"}))

        assert caught.value.code == "E_RESULT_TYPE"

    run(scenario())


def test_an_interrupted_run_that_is_parked_for_a_reason_is_resumed_by_one_call() -> None:
    """To lift the parking alone would leave it interrupted."""

    async def scenario() -> None:
        desk = Desk()

        async def asleep(ctx: Any) -> None:
            await ctx.sleep(3600)

        await desk.ran(flow(asleep))
        lease = await desk.journal.claim(RUN, owner="w", ttl_ms=1_000)
        assert lease is not None
        stops = Interrupted(error=ErrorRecord("E", "somebody has to look"))
        batch = Batch(events=(stops,), append_id=b"x", epoch=lease.epoch)
        seq = (await desk.journal.append(RUN, batch)).head.seq
        await desk.journal.park(
            lease, after=seq, wake_at=None, waiting_on="guard", reason=ParkedReason.HOOKS
        )
        async with desk.open() as runtime:
            await handle_of(runtime).resume()
            row, kinds = await handle_of(runtime).row(), await desk.kinds("r")

        assert (kinds[-1], row.head.status, row.parked_reason) == ("resumed", "running", "")

    run(scenario())


def test_a_run_that_only_waits_cannot_be_resumed() -> None:
    """Whoever presses the button twice is told."""

    async def scenario() -> None:
        desk = Desk()

        async def asleep(ctx: Any) -> None:
            await ctx.sleep(100)

        async with desk.open() as runtime:
            handle = await runtime.start(flow(asleep), None)

            with pytest.raises(InvalidInput) as caught:
                await handle.resume()

        assert caught.value.code == "E_NOT_INTERRUPTED"

    run(scenario())
