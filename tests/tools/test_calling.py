"""Calling a tool: stored bytes in, canonical bytes out, on the loop or on a thread of its own."""

import asyncio
import contextvars
import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from tests.tools.invocations import Given

from gatebook.errors import InvalidInput, Permanent
from gatebook.tools import ToolContext, tool

WAIT_S = 30  # far above what any machine needs; only a broken build gets there
user = contextvars.ContextVar("user", default="nobody")


def invocation(**changes: Any) -> Given:
    given: dict[str, Any] = {
        "deps": "bank",
        "context": lambda: {"user": "u7"},
        "attempt": 2,
        "deadline": 100.0,
    }
    return Given(**(given | changes))


def call(made: Any, args: bytes = b"{}", **changes: Any) -> bytes:
    output: bytes = asyncio.run(made.call(args, invocation(**changes)))
    return output


async def until(fact: Callable[[], bool]) -> None:
    """Let the loop and the other threads go on until the fact holds."""
    async with asyncio.timeout(WAIT_S):
        while not fact():  # noqa: ASYNC110 - the fact is another thread's
            await asyncio.sleep(0.001)


def test_an_async_tool_is_awaited_with_decoded_arguments() -> None:
    """The function works with its own types, not with JSON."""

    @tool
    async def double(amount: Decimal) -> Decimal:
        return amount * 2

    assert call(double, b'{"amount":"1.5"}') == b'"3.0"'


def test_a_sync_tool_runs_on_another_thread() -> None:
    """A blocking tool must not stop the loop."""

    @tool
    def where() -> int:
        return threading.get_ident()

    assert call(where) != str(threading.get_ident()).encode()


def test_a_sync_tool_runs_on_a_daemon_thread() -> None:
    """A hung tool must not keep the interpreter from ending."""

    @tool
    def daemon() -> bool:
        return threading.current_thread().daemon

    assert call(daemon) == b"true"


def test_context_variables_reach_the_thread() -> None:
    """Tracing and logging context follow the call."""

    @tool
    def who() -> str:
        return user.get()

    async def scenario() -> bytes:
        user.set("u7")
        return await who.call(b"{}", invocation())

    assert asyncio.run(scenario()) == b'"u7"'


def test_the_context_carries_the_attempt() -> None:
    """Deps, key, attempt, deadline and the journaled context."""

    @tool
    async def show(ctx: ToolContext[str]) -> list[Any]:
        return [ctx.deps, dict(ctx.context), ctx.idempotency_key, ctx.attempt, ctx.deadline]

    assert call(show) == b'["bank",{"user":"u7"},"gb1-key",2,100.0]'


def test_progress_reaches_the_runtime() -> None:
    """Readers of a run see how far a long tool is."""
    heard: list[object] = []

    @tool
    def work(ctx: ToolContext[None]) -> None:
        ctx.progress(done=1, total=3, detail="page 1")

    call(work, progress=lambda *report: heard.append(report))

    assert heard == [(1, 3, "page 1")]


@pytest.mark.parametrize(
    "error",
    [Permanent("no"), ValueError("x"), SystemExit(3), KeyboardInterrupt()],
)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_a_tool_raises_reaches_the_caller(error: BaseException, kind: str) -> None:
    """The executor decides what an exception means; a thread must not swallow SystemExit."""

    @tool
    def plainly() -> None:
        raise error

    @tool
    async def slowly() -> None:
        raise error

    async def scenario() -> BaseException | None:
        try:
            await (plainly if kind == "sync" else slowly).call(b"{}", invocation())
        except BaseException as exc:  # noqa: BLE001 - the fact under test
            return exc
        return None

    assert asyncio.run(scenario()) is error


def test_a_stop_iteration_from_a_thread_is_an_error_and_not_a_hang() -> None:
    """Futures refuse StopIteration, and a caller waiting on one would never wake."""

    @tool
    def stop() -> None:
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        call(stop)


def test_a_sync_tool_whose_caller_is_cancelled_sees_it() -> None:
    """It cannot be stopped from outside, so it is asked to."""
    started, ended = threading.Event(), threading.Event()

    @tool
    def work(ctx: ToolContext[None]) -> None:
        started.set()
        while not ctx.cancelled:
            threading.Event().wait(0.001)
        ended.set()

    async def scenario() -> None:
        task = asyncio.create_task(work.call(b"{}", invocation()))
        await until(started.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())

    assert ended.wait(WAIT_S)


def test_the_late_result_of_an_abandoned_thread_is_dropped_quietly() -> None:
    """Nobody waits for it, and the loop must not complain of it."""
    started, release = threading.Event(), threading.Event()
    complaints: list[object] = []

    @tool
    def hang() -> None:
        started.set()
        release.wait(WAIT_S)

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
        task = asyncio.create_task(hang.call(b"{}", invocation()))
        await until(started.is_set)
        (thread,) = hang.running_threads()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()
        await until(lambda: not thread.is_alive())
        await asyncio.sleep(0)

    asyncio.run(scenario())

    assert complaints == []


def test_an_abandoned_thread_is_reported_until_it_ends() -> None:
    """Somebody must be able to say which tool still runs after its deadline."""
    started, release = threading.Event(), threading.Event()

    @tool
    def hang() -> None:
        started.set()
        release.wait(WAIT_S)

    async def scenario() -> list[str]:
        task = asyncio.create_task(hang.options(timeout=1).call(b"{}", invocation()))
        await until(started.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return [thread.name for thread in hang.running_threads()]

    names = asyncio.run(scenario())
    release.set()

    assert names == ["gatebook-tool-hang"]


def test_a_tool_is_cancelled_when_the_runtime_says_so() -> None:
    """Deadlines and cancel requests come from the executor."""

    @tool
    async def look(ctx: ToolContext[None]) -> bool:
        return ctx.cancelled

    assert call(look, cancelled=lambda: True) == b"true"


def test_a_hung_tool_does_not_keep_the_interpreter_alive() -> None:
    """The executor of the loop would be joined at exit, for ever."""
    code = (
        "import asyncio, threading, types\n"
        "from gatebook.tools import tool\n"
        "started = threading.Event()\n"
        "@tool\n"
        "def hang() -> None:\n"
        "    started.set()\n"
        "    threading.Event().wait()\n"
        "async def main():\n"
        "    inv = types.SimpleNamespace(secrets={})\n"
        "    task = asyncio.create_task(hang.call(b'{}', inv))\n"
        "    while not started.is_set():\n"
        "        await asyncio.sleep(0.001)\n"
        "    task.cancel()\n"
        "asyncio.run(main())\n"
        "print('over')\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=50, capture_output=True, text=True
    )

    assert (done.stdout, done.stderr) == ("over\n", "")


def test_a_thread_that_outlives_its_loop_ends_quietly() -> None:
    """Nobody waits for its result any more."""
    started, release = threading.Event(), threading.Event()

    @tool
    def hang() -> int:
        started.set()
        release.wait(WAIT_S)
        return 1

    async def scenario() -> None:
        task = asyncio.create_task(hang.call(b"{}", invocation()))
        await until(started.is_set)
        task.cancel()

    asyncio.run(scenario())
    (thread,) = hang.running_threads()
    release.set()
    thread.join(WAIT_S)

    assert not thread.is_alive()
    assert hang.running_threads() == ()


def test_concurrent_calls_of_one_sync_tool_overlap() -> None:
    """Reads of one turn run side by side."""
    barrier = threading.Barrier(3)

    @tool(effect="read")
    def meet() -> int:
        barrier.wait(WAIT_S)
        return 1

    async def scenario() -> list[bytes]:
        return await asyncio.gather(*(meet.call(b"{}", invocation()) for _ in range(3)))

    assert asyncio.run(scenario()) == [b"1", b"1", b"1"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_unusable_result_is_refused_after_the_call(kind: str) -> None:
    """The executor must learn that the tool ran."""
    ran: list[str] = []

    @tool
    def plainly() -> Any:
        ran.append("sync")
        return object()

    @tool
    async def slowly() -> Any:
        ran.append("async")
        return object()

    with pytest.raises(InvalidInput) as caught:
        call(plainly if kind == "sync" else slowly)

    assert (caught.value.code, ran) == ("E_RESULT_TYPE", [kind])


def test_a_result_is_whole_whatever_a_model_reads_of_it() -> None:
    """`max_output` cuts what a conversation shows; workflows and the journal get all."""

    @tool
    def write() -> str:
        return "x" * 100

    assert len(call(write.options(max_output=50))) == 102


def test_a_result_above_eight_mebibytes_is_refused() -> None:
    """The journal keeps every result whole, so it needs a bound that nobody can raise."""

    @tool
    def write() -> str:
        return "x" * (8 * 1024 * 1024)

    with pytest.raises(InvalidInput) as caught:
        call(write)

    assert caught.value.code == "E_RESULT_TOO_LARGE"


def test_stored_arguments_that_no_longer_fit_are_refused_before_the_call() -> None:
    """A function whose parameters changed must not run on half of them."""
    ran: list[int] = []

    @tool
    def work(count: int, unit: str) -> None:
        ran.append(count)

    with pytest.raises(InvalidInput) as caught:
        call(work, b'{"count":1}')

    assert (caught.value.code, ran) == ("E_ARGS_SCHEMA", [])


def test_a_failed_call_leaves_no_garbage_cycle_behind() -> None:
    """Tracebacks hold frames, frames hold arguments: large ones must go at once."""

    class Large:
        pass

    alive: list[int] = []

    @tool
    def work() -> None:
        import weakref

        large = Large()
        weakref.finalize(large, alive.remove, 1)
        alive.append(1)
        raise ValueError("no")

    async def scenario() -> None:
        with pytest.raises(ValueError, match="no"):
            await work.call(b"{}", invocation())

    gc.disable()
    try:
        asyncio.run(scenario())
        left = list(alive)
    finally:
        gc.enable()

    assert left == []
