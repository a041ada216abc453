"""The ledgers of a store as its writer works on them: balances, and which of them have changed.

Every journal hands its book to `RunEntry.append` under its lock, so reserving, settling and
appending are one transaction.
"""

from collections.abc import Callable, Sequence

from gatebook.kernel.append import Row, charge
from gatebook.kernel.spending.ledgers import EMPTY, Balance

Load = Callable[[str, str], Balance | None]


class Book:
    """Balances by tenant and key.

    Args:
        load: reads what is stored of a balance that is not known here, None for nothing.

    Attributes:
        changed: balances that are still to be written.
    """

    def __init__(self, load: Load = lambda _tenant, _key: None) -> None:
        self._load = load
        self._known: dict[tuple[str, str], Balance] = {}
        self.changed: dict[tuple[str, str], Balance] = {}

    def take(self, tenant: str, rows: Sequence[Row]) -> None:
        """Take in what the rows of an append move. Raises BudgetShort; nothing has changed then."""

        def find(key: str) -> Balance:
            return self._find(tenant, key)

        for key, balance in charge(rows, find).items():
            self._known[tenant, key] = self.changed[tenant, key] = balance

    def _find(self, tenant: str, key: str) -> Balance:
        known = self._known.get((tenant, key))
        if known is None:
            known = self._known[tenant, key] = self._load(tenant, key) or EMPTY
        return known

    def of(self, tenant: str) -> dict[str, Balance]:
        """Return the tenant's balances that are known here, by key."""
        return {key: found for (owner, key), found in self._known.items() if owner == tenant}

    def forget(self) -> None:
        """Drop everything: others may have written it."""
        self._known.clear()
        self.changed.clear()
