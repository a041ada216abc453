"""Result rules at the runtime: what an attempt brought back becomes what may be seen of it."""

import copy
from collections.abc import Mapping

from msgspec.structs import replace

from gatebook.errors import EXITS, GatebookError, Permanent
from gatebook.kernel.actions import Action, CallTool
from gatebook.kernel.artifacts import artifact_of
from gatebook.kernel.codec import NULL
from gatebook.kernel.events import ActionFailed, ActionSucceeded, AnyEvent
from gatebook.kernel.grounds import Grounds
from gatebook.kernel.policies import result_judge
from gatebook.kernel.policy import Policy
from gatebook.kernel.results import JudgedResult, judge_result, undecided
from gatebook.kernel.tools import Effect
from gatebook.ports import Tool
from gatebook.runtime.performing.ended import Ended


class Results:
    """Looks at what comes back, for one run.

    Args:
        policy: in force.
        grounds: what decisions about the run share.
        tools: of the program, with the labels that their results bring in.

    Attributes:
        idle: nothing of it is in use: there is nothing to look at.
    """

    __slots__ = ("_grounds", "_returns", "_sees", "idle")

    def __init__(self, policy: Policy, grounds: Grounds, tools: Mapping[str, Tool]) -> None:
        self._sees = result_judge(policy)
        self._grounds = grounds
        self._returns = {name: found for name, t in tools.items() if (found := t.spec.returns)}
        self.idle = self._sees is None and not self._returns

    def look(
        self, address: str, action: Action, effect: Effect, ended: Ended
    ) -> tuple[Ended, JudgedResult | None]:
        """Decide about the end of an attempt; return what of it may be seen.

        The end itself stays whole: when its record is refused, it is looked at again. None when
        there is nothing to record beside the outcome.
        """
        if self.idle:
            return ended, None
        returns = self._returns.get(action.tool, ()) if isinstance(action, CallTool) else ()
        try:
            if self._sees is None or not self._sees(action):
                return ended, JudgedResult(ended.output, returns) if returns else None
        except EXITS:
            raise
        except BaseException as exc:  # noqa: BLE001 - somebody's policy; nothing may be seen then
            error = GatebookError("E_POLICY_ERROR", detail=type(exc).__name__)
            judged = undecided(action, error, self._grounds)
        else:
            judged = judge_result(address, action, effect, ended.output, self._grounds)
        if returns:
            labels = tuple(sorted({*judged.labels, *returns}))
            judged = replace(judged, labels=labels)
        return _seen(ended, judged), judged

    def kept_back(self, ended: Ended) -> Ended:
        """Return nothing of an end that nobody can decide about, if anything might have a say."""
        if self._sees is None:
            return ended
        return replace(ended, output=None, error=Permanent("its result was not looked at"))

    def arrived(
        self, action: Action, event: ActionSucceeded
    ) -> tuple[ActionSucceeded, JudgedResult | None]:
        """Return the end of a wait with its signal as it may be seen."""
        seen, judged = self.look(event.address, action, "read", Ended(output=event.output))
        if judged is not None:
            event = replace(event, output=seen.output or NULL)
        return event, judged


def with_judged(event: AnyEvent, judged: JudgedResult) -> AnyEvent:
    """Return an outcome with the labels it brings in and the decision about it."""
    if isinstance(event, ActionSucceeded | ActionFailed):
        return replace(event, labels=judged.labels, decision=judged.decision)
    return event


def _seen(ended: Ended, judged: JudgedResult) -> Ended:
    """Return an end as it may be seen; of a half answer nobody decided."""
    if ended.error is not None:
        error = copy.copy(ended.error)
        error.fields = {name: value for name, value in error.fields.items() if name != "partial"}
        if judged.withheld and judged.decision is not None:
            error.message = judged.decision.reason
        return replace(ended, error=error)
    if judged.withheld:
        return replace(ended, output=NULL, artifact=None)
    if judged.output is None or judged.output is ended.output:
        return ended
    long = len(output := bytes(judged.output)) > ended.shown
    artifact = artifact_of(output, limit=ended.shown) if long else None
    return replace(ended, output=judged.output, artifact=artifact)
