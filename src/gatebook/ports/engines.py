"""What keeps runs moving, and time for everything above the kernel."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

import msgspec

from gatebook.ports.journal import RunKey


class Parked(msgspec.Struct, frozen=True):
    """What a run is blocked on after `drive`: over, waiting, or held by somebody else."""

    state: Literal["over", "waiting", "busy"]
    wake_at: int | None = None


Drive = Callable[[RunKey], Awaitable[Parked]]


class Engine(ABC):
    """Keeps runs moving: decides who calls `drive` and when. The journal stays the truth."""

    @abstractmethod
    async def serve(self, drive: Drive) -> None:
        """Call `drive` for due runs until cancelled."""

    @abstractmethod
    def wake(self, run: RunKey) -> None:
        """Look at this run now. Losing a wake-up is harmless: due runs are looked for anyway."""


class Clock(Protocol):
    """Time for everything above the kernel; tests pass a virtual one."""

    def now(self) -> int:
        """Wall clock, microseconds UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    async def sleep(self, seconds: float) -> None:
        """Wait; returns at once for zero or less."""
