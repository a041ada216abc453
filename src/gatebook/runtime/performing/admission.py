"""When a model call may go to its route: not while the breaker is open, and in its turn.

Asked before every attempt, told after it. Both answers that refuse are errors of a call that was
not sent, so what follows is decided where everything that fails is decided.
"""

from collections.abc import Mapping
from typing import NamedTuple

from gatebook.kernel.actions import CallLLM
from gatebook.kernel.budget import tokens_used
from gatebook.kernel.spending.reserving import estimate_tokens
from gatebook.ports import Clock
from gatebook.runtime.clock import SystemClock
from gatebook.runtime.models.breaker import Breaker, Breakers, BreakerSettings, open_error, tells
from gatebook.runtime.models.limiter import Limiter, Rate, Turn
from gatebook.runtime.performing.ended import Ended


class Admitted(NamedTuple):
    """What one attempt holds while it calls its route."""

    breaker: Breaker | None
    tries: bool
    turns: tuple[tuple[Limiter, Turn], ...]


class Admission:
    """The breakers and rate limits of one runtime.

    Args:
        rates: by provider or route; where both are named, both count.
        breaker: None for no breakers.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        rates: Mapping[str, Rate] | None = None,
        breaker: BreakerSettings | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._breakers = Breakers(breaker)
        self._limiters = {
            name: Limiter(name, rate, self._clock) for name, rate in (rates or {}).items()
        }

    async def enter(self, action: CallLLM) -> Admitted:
        """Wait until a call may go; every `Admitted` goes to `leave`, whatever comes of it.

        Raises:
            ProviderError: not sent: overloaded while the breaker is open, rate_limited when its
                turn is too far off.
        """
        breaker = self._breakers.of(action.route)
        self._check(action, breaker)
        turns: list[tuple[Limiter, Turn]] = []
        try:
            if self._limiters:
                tokens = estimate_tokens(action)
                for name in (action.route, action.provider):
                    limiter = self._limiters.get(name)
                    if limiter is not None:
                        turns.append((limiter, await limiter.enter(tokens)))
                self._check(action, breaker)  # it may have opened while we waited
        except BaseException:
            _give_back(turns)
            raise
        tries = breaker is not None and breaker.enter(self._clock.monotonic())
        return Admitted(breaker, tries, tuple(turns))

    def leave(self, admitted: Admitted, ended: Ended | None) -> None:
        """Note how the attempt ended; None when it was not made or nobody knows."""
        error = ended.error if ended is not None else None
        if admitted.breaker is not None:
            word = tells(error) if ended is not None else "nothing"
            admitted.breaker.leave(self._clock.monotonic(), word, tried=admitted.tries)
        if ended is None or _unsent(ended):
            _give_back(admitted.turns)
            return
        used = tokens_used(ended.usage)
        for limiter, turn in admitted.turns:
            limiter.leave(turn, used)

    def _check(self, action: CallLLM, breaker: Breaker | None) -> None:
        wait_s = breaker.refuses(self._clock.monotonic()) if breaker is not None else None
        if wait_s is not None:
            raise open_error(action.route, wait_s)


def _unsent(ended: Ended) -> bool:
    """Whether an attempt ended before its request left: it is not charged either."""
    return ended.error is not None and ended.spent is not None and not ended.spent.llm_tokens


def _give_back(turns: "list[tuple[Limiter, Turn]] | tuple[tuple[Limiter, Turn], ...]") -> None:
    for limiter, turn in turns:
        limiter.give_back(turn)
