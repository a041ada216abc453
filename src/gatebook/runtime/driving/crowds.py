"""Fan-out: how many actions one step may ask for at once, and the refusal of the others."""

from collections.abc import Mapping, Sequence
from typing import Any

from gatebook.errors import GatebookError
from gatebook.kernel.actions import CallTool
from gatebook.kernel.events import ActionDenied, DecisionRecord, ErrorRecord
from gatebook.kernel.redact import Redactor
from gatebook.kernel.refusals import redacted
from gatebook.ports import MAX_FANOUT, Program, Want


class Crowd:
    """What a run's steps asked for beyond the fan-out; refused one batch after another.

    Attributes:
        beyond: addresses of what is refused.
    """

    def __init__(self, program: Program[Any, Any]) -> None:
        self._by_place = program.kind == "agent"
        self._limit = MAX_FANOUT
        self.beyond: set[str] = set()

    def watch(self, wants: Sequence[Want], budget: int | None) -> None:
        """Look at what a step asks for, under the run's own budget of fan-out if it has one."""
        if len(wants) > MAX_FANOUT:
            self.beyond.update(want.address for want in wants[MAX_FANOUT:])
        if budget is not None:
            self._limit = min(budget, MAX_FANOUT)
            self.beyond.update(self._over_budget(wants, budget))

    def _over_budget(self, wants: Sequence[Want], budget: int) -> list[str]:
        """An agent starts the calls of a turn one after another: their place in it counts."""
        if not self._by_place:
            return [want.address for want in wants[budget:]]
        calls = [want.address for want in wants if isinstance(want.action, CallTool)]
        return [address for address in calls if int(address.rpartition(".")[2]) >= budget]

    def refusal(self, want: Want, redactor: Redactor, tools: Mapping[str, Any]) -> ActionDenied:
        """Return the denial of a want that is beyond."""
        count = len(self.beyond) + self._limit
        error = GatebookError("E_FANOUT", count=count, limit=self._limit)
        return ActionDenied(
            address=want.address,
            action=redacted(want.action, redactor, tools),
            decision=DecisionRecord("deny", code=error.code),
            error=ErrorRecord.of(error),
        )
