"""run_sync: one run, start to end, from code that has no event loop, or has one already."""

import asyncio
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.kit import flow

from gatebook import AllowDeclared, run_sync, tool
from gatebook.errors import ConfigError, Permanent, RunFailed, RunWaiting
from gatebook.journals import MemoryJournal
from gatebook.runtime.runs.states import RunResult
from gatebook.runtime.sync import on_loop_thread


@tool(effect="read")
async def look(n: int) -> int:
    return n + 1


async def looking(ctx: Any, n: int) -> int:
    return int(await ctx.call_tool(look, n=n))


async def waiting(ctx: Any) -> None:
    await ctx.wait_signal("go")


async def failing(ctx: Any) -> None:
    raise Permanent("no such order")


def test_a_script_gets_its_result() -> None:
    """Three lines, no event loop."""
    result = run_sync(flow(looking, look), 1, store=":memory:", policy=AllowDeclared())

    assert isinstance(result, RunResult)
    assert result.output == 2


def test_a_notebook_with_a_running_loop_gets_its_result() -> None:
    """The run has a loop of its own, on a thread of its own."""

    async def cell() -> int:
        program = flow(looking, look)
        return int(run_sync(program, 1, store=":memory:", policy=AllowDeclared()).output)

    assert asyncio.run(cell()) == 2


def test_a_run_that_waits_is_left_in_the_store(tmp_path: Path) -> None:
    """The caller hears what it waits for; a worker takes it up when that has come."""
    store = str(tmp_path / "runs.db")

    with pytest.raises(RunWaiting) as caught:
        run_sync(flow(waiting), store=store, policy=AllowDeclared(), run_id="r")

    assert caught.value.fields["on"] == ("signal go",)
    assert "gatebook show r" in str(caught.value)


def test_a_failed_run_raises() -> None:
    """There is no result to return."""
    with pytest.raises(RunFailed, match="no such order"):
        run_sync(flow(failing), None, store=":memory:", policy=AllowDeclared())


def test_what_cannot_start_raises_before_anything_is_stored() -> None:
    """A missing policy is the caller's to mend."""
    with pytest.raises(ConfigError) as caught:
        run_sync(flow(looking, look), 1, store=":memory:")

    assert caught.value.code == "E_POLICY_MISSING"


def test_the_same_id_gives_the_same_run() -> None:
    """A script that is run again does not work again."""
    journal = MemoryJournal()
    program = flow(looking, look)

    first = run_sync(program, 1, store=journal, policy=AllowDeclared(), run_id="r")
    again = run_sync(program, 1, store=journal, policy=AllowDeclared(), run_id="r")

    assert first == again


def test_no_thread_is_left() -> None:
    """A script must be able to end."""
    before = set(threading.enumerate())

    run_sync(flow(looking, look), 1, store=":memory:", policy=AllowDeclared())

    assert set(threading.enumerate()) == before


def test_what_the_run_raises_reaches_the_caller() -> None:
    """Also what is no Exception."""

    async def main() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit, match="3"):
        on_loop_thread(main())


def test_ctrl_c_waits_for_what_is_in_flight() -> None:
    """A payment whose outcome is on its way must not become unknown by leaving at once."""
    done: list[str] = []

    async def main() -> None:
        try:
            await asyncio.sleep(0.05)  # the caller waits by then
            main_thread = threading.main_thread().ident
            assert main_thread is not None
            signal.pthread_kill(main_thread, signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            done.append("recorded")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            on_loop_thread(main())
    finally:
        signal.signal(signal.SIGINT, before)

    assert done == ["recorded"]
