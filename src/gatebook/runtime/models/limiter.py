"""Rate limits shared by all runs of a runtime: who calls a model waits its turn, first come first.

Counted as vendors count: a bucket of a minute's worth, refilled evenly. A call takes its turn's
requests and estimated tokens when it goes, and is put right when its usage is known. Arithmetic
on whole numbers, time from the runtime's clock.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from gatebook.errors import ConfigError, ProviderError
from gatebook.kernel.policy import EDGE_CAP_MS
from gatebook.ports import Clock

MINUTE_US = 60_000_000  # a bucket's unit: one request or token is as many of them
REQUESTS, TOKENS = 0, 1  # what buckets count
MAX_RATE = 10**12
MAX_WAIT_S = EDGE_CAP_MS / 1000  # who would wait longer is refused, with the wait as a hint


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """How much a provider or a route may be asked in a minute; None is no limit.

    Attributes:
        max_wait_s: a call that would wait longer for its turn is refused instead.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_wait_s: float = MAX_WAIT_S


RATE_KEYS = Rate.__struct_fields__


def wrong_rate(table: Any) -> tuple[str, str, str] | None:
    """Return why a table is no rate: (key, what is wrong, what to do); None when it is one."""
    if not isinstance(table, Mapping):
        return "", "it is not a table", f"write {RATE_KEYS[0]} = in it"
    for key, value in table.items():
        if key not in RATE_KEYS:
            return str(key), "there is no such limit", f"known are: {', '.join(RATE_KEYS)}"
        if key == "max_wait_s":
            if type(value) not in (int, float) or not 0 <= value <= 86_400:
                return key, "it is no number of seconds up to a day", "write max_wait_s = 30"
        elif type(value) is not int or not 1 <= value <= MAX_RATE:
            return key, "it is no whole number from 1", f"write {key} = 500"
    return None


def checked_rates(given: Mapping[str, Rate | Mapping[str, Any]]) -> dict[str, Rate]:
    """Return the rates given in code, by provider or route.

    Raises:
        ConfigError: E_CONFIG, one of them is none.
    """
    found = {}
    for name, rate in given.items():
        table: Any = rate
        if isinstance(rate, Rate):
            table = {k: v for k, v in msgspec.to_builtins(rate).items() if v is not None}
        if wrong := wrong_rate(table):
            key, detail, fix = wrong
            where = f"{name}.{key}" if key else name
            raise ConfigError("E_CONFIG", name=where, path="rates=", detail=detail, fix=fix)
        found[name] = Rate(**table)
    return found


class _Bucket:
    """What is left of one limit. `left` may be below zero: more was used than was taken."""

    __slots__ = ("at", "left", "per_minute")

    def __init__(self, per_minute: int, at: int) -> None:
        self.per_minute = per_minute
        self.left = per_minute * MINUTE_US
        self.at = at

    def copy(self) -> "_Bucket":
        made = _Bucket(self.per_minute, self.at)
        made.left = self.left
        return made

    def fill(self, now: int) -> None:
        """Take in what has flowed back since it was looked at last."""
        if now > self.at:
            full = self.per_minute * MINUTE_US
            self.left = min(full, self.left + (now - self.at) * self.per_minute)
            self.at = now

    def ready(self, count: int) -> int:
        """Return when so many can be taken (us); more than there ever are want a full bucket."""
        missing = min(count, self.per_minute) * MINUTE_US - self.left
        return self.at - (-missing // self.per_minute) if missing > 0 else self.at

    def take(self, count: int) -> None:
        """Take so many; less than none gives them back."""
        full = self.per_minute * MINUTE_US
        self.left = min(full, self.left - count * MINUTE_US)


class Turn:
    """One call's turn: when it may go, and what it takes of each bucket.

    Attributes:
        at: microseconds of the monotonic clock.
        came: done when it may go.
    """

    __slots__ = ("at", "came", "takes")

    def __init__(self, takes: tuple[int, ...]) -> None:
        self.takes = takes
        self.at = 0
        self.came: asyncio.Future[None] | None = None


class Limiter:
    """One line of callers before the buckets of one rate.

    `enter`, call, `leave`; or `give_back` when the call was not sent.
    """

    def __init__(self, name: str, rate: Rate, clock: Clock) -> None:
        self._name = name
        self._rate = rate
        self._clock = clock
        limits = (rate.requests_per_minute, rate.tokens_per_minute)
        self._counts = tuple(kind for kind, limit in enumerate(limits) if limit is not None)
        self._buckets = [_Bucket(limit, self._now()) for limit in limits if limit is not None]
        self._line: deque[Turn] = deque()
        self._ahead = [bucket.copy() for bucket in self._buckets]  # after the last in the line
        self._alarm: asyncio.Future[None] | None = None

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._line)

    def _now(self) -> int:
        return round(self._clock.monotonic() * 1e6)

    async def enter(self, tokens: int) -> Turn:
        """Wait for a turn and return it; cancelling the wait leaves the line at once.

        Raises:
            ProviderError: rate_limited, not sent: the wait would be longer than allowed.
        """
        turn = Turn(tuple((1, tokens)[kind] for kind in self._counts))
        now = self._now()
        if not self._line:
            self._ahead = [bucket.copy() for bucket in self._buckets]
        ahead = [bucket.copy() for bucket in self._ahead]
        self._queue(turn, ahead, now)
        wait_s = (turn.at - now) / 1e6
        if wait_s > self._rate.max_wait_s:
            raise self._refusal(wait_s)
        self._ahead = ahead
        if wait_s <= 0 and not self._line:
            self._buckets = [bucket.copy() for bucket in ahead]
            return turn
        self._line.append(turn)
        turn.came = asyncio.get_running_loop().create_future()
        self._set_alarm(now)
        await self._wait(turn)
        return turn

    async def _wait(self, turn: Turn) -> None:
        assert turn.came is not None
        try:
            await turn.came
        except asyncio.CancelledError:
            if turn in self._line:
                self._line.remove(turn)
                self._again()
            else:  # it had come already
                self.give_back(turn)
            raise

    def leave(self, turn: Turn, tokens: int | None) -> None:
        """Put a turn right: its call used so many tokens; None when nobody measured."""
        if tokens is not None and TOKENS in self._counts:
            place = self._counts.index(TOKENS)
            self._buckets[place].fill(self._now())
            self._buckets[place].take(tokens - turn.takes[place])
            self._again()

    def give_back(self, turn: Turn) -> None:
        """Give a turn back whose call was not sent."""
        for place, taken in enumerate(turn.takes):
            self._buckets[place].take(-taken)
        self._again()

    def _queue(self, turn: Turn, ahead: list[_Bucket], now: int) -> None:
        """Say when a turn comes after those before it, and take it from the buckets as of then."""
        for bucket in ahead:
            bucket.fill(now)
        times = [b.ready(n) for b, n in zip(ahead, turn.takes, strict=True)]
        turn.at = max(times, default=now)
        for bucket, count in zip(ahead, turn.takes, strict=True):
            bucket.fill(turn.at)
            bucket.take(count)

    def _again(self) -> None:
        """Say anew when each turn comes: somebody left the line, or used more or less."""
        if not self._line:
            self._stop_alarm()
            return
        now = self._now()
        self._ahead = [bucket.copy() for bucket in self._buckets]
        for turn in self._line:
            self._queue(turn, self._ahead, now)
        self._set_alarm(now)

    def _set_alarm(self, now: int) -> None:
        """Let go whose turn has come; wake up when the next one comes."""
        self._stop_alarm()
        while self._line and self._line[0].at <= now:
            turn = self._line.popleft()
            self._queue(turn, self._buckets, turn.at)
            if turn.came is not None and not turn.came.done():
                turn.came.set_result(None)
        if self._line:
            seconds = (self._line[0].at - now) / 1e6
            self._alarm = asyncio.ensure_future(self._clock.sleep(seconds))
            self._alarm.add_done_callback(self._rang)

    def _rang(self, alarm: asyncio.Future[None]) -> None:
        if not alarm.cancelled() and alarm is self._alarm:
            self._set_alarm(self._now())

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _refusal(self, wait_s: float) -> ProviderError:
        return ProviderError(
            f"{self._name} is at its own rate limit here: the next turn is in {wait_s:.3g} s, "
            f"longer than the {self._rate.max_wait_s:g} s a call waits",
            kind="rate_limited",
            category="rate_limited",
            phase="pool",
            retry_after_ms=-int(-wait_s * 1000 // 1),
        )
