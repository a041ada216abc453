"""Ledgers added up again from events alone."""

import pytest
from msgspec.structs import replace

from gatebook.errors import IntegrityError
from gatebook.kernel.budget import Amount, Limits
from gatebook.kernel.events import (
    ActionFailed,
    ActionResolved,
    AnyEvent,
    AttemptFailed,
    AttemptStarted,
    ErrorRecord,
    LedgersDeclared,
    RunCompleted,
)
from gatebook.kernel.head import Head
from gatebook.kernel.spending.booking import carried, moves
from gatebook.kernel.spending.ledgers import DAY_US, Balance
from gatebook.kernel.spending.sums import Sums
from gatebook.testing.journal_facts.kit import requested, started, succeeded, unknown

ERROR = ErrorRecord("E_X", "text", "transient")
DECLARED = LedgersDeclared(ledgers={"tenant": Limits(tool_calls=10), "day": Limits(tool_calls=10)})


def calls(count: int) -> Amount:
    return Amount(tool_calls=count)


STORY: list[AnyEvent] = [
    started(), DECLARED, requested("a", reserve=calls(2)), requested("b", reserve=calls(3)),
    requested("c", reserve=calls(1)), requested("d", reserve=calls(1)),
    AttemptFailed(address="a", attempt=0, error=ERROR, delay_ms=0, spent=calls(1)),
    AttemptStarted(address="a", attempt=1, reserve=calls(2)),
    AttemptStarted(address="a", attempt=2, reserve=calls(2), cause="recovery"),
    succeeded("a", spent=calls(1)), ActionFailed(address="b", error=ERROR),
    unknown("c"), ActionResolved(address="c", resolution="retry"), unknown("d"),
    AttemptStarted(address="c", attempt=1, reserve=calls(1)), succeeded("c", spent=calls(1)),
    RunCompleted(), ActionResolved(address="d", resolution="failed"),
]  # fmt: skip


def test_the_sums_are_those_that_an_append_books() -> None:
    """Two ways to the same balances, after every event; each would show a slip of the other."""
    sums, head, booked = Sums(), Head(), dict[str, Balance]()

    def find(key: str) -> Balance:
        return booked.get(key, Balance())

    for seq, event in enumerate(STORY, start=1):
        fact = replace(event, time=seq * DAY_US // 3, epoch=1)
        changed, short = carried(moves(head, fact), find)
        head.apply(fact)
        booked.update(changed)
        sums.add("r", seq, fact)

        assert short is None
        assert sums.differing(booked) == [], seq
        assert sum(b.reserved.tool_calls for k, b in booked.items() if k == "tenant") == (
            head.reserved.tool_calls
        )

    assert sums.violation is None
    assert booked["tenant"] == Balance(spent=calls(10))
    assert len(booked) > 4  # days


def test_a_reservation_that_did_not_fit_is_found() -> None:
    """Whoever wrote it, the events show that the limit was passed."""
    sums = Sums()
    for run in ("one", "two"):
        sums.add(run, 1, DECLARED)
        sums.add(run, 2, requested("a", reserve=calls(6)))

    assert isinstance(sums.violation, IntegrityError)
    assert sums.violation.fields["run"] == "two"
    assert "ledger tenant could not carry a" in str(sums.violation)


@pytest.mark.parametrize(
    "stored",
    [
        {"tenant": Balance(reserved=calls(5))},
        {"tenant": Balance(reserved=calls(6)), "day:1970-01-01": Balance(spent=calls(6))},
        {},
    ],
)
def test_a_balance_that_is_not_the_sum_is_found(stored: dict[str, Balance]) -> None:
    """Edited, lost or never settled."""
    sums = Sums()
    sums.add("r", 1, DECLARED)
    sums.add("r", 2, requested("a", reserve=calls(6)))

    assert sums.differing(stored)
    assert not sums.differing(sums.balances())
