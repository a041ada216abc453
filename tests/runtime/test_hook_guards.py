"""Security hooks are named in the journal; a run does not go on without them."""

from typing import Any

from tests.runtime.hooking import Pay, asked, only, ran
from tests.runtime.kit import Desk, flow, run

from gatebook.kernel.events import RunStarted
from gatebook.runtime.runs.states import Finished, Waiting


def test_security_hooks_are_named_in_the_runs_first_event() -> None:
    """So that a worker without them knows."""
    guard = asked("before_tool", None, "deny", security=True, name="guard")

    _, events = run(ran(Pay().program, asked("after_tool"), guard))

    assert only(events, RunStarted).guards == ("guard",)


async def waiting(desk: Desk, pay: Pay) -> tuple[Any, Any]:
    """Start a run under a security hook; return its program, which waits to pay, and the hook."""
    guard = asked("before_tool", None, "deny", security=True, name="guard")

    async def body(ctx: Any) -> Any:
        await ctx.wait_signal("go")
        return await ctx.call_tool(act, amount=5)

    (act,) = pay.program.tools.values()
    program = flow(body, act)
    await desk.ran(program, hooks=[guard])
    return program, guard


def test_without_its_security_hooks_a_run_is_not_driven() -> None:
    """A worker that forgot them would be the way round them."""

    async def scenario() -> None:
        desk, pay = Desk(), Pay()
        program, guard = await waiting(desk, pay)
        async with desk.open(program) as runtime:
            await runtime.handle("r").signal("go")
            bare = await desk.settled(runtime.handle("r"))
            unguarded = list(pay.calls)
            row = await runtime.journal.row(runtime.handle("r").key)
        async with desk.open(program, hooks=[guard]) as runtime:
            await runtime.handle("r").resume()
            state = await desk.settled(runtime.handle("r"))

        assert isinstance(bare, Waiting)
        assert (unguarded, row.parked_reason) == ([], "hooks")
        assert "guard" in row.waiting_on
        assert (state, pay.calls, len(guard.seen)) == (Finished(50), [5], 1)

    run(scenario())


def test_somebody_can_let_a_run_go_on_without_a_hook_that_is_gone() -> None:
    """By the word that lets changed definitions go on."""

    async def scenario() -> None:
        desk, pay = Desk(), Pay()
        program, guard = await waiting(desk, pay)
        async with desk.open(program, on_definition_change="adopt") as runtime:
            await runtime.handle("r").signal("go")
            state = await desk.settled(runtime.handle("r"))

        assert (state, guard.seen) == (Finished(50), [])

    run(scenario())
