"""The clock a journal reads: wall time to stamp with, monotonic time to watch a lease with."""

import time
from typing import Protocol


class StoreClock(Protocol):
    """What a journal asks of a clock; tests pass a virtual one."""

    def now(self) -> int:
        """Wall clock, microseconds UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> int:
        """Return the wall clock in microseconds UTC."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()
