"""What model calls cost: unit prices, and the way from tokens to money in whole numbers.

Pure and exact. It knows no price of any model: tables are the runtime's.
"""

from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any

import msgspec

from gatebook.kernel.messages import Usage

MICRO = 1_000_000  # micro-dollars in a dollar, and tokens that a price is for
MAX_USD = 10**9  # of a budget or a price: more is a mistake, and 2**53 micro-dollars hold it


class Price(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a million tokens of each kind cost, in micro-USD (millionths of a dollar).

    Attributes:
        cache_read, cache_write: part of the input that was read from or written to the
            provider's cache; None costs as much as other input.
        source: which table says so, for people.
    """

    input: int
    output: int
    cache_read: int | None = None
    cache_write: int | None = None
    source: str = ""


def cost(price: Price, usage: Usage) -> int | None:
    """Return what tokens cost in micro-USD, rounded up; None when they are not known well enough.

    Input holds what the cache read and wrote, output holds reasoning. Of input and output one
    may be missing when the total is there.
    """
    into, out, total = usage.input_tokens, usage.output_tokens, usage.total_tokens
    if into is None and out is not None and total is not None:
        into = total - out
    elif out is None and into is not None and total is not None:
        out = total - into
    read, written = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    if into is None or out is None or min(into, out, read, written) < 0:
        return None
    read_price = price.input if price.cache_read is None else price.cache_read
    write_price = price.input if price.cache_write is None else price.cache_write
    fresh = max(0, into - read - written)
    whole = fresh * price.input + read * read_price + written * write_price + out * price.output
    return -(-whole // MICRO)


def micro_usd(value: Any, *, exact: bool = True) -> int | None:
    """Return an amount of dollars in micro-USD, or None when it is no such amount.

    Takes int, Decimal, text, and float by its shortest text. Unless `exact`, what is finer than
    a micro-dollar is rounded up instead of refused.
    """
    if type(value) not in (int, float, str, Decimal):
        return None
    try:
        dollars = Decimal(str(value))
    except InvalidOperation:
        return None
    if not dollars.is_finite() or not 0 <= dollars <= MAX_USD:
        return None
    micros = dollars * MICRO
    whole = micros.to_integral_value(ROUND_CEILING)
    return int(whole) if whole == micros or not exact else None


def dollars(micros: int) -> Decimal:
    """Return micro-USD in dollars."""
    return Decimal(micros).scaleb(-6)


def dollars_text(micros: int) -> str:
    """Return micro-USD as people read them: "$1.50", "$0.000315"."""
    whole, cents = f"{micros // MICRO:,}", f"{micros % MICRO:06}"
    return f"${whole}.{cents[:2]}{cents[2:].rstrip('0')}"
