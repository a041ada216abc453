"""Proof that ledgers hold: what all runs of a tenant reserved and settled, added up again.

Pure, and without the help of the fold and of `booking`, so that one checks the other. Events come
in the order they were committed in, runs mixed.
"""

from collections.abc import Mapping

from gatebook.errors import IntegrityError
from gatebook.kernel.budget import NOTHING, Amount, Limits, shortfall
from gatebook.kernel.events import (
    ActionFailed,
    ActionRequested,
    ActionResolved,
    ActionSucceeded,
    AnyEvent,
    AttemptFailed,
    AttemptStarted,
    LedgersDeclared,
    RunCancelled,
    RunCompleted,
    RunFailed,
)
from gatebook.kernel.spending.ledgers import EMPTY, Balance, key_of


class Sums:
    """Ledgers as they follow from events; `violation` is the first promise that was broken."""

    def __init__(self) -> None:
        self.reserved: dict[str, Amount] = {}
        self.spent: dict[str, Amount] = {}
        self.violation: IntegrityError | None = None
        self._declared: dict[str, dict[str, Limits]] = {}
        self._held: dict[str, dict[str, tuple[Amount, tuple[str, ...]]]] = {}

    def add(self, run: str, seq: int, event: AnyEvent) -> None:
        """Take in the next event of the store."""
        match event:
            case LedgersDeclared():
                self._declared[run] = event.ledgers
            case ActionRequested() | AttemptStarted():
                self._settle(run, event.address, None)
                self._hold(run, seq, event)
            case AttemptFailed() | ActionSucceeded() | ActionFailed():
                self._settle(run, event.address, event.spent)
            case ActionResolved():
                self._settle(run, event.address, None)
            case RunCompleted() | RunFailed() | RunCancelled():
                for address in list(self._held.get(run, ())):
                    self._settle(run, address, None)
                self._held.pop(run, None)
                self._declared.pop(run, None)
            case _:
                pass

    def _hold(self, run: str, seq: int, event: ActionRequested | AttemptStarted) -> None:
        declared = self._declared.get(run)
        if not declared or event.reserve == NOTHING:
            return
        keys = tuple(key_of(name, event.time) for name in declared)
        for limits, key in zip(declared.values(), keys, strict=True):
            used = self.reserved.get(key, NOTHING) + self.spent.get(key, NOTHING)
            if self.violation is None and shortfall(limits, used, event.reserve) is not None:
                text = f"seq {seq}: ledger {key} could not carry {event.address}"
                self.violation = IntegrityError("E_INVARIANT", run=run, detail=text)
            self.reserved[key] = self.reserved.get(key, NOTHING) + event.reserve
        self._held.setdefault(run, {})[event.address] = (event.reserve, keys)

    def _settle(self, run: str, address: str, spent: Amount | None) -> None:
        reserve, keys = self._held.get(run, {}).pop(address, (NOTHING, ()))
        for key in keys:
            self.reserved[key] -= reserve
            charge = reserve if spent is None else spent
            self.spent[key] = self.spent.get(key, NOTHING) + charge

    def balances(self) -> dict[str, Balance]:
        """Return what the events add up to, by key."""
        keys = sorted(self.reserved.keys() | self.spent.keys())
        return {
            key: Balance(self.reserved.get(key, NOTHING), self.spent.get(key, NOTHING))
            for key in keys
        }

    def differing(self, stored: Mapping[str, Balance]) -> list[str]:
        """Return the ledgers whose stored balance is not what the events add up to."""
        found = self.balances()
        return [
            key
            for key in sorted(found.keys() | stored.keys())
            if found.get(key, EMPTY) != stored.get(key, EMPTY)
        ]
