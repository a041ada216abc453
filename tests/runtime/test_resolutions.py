"""What a person says of an action nobody knows the end of, or of a run that was stopped."""

from typing import Any

import pytest
from tests.runtime.crashing import Bank, crash_during_the_tool
from tests.runtime.kit import Desk, flow, handle_of, run

from gatebook import RETRY, Denied, Succeeded
from gatebook.errors import InvalidInput
from gatebook.kernel.events import ActionResolved, AttemptStarted
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


def test_only_an_interrupted_run_can_be_resumed() -> None:
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
