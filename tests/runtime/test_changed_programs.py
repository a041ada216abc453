"""Runs whose program is another one now: parked, or gone on with when somebody says so."""

import asyncio
from typing import Any

import pytest
from tests.runtime.kit import RUN, Desk, acting, flow, handle_of, run

from gatebook import tool
from gatebook.kernel.events import DefinitionChanged, Note
from gatebook.kernel.policies import AllowDeclared
from gatebook.kernel.policy import Decision
from gatebook.kernel.verify import verify_facts
from gatebook.runtime.runs.states import Cancelled, Finished, Waiting


def two_programs(act: Any) -> tuple[Any, Any]:
    """A program that acts and sleeps, and one of its name that acts otherwise."""

    async def old(ctx: Any) -> None:
        await ctx.call_tool(act, n=1)
        await ctx.sleep(3600)

    async def new(ctx: Any) -> None:
        await ctx.call_tool(act, n=2)
        await ctx.sleep(3600)

    return flow(old, act, name="f"), flow(new, act, name="f")


def test_a_program_that_diverges_is_parked_and_its_journal_untouched() -> None:
    """Driving new code along an old journal would make a history nobody ordered."""

    async def scenario() -> None:
        desk, calls = Desk(), list[Any]()
        program, changed = two_programs(acting(calls))
        await desk.ran(program)
        before = await desk.journal.raw(RUN)
        desk.clock.advance(3600)
        async with desk.open(changed) as runtime:
            state = await desk.settled(runtime.handle("r", changed))
            after = await desk.journal.raw(RUN)

        assert isinstance(state, Waiting)
        assert state.parked_reason == "diverged"
        assert "asks for 'act {\"n\":2} at 0', the journal says" in state.on[0]
        assert (after, calls) == (before, [1])

    run(scenario())


def test_a_diverged_run_is_resumed_by_its_handle_once_the_code_is_mended() -> None:
    """Whoever has only the library needs a way back from a mistaken upgrade."""

    async def scenario() -> None:
        desk, calls = Desk(), list[Any]()
        program, mistaken = two_programs(acting(calls))
        await desk.ran(program)
        desk.clock.advance(3600)
        parked = await desk.taken_up(mistaken)
        async with desk.open(program) as runtime:
            untouched = await desk.settled(runtime.handle("r"))
            await runtime.handle("r").resume(by="ann")
            state = await desk.settled(runtime.handle("r"))
            note = await desk.only("r", Note)

        assert isinstance(parked, Waiting)
        assert untouched == parked
        assert (state, calls) == (Finished(None), [1])
        assert note.text == "taken up again by ann after: diverged"

    run(scenario())


def test_a_run_that_is_resumed_with_the_same_mistake_is_parked_again() -> None:
    """To resume is no permission to diverge."""

    async def scenario() -> None:
        desk, calls = Desk(), list[Any]()
        program, mistaken = two_programs(acting(calls))
        await desk.ran(program)
        desk.clock.advance(3600)
        parked = await desk.taken_up(mistaken)
        async with desk.open(mistaken) as runtime:
            await runtime.handle("r").resume()
            again = await desk.settled(runtime.handle("r"))

        assert (again, calls) == (parked, [1])

    run(scenario())


async def changing(desk: Desk, **options: Any) -> Any:
    """Start a run, change its definition, and see where it comes to rest."""

    async def body(ctx: Any) -> int:
        await ctx.sleep(3600)
        return 1

    await desk.ran(flow(body, name="f"))
    desk.clock.advance(3600)
    changed = flow(body, name="f", version="2")
    return await desk.taken_up(changed, **options)


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


def test_a_definition_is_adopted_by_a_run_that_is_interrupted() -> None:
    """Whoever changes a program must not have its stopped runs halt for it."""

    class Stops(AllowDeclared):
        def authorize(self, action: Any, context: Any) -> Decision:
            return Decision("interrupt", "look")

    async def body(ctx: Any) -> int:
        await ctx.sleep(3600)
        return 1

    async def scenario() -> None:
        desk = Desk(Stops())
        await desk.ran(flow(body, name="f"))
        changed = flow(body, name="f", version="2")
        async with desk.open(changed, on_definition_change="adopt") as runtime:
            handle = handle_of(runtime)
            await handle.signal("go")
            await desk.clock.settle()
            state = await desk.settled(handle)

        await desk.journal.open()
        row = await desk.journal.row(RUN)
        verify_facts("r", await desk.events("r"), row.head)
        assert row.parked_reason == ""
        assert isinstance(state, Waiting)
        await desk.only("r", DefinitionChanged)

    run(scenario())


@pytest.mark.parametrize("parked", [True, False], ids=["parked for it before", "not yet"])
@pytest.mark.parametrize("reason", ["definition", "diverged"])
def test_a_cancelled_run_ends_whatever_its_program_is_now(reason: str, parked: bool) -> None:
    """It only has to end: what another program would do next is of no matter, nor is it adopted."""

    async def scenario() -> None:
        desk, calls = Desk(), list[Any]()
        act = acting(calls)
        old, new = two_programs(act)
        if reason == "definition":
            new = flow(old.function, act, name="f", version="2")
        await desk.ran(old)
        desk.clock.advance(3600)
        if parked:
            stuck = await desk.taken_up(new)
            assert isinstance(stuck, Waiting)
            assert stuck.parked_reason == reason
        async with desk.open() as client:
            await handle_of(client).cancel(by="ann")
        state = await desk.taken_up(new)

        await desk.journal.open()
        row = await desk.journal.row(RUN)
        verify_facts("r", await desk.events("r"), row.head)
        assert isinstance(state, Cancelled)
        assert (row.parked_reason, calls) == ("", [1])
        assert "definition_changed" not in await desk.kinds("r")

    run(scenario())


def test_a_cancelled_run_of_a_changed_program_names_what_is_unknown() -> None:
    """Whether a payment was made is asked of the journal, not of the program."""

    async def scenario() -> None:
        desk = Desk()
        begun = asyncio.Event()

        @tool(effect="at_most_once")
        async def pay() -> None:
            begun.set()
            await asyncio.Event().wait()

        async def body(ctx: Any) -> None:
            await ctx.call_tool(pay)

        old, new = (flow(body, pay, name="f", version=version) for version in ("1", "2"))
        runtime = desk.runtime(old)
        await runtime.open()
        handle = await runtime.start(old, None, run_id="r")
        await begun.wait()
        await desk.crash(runtime)
        await handle.cancel()
        desk.lapse()
        state = await desk.taken_up(new)

        assert isinstance(state, Cancelled)
        assert state.unknown == ("0",)

    run(scenario())
