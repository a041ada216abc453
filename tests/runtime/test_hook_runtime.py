"""Hooks of a runtime: recorded only when there are any, on threads, kept from starting runs."""

import threading
from typing import Any

from tests.runtime.hooking import Pay, ran
from tests.runtime.kit import Desk, eventually, run

from gatebook import hook
from gatebook.errors import InvalidInput
from gatebook.kernel.events import kind_of
from gatebook.runtime.runs.states import Finished


def test_without_hooks_nothing_is_recorded_of_them() -> None:
    """They cost nothing when there are none."""
    _, events = run(ran(Pay().program))

    assert [kind_of(event) for event in events] == [
        "run_started", "action_requested", "action_succeeded", "run_completed",
    ]  # fmt: skip


def test_a_blocking_hook_holds_neither_the_loop_nor_other_runs() -> None:
    """It runs on a thread of its own."""

    async def scenario() -> None:
        desk, go, names = Desk(), threading.Event(), list[str]()
        pay = Pay()

        @hook("before_tool", rights=["observe"], timeout=60, on_failure="closed")
        def held(view: Any) -> None:
            names.append(threading.current_thread().name)
            if view.run == "r":
                go.wait()

        async with desk.open(hooks=[held]) as runtime:
            handle = await runtime.start(pay.program, None, run_id="r")
            await eventually(lambda: names, "the hook blocks")
            other = await runtime.start(pay.program, None, run_id="other")
            done = await other.result()
            waited = len(pay.calls)
            go.set()
            state = await handle.settled()

        assert (done.output, waited, state) == (50, 1, Finished(50))
        assert len(pay.calls) == 2
        assert set(names) == {"gatebook-hook-held"}

    run(scenario())


def test_a_hook_may_not_start_runs_of_its_runtime() -> None:
    """It would wait for what waits for it."""

    async def scenario() -> None:
        desk, pay, codes = Desk(), Pay(), list[str]()

        async def start(view: Any) -> None:
            try:
                await runtime.start(pay.program, None, run_id="inner")
            except InvalidInput as exc:
                codes.append(exc.code)

        starting = hook("before_tool", rights=["observe"], timeout=60, on_failure="closed")(start)
        async with desk.open(hooks=[starting]) as runtime:
            await desk.settled(await runtime.start(pay.program, None, run_id="r"))

        assert codes == ["E_REENTRANT"]

    run(scenario())
