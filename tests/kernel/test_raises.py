"""Raised limits: what raises, what is refused inside the append, and when it counts."""

import pytest

from gatebook.errors import InvalidInput, RunIsOver
from gatebook.kernel.append import Batch, BudgetShort, admit
from gatebook.kernel.budget import Amount, Limits
from gatebook.kernel.events import BudgetRaised, RunCompleted
from gatebook.kernel.head import Head
from gatebook.kernel.verify import verify_facts
from gatebook.testing.journal_facts.kit import requested, started

FIVE = Limits(tool_calls=5, fan_out=2)


def begun(limits: Limits = FIVE) -> Head:
    """A claimed run with limits."""
    head = Head()
    head.apply(started(limits=limits))
    head.epoch = 1
    return head


def said(head: Head, event: BudgetRaised) -> None:
    """Append what somebody outside says."""
    admit(head, Batch(events=(event,), append_id=b"x"), now=1, run="r")


def asks(head: Head, want: int) -> None:
    """Append a request of the worker."""
    event = requested(f"{head.seq}", reserve=Amount(tool_calls=want))
    batch = Batch(events=(event,), append_id=b"x", epoch=1, after=head.seq)
    admit(head, batch, now=1, run="r")


def test_a_raise_counts_from_the_next_request() -> None:
    """To an amount, or by one."""
    head = begun()
    with pytest.raises(BudgetShort):
        asks(head.copy(), 6)

    said(head, BudgetRaised(limits=Limits(tool_calls=6)))
    asks(head, 6)
    said(head, BudgetRaised(more=Limits(tool_calls=3, fan_out=1)))
    asks(head, 3)

    assert head.limits == Limits(tool_calls=9, fan_out=3)


@pytest.mark.parametrize(
    "event",
    [
        BudgetRaised(limits=Limits(tool_calls=5)),
        BudgetRaised(limits=Limits(tool_calls=4)),
        BudgetRaised(limits=Limits(tool_calls=9, fan_out=2)),
        BudgetRaised(limits=Limits(llm_tokens=9)),
        BudgetRaised(more=Limits(llm_tokens=9)),
        BudgetRaised(more=Limits(tool_calls=0)),
    ],
)
def test_what_raises_nothing_is_refused(event: BudgetRaised) -> None:
    """One who lowers by mistake, or limits what was free, must hear of it."""
    head = begun()

    with pytest.raises(InvalidInput) as caught:
        said(head.copy(), event)

    assert caught.value.code == "E_BUDGET_RAISE"


def test_of_two_who_raise_to_the_same_the_second_is_told() -> None:
    """Both meant ten; neither meant that both should pay for it unseen."""
    head = begun()
    said(head, BudgetRaised(limits=Limits(tool_calls=10), by="ann"))

    with pytest.raises(InvalidInput) as caught:
        said(head.copy(), BudgetRaised(limits=Limits(tool_calls=10), by="bob"))

    assert caught.value.fields["limit"] == 10


def test_two_who_add_both_count() -> None:
    """What is added is added inside the append, to what is there then."""
    head = begun()

    for _ in range(2):
        said(head, BudgetRaised(more=Limits(tool_calls=3)))

    assert head.limits.tool_calls == 11


def test_a_run_that_is_over_is_raised_no_more() -> None:
    """Over is over."""
    head = begun()
    head.apply(RunCompleted())

    with pytest.raises(RunIsOver):
        said(head, BudgetRaised(more=Limits(tool_calls=3)))


def test_verify_follows_raises() -> None:
    """Its own sums know the same limits as the fold."""
    first = started(limits=FIVE)
    raised = BudgetRaised(more=Limits(tool_calls=3))
    events = (first, raised, requested("1", reserve=Amount(tool_calls=8)))
    head = Head()
    for event in events:
        head.apply(event)

    verify_facts("r", events, head)
