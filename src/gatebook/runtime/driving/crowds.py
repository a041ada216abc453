"""Fan-out: how many actions one step may ask for at once, and the refusal of the others.

What is beyond is known from the step alone, not from what was looked at before: whoever takes the
run up half way refuses the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gatebook.errors import GatebookError
from gatebook.kernel.actions import CallTool
from gatebook.kernel.events import ActionDenied, DecisionRecord, ErrorRecord
from gatebook.kernel.hooks.answers import BELOW
from gatebook.kernel.redact import Redactor
from gatebook.kernel.refusals import redacted
from gatebook.ports import MAX_FANOUT, Program, Want
from gatebook.runtime.replay import Replay

Beyond = Mapping[str, GatebookError]  # why each is refused, by address

NOTHING_BEYOND: Beyond = {}


class Crowd:
    """What a run's steps ask for beyond the fan-out.

    An agent starts the calls of a turn one after another: under a budget of fan-out their place
    in the turn counts, and not how many are asked for in one step.
    """

    def __init__(self, program: Program[Any, Any], replay: Replay) -> None:
        self._by_turn = program.kind == "agent"
        self._replay = replay

    def beyond(self, wants: Sequence[Want], budget: int | None) -> Beyond:
        """Return what of these is refused, under the run's own budget of fan-out if it has one."""
        if self._by_turn and budget is not None:
            places = {want.address: _place_in_turn(want) for want in wants}
            return _over({a: (n, n + 1) for a, n in places.items()}, min(budget, MAX_FANOUT))
        crowds = self._replay.crowds
        if not crowds:
            return NOTHING_BEYOND
        return _over(crowds, MAX_FANOUT if budget is None else min(budget, MAX_FANOUT))


def _place_in_turn(want: Want) -> int:
    if not isinstance(want.action, CallTool) or BELOW in want.address:
        return 0
    return int(want.address.rpartition(".")[2])


def _over(places: Mapping[str, tuple[int, int]], limit: int) -> Beyond:
    return {
        address: GatebookError("E_FANOUT", count=count, limit=limit)
        for address, (place, count) in places.items()
        if place >= limit
    }


def refusal(
    want: Want, error: GatebookError, redactor: Redactor, tools: Mapping[str, Any]
) -> ActionDenied:
    """Return the denial of a want that is beyond."""
    return ActionDenied(
        address=want.address,
        action=redacted(want.action, redactor, tools),
        decision=DecisionRecord("deny", code=error.code),
        error=ErrorRecord.of(error),
    )
