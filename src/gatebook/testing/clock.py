"""A clock that moves only when told: tests of waits, back-offs and leases take no time.

Satisfies the clock of a runtime and the clock of a journal, so that both agree.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")

EPOCH_US = 1_700_000_000_000_000  # where virtual time begins: 14 November 2023, 22:13:20 UTC
SETTLE_ROUNDS = 25  # turns of the loop after which every task is taken to be waiting


class VirtualClock:
    """Time as a number. `advance` moves it; `until` moves it whenever everything waits.

    Attributes:
        slept: every positive duration that was asked for, in seconds, in order.
    """

    def __init__(self, now: int = EPOCH_US) -> None:
        self._now = now
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []
        self.slept: list[float] = []

    def now(self) -> int:
        """Return the wall clock in microseconds UTC."""
        return self._now

    def monotonic(self) -> float:
        """Return seconds since virtual time began."""
        return (self._now - EPOCH_US) / 1e6

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was moved that far."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        self.slept.append(seconds)
        due = self._now + round(seconds * 1e6)
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        sleeper = (due, woken)
        self._sleepers.append(sleeper)
        try:
            await woken
        finally:
            self._sleepers.remove(sleeper)

    def advance(self, seconds: float) -> None:
        """Move the clock at once and wake everybody whose time has come, earliest first."""
        self._now += round(seconds * 1e6)
        for due, woken in sorted(self._sleepers, key=lambda sleeper: sleeper[0]):
            if due <= self._now and not woken.done():
                woken.set_result(None)

    @property
    def next_due(self) -> float | None:
        """Seconds until the first sleeper wakes; None when nobody sleeps."""
        pending = [due for due, woken in self._sleepers if not woken.done()]
        return max(0.0, (min(pending) - self._now) / 1e6) if pending else None

    async def settle(self) -> None:
        """Let every task run until it waits."""
        for _ in range(SETTLE_ROUNDS):
            await asyncio.sleep(0)

    async def until(self, wanted: Awaitable[T]) -> T:
        """Return what `wanted` gives, moving on to the next sleeper whenever everything waits.

        For scenarios on one loop only: work on threads takes no virtual time.
        """
        task = asyncio.ensure_future(wanted)
        try:
            while not task.done():
                await self.settle()
                if not task.done() and (step := self.next_due) is not None:
                    self.advance(step)
            return await task
        finally:
            task.cancel()
