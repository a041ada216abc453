"""Runs whose program is another one now: parked, or gone on with when somebody says so."""

from typing import Any

from tests.runtime.kit import RUN, Desk, acting, flow, run

from gatebook.kernel.events import DefinitionChanged, Note
from gatebook.runtime.runs.states import Finished, Waiting


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
