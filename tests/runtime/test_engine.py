"""The local engine: which runs it drives, and that one run's trouble is not the others'."""

import asyncio
import threading
from typing import Any

import pytest
from tests.catalogue.kit import told
from tests.runtime.kit import Desk, eventually, flow, run

from gatebook import Runtime, tool
from gatebook.engines.local import LocalEngine
from gatebook.errors import GatebookError
from gatebook.journals import MemoryJournal
from gatebook.kernel.events import RunStarted
from gatebook.kernel.policies import AllowDeclared
from gatebook.ports import Journal, Lease, Parked, RunKey
from gatebook.programs import Workflow
from gatebook.runtime.client import Client
from gatebook.runtime.runs.states import Finished
from gatebook.testing.clock import VirtualClock
from gatebook.testing.failpoints import Failpoint, FailpointJournal


@tool(effect="read")
async def look() -> int:
    return 1


async def looking(ctx: Any) -> int:
    return await ctx.call_tool(look)


class Broken(Workflow[Any, Any]):
    """A program with a bug that is no error of ours."""

    def begin(self, started: RunStarted) -> Any:
        raise ZeroDivisionError("the key is canary-41")


def test_a_run_of_an_unknown_program_does_not_stop_a_worker() -> None:
    """Workers of several programs share one store."""

    async def scenario() -> None:
        desk = Desk()
        client = Client(desk.journal, policy=AllowDeclared(), clock=desk.clock)
        async with desk.open() as runtime, client:
            await client.start(flow(looking, look, name="theirs"), None, run_id="theirs")
            ours = await runtime.start(flow(looking, look), None, run_id="ours")

            assert await desk.settled(ours) == Finished(1)
            assert (await desk.journal.row(client.handle("theirs").key)).head.epoch == 0

    run(scenario())


def test_the_log_of_a_program_that_breaks_holds_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """A traceback carries whatever the error was made of."""

    async def scenario() -> None:
        desk = Desk(secrets=["canary-41"])
        async with desk.open() as runtime:
            await runtime.start(Broken(looking, name="broken", tools=[look]), None, run_id="broken")
            await desk.clock.settle()

    run(scenario())

    assert "run 'broken' cannot go on" in caplog.text
    assert "ZeroDivisionError: the key is [redacted:registered]" in caplog.text
    assert "canary" not in caplog.text


def test_the_log_of_a_store_that_breaks_holds_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """What no driver expects is the engine's to tell."""

    class Breaking(FailpointJournal):
        async def stretch(self, *asked: Any, **more: Any) -> Any:
            raise ZeroDivisionError("the key is canary-41")

    async def scenario() -> None:
        desk = Desk(secrets=["canary-41"])
        async with desk.open(journal=Breaking(desk.journal, [])) as runtime:
            await runtime.start(flow(looking, look), None, run_id="r")
            await desk.clock.settle()

    run(scenario())

    assert "run r is not driven" in caplog.text
    assert "ZeroDivisionError: the key is [redacted:registered]" in caplog.text
    assert "canary" not in caplog.text


def test_a_program_that_breaks_does_not_stop_the_other_runs() -> None:
    """A worker drives hundreds of runs; a bug in one program is that program's trouble."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            await runtime.start(Broken(looking, name="broken", tools=[look]), None, run_id="broken")
            await desk.clock.settle()
            ours = await runtime.start(flow(looking, look), None)

            assert await desk.settled(ours) == Finished(1)

    run(scenario())


def test_a_worker_takes_up_what_a_client_started() -> None:
    """A web process starts runs; a worker process drives them."""

    async def scenario() -> None:
        desk = Desk()
        program = flow(looking, look)
        client = Client(desk.journal, policy=AllowDeclared(), clock=desk.clock)
        async with client:
            started = await client.start(program, None, run_id="r")
            async with desk.open(program):
                assert await desk.settled(started) == Finished(1)
                await desk.journal.open()

    run(scenario())


def test_a_signal_after_the_end_of_serving_is_kept_and_harms_nobody() -> None:
    """A web request may come while the worker beside it shuts down."""

    async def scenario() -> None:
        desk = Desk()

        async def waiting(ctx: Any) -> Any:
            return await ctx.wait_signal("go")

        async with desk.open() as runtime:
            started = await runtime.start(flow(waiting), None, run_id="r")
            await desk.settled(started)
            assert runtime._worker is not None
            runtime._worker._serving.cancel()
            await asyncio.wait({runtime._worker._serving})

            await started.signal("go", 1)

        await desk.journal.open()
        assert "signal_received" in await desk.kinds("r")

    run(scenario())


def test_nothing_is_left_after_close() -> None:
    """A closed runtime that keeps a task or a thread keeps its store and its process alive."""

    async def scenario() -> None:
        desk = Desk()
        before = set(threading.enumerate())

        async def long(ctx: Any) -> int:
            await ctx.call_tool(look)
            await ctx.sleep(3600)
            return 1

        async with desk.open() as runtime:
            for n in range(3):
                await desk.settled(await runtime.start(flow(long, look), None, run_id=f"r{n}"))
        await desk.clock.settle()

        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert set(threading.enumerate()) == before

    run(scenario())


def test_runs_are_given_back_on_close() -> None:
    """Another worker must not wait for a lease of one that has left in good order."""

    async def scenario() -> None:
        desk = Desk()
        ready = asyncio.Event()

        @tool(effect="read")
        async def slow() -> int:
            ready.set()
            await asyncio.sleep(0.01)
            return 1

        async def body(ctx: Any) -> int:
            return await ctx.call_tool(slow) + await ctx.call_tool(look)

        program = flow(body, slow, look)
        async with desk.open() as runtime:
            started = await runtime.start(program, None, run_id="r")
            await ready.wait()

        await desk.journal.open()
        row = await desk.journal.row(started.key)
        assert (row.owner, row.wake_at) == ("", desk.clock.now())
        assert await desk.kinds("r") == ["run_started", "action_requested", "action_succeeded"]
        async with desk.open(program) as runtime:
            assert await desk.settled(runtime.handle("r", program)) == Finished(2)

    run(scenario())


def test_a_run_that_is_claimed_while_the_worker_stops_starts_nothing() -> None:
    """Stopping waits for another run meanwhile; what began now would be cut off, and unknown."""

    async def scenario() -> None:
        began, paid, claiming = asyncio.Event(), asyncio.Event(), asyncio.Event()
        claimed = asyncio.Event()
        late: list[str] = []

        class Slow(MemoryJournal):
            async def claim(self, run: RunKey, *, owner: str, ttl_ms: int) -> Lease | None:
                if run.id == "late":
                    claiming.set()
                    await claimed.wait()
                return await super().claim(run, owner=owner, ttl_ms=ttl_ms)

        @tool
        async def pay(who: str) -> None:
            if who == "late":
                late.append(who)
                return
            began.set()
            await paid.wait()

        async def paying(ctx: Any, who: str) -> None:
            await ctx.call_tool(pay, who=who)

        program, journal = flow(paying, pay), Slow()
        runtime = Runtime(journal, programs=[program], policy=AllowDeclared())
        await runtime.open()
        await runtime.start(program, "early", run_id="early")
        await began.wait()
        await runtime.start(program, "late", run_id="late")
        await claiming.wait()
        worker = runtime._worker
        assert worker is not None
        closing = asyncio.create_task(runtime.close())
        await eventually(lambda: worker._stopping, "the worker stops")
        claimed.set()
        await eventually(lambda: len(worker._driving) == 1, "the late run was let go")
        paid.set()
        await closing

        assert late == []

    run(scenario())


def test_runs_are_driven_side_by_side_up_to_the_limit() -> None:
    """A slow run must not hold up the others, nor may a store full of runs start all at once."""

    async def scenario() -> None:
        desk = Desk()
        inside = 0
        go = asyncio.Event()

        @tool(effect="read")
        async def meet() -> None:
            nonlocal inside
            inside += 1
            await go.wait()

        async def body(ctx: Any) -> None:
            await ctx.call_tool(meet)

        async with desk.open() as runtime:
            handles = [await runtime.start(flow(body, meet), None) for _ in range(20)]
            await eventually(lambda: inside == 20, "all runs are inside their tool")
            go.set()

            assert [await desk.settled(each) for each in handles] == [Finished(None)] * 20

    run(scenario())


def test_news_of_a_run_that_waits_for_a_slot_do_not_drive_it() -> None:
    """The limit is what keeps a worker with a full store from doing all of it at once."""

    async def scenario() -> None:
        clock = VirtualClock()
        journal = MemoryJournal(clock=clock)
        engine = LocalEngine(journal, tenant="default", programs=list, clock=clock, concurrency=2)
        driven: list[RunKey] = []
        go = asyncio.Event()

        async def drive(key: RunKey) -> Parked:
            driven.append(key)
            await go.wait()
            return Parked("over")

        await journal.open()
        serving = asyncio.create_task(engine.serve(drive))
        keys = [RunKey("default", f"r{n}") for n in range(4)]
        await clock.settle()
        for key in keys:
            engine.wake(key)
        await clock.settle()
        for key in keys[2:]:
            engine.wake(key)
        await clock.settle()
        first = list(driven)
        go.set()
        await clock.settle()
        serving.cancel()
        await asyncio.wait({serving})
        await journal.close()

        assert (first, driven) == (keys[:2], keys)

    run(scenario())


def test_a_claim_whose_answer_was_lost_is_tried_again() -> None:
    """The store may have given us the run: until the lease lapses nobody else would look."""

    async def scenario() -> None:
        desk = Desk()
        journal = FailpointJournal(desk.journal, [Failpoint("after", "claim", 1, "error")])
        async with desk.open(journal=journal) as runtime:
            handle = await runtime.start(flow(looking, look), None, run_id="r")

            assert await desk.settled(handle) == Finished(1)

    run(scenario())


class Odd(BaseException):
    """What nobody raises, and a library did."""


@pytest.mark.parametrize("error", [Odd, GeneratorExit, asyncio.CancelledError])
def test_nothing_that_one_run_raises_stops_the_others(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """What ended the engine would leave every run of this worker without a word."""

    class Odder(FailpointJournal):
        """A store that raises what is no Exception, of one run."""

        async def stretch(self, run: RunKey, **asked: Any) -> Any:
            if run.id == "odd":
                raise error
            return await super().stretch(run, **asked)

    async def scenario() -> None:
        desk = Desk()
        program = flow(looking, look)
        async with desk.open(journal=Odder(desk.journal, [])) as runtime:
            await runtime.start(program, None, run_id="odd")
            await desk.clock.settle()
            ours = await runtime.start(program, None)

            assert await desk.settled(ours) == Finished(1)

    run(scenario())

    assert "run odd is not driven" in caplog.text


class Torn(FailpointJournal):
    """A store that breaks the engine when told: an error that is none of ours."""

    def __init__(self, inner: Journal) -> None:
        super().__init__(inner, [])
        self.torn = asyncio.Event()

    async def touched(self) -> frozenset[RunKey]:
        await self.torn.wait()
        raise ZeroDivisionError("the key is canary-41")


def test_who_waits_hears_that_the_engine_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody drives the run: waiting for its result would be waiting for ever."""

    async def scenario() -> None:
        desk = Desk(secrets=["canary-41"])
        journal = Torn(desk.journal)

        async def waiting(ctx: Any) -> Any:
            return await ctx.wait_signal("go")

        async with desk.open(journal=journal) as runtime:
            handle = await runtime.start(flow(waiting), None, run_id="r")
            await desk.settled(handle)
            result = asyncio.ensure_future(handle.result())
            journal.torn.set()

            with pytest.raises(GatebookError) as waited:
                await desk.clock.until(result)
            with pytest.raises(GatebookError) as refused:
                await runtime.start(flow(waiting), None, run_id="r2")
            told(waited.value, "E_RUNTIME_STOPPED", "drives nothing", "ZeroDivisionError")
            assert refused.value.code == "E_RUNTIME_STOPPED"
            assert [row.run.id for row in await runtime.runs()] == ["r"]

    run(scenario())

    assert "ZeroDivisionError: the key is [redacted:registered]" in caplog.text
    assert "canary" not in caplog.text
