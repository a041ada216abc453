"""Driving one run in this process until it is over or waits, and what Ctrl-C does to it.

The first signal pauses: nothing more starts, what is in flight may end. A second Ctrl-C while
that lasts cancels the run. A terminal that is closed (SIGHUP) is a signal like the others.
"""

import asyncio
import os
import signal
import stat
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from gatebook.cli.apps import App
from gatebook.cli.asking import Asker
from gatebook.cli.output import filter_logs, say
from gatebook.cli.store import whoami
from gatebook.cli.words import TIMED
from gatebook.errors import GatebookError
from gatebook.ports import Journal, Provider, RunKey
from gatebook.runtime.runs.handles import RunHandle
from gatebook.runtime.runs.states import Waiting
from gatebook.runtime.runtime import Runtime

ANY_TIME = (signal.SIGINT, signal.SIGTERM)
PATIENCE_US = 60_000_000  # a sleep or back-off that ends this soon is waited for here


def runtime_for(
    app: App, journal: Journal, *, policy: Any, only: set[RunKey] | None, adopt: bool = False
) -> Runtime:
    """Return a runtime over a store with an app's programs and what its own Runtime declares.

    Args:
        policy: the one in force, see `load_policy`.
        only: the runs it drives; None for every run of its programs.
        adopt: go on with changed definitions.

    Raises:
        ConfigError: E_CONFIG, see `_scripts`.
    """
    options = {} if app.runtime is None else dict(app.runtime.options)
    providers = dict(options.get("providers") or {})
    if "scripted" not in providers:
        options["providers"] = _scripts(app) | providers
    options |= {"policy": policy, "programs": list(app.programs.values())}
    if adopt:
        options["on_definition_change"] = "adopt"
    runtime = Runtime(journal, only=only, **options)
    filter_logs(runtime.log_filter())
    return runtime


def _scripts(app: App) -> dict[str, Provider]:
    """Return the scripted models of an app that is not here, by route: their files lie beside it.

    Raises:
        ConfigError: E_CONFIG, a file is not there or not a script.
    """
    found: dict[str, Provider] = {}
    for name, folder in app.folders.items():
        for route in app.programs[name].models:
            provider, _, path = route.partition(":")
            if provider == "scripted":
                from gatebook.providers import Scripted

                found[route] = Scripted.load(os.path.join(folder, path))
    return found


class Signals:
    """Counts SIGINT, SIGTERM and SIGHUP while a run is driven; under nohup not the last.

    Attributes:
        came: set at the first.
        code: 130, 143 or 129 for the first that came, 0 before.
    """

    def __init__(self, on_second: Callable[[], Awaitable[None]]) -> None:
        self.came = asyncio.Event()
        self.code = 0
        self._on_second = on_second
        self._tasks: list[asyncio.Future[None]] = []
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._numbers = ANY_TIME if ignored else (*ANY_TIME, signal.SIGHUP)

    def __enter__(self) -> "Signals":
        loop = asyncio.get_running_loop()
        for number in self._numbers:
            loop.add_signal_handler(number, self._take, number)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in self._numbers:
            loop.remove_signal_handler(number)

    def _take(self, number: int) -> None:
        if number == signal.SIGHUP:
            _leave_the_terminal()
        if not self.code:
            self.code = 128 + number
            self.came.set()
        elif number == signal.SIGINT and not self._tasks:
            self._tasks.append(asyncio.ensure_future(self._on_second()))


def _leave_the_terminal() -> None:
    """Write to nothing from here on if the terminal is gone: an error would end the pause."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # it has no descriptor
            if stat.S_ISCHR(os.fstat(stream.fileno()).st_mode) and not stream.isatty():
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


async def settle(run: RunHandle[Any], signals: Signals, asker: Asker) -> Any:
    """Wait until the run is over, waits for somebody, or a signal came (then None).

    A wait that time alone ends soon is sat out; what is asked may be answered here.
    """
    while True:
        settled = asyncio.ensure_future(run.settled())
        came = asyncio.ensure_future(signals.came.wait())
        try:
            await asyncio.wait({settled, came}, return_when=asyncio.FIRST_COMPLETED)
            if not settled.done():
                return None
            state = settled.result()
        finally:
            for task in (settled, came):
                task.cancel()
        if isinstance(state, Waiting) and await asker.heed(run.id, state, signals.came.wait):
            continue
        if not isinstance(state, Waiting) or not await _ends_soon(run, state):
            return state
        with suppress(TimeoutError):
            async with asyncio.timeout(0.25):
                await signals.came.wait()


async def _ends_soon(run: RunHandle[Any], state: Waiting) -> bool:
    """Whether only time stands between this run and its going on, and not much of it."""
    if state.parked_reason or state.wake_at is None:
        return False
    row = await run.row()
    if any(wait.split(" ")[0] not in TIMED for wait in state.on):
        return False
    return state.wake_at - max(row.updated, 0) <= PATIENCE_US


async def pause(runtime: Runtime) -> None:
    """Stop driving and say so while attempts in flight keep it from ending at once."""
    closing = asyncio.ensure_future(runtime.close())
    done, _ = await asyncio.wait({closing}, timeout=0.3)
    if not done:
        say("pausing: waiting for what is in flight; Ctrl-C again cancels the run")
    await closing


def cancelling(run: Callable[[], RunHandle[Any] | None]) -> Callable[[], Awaitable[None]]:
    """Return what the second Ctrl-C does: cancel the run that is being paused."""

    async def cancel() -> None:
        handle = run()
        if handle is not None:
            with suppress(GatebookError):
                told = await handle.cancel(reason="Ctrl-C", by=whoami())
                say(f"run {handle.id}: {told.replace('_', ' ')}")

    return cancel
