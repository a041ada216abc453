"""Circuit breakers: a route that fails again and again is left alone for a while.

One breaker per route, on the runtime's monotonic clock. It knows failures and time; what counts
as a failure is said by `tells`, and what a refused caller does is not its business.
"""

from collections import deque
from enum import Enum
from typing import Literal

import msgspec

from gatebook.errors import ActionError, ConfigError, ProviderError

FAILURES = 10  # more than one action's retries can reach within the window at the usual waits
WINDOW_S = 60.0
OPEN_S = 30.0  # the cap of a retry's wait: who is refused may wait until it opens

Word = Literal["failed", "alive", "nothing"]


class BreakerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """When a route is left alone, and how long.

    Attributes:
        failures: so many transient failures in a row open the breaker ...
        window_s: ... when they lie within this many seconds.
        open_s: how long nothing is sent then, before one call may try.
    """

    failures: int = FAILURES
    window_s: float = WINDOW_S
    open_s: float = OPEN_S

    def __post_init__(self) -> None:
        if self.failures < 1 or not self.window_s > 0 or not self.open_s > 0:
            fix = "give whole failures from 1, and seconds above zero; breaker=None switches it off"
            raise ConfigError(
                "E_CONFIG", name="breaker", path="breaker=", detail="it never opens", fix=fix
            )


class State(Enum):
    """Where a breaker stands."""

    CLOSED = "closed"  # calls go through
    OPEN = "open"  # none does
    TRYING = "trying"  # one does, and decides


def tells(error: ActionError | None) -> Word:
    """Return what the end of a call tells of its route.

    Any answer that is the route's own, a refusal too, shows that it is alive. What was cancelled,
    or never came to a call, tells nothing.
    """
    if error is None:
        return "alive"
    if not isinstance(error, ProviderError) or error.category == "cancelled":
        return "nothing"
    return "failed" if error.kind == "transient" else "alive"


class Breaker:
    """The breaker of one route."""

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._failed: deque[float] = deque(maxlen=settings.failures)
        self._until = 0.0  # when open: the end of it; when trying: when the try is forgotten
        self.state = State.CLOSED

    def refuses(self, now: float) -> float | None:
        """Return after how many seconds to come back, 0 when nobody knows; None: go on."""
        if self.state is State.CLOSED or now >= self._until:
            return None
        return self._until - now if self.state is State.OPEN else 0.0

    def enter(self, now: float) -> bool:
        """Let a call through that is not refused; tell whether it is the one that tries."""
        if self.state is State.CLOSED:
            return False
        self.state, self._until = State.TRYING, now + self._settings.open_s
        return True

    def leave(self, now: float, word: Word, *, tried: bool) -> None:
        """Note how a call ended that was let through.

        While the breaker is open or trying only the call that tries decides: the others were
        sent before it opened.
        """
        if self.state is State.CLOSED:
            self._count(now, word)
        elif not tried:
            return
        elif word == "failed":
            self._open(now)
        elif word == "alive":
            self.state = State.CLOSED
            self._failed.clear()
        else:
            self.state, self._until = State.OPEN, now  # the next call may try

    def _count(self, now: float, word: Word) -> None:
        if word == "alive":
            self._failed.clear()
        elif word == "failed":
            self._failed.append(now)
            full = len(self._failed) == self._settings.failures
            if full and now - self._failed[0] <= self._settings.window_s:
                self._open(now)

    def _open(self, now: float) -> None:
        self.state, self._until = State.OPEN, now + self._settings.open_s
        self._failed.clear()


class Breakers:
    """The breakers of one runtime, made when a route is first called."""

    def __init__(self, settings: BreakerSettings | None) -> None:
        self._settings = settings
        self._of: dict[str, Breaker] = {}

    def of(self, route: str) -> Breaker | None:
        """Return the route's breaker, None when there are none."""
        if self._settings is None:
            return None
        if route not in self._of:
            self._of[route] = Breaker(self._settings)
        return self._of[route]


def open_error(route: str, wait_s: float) -> ProviderError:
    """Return the error of a call that was not sent because its route's breaker is open."""
    when = f"one call may try in {wait_s:.3g} s" if wait_s else "one call is trying it"
    return ProviderError(
        f"{route} failed too often in a row and is left alone; {when}",
        kind="transient",
        category="overloaded",
        phase="pool",
        retry_after_ms=max(1, -int(-wait_s * 1000 // 1)) if wait_s else None,
    )
