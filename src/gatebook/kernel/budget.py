"""Budgets: limits, what is reserved, what is spent, and the one comparison that refuses.

A request reserves in the append that writes it; an outcome settles in the append that records
it. Unmeasured use is charged at the reservation (docs/design.md, "Budgets").
"""

from datetime import timedelta
from typing import Any

import msgspec

from gatebook.errors import InvalidInput
from gatebook.kernel.messages import Usage

METERS = ("tool_calls", "llm_tokens", "wall_ms")
OUTPUT_TOKENS = (
    4_096  # reserved for an answer when the caller names no maximum; docs/design.md, "Budgets"
)
MAX_TOKENS = 10**9  # more in one call is a broken counter, not a measurement
MAX_LIMIT = 2**53  # of a meter; every JSON reader keeps whole numbers up to here
BYTES_PER_TOKEN = 4  # the estimate before a call; docs/design.md, "Budgets"


class Amount(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How much of each meter: tool calls, tokens in and out, milliseconds of action time."""

    tool_calls: int = 0
    llm_tokens: int = 0
    wall_ms: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            self.tool_calls + other.tool_calls,
            self.llm_tokens + other.llm_tokens,
            self.wall_ms + other.wall_ms,
        )

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(
            self.tool_calls - other.tool_calls,
            self.llm_tokens - other.llm_tokens,
            self.wall_ms - other.wall_ms,
        )


NOTHING = Amount()


class Limits(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The most a run may use of each meter; None is no limit."""

    tool_calls: int | None = None
    llm_tokens: int | None = None
    wall_ms: int | None = None

    def smallest(self, other: "Limits") -> "Limits":
        """Return the stricter limit of each meter."""
        return Limits(
            **{
                meter: min(
                    (v for v in (getattr(self, meter), getattr(other, meter)) if v is not None),
                    default=None,
                )
                for meter in METERS
            }
        )

    def raised(self, other: "Limits") -> "Limits":
        """Return these limits with the meters that `other` names replaced."""
        named = {m: getattr(other, m) for m in METERS if getattr(other, m) is not None}
        return msgspec.structs.replace(self, **named)


_UNLIMITED = Limits()


class Shortfall(msgspec.Struct, frozen=True):
    """Why a reservation does not fit: the meter, its limit, what is used and what was asked."""

    meter: str
    limit: int
    used: int
    want: int


def shortfall(limits: Limits, used: Amount, want: Amount) -> Shortfall | None:
    """Return the first meter that cannot carry `want` on top of `used`, or None when all can.

    `used` is reserved plus spent. A meter that nothing is asked of is not looked at, so an
    overrun blocks the next request and not an outcome.
    """
    if limits == _UNLIMITED:
        return None
    for meter in METERS:
        limit, asked = getattr(limits, meter), getattr(want, meter)
        if limit is not None and asked and getattr(used, meter) + asked > limit:
            return Shortfall(meter, limit, getattr(used, meter), asked)
    return None


def tokens_used(usage: Usage | None) -> int | None:
    """Return the tokens a call is charged, or None when it must be charged at its reservation.

    None for unreported, negative or absurd usage (E_USAGE_INVALID): zero tokens of a model call
    means unmeasured, never free.
    """
    if usage is None:
        return None
    total = usage.total_tokens
    if total is None and usage.input_tokens is not None and usage.output_tokens is not None:
        total = usage.input_tokens + usage.output_tokens
    counts = (total, usage.input_tokens, usage.output_tokens)
    if not total or any(n is not None and not 0 <= n <= MAX_TOKENS for n in counts):
        return None
    return total


def impossible(usage: Usage | None) -> str:
    """Return the counts of a usage that no call can have, as people read them; "" for none."""
    if usage is None:
        return ""
    counts = {n: v for n in usage.__struct_fields__ if type(v := getattr(usage, n)) is int}
    odd = {name: count for name, count in counts.items() if not 0 <= count <= MAX_TOKENS}
    return ", ".join(f"{name} {_short(count)}" for name, count in odd.items())


def _short(count: int) -> str:
    return str(count) if abs(count) < 10**20 else "huge"


class Budget:
    """What a person writes: limits per run. Everything left out is unlimited.

    Args:
        tool_calls: attempts of tools.
        llm_tokens: tokens in plus tokens out, over all model calls.
        wall_clock: time spent inside actions; sleeps and waits are free. A timedelta or seconds.

    Raises:
        InvalidInput: E_BUDGET_CONFIG for a negative, fractional or absurd limit.
    """

    __slots__ = ("limits",)

    def __init__(
        self,
        *,
        tool_calls: int | None = None,
        llm_tokens: int | None = None,
        wall_clock: timedelta | float | None = None,
    ) -> None:
        seconds = wall_clock.total_seconds() if isinstance(wall_clock, timedelta) else wall_clock
        self.limits = Limits(
            tool_calls=_whole("tool_calls", tool_calls),
            llm_tokens=_whole("llm_tokens", llm_tokens),
            wall_ms=None if seconds is None else _whole("wall_clock", _milliseconds(seconds)),
        )

    def __repr__(self) -> str:
        return f"Budget({', '.join(f'{m}={v}' for m, v in self.as_dict().items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Budget) and other.limits == self.limits

    def __hash__(self) -> int:
        return hash(self.limits)

    def as_dict(self) -> dict[str, int]:
        """Return the limits that are set, by meter."""
        return {m: v for m in METERS if (v := getattr(self.limits, m)) is not None}


def checked_budget(value: Any, what: str) -> Budget:
    """Return a budget, or refuse what is none with E_BUDGET_TYPE."""
    if not isinstance(value, Budget):
        raise InvalidInput("E_BUDGET_TYPE", what=what, value=value)
    return value


def _whole(meter: str, value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= MAX_LIMIT:
        raise InvalidInput("E_BUDGET_CONFIG", meter=meter, value=value, limit=MAX_LIMIT)
    return value


def _milliseconds(seconds: Any) -> Any:
    if type(seconds) not in (int, float) or seconds != seconds or abs(seconds) > 10**10:
        raise InvalidInput("E_BUDGET_CONFIG", meter="wall_clock", value=seconds, limit=MAX_LIMIT)
    return round(seconds * 1000)
