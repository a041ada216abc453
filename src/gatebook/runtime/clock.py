"""Real time, as the runtime reads it."""

import asyncio
import time


class SystemClock:
    """This machine's clocks."""

    def now(self) -> int:
        """Return the wall clock in microseconds UTC."""
        return time.time_ns() // 1000

    monotonic = staticmethod(time.monotonic)  # seconds that never go back

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""
        await asyncio.sleep(max(0.0, seconds))
