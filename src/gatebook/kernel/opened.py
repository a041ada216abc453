"""An open action: requested, and without a final outcome yet."""

from typing import Literal

import msgspec

from gatebook.kernel.budget import NOTHING, Amount

Phase = Literal["started", "backoff", "unknown"]


class Open(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A requested action without a final outcome.

    Attributes:
        phase: an attempt runs, waits to be repeated, or has an unknown outcome.
        attempt: the last attempt that started, from 0.
        reserve: what that attempt holds of the budget.
        due: when the next thing is due (microseconds UTC): a sleep's end, a wait's timeout, a
            back-off's end; None when only an outcome can move it.
        lost: how many attempts died with their worker.
        epoch: of the worker that started the last attempt.
        route: the model route of that attempt, in a back-off of the next; "" for the first.
        since: the first attempt on that route.
        ledgers: keys of the ledgers that hold `reserve` too.
    """

    phase: Phase = "started"
    attempt: int = 0
    reserve: Amount = NOTHING
    due: int | None = None
    lost: int = 0
    epoch: int = 0
    route: str = ""
    since: int = 0
    ledgers: tuple[str, ...] = ()


def routed(entry: Open, route: str) -> tuple[str, int]:
    """Return the route an action is on after an event that names it, and its first attempt."""
    return (route, entry.since) if route == entry.route else (route, entry.attempt + 1)
