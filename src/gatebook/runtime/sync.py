"""The thin synchronous face: one run, start to end, on a loop thread of its own."""

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar, overload

from gatebook.errors import RunWaiting
from gatebook.kernel.budget import Budget
from gatebook.kernel.hooks.declared import Hook
from gatebook.kernel.policy import Policy
from gatebook.kernel.spending.prices import Price
from gatebook.ports import Journal, Program, Provider
from gatebook.runtime.performing.secrets import Source
from gatebook.runtime.policy_files import PolicyFiles
from gatebook.runtime.runs.states import Finished, RunResult, Waiting, stopped
from gatebook.runtime.runtime import Runtime

In = TypeVar("In")
Out = TypeVar("Out")
T = TypeVar("T")


@overload
def run_sync(
    program: Program[None, Out], value: None = ..., *, store: str | Journal | None = ...,
    policy: Policy | PolicyFiles | None = ..., providers: Mapping[str, Provider] | None = ...,
    prices: Mapping[str, Price | Mapping[str, Any]] | None = ..., hooks: Sequence[Hook[Any]] = ...,
    secrets: Mapping[str, Source] | Iterable[str] = ..., deps: Any = ..., run_id: str | None = ...,
    context: Mapping[str, Any] | None = ..., budget: Budget | None = ...,
) -> RunResult[Out]: ...  # fmt: skip
@overload
def run_sync(
    program: Program[In, Out], value: In, *, store: str | Journal | None = ...,
    policy: Policy | PolicyFiles | None = ..., providers: Mapping[str, Provider] | None = ...,
    prices: Mapping[str, Price | Mapping[str, Any]] | None = ..., hooks: Sequence[Hook[Any]] = ...,
    secrets: Mapping[str, Source] | Iterable[str] = ..., deps: Any = ..., run_id: str | None = ...,
    context: Mapping[str, Any] | None = ..., budget: Budget | None = ...,
) -> RunResult[Out]: ...  # fmt: skip
def run_sync(  # noqa: PLR0913 - keyword-only options of the public face
    program: Program[Any, Out],
    value: Any = None,
    *,
    store: str | Journal | None = None,
    policy: Policy | PolicyFiles | None = None,
    providers: Mapping[str, Provider] | None = None,
    prices: Mapping[str, Price | Mapping[str, Any]] | None = None,
    hooks: Sequence[Hook[Any]] = (),
    secrets: Mapping[str, Source] | Iterable[str] = (),
    deps: Any = None,
    run_id: str | None = None,
    context: Mapping[str, Any] | None = None,
    budget: Budget | None = None,
) -> RunResult[Out]:
    """Run a program to its end and return its result; works in scripts and notebooks.

    Raises:
        RunWaiting: the run is blocked; it stays in the store and goes on in any worker.
        RunFailed, RunDenied, RunCancelled: it ended without a result.
        InvalidInput, ConfigError: it was not started.
    """

    async def main() -> RunResult[Out]:
        runtime = Runtime(
            store, policy=policy, providers=providers, prices=prices, hooks=hooks,
            secrets=secrets, deps=deps,
        )  # fmt: skip
        async with runtime:
            run = await runtime.start(program, value, run_id=run_id, context=context, budget=budget)
            state = await run.settled()
            if isinstance(state, Waiting):
                raise _waiting(run.id, state)
            if not isinstance(state, Finished):
                raise stopped(run.id, state)
            row = await run.row()
            return RunResult(state.output, run.id, row.head.spent, row.head.seq)

    return on_loop_thread(main())


def _waiting(run_id: str, state: Waiting) -> RunWaiting:
    on = ", ".join(state.on)
    fix = f"see gatebook show {run_id}; any worker goes on with it once that has come"
    return RunWaiting("E_RUN_WAITING", run=run_id, detail=on, on=state.on, fix=fix)


def on_loop_thread(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a new thread with a loop of its own; Ctrl-C cancels it.

    And waits for its end: what is in flight may be a payment whose outcome is still to be recorded.
    An interrupted `Thread.join` takes the thread for ended (before Python 3.13).
    """
    outcome: dict[str, Any] = {}
    started, ended = threading.Event(), threading.Event()

    async def body() -> T:
        outcome["task"], outcome["loop"] = asyncio.current_task(), asyncio.get_running_loop()
        started.set()
        return await main

    def run() -> None:
        try:
            outcome["result"] = asyncio.run(body())
        except BaseException as exc:  # noqa: BLE001 - handed to the calling thread below
            outcome["error"] = exc
        finally:
            started.set()
            ended.set()

    thread = threading.Thread(target=run, name="gatebook-run-sync", daemon=True)
    thread.start()
    try:
        ended.wait()
    except KeyboardInterrupt:
        started.wait()
        with suppress(RuntimeError):  # the loop is closed: it has ended meanwhile
            outcome["loop"].call_soon_threadsafe(outcome["task"].cancel)
        ended.wait()
        raise
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    result: T = outcome["result"]
    return result
