"""Budgets: limits, what is reserved, what is spent, and the one comparison that refuses.

A request reserves in the append that writes it; an outcome settles in the append that records
it. Unmeasured use is charged at the reservation (docs/design.md, "Budgets").
"""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec

from gatebook.errors import InvalidInput, shown
from gatebook.kernel.actions import CallLLM, split_route
from gatebook.kernel.messages import Usage
from gatebook.kernel.spending.prices import Price, cost, dollars, dollars_text, micro_usd

METERS = ("tool_calls", "llm_tokens", "wall_ms", "usd_micros")
LIMITED = (*METERS, "fan_out")  # what a limit can be set of
OUTPUT_TOKENS = (
    4_096  # reserved for an answer when the caller names no maximum; docs/design.md, "Budgets"
)
MAX_TOKENS = 10**9  # more in one call is a broken counter, not a measurement
MAX_LIMIT = 2**53  # of a meter; every JSON reader keeps whole numbers up to here
BYTES_PER_TOKEN = 4  # the estimate before a call; docs/design.md, "Budgets"


class Amount(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How much of each meter: tool calls, tokens in and out, milliseconds of action time, money.

    Attributes:
        usd_micros: what the tokens with a known price cost, in millionths of a dollar.
        priced_tokens: how many of the tokens those are; the others' cost is unknown, not zero.
    """

    tool_calls: int = 0
    llm_tokens: int = 0
    wall_ms: int = 0
    usd_micros: int = 0
    priced_tokens: int = 0

    @property
    def cost_usd(self) -> Decimal | None:
        """What the tokens cost in dollars; None when the price of some of them is unknown."""
        return dollars(self.usd_micros) if self.priced_tokens == self.llm_tokens else None

    def __add__(self, other: "Amount") -> "Amount":
        if self is NOTHING:
            return other
        return Amount(
            self.tool_calls + other.tool_calls,
            self.llm_tokens + other.llm_tokens,
            self.wall_ms + other.wall_ms,
            self.usd_micros + other.usd_micros,
            self.priced_tokens + other.priced_tokens,
        )

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(
            self.tool_calls - other.tool_calls,
            self.llm_tokens - other.llm_tokens,
            self.wall_ms - other.wall_ms,
            self.usd_micros - other.usd_micros,
            self.priced_tokens - other.priced_tokens,
        )


NOTHING = Amount()


class Limits(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The most a run may use of each meter, and ask for at once; None is no limit."""

    tool_calls: int | None = None
    llm_tokens: int | None = None
    wall_ms: int | None = None
    usd_micros: int | None = None
    fan_out: int | None = None

    def smallest(self, other: "Limits") -> "Limits":
        """Return the stricter limit of each meter."""
        return Limits(
            **{
                meter: min(
                    (v for v in (getattr(self, meter), getattr(other, meter)) if v is not None),
                    default=None,
                )
                for meter in LIMITED
            }
        )

    def named(self) -> dict[str, int]:
        """Return the limits that are set, by meter."""
        return {m: v for m in LIMITED if (v := getattr(self, m)) is not None}

    def raised(self, other: "Limits") -> "Limits":
        """Return these limits with the meters that `other` names replaced."""
        return msgspec.structs.replace(self, **other.named())

    def grown(self, more: "Limits") -> "Limits":
        """Return these limits with `more` on top; what has no limit keeps none."""
        has = self.named()
        return msgspec.structs.replace(
            self, **{m: has[m] + n for m, n in more.named().items() if m in has}
        )


NO_LIMITS = Limits()


class Shortfall(msgspec.Struct, frozen=True):
    """Why a reservation does not fit: the meter, its limit, what is used and what was asked."""

    meter: str
    limit: int
    used: int
    want: int

    def told(self) -> dict[str, Any]:
        """Return the fields of an E_BUDGET, money in dollars."""
        numbers = {"limit": self.limit, "used": self.used, "want": self.want}
        if self.meter != "usd_micros":
            return {"meter": self.meter, **numbers}
        return {"meter": "usd", **{name: dollars_text(n) for name, n in numbers.items()}}


def shortfall(limits: Limits, used: Amount, want: Amount) -> Shortfall | None:
    """Return the first meter that cannot carry `want` on top of `used`, or None when all can.

    `used` is reserved plus spent. A meter that nothing is asked of is not looked at, so an
    overrun blocks the next request and not an outcome.
    """
    if limits == NO_LIMITS:
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


def estimated(action: CallLLM) -> Usage:
    """Return what a model call is reserved for: bytes/4 of its prompt, and its largest answer."""
    return Usage(
        input_tokens=action.prompt.size // BYTES_PER_TOKEN,
        output_tokens=action.max_output_tokens or OUTPUT_TOKENS,
        measured=False,
    )


def most_output(action: CallLLM, *limits: Limits) -> int | None:
    """Return the tokens an answer may have at most: what the call says, else what is reserved.

    None where tokens and money have no limit: a cap that nobody asked for would cut long answers
    (docs/design.md, "Budgets").
    """
    if any(each.llm_tokens is not None or each.usd_micros is not None for each in limits):
        return estimated(action).output_tokens
    return action.max_output_tokens


def charged(action: CallLLM, price: Price, usage: Usage | None) -> int:
    """Return what a model call is charged in micro-USD: its usage, unmeasured its estimate."""
    found = cost(price, usage) if usage is not None and tokens_used(usage) is not None else None
    if found is None:
        found = cost(price, estimated(action))
    assert found is not None  # an estimate has both its counts
    return found


def impossible(usage: Usage | None) -> str:
    """Return what of a usage no call can have, as people read it; "" for nothing.

    That is a count out of all bounds, and what is no count: a provider of one's own says anything.
    """
    if usage is None:
        return ""
    if type(usage) is not Usage:
        return shown(usage)
    said = {name: getattr(usage, name) for name in usage.__struct_fields__}
    return ", ".join(f"{n} {_short(v)}" for n, v in said.items() if not _may_be(n, v))


def _may_be(name: str, value: Any) -> bool:
    if name == "measured":
        return type(value) is bool
    return value is None or (type(value) is int and 0 <= value <= MAX_TOKENS)


def _short(value: Any) -> str:
    if type(value) is not int:
        return shown(value)
    return str(value) if abs(value) < 10**20 else "huge"


class SoftLimit(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Limits that do not end anything: beyond them a person is asked, or `route` is called."""

    limits: Limits
    route: str = ""


class Soft:
    """What a person writes: limits at which a person is asked, or a model call goes elsewhere.

    Args:
        tool_calls, llm_tokens, usd: as in Budget.
        route: "provider:model" that model calls go to then; without one a person is asked about
            each action that asks for more of the meter.

    Raises:
        InvalidInput: as Budget; E_BUDGET_SOFT when no limit is given; E_ROUTE.
    """

    __slots__ = ("limit",)

    def __init__(
        self,
        *,
        tool_calls: int | None = None,
        llm_tokens: int | None = None,
        usd: Decimal | str | float | None = None,
        route: str = "",
    ) -> None:
        limits = Limits(
            tool_calls=_whole("tool_calls", tool_calls),
            llm_tokens=_whole("llm_tokens", llm_tokens),
            usd_micros=_money(usd),
        )
        if limits == NO_LIMITS:
            raise InvalidInput("E_BUDGET_SOFT", value="Soft()")
        if route != "":
            split_route(route)
        self.limit = SoftLimit(limits, route)

    def __repr__(self) -> str:
        to = f", route={self.limit.route!r}" if self.limit.route else ""
        return f"Soft({_spelt(self.limit.limits)}{to})"


class Budget:
    """What a person writes: limits per run. Everything left out is unlimited.

    Args:
        tool_calls: attempts of tools.
        llm_tokens: tokens in plus tokens out, over all model calls.
        wall_clock: time spent inside actions; sleeps and waits are free. A timedelta or seconds.
        usd: dollars for model calls, as text, Decimal or number: "2.50". A model whose price is
            unknown is refused then, before it is called.
        fan_out: actions one step may ask for at once; of an agent, tool calls of one turn.
        soft: limits below these at which a person is asked or a model call goes elsewhere.

    Raises:
        InvalidInput: E_BUDGET_CONFIG for a negative, fractional or absurd limit, E_BUDGET_USD for
            what is no amount of money, E_BUDGET_SOFT for what is no Soft.
    """

    __slots__ = ("limits", "soft")

    def __init__(
        self,
        *,
        tool_calls: int | None = None,
        llm_tokens: int | None = None,
        wall_clock: timedelta | float | None = None,
        usd: Decimal | str | float | None = None,
        fan_out: int | None = None,
        soft: Soft | Sequence[Soft] = (),
    ) -> None:
        seconds = wall_clock.total_seconds() if isinstance(wall_clock, timedelta) else wall_clock
        self.limits = Limits(
            tool_calls=_whole("tool_calls", tool_calls),
            llm_tokens=_whole("llm_tokens", llm_tokens),
            wall_ms=None if seconds is None else _whole("wall_clock", _milliseconds(seconds)),
            usd_micros=_money(usd),
            fan_out=_whole("fan_out", fan_out),
        )
        self.soft = _soft_limits(soft)

    def __repr__(self) -> str:
        soft = f", soft={list(self.soft)!r}" if self.soft else ""
        return f"Budget({_spelt(self.limits)}{soft})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Budget) and (other.limits, other.soft) == (self.limits, self.soft)

    def __hash__(self) -> int:
        return hash((self.limits, self.soft))

    def as_dict(self) -> dict[str, int]:
        """Return the limits that are set, by meter."""
        return self.limits.named()

    def facts(self) -> dict[str, Any]:
        """Return all that a budget says, as plain JSON; what a policy's digest is made of."""
        if not self.soft:
            return {**self.as_dict()}
        soft = [{"limits": each.limits.named(), "route": each.route} for each in self.soft]
        return {**self.as_dict(), "soft": soft}


def _spelt(limits: Limits) -> str:
    given: dict[str, Any] = dict(limits.named())
    if "usd_micros" in given:
        given["usd"] = str(dollars(given.pop("usd_micros")))
    return ", ".join(f"{m}={v!r}" for m, v in given.items())


def _soft_limits(given: Any) -> tuple[SoftLimit, ...]:
    soft = (given,) if isinstance(given, Soft) else given
    if not isinstance(soft, Sequence) or not all(isinstance(each, Soft) for each in soft):
        raise InvalidInput("E_BUDGET_SOFT", value=given)
    return tuple(each.limit for each in soft)


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


def _money(value: Any) -> int | None:
    if value is None:
        return None
    micros = micro_usd(value)
    if micros is None:
        raise InvalidInput("E_BUDGET_USD", value=value)
    return micros


def _milliseconds(seconds: Any) -> Any:
    if type(seconds) not in (int, float) or seconds != seconds or abs(seconds) > 10**10:
        raise InvalidInput("E_BUDGET_CONFIG", meter="wall_clock", value=seconds, limit=MAX_LIMIT)
    return round(seconds * 1000)
