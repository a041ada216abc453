"""Budgets and ledgers in words: limits, what is left of them, and raises as people type them."""

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from gatebook.cli.output import number, span
from gatebook.cli.words import METER_NAMES
from gatebook.kernel.budget import METERS, Amount, Budget, Limits
from gatebook.kernel.head import Head
from gatebook.kernel.spending.ledgers import Balance, name_of
from gatebook.kernel.spending.prices import dollars, dollars_text

NAMES = METER_NAMES | {"fan_out": "actions at once"}
KEYS = ("tool_calls", "llm_tokens", "usd", "wall_clock", "fan_out")  # of a raise


class Line(NamedTuple):
    """One meter of a budget or ledger; `left` and `limit` are None without a limit."""

    of: str
    meter: str
    limit: int | None
    spent: int
    reserved: int

    @property
    def left(self) -> int | None:
        """What the next request may still reserve."""
        return None if self.limit is None else max(0, self.limit - self.spent - self.reserved)


def lines(head: Head, balances: dict[str, Balance]) -> list[Line]:
    """Return a run's meters and those of the ledgers it counts against.

    A meter that is neither limited nor used is left out.

    Args:
        balances: of the ledgers, by key, as they are now.
    """
    found = list(_meters("run", head.limits, head.spent, head.reserved))
    if head.limits.fan_out is not None:
        found.append(Line("run", "fan_out", head.limits.fan_out, 0, 0))
    for key, balance in sorted(balances.items()):
        limits = (head.ledgers or {}).get(name_of(key))
        if limits is not None:
            found += _meters(key, limits, balance.spent, balance.reserved)
    return found


def _meters(of: str, limits: Limits, spent: Amount, reserved: Amount) -> Iterable[Line]:
    for meter in METERS:
        limit = getattr(limits, meter)
        used = (getattr(spent, meter), getattr(reserved, meter))
        if limit is not None or any(used):
            yield Line(of, meter, limit, *used)


def fields(line: Line) -> dict[str, Any]:
    """Return a meter as JSON documents show it; money in dollars as text."""
    amounts = {
        "limit": line.limit, "spent": line.spent, "reserved": line.reserved, "left": line.left
    }  # fmt: skip
    if line.meter == "usd_micros":
        told = {name: None if n is None else str(dollars(n)) for name, n in amounts.items()}
        return {"of": line.of, "meter": "usd", **told}
    return {"of": line.of, "meter": line.meter, **amounts}


def amount_text(meter: str, amount: int | None) -> str:
    """Return an amount of a meter in the unit people would use, "" for None."""
    if amount is None:
        return ""
    if meter == "wall_ms":
        return span(amount * 1000)
    return dollars_text(amount) if meter == "usd_micros" else number(amount)


def limits_text(limits: Limits, sign: str = "") -> str:
    """Return limits in words: "tool calls 5, cost $2.00"."""
    return ", ".join(
        f"{NAMES[meter]} {sign}{amount_text(meter, limit)}"
        for meter, limit in limits.named().items()
    )


def read_raises(texts: Iterable[str]) -> tuple[Budget | None, Budget | None]:
    """Return (new limits, what is added) of raises such as "tool_calls=60" and "usd=+1.50".

    Raises:
        ValueError: one that is no raise, with what it could be.
    """
    given: dict[bool, dict[str, Any]] = {False: {}, True: {}}
    for text in texts:
        meter, equals, amount = text.partition("=")
        if not equals or meter not in KEYS or any(meter in each for each in given.values()):
            raise ValueError(f"{text!r}: write one METER=AMOUNT of each of {', '.join(KEYS)}")
        relative = amount.startswith("+")
        given[relative][meter] = _amount(meter, amount.removeprefix("+"))
    absolute, more = (Budget(**found) if found else None for found in given.values())
    return absolute, more


def _amount(meter: str, text: str) -> Any:
    try:
        if meter == "usd":
            return Decimal(text)
        if meter == "wall_clock":
            return float(text)
        return int(text)
    except (ValueError, InvalidOperation):
        unit = {"usd": "dollars", "wall_clock": "seconds"}.get(meter, "a whole number")
        raise ValueError(f"{meter}={text!r}: give {unit}, with + in front to add") from None
