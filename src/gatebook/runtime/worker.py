"""The worker: the half of a runtime that drives.

An engine says which runs to look at; the worker claims each that is its own and gives it a driver,
which advances it until it is over or blocked.
"""

import asyncio
import logging
from collections.abc import Coroutine, Set
from functools import partial
from typing import Any

from gatebook.engines.local import LocalEngine
from gatebook.errors import GatebookError
from gatebook.ports import Lease, Parked, Program, RunKey
from gatebook.runtime.driving.driver import Driver
from gatebook.runtime.logs import told, traced
from gatebook.runtime.models.routes import Providers
from gatebook.runtime.performing.executor import Executor
from gatebook.runtime.services import Services

DRAIN_S = 10.0  # how long stopping waits for attempts in flight

_log = logging.getLogger(__name__)


class Worker:
    """Drives runs of the programs in `services`, from the moment it is made until it stops.

    Args:
        services: what its drivers share.
        tenant: whose runs it drives.
        providers: a program is driven here only if its models can be asked of these.
        only: drive these runs and no other; None drives every run of the programs.
    """

    def __init__(
        self, services: Services, *, tenant: str, providers: Providers, only: Set[RunKey] | None
    ) -> None:
        self._services = services
        self._providers = providers
        self._only = only
        self._driving: set[RunKey] = set()
        self._drivers: dict[RunKey, Driver] = {}
        self._idle = asyncio.Event()
        self._stopping = False
        self._left: set[str] = set()  # programs whose models cannot be asked here
        self._ended_by = ""  # the error that ended the engine
        self._engine = LocalEngine(
            services.journal,
            tenant=tenant,
            programs=self._drivable,
            clock=services.clock,
            told=partial(told, redactor=services.redactor),
        )
        self._serving = asyncio.create_task(self._engine.serve(self.drive), name="gatebook-engine")
        self._serving.add_done_callback(self._served)

    async def serve(self) -> None:
        """Wait until the worker stops, or what ended it is raised."""
        await asyncio.shield(self._serving)

    async def stop(self) -> None:
        """Let attempts in flight end, `DRAIN_S` at most; give the runs back."""
        self._stopping = True
        for driver in list(self._drivers.values()):
            driver.stop()
        if self._drivers:
            self._idle.clear()
            await _either(self._idle.wait(), self._services.clock.sleep(DRAIN_S))
        self._serving.cancel()
        await asyncio.wait({self._serving})

    async def drive(self, run: RunKey) -> Parked:
        """Advance one run until it is over or blocked; see `Runtime.drive`."""
        if run in self._driving:
            driver = self._drivers.get(run)
            if driver is not None:
                driver.poke()
            return Parked("busy")
        if self._stopping:
            return Parked("busy")
        self._driving.add(run)
        try:
            return await self._drive_claimed(run)
        finally:
            self._driving.discard(run)
            if not self._driving:
                self._idle.set()

    async def _drive_claimed(self, run: RunKey) -> Parked:
        parked, leases = Parked("busy"), self._services.leases
        again = True
        while again and not self._stopping and await self._mine(run):
            lease = await leases.claim(run)
            if lease is None:
                return parked
            driver = self._drivers[run] = self._driver(lease)
            try:
                parked = await driver.drive()
            finally:
                del self._drivers[run]
                leases.forget(lease)
            again = driver.touched and parked.state == "waiting"
        return parked

    def _driver(self, lease: Lease) -> Driver:
        """Return who drives a run; one that was claimed while this stops, gives it back."""
        driver = Driver(lease, self._services)
        if self._stopping:
            driver.stop()
        return driver

    async def _mine(self, run: RunKey) -> bool:
        """Whether this worker may drive a run: it is not over and its program is known here.

        Raises ConfigError where the program's models cannot be asked: before a run is claimed, or
        that would be its end.
        """
        if self._only is not None and run not in self._only:
            return False
        row = await self._services.journal.row(run)
        program = self._services.programs.get(row.program)
        if program is None or row.head.terminal:
            return False
        self._providers.check(program)
        return True

    def _drivable(self) -> list[str]:
        """Return the programs whose models can be asked here; the others wait for a worker."""
        return [name for name, each in self._services.programs.items() if self._can_ask(each)]

    def _can_ask(self, program: Program[Any, Any]) -> bool:
        try:
            self._providers.check(program)
        except GatebookError as exc:
            if program.name not in self._left:
                self._left.add(program.name)
                if self._only is None:  # else whoever names a run hears it there
                    _log.warning("program %s is left to other workers: %s", program.name, exc)
            return False
        return True

    def drives(self, run: RunKey) -> bool:
        """Whether a run has a driver here."""
        return run in self._drivers

    def claims(self, run: RunKey) -> bool:
        """Whether a run was taken up here, and its driver has not looked at it yet."""
        return run in self._driving and run not in self._drivers

    def wake(self, run: RunKey) -> None:
        """Drive a run now, or tell its driver that somebody appended to it."""
        Executor.forget_caller().run(self._engine.wake, run)

    def check(self) -> None:
        """Check that runs are still driven here.

        Raises:
            GatebookError: E_RUNTIME_STOPPED, the engine has ended by itself.
        """
        if self._ended_by:
            raise GatebookError("E_RUNTIME_STOPPED", detail=self._ended_by)

    def check_caller(self) -> None:
        """Refuse a tool that runs here and would start or drive runs. Raises E_REENTRANT."""
        self._services.executor.check_caller()

    def _served(self, serving: asyncio.Task[None]) -> None:
        """Keep what ended the engine; whoever waits for a run hears it from `check`."""
        error = None if serving.cancelled() else serving.exception()
        if error is None:
            return
        first = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error
        self._ended_by = type(first).__name__
        if not isinstance(error, KeyboardInterrupt | SystemExit):
            _log.error("the engine has ended\n%s", traced(error, self._services.redactor))


async def _either(*waits: Coroutine[Any, Any, Any]) -> None:
    """Wait until one of these is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
