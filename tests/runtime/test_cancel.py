"""Cancelling: durable, and it reaches whatever the run is doing."""

import asyncio
from typing import Any

import pytest
from tests.runtime.kit import (
    Desk,
    LoopClock,
    Model,
    eventually,
    flow,
    handle_of,
    run,
    run_jumping,
)

from gatebook import Succeeded, tool
from gatebook.errors import ActionError, RunCancelled, Transient
from gatebook.kernel.append import Batch
from gatebook.kernel.events import (
    ActionFailed,
    ActionRequested,
    ActionResolved,
    ActionSucceeded,
    ActionUnknown,
    AttemptStarted,
    CancelRequested,
    kind_of,
)
from gatebook.kernel.events import RunCancelled as RunCancelledEvent
from gatebook.kernel.messages import MessageStart, TextDelta
from gatebook.kernel.policies import AllowDeclared, RetryWithBackoffPolicy
from gatebook.ports import Appended, RunKey
from gatebook.runtime.runs.states import Cancelled, Waiting
from gatebook.testing.failpoints import FailpointJournal

STARTS = ("action_requested", "attempt_started")


async def answered(desk: Desk) -> None:
    """Check what holds after every cancel: nothing starts, everything is answered, once."""
    events = await desk.events("r")
    kinds = [kind_of(event) for event in events]
    after = kinds[kinds.index("cancel_requested") :]
    assert not set(STARTS) & set(after), after
    asked = sorted(event.address for event in events if isinstance(event, ActionRequested))
    final = ActionSucceeded | ActionFailed | ActionUnknown
    assert sorted(event.address for event in events if isinstance(event, final)) == asked
    assert kinds[-1] == "run_cancelled"


def deaf_until(go: asyncio.Event) -> Any:
    """A workflow of one tool that swallows its cancellation."""

    @tool
    async def deaf() -> None:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue

    async def body(ctx: Any) -> None:
        await ctx.call_tool(deaf)

    return flow(body, deaf)


def test_a_cancel_stops_a_running_async_tool() -> None:
    """It is told at once; a read it was."""

    async def scenario() -> None:
        desk = Desk()
        stopped: list[str] = []
        inside = asyncio.Event()

        @tool(effect="read")
        async def slow() -> None:
            inside.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.append("told")

        async def body(ctx: Any) -> None:
            await ctx.call_tool(slow)

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, slow), None, run_id="r")
            await inside.wait()
            said = await handle.cancel(reason="enough", by="ann")
            state = await desk.settled(handle)

            assert (said, stopped, state) == ("cancelling", ["told"], Cancelled("enough"))
            assert (await desk.only("r", CancelRequested)).by == "ann"
            await answered(desk)

    run(scenario())


def test_a_cancelled_at_most_once_action_is_unknown() -> None:
    """It was running; the run ends and names it, and asks nobody to wait."""

    async def scenario() -> None:
        desk = Desk()
        inside = asyncio.Event()

        @tool
        async def pay() -> None:
            inside.set()
            await asyncio.Event().wait()

        async def body(ctx: Any) -> None:
            await ctx.call_tool(pay)

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, pay), None, run_id="r")
            await inside.wait()
            await handle.cancel()
            state = await desk.settled(handle)

            assert state == Cancelled("", ("0",))
            assert (await desk.only("r", RunCancelledEvent)).unknown == ("0",)
            await answered(desk)

    run(scenario())


def test_a_resolution_after_the_end_is_an_audit_note() -> None:
    """Somebody found out what became of it; the run stays cancelled."""

    async def scenario() -> None:
        desk = Desk()
        inside = asyncio.Event()

        @tool
        async def pay() -> None:
            inside.set()
            await asyncio.Event().wait()

        async def body(ctx: Any) -> None:
            await ctx.call_tool(pay)

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, pay), None, run_id="r")
            await inside.wait()
            await handle.cancel()
            await desk.settled(handle)

            await handle.resolve("0", Succeeded(None), by="ann")

            assert await desk.settled(handle) == Cancelled("", ("0",))
            assert (await desk.only("r", ActionResolved)).by == "ann"
            assert (await handle.row()).head.status == "cancelled"

    run(scenario())


def test_a_cancel_ends_a_run_that_waits_for_a_resolution() -> None:
    """A person may give up asking."""

    async def scenario() -> None:
        desk = Desk()

        @tool
        async def pay() -> None:
            raise OSError("lost")

        async def body(ctx: Any) -> None:
            await ctx.call_tool(pay)

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, pay), None, run_id="r")
            waiting = await desk.settled(handle)
            await handle.cancel()

            assert waiting == Waiting(("resolve 0",))
            assert await desk.settled(handle) == Cancelled("", ("0",))
            await answered(desk)

    run(scenario())


def test_a_cancel_reaches_a_back_off() -> None:
    """No attempt follows the wait."""

    async def scenario() -> None:
        desk = Desk(policy=RetryWithBackoffPolicy(AllowDeclared(), 9, 1_000))
        calls: list[int] = []

        @tool(effect="read")
        async def flaky() -> None:
            calls.append(1)
            raise Transient("busy")

        async def body(ctx: Any) -> None:
            await ctx.call_tool(flaky)

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, flaky), None, run_id="r")
            await desk.clock.settle()
            await handle.cancel()
            state = await desk.settled(handle)
            now = desk.clock.monotonic()

        assert (state, calls) == (Cancelled(), [1])
        assert now < 1.0
        await desk.journal.open()
        await answered(desk)

    run(scenario())


@pytest.mark.parametrize("said", [[], [MessageStart("m"), TextDelta(0, "once upon")]])
def test_a_cancel_reaches_a_silent_stream(said: list[Any]) -> None:
    """A provider that says nothing holds a connection, not the run."""

    async def scenario() -> None:
        desk = Desk()
        model = Model([*said, asyncio.Event().wait])

        async def body(ctx: Any) -> None:
            await ctx.call_llm("fake:m", "hi")

        async with desk.open(providers={"fake": model}) as runtime:
            program = flow(body, models=["fake:m"])
            handle = await runtime.start(program, None, run_id="r")
            await eventually(lambda: model.open == 1, "the stream is open")
            await desk.clock.settle()
            await handle.cancel()
            state = await desk.settled(handle)

            assert (state, model.open) == (Cancelled(), 0)
            error = (await desk.only("r", ActionFailed)).error
            assert error.category == "cancelled"
            assert error.partial == ("once upon" if said else "")
            await answered(desk)

    run(scenario())


@pytest.mark.parametrize("wait", ["sleep", "signal"])
def test_a_cancel_reaches_a_parked_run(wait: str) -> None:
    """Nobody drives it; the cancel wakes it."""

    async def scenario() -> None:
        desk = Desk()

        async def body(ctx: Any) -> None:
            await (ctx.sleep(86_400) if wait == "sleep" else ctx.wait_signal("go"))

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body), None, run_id="r")
            await desk.settled(handle)
            await handle.cancel()

            assert await desk.settled(handle) == Cancelled()
            assert desk.clock.monotonic() < 2
            error = (await desk.only("r", ActionFailed)).error
            assert "was cancelled before it ended" in error.message
            await answered(desk)

    run(scenario())


def test_a_read_that_was_lost_is_not_said_to_have_never_started() -> None:
    """The service has seen it: whoever looks there must not doubt the journal."""

    async def scenario() -> None:
        desk = Desk()
        inside = asyncio.Event()

        @tool(effect="read")
        async def look() -> None:
            inside.set()
            await asyncio.Event().wait()

        async def body(ctx: Any) -> None:
            await ctx.call_tool(look)

        program = flow(body, look)
        runtime = desk.runtime(program)
        await runtime.open()
        handle = await runtime.start(program, None, run_id="r")
        await inside.wait()
        await desk.crash(runtime)
        await handle.cancel()
        desk.lapse()

        async with desk.open(program) as second:
            assert await desk.settled(handle_of(second)) == Cancelled()
            error = (await desk.only("r", ActionFailed)).error
            assert error.code == "E_ACTION_CANCELLED"
            assert "'look' was cancelled before it ended" in error.message
            assert "nothing was changed outside" in error.message

    run(scenario())


def test_a_cancel_survives_the_worker() -> None:
    """Whoever takes the run up next finds the cancel in its journal."""

    async def scenario() -> None:
        desk = Desk()
        inside = asyncio.Event()

        @tool
        async def pay() -> None:
            inside.set()
            await asyncio.Event().wait()

        async def body(ctx: Any) -> None:
            await ctx.call_tool(pay)

        program = flow(body, pay)
        runtime = desk.runtime(program)
        await runtime.open()
        handle = await runtime.start(program, None, run_id="r")
        await inside.wait()
        await desk.crash(runtime)
        await handle.cancel(reason="gone")
        desk.lapse()

        async with desk.open(program) as second:
            assert await desk.settled(handle_of(second)) == Cancelled("gone", ("0",))
            await answered(desk)

    run(scenario())


def test_a_program_cannot_go_on_after_a_cancel() -> None:
    """It may catch what it sees; no action of its follows."""

    async def scenario() -> None:
        desk = Desk()
        calls: list[str] = []
        inside = asyncio.Event()

        @tool(effect="read")
        async def slow() -> None:
            inside.set()
            await asyncio.Event().wait()

        @tool
        async def clean_up() -> None:
            calls.append("cleaned")

        async def body(ctx: Any) -> None:
            try:
                await ctx.call_tool(slow)
            except ActionError:
                await ctx.call_tool(clean_up)

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, slow, clean_up), None, run_id="r")
            await inside.wait()
            await handle.cancel()

            assert await desk.settled(handle) == Cancelled()
            assert calls == []
            await answered(desk)

    run(scenario())


def test_cancelling_twice_says_so() -> None:
    """Both callers hear what is true."""

    async def scenario() -> None:
        desk = Desk()
        go = asyncio.Event()

        async with desk.open() as runtime:
            handle = await runtime.start(deaf_until(go), None, run_id="r")
            await desk.clock.settle()
            said = [await handle.cancel(), await handle.cancel()]
            go.set()
            await desk.settled(handle)
            said.append(await handle.cancel())

        assert said == ["cancelling", "already_cancelling", "already_over"]

    run(scenario())


def test_a_cancelled_run_has_no_result() -> None:
    """Who waits for it hears why."""

    async def scenario() -> None:
        desk = Desk()

        async def body(ctx: Any) -> None:
            await ctx.wait_signal("go")

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body), None)
            await handle.cancel(reason="enough")

            with pytest.raises(RunCancelled, match="enough"):
                await desk.clock.until(handle.result())

    run(scenario())


class Interfering(FailpointJournal):
    """A journal in which somebody cancels in the instant after the first request is stored."""

    runtime: Any = None

    async def append(self, run: RunKey, batch: Batch) -> Appended:
        done = await super().append(run, batch)
        if self.runtime and any(kind_of(event) == "action_requested" for event in batch.events):
            runtime, self.runtime = self.runtime, None
            await runtime.handle(run.id).cancel()
            await runtime.drive(run)
        return done


def test_what_was_asked_for_and_not_begun_has_not_happened() -> None:
    """A cancel between request and start leaves no doubt."""

    async def scenario() -> None:
        desk = Desk()
        calls: list[int] = []

        @tool
        async def pay() -> None:
            calls.append(1)

        async def body(ctx: Any) -> None:
            await ctx.call_tool(pay)

        journal = Interfering(desk.journal, [])
        async with desk.open(journal=journal) as runtime:
            journal.runtime = runtime
            handle = await runtime.start(flow(body, pay), None, run_id="r")
            state = await desk.settled(handle)

            assert (state, calls) == (Cancelled(), [])
            error = (await desk.only("r", ActionFailed)).error
            assert error.code == "E_ACTION_CANCELLED"
            assert "was cancelled before it started" in error.message
            await answered(desk)

    run(scenario())


def test_a_tool_that_does_not_stop_is_given_up_after_a_grace() -> None:
    """One tool that swallows its cancellation must not keep the run from ending."""

    async def scenario() -> None:
        go = asyncio.Event()
        desk = Desk(clock=LoopClock())

        async with desk.open() as runtime:
            handle = await runtime.start(deaf_until(go), None, run_id="r")
            await asyncio.sleep(0.1)
            await handle.cancel()
            before = desk.clock.monotonic()
            state = await handle.settled()
            took = desk.clock.monotonic() - before
            go.set()

        assert state == Cancelled("", ("0",))
        assert 4 < took < 7

    run_jumping(scenario())


def test_no_attempt_starts_after_a_cancel() -> None:
    """The append refuses it, whatever the worker believed."""

    async def scenario() -> None:
        desk = Desk(policy=RetryWithBackoffPolicy(AllowDeclared(), 9, 0))
        handles: list[Any] = []

        @tool(effect="read")
        async def flaky() -> None:
            await handles[0].cancel()
            raise Transient("busy")

        async def body(ctx: Any) -> None:
            await ctx.call_tool(flaky)

        async with desk.open() as runtime:
            handles.append(handle_of(runtime))
            await runtime.start(flow(body, flaky), None, run_id="r")
            state = await desk.settled(handles[0])

            assert state == Cancelled()
            assert await desk.all("r", AttemptStarted) == []
            await answered(desk)

    run(scenario())
