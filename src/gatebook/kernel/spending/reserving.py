"""Reserving: what an action takes from the run's budget and its ledgers before it starts.

The append checks the same once more inside its transaction, where nobody can come between.
"""

from collections.abc import Callable
from typing import Protocol

from gatebook.errors import GatebookError
from gatebook.kernel.actions import CALLS, Action, CallLLM, CallTool, describe
from gatebook.kernel.budget import (
    NO_LIMITS,
    NOTHING,
    Amount,
    Shortfall,
    charged,
    estimated,
    shortfall,
)
from gatebook.kernel.spending.ledgers import Shared, refused
from gatebook.kernel.spending.prices import Price
from gatebook.kernel.state import RunState
from gatebook.kernel.tools import ToolSpec

LLM_TIMEOUT_MS = 600_000  # total deadline of one model attempt
ONE_CALL = Amount(tool_calls=1)


class Purse(Protocol):
    """What reservations are made from: what is left to a run, and to all of its tenant."""

    state: RunState
    share: int
    shared: Shared | None

    @property
    def price(self) -> Callable[[CallLLM], Price | None]:
        """What a model call would cost, None when that is not known."""


def reserve(action: Action, spec: ToolSpec | None, purse: Purse) -> tuple[Amount, int | None]:
    """Return what an attempt may need, taken from the ledgers, and how long it may take in ms.

    Its request takes it from the run.

    Raises:
        GatebookError: E_BUDGET, E_PRICE_UNKNOWN, or E_LEDGER when what is left is known.
    """
    if not isinstance(action, CALLS):
        return NOTHING, None
    head, wall = purse.state.head, 0
    deadline = action.timeout_ms or (LLM_TIMEOUT_MS if spec is None else spec.timeout_ms)
    if head.limits.wall_ms is not None:
        wall = deadline = min(deadline, _share_ms(head.limits.wall_ms, purse))
    if isinstance(action, CallTool):
        want = Amount(tool_calls=1, wall_ms=wall) if wall else ONE_CALL
    else:
        want = _tokens(action, wall, purse)
    if head.limits != NO_LIMITS:
        short = shortfall(head.limits, head.used, want)
        if short is not None:
            raise over_budget(action, short)
    if purse.shared is not None:
        fields = purse.shared.take(want)
        if fields is not None:
            raise refused(describe(action), fields)
    return want, deadline


def _share_ms(limit: int, purse: Purse) -> int:
    """Return an even share of the wall clock that is left; never none of it."""
    left = max(0, limit - purse.state.head.used.wall_ms)
    return max(1, left // max(1, purse.share))


def _tokens(action: CallLLM, wall_ms: int, purse: Purse) -> Amount:
    tokens = estimate_tokens(action)
    if not in_dollars(purse):
        return Amount(llm_tokens=tokens, wall_ms=wall_ms)
    usd = charged(action, price_of(action, purse), None)
    return Amount(llm_tokens=tokens, wall_ms=wall_ms, usd_micros=usd, priced_tokens=tokens)


def in_dollars(purse: Purse) -> bool:
    """Whether a limit in dollars counts, so that every price must be known."""
    shared = purse.shared
    limit = purse.state.head.limits.usd_micros
    return limit is not None or (shared is not None and shared.in_dollars)


def price_of(action: CallLLM, purse: Purse) -> Price:
    """Return what a model call costs. Raises GatebookError E_PRICE_UNKNOWN."""
    price = purse.price(action)
    if price is None:
        raise GatebookError("E_PRICE_UNKNOWN", tool=action.route)
    return price


def estimate_tokens(action: CallLLM) -> int:
    """Return the tokens a model call reserves: bytes/4 of its prompt plus its largest answer."""
    usage = estimated(action)
    return (usage.input_tokens or 0) + (usage.output_tokens or 0)


def over_budget(action: Action, short: Shortfall) -> GatebookError:
    """Return the error of a reservation that does not fit."""
    return GatebookError("E_BUDGET", tool=describe(action), **short.told())
