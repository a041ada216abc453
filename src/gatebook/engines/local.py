"""The local engine: drives the due runs of one store from this process.

Woken by appends, by timers of parked runs and, as the fallback for every lost wake-up, by looking
for due runs at least every second.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from gatebook.errors import GatebookError, StoreError
from gatebook.ports import Clock, Drive, Engine, Journal, RunKey

POLL_S = 1.0  # how late a lost wake-up can be
CONCURRENCY = 256  # runs driven at once by one worker

_log = logging.getLogger(__name__)


class LocalEngine(Engine):
    """Calls `drive` for due runs of the given programs, many at once, one at a time per run.

    Args:
        told: what a log may say of an error, secrets left out.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        tenant: str,
        programs: Callable[[], Sequence[str]],
        clock: Clock,
        told: Callable[[BaseException], str] = str,
        concurrency: int = CONCURRENCY,
    ) -> None:
        self._journal = journal
        self._tenant = tenant
        self._programs = programs
        self._clock = clock
        self._told = told
        self._slots = asyncio.Semaphore(concurrency)
        self._drive: Drive | None = None
        self._group: asyncio.TaskGroup | None = None
        self._active: dict[RunKey, bool] = {}  # whether each has a slot, or waits for one
        self._timers: dict[RunKey, asyncio.Task[None]] = {}

    async def serve(self, drive: Drive) -> None:
        """Drive runs until cancelled; runs in flight are the caller's to stop first."""
        self._drive = drive
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._listen(), name="gatebook-listen")
            group.create_task(self._look(), name="gatebook-look")
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self._group = None  # a group that is being cancelled takes no more tasks

    def wake(self, run: RunKey) -> None:
        """Drive a run now, or tell the driver it has that there is news."""
        if self._group is not None:
            self._cancel_timer(run)
            self._group.create_task(self._run(run), name=f"gatebook-drive {run.id}")

    async def _run(self, run: RunKey) -> None:
        assert self._drive is not None
        try:
            has_slot = self._active.get(run)
            if has_slot is not None:
                if has_slot:
                    await self._drive(run)  # tells the driver that has it; takes no slot
                return  # one that waits for a slot reads the news when it is driven
            self._active[run] = False
            try:
                async with self._slots:
                    self._active[run] = True
                    parked = await self._drive(run)
            finally:
                del self._active[run]
        except GatebookError as exc:
            _log.warning("run %s is not driven: %s", run.id, self._told(exc), extra={"run": run.id})
            if isinstance(exc, StoreError):
                # A claim whose answer was lost is ours until it lapses, so no one finds it due.
                self._drive_at(run, self._journal.now() + round(POLL_S * 1e6))
            return
        except (KeyboardInterrupt, SystemExit):
            self._group = None  # the process ends, and with it the other runs
            raise
        except BaseException as exc:  # one run's bug must not end the others
            if isinstance(exc, asyncio.CancelledError) and self._group is None:
                raise
            _log.error("run %s is not driven: %s", run.id, self._told(exc), extra={"run": run.id})
            return
        if parked.state == "waiting" and parked.wake_at is not None:
            self._drive_at(run, parked.wake_at)

    def _drive_at(self, run: RunKey, at: int) -> None:
        if self._group is None:
            return
        delay_s = (at - self._journal.now()) / 1e6
        self._cancel_timer(run)
        self._timers[run] = self._group.create_task(self._later(run, delay_s))

    def _cancel_timer(self, run: RunKey) -> None:
        timer = self._timers.pop(run, None)
        if timer is not None:
            timer.cancel()

    async def _later(self, run: RunKey, delay_s: float) -> None:
        await self._clock.sleep(delay_s)
        self._timers.pop(run, None)
        self.wake(run)

    async def _listen(self) -> None:
        while True:
            try:
                for run in await self._journal.touched():
                    if run.tenant == self._tenant:
                        self.wake(run)
            except GatebookError as exc:
                _log.warning("the store does not tell what changed: %s", exc)
                await self._clock.sleep(POLL_S)

    async def _look(self) -> None:
        while True:
            try:
                names = list(self._programs())
                for run in await self._journal.due(self._tenant, programs=names):
                    self.wake(run)
            except GatebookError as exc:
                _log.warning("the store does not tell what is due: %s", exc)
            await self._clock.sleep(POLL_S)
