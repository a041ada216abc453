"""Runs whose program is another one now: parked, or gone on with when somebody says so."""

from typing import Any

from tests.runtime.kit import RUN, Desk, acting, flow, run

from gatebook.kernel.events import DefinitionChanged
from gatebook.runtime.runs.states import Finished, Waiting


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

        await desk.ran(flow(old, act, name="f"))
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
