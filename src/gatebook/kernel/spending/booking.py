"""Booking: what an event reserves and settles on ledgers, and whether they can carry it.

The fold does the same for the run itself. Only requests are ever refused: what has happened is
always taken, and an overrun is in the way of the next request.
"""

from collections.abc import Callable, Iterable

from gatebook.errors import GatebookError
from gatebook.kernel.events import (
    ActionFailed,
    ActionRequested,
    ActionResolved,
    ActionSucceeded,
    AnyEvent,
    AttemptFailed,
    AttemptStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
)
from gatebook.kernel.head import Head
from gatebook.kernel.spending.ledgers import Balance, Move, holding, refusal, refused, settling


def moves(head: Head, event: AnyEvent) -> list[Move]:
    """Return what an event moves on ledgers; `head` has folded all before it and not this."""
    match event:
        case ActionRequested():
            return _hold(head, event)
        case AttemptStarted():
            return [*_settle(head, event.address), *_hold(head, event)]
        case AttemptFailed() | ActionSucceeded() | ActionFailed():
            entry = head.open.get(event.address)
            if entry is None or not entry.ledgers:
                return []
            return settling(event.address, entry.ledgers, entry.reserve, event.spent)
        case ActionResolved():
            return _settle(head, event.address)
        case RunCompleted() | RunFailed() | RunCancelled():
            return [move for address in head.open for move in _settle(head, address)]
        case _:
            return []


def _hold(head: Head, event: ActionRequested | AttemptStarted) -> list[Move]:
    return holding(event.address, head.ledgers or {}, event.time, event.reserve)


def _settle(head: Head, address: str) -> list[Move]:
    """Charge what an action still holds: nobody has said what it took."""
    entry = head.open.get(address)
    if entry is None or not entry.ledgers:
        return []
    return settling(address, entry.ledgers, entry.reserve, None)


def carried(
    booked: Iterable[Move], find: Callable[[str], Balance]
) -> tuple[dict[str, Balance], GatebookError | None]:
    """Return the balances that moves leave, in order, and why they are refused, None if not.

    Args:
        find: returns a ledger's balance by its key.
    """
    changed: dict[str, Balance] = {}
    for move in booked:
        balance = changed[move.ledger] if move.ledger in changed else find(move.ledger)
        if move.limits is not None:
            short = refusal(move.ledger, move.limits, balance, move.reserved)
            if short is not None:
                return {}, refused(move.address, short)
        changed[move.ledger] = move.on(balance)
    return changed, None
