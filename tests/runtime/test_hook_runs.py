"""Hooks at the start and the end of a run."""

from typing import Any

from tests.runtime.hooking import Pay, asked, only, ran
from tests.runtime.kit import Desk, flow, run

from gatebook import Deny
from gatebook.kernel.events import RunFailed, kind_of
from gatebook.runtime.runs.states import Cancelled, Failed


def test_a_refused_run_does_nothing() -> None:
    """It ends as denied, with the reason."""
    pay = Pay()

    state, events = run(ran(pay.program, asked("on_run_start", Deny("closed today"), "deny")))

    assert isinstance(state, Failed)
    assert (state.denied, state.error.code, pay.calls) == (True, "E_HOOK_DENIED", [])
    assert [kind_of(event) for event in events] == ["run_started", "hook_answered", "run_failed"]


def test_a_program_that_ends_at_once_is_asked_about_too() -> None:
    """Its end, or failure, does not come before its beginning was allowed."""

    async def body(ctx: Any) -> None:
        raise ValueError("at once")

    state, events = run(ran(flow(body), asked("on_run_start", Deny("no"), "deny")))

    assert isinstance(state, Failed)
    assert state.error.code == "E_HOOK_DENIED"
    assert only(events, RunFailed).denied


def test_the_start_and_the_end_of_a_run_are_shown_once() -> None:
    """With its input and its output."""
    pay, start, end = Pay(), asked("on_run_start"), asked("on_run_end")

    run(ran(pay.program, start, end))

    assert [view.input for view in start.seen] == [None]
    assert [(view.status, view.output, view.error) for view in end.seen] == [("completed", 50, "")]


def test_a_completed_run_can_be_denied_its_end() -> None:
    """A guard on final outputs; the output is not stored."""

    async def body(ctx: Any) -> str:
        return "a rude word"

    state, events = run(ran(flow(body), asked("on_run_end", Deny("rude"), "deny")))

    assert isinstance(state, Failed)
    assert (state.denied, state.error.code) == (True, "E_HOOK_DENIED")
    assert "rude word" not in str(events)


def test_a_failed_run_stays_failed_as_it_did() -> None:
    """There is nothing to deny."""

    async def body(ctx: Any) -> None:
        raise ValueError("broken")

    end = asked("on_run_end", Deny("no"), "deny")
    state, _ = run(ran(flow(body), end))

    assert isinstance(state, Failed)
    assert state.error.code == "E_PROGRAM_FAILED" or "broken" in state.error.message
    assert [(view.status, "broken" in view.error) for view in end.seen] == [("failed", True)]


def test_hooks_see_that_a_run_was_cancelled() -> None:
    """They may have to let go of something."""

    async def scenario() -> None:
        desk, end = Desk(), asked("on_run_end")

        async def body(ctx: Any) -> None:
            await ctx.wait_signal("never")

        async with desk.open(hooks=[end]) as runtime:
            handle = await runtime.start(flow(body), None, run_id="r")
            await desk.settled(handle)
            await handle.cancel(reason="enough")
            state = await desk.settled(handle)

        assert isinstance(state, Cancelled)
        assert [view.status for view in end.seen] == ["cancelled"]

    run(scenario())
