"""The heartbeat: a thread that keeps this worker's leases, and stops when the worker has hung.

It renews from a thread of its own, so that a tool that blocks the event loop does not cost the
run; but a loop that is silent beyond every deadline under way is taken for dead.
"""

import asyncio
import contextlib
import logging
import math
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from gatebook.errors import ConfigError, GatebookError
from gatebook.ports import Clock, Journal, Lease, RunKey

TTL_S = 30.0  # docs/design.md, "Leases"
MIN_TTL_S = 0.1  # within half of it an effect must have started, on a busy machine too
MAX_TTL_S = 86_400.0
BEATS_PER_TTL = 6
LOOP_BEAT_S = 1.0

_log = logging.getLogger(__name__)


def _nothing_runs() -> float:
    return -math.inf


def checked_ttl(ttl_s: Any) -> float:
    """Return how long leases may last.

    Raises:
        ConfigError: E_CONFIG.
    """
    if type(ttl_s) in (int, float) and MIN_TTL_S <= ttl_s <= MAX_TTL_S:
        return float(ttl_s)
    detail = f"it is no number of seconds from {MIN_TTL_S} up to a day"
    raise ConfigError(
        "E_CONFIG", name="lease_ttl_s", path="Runtime()", detail=detail, fix="write lease_ttl_s=30"
    )


class Held(msgspec.Struct, eq=False):
    """A lease as its keeper knows it.

    Attributes:
        fresh_until: the time of `monotonic` from which no effect may start under it; the keeper's.
        left_s: how long what runs under it may still block the event loop, seconds, negative
            when its time is up; set by who starts it, called from the keeper's thread.
    """

    lease: Lease
    monotonic: Callable[[], float]
    fresh_until: float = -math.inf
    left_s: Callable[[], float] = _nothing_runs

    def fresh(self) -> bool:
        """Whether it was renewed within half its life; no effect may start under another."""
        return self.monotonic() < self.fresh_until


class LeaseKeeper:
    """Holds the leases of one worker.

    Args:
        owner: this worker's random id.
        ttl_s: how long a lease lasts unless renewed; renewed six times in that time.
    """

    def __init__(self, journal: Journal, owner: str, *, clock: Clock, ttl_s: float = TTL_S) -> None:
        self.owner = owner
        self.ttl_ms = round(ttl_s * 1000)
        self._journal = journal
        self._monotonic = clock.monotonic
        self._ttl_s = ttl_s
        self._fresh_s = ttl_s / 2
        self._held: dict[RunKey, Held] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._stopped = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._alive_at = self._hooks_until = -math.inf

    def start(self) -> None:
        """Begin beating; call from the worker's event loop."""
        self._mark_alive()
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._run, args=(loop,), name="gatebook-leases", daemon=True
        )
        self._thread.start()

    async def close(self) -> None:
        """Stop beating."""
        self._stop.set()
        if self._beat is not None:
            self._beat.cancel()
        if self._thread is not None:
            await self._stopped.wait()
            self._thread.join()

    def _mark_alive(self) -> None:
        self._alive_at = self._monotonic()
        self._beat = asyncio.get_running_loop().call_later(LOOP_BEAT_S, self._mark_alive)

    def expect_silence(self, seconds: float) -> None:
        """Allow the loop to be silent for so long: a hook may block it until its time is up."""
        self._hooks_until = max(self._hooks_until, self._monotonic() + seconds)

    def _hangs(self) -> bool:
        """Whether the loop has been silent for a TTL beyond every deadline under way."""
        if self._monotonic() <= max(self._alive_at, self._hooks_until) + self._ttl_s:
            return False
        with self._lock:
            left_s = max((held.left_s() for held in self._held.values()), default=-math.inf)
        return left_s < -self._ttl_s

    async def claim(self, run: RunKey) -> Lease | None:
        """Claim a run, or return None when somebody else drives it."""
        asked_at = self._monotonic()
        lease = await self._journal.claim(run, owner=self.owner, ttl_ms=self.ttl_ms)
        if lease is not None:
            held = Held(lease, self._monotonic, asked_at + self._fresh_s)
            with self._lock:
                self._drop(run)
                self._held[run] = held
        return lease

    def forget(self, lease: Lease) -> None:
        """Stop renewing a lease that was given back or lost."""
        with self._lock:
            self._drop(lease.run)

    def _drop(self, run: RunKey) -> None:
        held = self._held.pop(run, None)
        if held is not None:
            held.fresh_until = -math.inf

    def held(self, lease: Lease) -> Held:
        """Return what is known of a lease, now and later; one not held is never fresh."""
        held = self._held.get(lease.run)
        if held is None or held.lease != lease:
            return Held(lease, self._monotonic)
        return held

    async def renew_now(self, lease: Lease) -> bool:
        """Renew one lease at once; False when it is lost."""
        asked_at = self._monotonic()
        lost = await self._journal.renew(self.owner, [lease], ttl_ms=self.ttl_ms)
        return not self._note(lost, [lease], asked_at)

    def _note(self, lost: list[Lease], asked: list[Lease], asked_at: float) -> list[Lease]:
        with self._lock:
            for lease in asked:
                held = self._held.get(lease.run)
                if held is None or held.lease != lease:
                    continue
                if lease in lost:
                    self._drop(lease.run)
                else:
                    held.fresh_until = asked_at + self._fresh_s
        return lost

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            asyncio.run(self._beat_for_ever(), debug=False)  # it blocks, on a thread of its own
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._stopped.set)

    async def _beat_for_ever(self) -> None:
        pause_s = self._ttl_s / BEATS_PER_TTL
        while not self._stop.wait(pause_s):
            if self._hangs():
                continue  # let the leases lapse so that others can go on
            with self._lock:
                leases = [held.lease for held in self._held.values()]
            if not leases:
                continue
            asked_at = self._monotonic()
            try:
                lost = await self._journal.renew(self.owner, leases, ttl_ms=self.ttl_ms)
            except GatebookError as exc:
                _log.warning("leases not renewed: %s", exc)
                continue
            for lease in self._note(lost, leases, asked_at):
                _log.warning("lease lost", extra={"run": lease.run.id})
