"""Fallback routes across crashes: the next worker goes on where the journal says."""

import asyncio

import pytest
from tests.runtime.falling_back import PROGRAM, Models, error, output_of, quick
from tests.runtime.kit import RUN, CutJournal, Desk, eventually, run, said

from gatebook.kernel.events import ActionSucceeded, AttemptStarted
from gatebook.kernel.policies import AllowDeclared, RetryWithBackoffPolicy
from gatebook.kernel.verify import verify_facts


def test_a_call_lost_on_a_fallback_is_asked_again_there() -> None:
    """The journal says where it was; what the first route did is history."""

    async def scenario() -> None:
        desk = Desk(policy=quick())
        hang = asyncio.Event()
        lost = Models([[error("overloaded")]], [[hang.wait]])
        runtime = desk.runtime(PROGRAM, providers=lost.of)
        await runtime.open()
        await runtime.start(PROGRAM, None, run_id="r")
        await eventually(lambda: lost.of["b"].open, "the fallback was asked")
        await desk.crash(runtime)
        desk.lapse()

        models = Models([said("from a")], [said("from b")])
        async with desk.open(PROGRAM, providers=models.of) as runtime:
            output = await output_of(desk, runtime.handle("r", PROGRAM))
            started = await desk.all("r", AttemptStarted)

        assert (output, models.asked) == ("from b", {"b": 1})
        assert [(e.attempt, e.cause, e.route) for e in started] == [
            (1, "retry", "b:n"),
            (2, "recovery", "b:n"),
        ]

    run(scenario())


@pytest.mark.parametrize("append", range(1, 5))
def test_a_crash_at_any_append_ends_with_one_answer(append: int) -> None:
    """Between the failure on one route and the start on the next, too."""

    async def scenario() -> None:
        desk = Desk(policy=quick(0))
        cut = CutJournal(desk.journal, append=append)
        first = Models([[error("overloaded")]] * 3, [[error("server")]] * 3, [said("from c")] * 3)
        runtime = desk.runtime(PROGRAM, journal=cut, providers=first.of)
        await runtime.open()
        await runtime.start(PROGRAM, None, run_id="r")
        worker = runtime._worker
        assert worker is not None
        drivers = worker._drivers
        await eventually(lambda: cut.dead or not drivers, "the worker died or was done")
        await desk.crash(runtime)
        desk.lapse()

        models = Models([[error("overloaded")]] * 3, [[error("server")]] * 3, [said("from c")] * 3)
        async with desk.open(PROGRAM, providers=models.of) as runtime:
            output = await output_of(desk, runtime.handle("r", PROGRAM))
            events = await desk.events("r")
            row = await desk.journal.row(RUN)

        assert output == "from c"
        assert len([event for event in events if isinstance(event, ActionSucceeded)]) == 1
        verify_facts("r", events, row.head)

    run(scenario())


def test_a_wait_on_a_fallback_survives_its_worker_with_route_and_count() -> None:
    """The next worker waits the rest, asks the same route, and counts on."""

    async def scenario() -> None:
        desk = Desk(policy=RetryWithBackoffPolicy(AllowDeclared(), 1, 10_000))
        first = Models([[error("overloaded")]], [[error("server")]])
        await desk.ran(PROGRAM, providers=first.of)
        await desk.journal.open()

        models = Models([], [[error("server")]], [said("from c")])
        async with desk.open(PROGRAM, providers=models.of) as runtime:
            output = await output_of(desk, runtime.handle("r", PROGRAM))

        assert (first.asked, models.asked) == ({"a": 1, "b": 1}, {"b": 1, "c": 1})
        assert output == "from c"

    run(scenario())
