"""Which price a model has: what its user says, then what the package `genai-prices` says.

The package is an extra, imported when a price is first needed, and only its shipped data is
read: nothing here updates it. A model that neither knows has no price, which is not a price of 0.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec

from gatebook.errors import ConfigError
from gatebook.kernel.actions import CallLLM
from gatebook.kernel.budget import estimated, tokens_used
from gatebook.kernel.messages import Usage
from gatebook.kernel.spending.prices import MAX_USD, Price, micro_usd

HERE = frozenset({"local", "scripted", "ollama", "llamacpp"})  # run on this machine, for nothing
REQUIRED = ("input", "output")
PRICE_KEYS = (*REQUIRED, "cache_read", "cache_write")
# What text tokens alone do not say: a model with such a price has none that we could compute.
OTHER_PRICES = ("requests_kcount", "input_text_messages_kcount", "input_mchars",
                "output_reasoning_mtok", "output_citation_mtok")  # fmt: skip

_FREE = Price(0, 0, source="runs on this machine")
_log = logging.getLogger(__name__)


class Prices:
    """The prices of one runtime.

    Args:
        given: passed as `prices=`: by route or model name, a table of dollars per million tokens
            ("input", "output", optionally "cache_read", "cache_write") or a Price. They win.
        configured: the `[prices]` tables of gatebook.toml, by route or model name.
        endpoints: base URLs of configured providers, by name; the package knows vendors by them.
        now: the clock, microseconds UTC; some prices change with the time of day.

    Raises:
        ConfigError: E_CONFIG, a given table is no price.
    """

    def __init__(
        self,
        given: Mapping[str, Price | Mapping[str, Any]] | None = None,
        configured: Mapping[str, Price] | None = None,
        *,
        endpoints: Mapping[str, str] | None = None,
        now: Callable[[], int],
    ) -> None:
        own = {name: _given(name, table) for name, table in (given or {}).items()}
        self._own = {**(configured or {}), **own}
        self._endpoints = {name: url for name, url in (endpoints or {}).items() if url}
        self._now = now
        self._warmed = False

    def price(self, action: CallLLM, usage: Usage | None = None) -> Price | None:
        """Return what a model call costs per million tokens, None when nobody knows.

        Some models cost more when the input is long: it is taken from `usage`, without one (or
        with one that cannot be) from the estimate.
        """
        own = self._listed(action)
        if own is not None:
            return own
        if usage is None or usage.input_tokens is None or tokens_used(usage) is None:
            usage = estimated(action)
        return self._packaged(action, usage.input_tokens or 0)

    def warm(self, action: CallLLM) -> None:
        """Begin to import the package beside the call, if it will be asked: it takes 0.3 s."""
        if not self._warmed and self._listed(action) is None:
            self._warmed = True
            asyncio.get_running_loop().run_in_executor(None, _package)

    def _listed(self, action: CallLLM) -> Price | None:
        own = self._own.get(action.route) or self._own.get(action.model)
        if own is None and action.provider in HERE and action.provider not in self._endpoints:
            return _FREE
        return own

    def _packaged(self, action: CallLLM, input_tokens: int) -> Price | None:
        package = _package()
        if package is None:
            return None
        name, url = action.provider, self._endpoints.get(action.provider)
        where = {"provider_id": name} if url is None else {"provider_api_url": url}
        when = datetime.fromtimestamp(self._now() / 1e6, UTC)
        try:
            found = package.calc_price(
                package.Usage(input_tokens=0), action.model, genai_request_timestamp=when, **where
            )
        except LookupError:
            return None
        if url is None and found.provider.id != name:
            return None  # it guesses from parts of names
        return _unit_price(found.model_price, input_tokens, f"genai-prices {package.__version__}")


def _unit_price(found: Any, input_tokens: int, source: str) -> Price | None:
    if any(getattr(found, name, None) is not None for name in OTHER_PRICES):
        return None
    units = {key: _at(getattr(found, f"{key}_mtok", None), input_tokens) for key in PRICE_KEYS}
    into, out = units["input"], units["output"]
    if into is None or out is None:
        return None
    return Price(into, out, units["cache_read"], units["cache_write"], source)


def _at(unit: Any, input_tokens: int) -> int | None:
    """Return a unit price in micro-USD; the tier that the input reaches counts for all tokens."""
    for tier in reversed(getattr(unit, "tiers", ())):
        if input_tokens > tier.start:
            return micro_usd(tier.price, exact=False)
    return micro_usd(getattr(unit, "base", unit), exact=False)


@cache
def _package() -> Any:
    try:
        import genai_prices
    except ImportError:
        return None
    return genai_prices


def wrong_in(table: Any) -> tuple[str, str, str] | None:
    """Return why a table is no price: (key, what is wrong, what to do); None when it is one."""
    if not isinstance(table, Mapping):
        return "", "it is not a table", "write input = and output = in it"
    for key in table:
        if key not in PRICE_KEYS:
            return str(key), "there is no such price", f"known are: {', '.join(PRICE_KEYS)}"
    for key in REQUIRED:
        if key not in table:
            return key, "it is missing", f'add {key} = "0.25", in dollars per million tokens'
    for key, value in table.items():
        if type(value) not in (str, int, Decimal) or micro_usd(value) is None:
            fix = f'write dollars per million tokens as text: {key} = "0.25" (up to {MAX_USD})'
            return key, "it is no amount of dollars", fix
    return None


def price_of(table: Mapping[str, Any], *, source: str) -> Price:
    """Return the price of a table that `wrong_in` finds nothing in."""
    units = {key: micro_usd(value) for key, value in table.items()}
    return msgspec.convert({**units, "source": source}, Price)


def _given(name: str, table: Price | Mapping[str, Any]) -> Price:
    if isinstance(table, Price):
        return table
    wrong = wrong_in(table)
    if wrong is not None:
        key, detail, fix = wrong
        where = f"{name}.{key}" if key else name
        raise ConfigError("E_CONFIG", name=where, path="prices=", detail=detail, fix=fix)
    return price_of(table, source="prices=")
