"""A call that nobody wants any more: no request, no connection, no task, and no further attempt."""

import asyncio
import gc
from typing import Any

import pytest

from gatebook.kernel.events import ActionFailed, AttemptFailed, RunCancelled
from gatebook.kernel.messages import TextDelta
from gatebook.runtime.client import Client
from gatebook.runtime.runs.states import Cancelled
from gatebook.testing.fault_server import (
    Chunk,
    Hold,
    Play,
    Stall,
    stream_head,
)
from tests.conformance.adapters import Adapter, every_adapter
from tests.conformance.cases import case
from tests.conformance.kit import (
    HELLO,
    Served,
    answering,
    driven,
    failing_with,
    run,
    served,
)
from tests.providers.calls import CALL, asking, attempt
from tests.runtime.kit import Desk, flow


def begun(adapter: Adapter) -> Play:
    """Return a play that streams the start and some text, then nothing more."""
    dialect = adapter.dialect
    parts = [*dialect.opening(HELLO), *dialect.output(HELLO)[:-1]]
    text = next(i for i, part in enumerate(parts) if b'"hel"' in part)
    return Play(*stream_head(), *(Chunk(part) for part in parts[: text + 1]), Stall())


async def first_text(it: Served, seen: asyncio.Event, kept: list[Any]) -> None:
    """Read a stream for ever; `seen` is set when its first text has come.

    `kept` holds on to it, so that it is closed because it was left, not because it was forgotten.
    """
    kept.append(it.provider.stream(asking(), CALL))
    async with kept[-1] as events:
        kept.append(events)
        async for event in events:
            if isinstance(event, TextDelta):
                seen.set()


async def cancelled_in_mid_stream(it: Served, kept: list[Any]) -> None:
    """Begin a stream and cancel its task once text has come."""
    seen = asyncio.Event()
    task = asyncio.create_task(first_text(it, seen, kept))
    await seen.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def asking_flow(ctx: Any) -> str:
    return str((await ctx.call_llm("it:m", "hi")).text)


@case(18)
@every_adapter
def test_a_run_cancelled_before_its_first_attempt_sends_nothing(adapter: Adapter) -> None:
    """Case 18: the cancel stands in the journal before any worker looks."""

    async def scenario() -> None:
        async with served(adapter, answering(adapter)) as it:
            desk = Desk()
            program = flow(asking_flow, models=["it:m"])
            await desk.journal.open()
            async with Client(desk.journal, policy=desk.policy, clock=desk.clock) as client:
                handle = await client.start(program, None, run_id="r")
                await handle.cancel()
                async with desk.runtime(program, providers={"it": it.provider}) as runtime:
                    state = await desk.clock.until(runtime.handle("r").settled())

            assert isinstance(state, Cancelled)
            assert (it.server.count, it.server.connections) == (0, 0)

    run(scenario())


@case(19)
@every_adapter
def test_a_cancel_ends_a_back_off_at_once(adapter: Adapter) -> None:
    """Case 19: the clock stands still, so that only the cancel can have ended the wait of 59 s."""

    async def scenario() -> None:
        play = failing_with(adapter, "rate_limited", retry_after="59")
        async with driven(adapter, play) as it:
            handle = await it.start()
            await it.back_off()
            before = it.clock.now()
            await handle.cancel()
            while not (await handle.row()).head.terminal:  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0)
            after = it.clock.now()
            it.clock.advance(120)
            await it.clock.settle()

            assert after == before
            assert [type(event) for event in await it.attempts()] == [AttemptFailed]
            assert it.server.count == 1

    run(scenario())


@case(20)
@every_adapter
def test_a_cancel_while_opening_closes_the_connection(adapter: Adapter) -> None:
    """Case 20: a server that has not answered yet must not go on for nobody."""

    async def scenario() -> None:
        async with driven(adapter, Play(Stall())) as it:
            handle = await it.start()
            await it.server.until(lambda server: server.count == 1)
            await handle.cancel()
            await it.server.until(lambda server: server.hangups == 1)
            state = await it.end(handle)

            assert isinstance(state, Cancelled)
            assert it.server.count == 1
            await it.server.until(lambda server: server.open_connections == 0)

    run(scenario())


@case(20)
@every_adapter
@pytest.mark.parametrize("ask", ["stream", "whole"])
def test_a_cancelled_task_that_opens_closes_the_connection(adapter: Adapter, ask: str) -> None:
    """Case 20, without a runtime: the adapter itself lets go."""

    async def scenario() -> None:
        async with served(adapter, Play(Stall())) as it:
            call = attempt(it.provider, asking()) if ask == "stream" else None
            task = asyncio.create_task(call or it.provider.complete(asking(), CALL))
            await it.server.until(lambda server: server.count == 1)
            task.cancel()

            with pytest.raises(asyncio.CancelledError):
                await task
            await it.server.until(lambda server: server.open_connections == 0)

    run(scenario())


@case(21)
@every_adapter
def test_a_cancel_in_mid_stream_reaches_the_server(adapter: Adapter) -> None:
    """Case 21: tokens that nobody reads are paid for all the same; what came is kept."""

    async def scenario() -> None:
        async with driven(adapter, begun(adapter)) as it:
            handle = await it.start()
            text = handle.text()
            assert await anext(text) == "hel"
            await handle.cancel()
            await it.server.until(lambda server: server.hangups == 1)
            state = await it.end(handle)
            await text.aclose()

            assert isinstance(state, Cancelled)
            assert it.server.count == 1
            assert (await it.desk.only("r", RunCancelled)).unknown == ()
            for failed in await it.desk.all("r", ActionFailed):
                assert (failed.error.category, failed.error.partial) == ("cancelled", "hel")

    run(scenario())


@case(22)
@every_adapter
@pytest.mark.parametrize("how", ["unread", "break", "exception", "double cancel", "forgotten"])
def test_a_reader_that_leaves_leaves_no_connection(adapter: Adapter, how: str) -> None:
    """Case 22: whichever way it leaves."""
    kept: list[Any] = []  # so that garbage collection closes nothing

    async def leave(it: Served, seen: asyncio.Event) -> None:
        kept.append(it.provider.stream(asking(), CALL))
        async with kept[-1] as events:
            kept.append(events)
            if how == "unread":
                seen.set()
                return
            async for event in events:
                if not isinstance(event, TextDelta):
                    continue
                seen.set()
                if how == "exception":
                    raise KeyError("the reader's own")
                if how == "break":
                    break

    async def forget(it: Served) -> None:
        events = await it.provider.stream(asking(), CALL).__aenter__()
        async for event in events:
            if isinstance(event, TextDelta):
                return

    async def scenario() -> None:
        async with served(adapter, begun(adapter)) as it:
            seen = asyncio.Event()
            if how == "forgotten":
                await forget(it)
                gc.collect()
            else:
                task = asyncio.create_task(leave(it, seen))
                await seen.wait()
                if how == "double cancel":
                    task.cancel()
                    await asyncio.sleep(0)
                    task.cancel()
                (end,) = await asyncio.gather(task, return_exceptions=True)
                expected = {"unread": type(None), "break": type(None), "exception": KeyError}
                assert type(end) is expected.get(how, asyncio.CancelledError)

            await it.server.until(lambda server: server.open_connections == 0)
            assert it.server.hangups == 1

    run(scenario())


@case(22)
@every_adapter
def test_fifty_cancelled_streams_leave_a_pool_of_two_healthy(adapter: Adapter) -> None:
    """Case 22: no socket, no task, and both connections of the pool still to be had."""
    gate = asyncio.Event()
    cut_short = begun(adapter)

    async def scenario() -> None:
        def last(received: Any) -> Play:
            return Play(Hold(gate), *answering(adapter)(received).steps)

        plays = [cut_short] * 50 + [last]
        async with served(adapter, *plays, max_connections=2) as it:
            before = asyncio.all_tasks()
            kept: list[Any] = []
            for _ in range(25):
                both = (cancelled_in_mid_stream(it, kept), cancelled_in_mid_stream(it, kept))
                await asyncio.gather(*both)
            await it.server.until(lambda server: server.open_connections == 0)
            left = {task for task in asyncio.all_tasks() - before if "_accepted" not in repr(task)}
            two = [asyncio.create_task(attempt(it.provider, asking())) for _ in range(2)]
            await it.server.until(lambda server: server.count == 52)
            gate.set()
            answers = [(await task)[0].text for task in two]

            assert left == set()
            assert it.server.hangups == 50
            assert answers == ["hello", "hello"]
            await it.provider.aclose()
            await it.server.until(lambda server: server.open_connections == 0)

    run(scenario())


@case(22)
@every_adapter
def test_a_whole_answer_that_is_cancelled_leaves_the_pool_healthy(adapter: Adapter) -> None:
    """Case 22, for calls that are not streamed."""
    stalled = Play(Stall())

    async def scenario() -> None:
        plays = [stalled] * 6 + [answering(adapter)]
        async with served(adapter, *plays, max_connections=2) as it:
            for n in range(6):
                task = asyncio.create_task(it.provider.complete(asking(), CALL))
                await it.server.until(lambda server, n=n: server.count == n + 1)  # type: ignore[misc]
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

            assert (await it.provider.complete(asking(), CALL)).text == "hello"

    run(scenario())


@case(22)
@every_adapter
def test_a_refused_stream_leaves_the_pool_healthy(adapter: Adapter) -> None:
    """Case 22: an error status whose body nobody reads holds its connection too."""

    async def scenario() -> None:
        plays = [failing_with(adapter, "overloaded")] * 6 + [answering(adapter)]
        async with served(adapter, *plays, max_connections=2) as it:
            for _ in range(6):
                with pytest.raises(Exception, match="told to fail"):
                    await attempt(it.provider, asking())

            assert (await attempt(it.provider, asking()))[0].text == "hello"
            assert it.server.connections <= 6

    run(scenario())
