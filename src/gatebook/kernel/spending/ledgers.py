"""Ledgers: limits that all runs of a tenant share, for good or for each day.

What a run counts against is an event of it, and the stamp of a request says which day it reserved
on: so every reservation and its settlement are known from the journal alone. Stores keep only the
sums (docs/design.md, "Ledgers").
"""

from collections.abc import Iterable, Mapping
from datetime import date
from functools import lru_cache
from typing import Any

import msgspec

from gatebook.errors import GatebookError, InvalidInput
from gatebook.kernel.budget import NOTHING, Amount, Budget, Limits, shortfall
from gatebook.kernel.policy import declared

DAY, TENANT = "day", "tenant"
NAMES = (DAY, TENANT)
COUNTED = ("tool_calls", "llm_tokens", "usd_micros")  # action time is a run's own
DAY_US = 86_400_000_000
EPOCH_DAY = date(1970, 1, 1).toordinal()


class Balance(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What runs hold of a ledger, and what they have spent of it."""

    reserved: Amount = NOTHING
    spent: Amount = NOTHING

    @property
    def used(self) -> Amount:
        """What counts against the limits."""
        return self.reserved + self.spent


EMPTY = Balance()


class Move(msgspec.Struct, frozen=True, gc=False):
    """How one event changes one ledger.

    Attributes:
        ledger: its key: "tenant", or "day:2026-11-21".
        limits: of a reservation: what the ledger must carry; None for a settlement, which is
            always taken.
    """

    address: str
    ledger: str
    reserved: Amount
    spent: Amount
    limits: Limits | None = None

    def on(self, balance: Balance) -> Balance:
        """Return a balance after this move."""
        return Balance(balance.reserved + self.reserved, balance.spent + self.spent)


class Shared:
    """The ledgers that the requests of one step count against, as far as a worker knows them.

    It knows balances only after an append was refused: before that the append decides alone.

    Args:
        limits: by name.
        time: what the requests are planned to be stamped with.
        known: balances by key, None for not known.
        moved: what the same step has booked since they were read.
    """

    __slots__ = ("_known", "_limits", "_time", "in_dollars")

    def __init__(
        self,
        limits: Mapping[str, Limits],
        time: int,
        known: Mapping[str, Balance] | None,
        moved: Iterable[Move] = (),
    ) -> None:
        self._limits, self._time = limits, time
        self._known = None if known is None else dict(known)
        if self._known is not None:
            for move in moved:
                self._book(move)
        self.in_dollars = any(each.usd_micros is not None for each in limits.values())

    def take(self, want: Amount) -> dict[str, Any] | None:
        """Take a reservation, or return the fields of an E_LEDGER when it is known not to fit."""
        if self._known is None:
            return None
        booked = holding("", self._limits, self._time, want)
        for move in booked:
            balance = self._known.get(move.ledger, EMPTY)
            short = refusal(move.ledger, self._limits[name_of(move.ledger)], balance, want)
            if short is not None:
                return short
        for move in booked:
            self._book(move)
        return None

    def _book(self, move: Move) -> None:
        assert self._known is not None
        self._known[move.ledger] = move.on(self._known.get(move.ledger, EMPTY))


def holding(address: str, ledgers: Mapping[str, Limits], time: int, want: Amount) -> list[Move]:
    """Return the moves of a reservation that is stamped at `time`."""
    keys = keys_of(ledgers, time, want)
    return [Move(address, key, want, NOTHING, ledgers[name_of(key)]) for key in keys]


def settling(
    address: str, keys: Iterable[str], reserve: Amount, spent: Amount | None
) -> list[Move]:
    """Return the moves that settle a reservation where it was made; None spent is all of it."""
    charge = reserve if spent is None else spent
    return [Move(address, key, NOTHING - reserve, charge) for key in keys]


def keys_of(ledgers: Mapping[str, Limits], time: int, want: Amount) -> tuple[str, ...]:
    """Return the keys of the ledgers that hold a reservation stamped at `time`."""
    if want == NOTHING:
        return ()
    return tuple(key_of(name, time) for name in sorted(ledgers))


def key_of(name: str, time: int) -> str:
    """Return a ledger's key at a time (microseconds UTC): days begin at midnight UTC."""
    return _day(time // DAY_US) if name == DAY else name


@lru_cache(maxsize=64)
def _day(number: int) -> str:
    return f"{DAY}:{date.fromordinal(EPOCH_DAY + number).isoformat()}"


def name_of(key: str) -> str:
    """Return the name of the ledger behind a key."""
    return key.partition(":")[0]


def renewal(key: str) -> str:
    """Return when a ledger begins anew, as people read it."""
    name, _, day = key.partition(":")
    if name != DAY:
        return "it does not renew"
    following = date.fromordinal(date.fromisoformat(day).toordinal() + 1)
    return f"it renews at {following.isoformat()}T00:00:00Z"


def refusal(key: str, limits: Limits, balance: Balance, want: Amount) -> dict[str, Any] | None:
    """Return the fields of an E_LEDGER when a ledger cannot carry `want`, None when it can."""
    short = shortfall(limits, balance.used, want)
    if short is None:
        return None
    left = msgspec.structs.replace(short, used=max(0, short.limit - short.used)).told()["used"]
    return {"ledger": name_of(key), "renews": renewal(key), "left": left, **short.told()}


def refused(tool: str, fields: dict[str, Any]) -> GatebookError:
    """Return the error of a reservation that a ledger cannot carry."""
    return GatebookError("E_LEDGER", tool=tool, **fields)


def checked_ledgers(given: Any, what: str) -> dict[str, Limits]:
    """Return the limits of declared ledgers, by name.

    Args:
        given: Budgets by "day" or "tenant", of tool calls, tokens and dollars only.

    Raises:
        InvalidInput: E_LEDGER_CONFIG.
    """
    if not isinstance(given, Mapping):
        raise InvalidInput("E_LEDGER_CONFIG", what=what, value=given)
    for name, budget in given.items():
        if name not in NAMES or not isinstance(budget, Budget):
            raise InvalidInput("E_LEDGER_CONFIG", what=what, value={name: budget})
        if budget.soft or not set(budget.as_dict()) <= set(COUNTED):
            raise InvalidInput("E_LEDGER_CONFIG", what=what, value={name: budget})
    return {name: budget.limits for name, budget in given.items()}


def smallest(*places: Mapping[str, Limits]) -> dict[str, Limits]:
    """Return the union of ledgers declared in several places; the smallest limits count."""
    found: dict[str, Limits] = {}
    for each in places:
        for name, limits in each.items():
            found[name] = limits.smallest(found[name]) if name in found else limits
    return found


def policy_ledgers(policy: Any) -> dict[str, Limits]:
    """Return the ledgers a policy declares; one without `ledgers()` declares none.

    Raises:
        InvalidInput: E_LEDGER_CONFIG; else as `declared`.
    """
    found = declared(policy, "ledgers", {})
    return checked_ledgers(found, f"ledgers() of {type(policy).__name__}")
