"""Whose turn it is: which hooks must answer before a run goes on, and what their answers mean.

The planner's side of hooks. Asks nobody itself; what it wants asked goes to `Hooking`.
"""

from collections.abc import Callable, Sequence, Set
from typing import Any

from gatebook.kernel.actions import CallLLM, CallTool
from gatebook.kernel.events import (
    ActionDenied,
    ActionRequested,
    AnyEvent,
    DecisionRecord,
    ErrorRecord,
    HookAnswered,
    RunFailed,
    RunStarted,
)
from gatebook.kernel.hooks.answers import BELOW
from gatebook.kernel.hooks.subjects import ModelWanted, RunBegins, RunEnds, Subject, ToolWanted
from gatebook.kernel.refusals import redacted
from gatebook.kernel.status import Status
from gatebook.ports import Complete, Fail, Program, Want
from gatebook.runtime.hooks.calling import Hooking, Key
from gatebook.runtime.performing.ended import Ended
from gatebook.runtime.performing.permits import Permit
from gatebook.runtime.replay import Replay

START: Key = ("on_run_start", "")

Add = Callable[[AnyEvent], None]


class HookTurns:
    """The hooks of one run, as its planner knows them.

    Args:
        past: the events of the run as far as they are known; one that has asked for an action began
            before these hooks were there, and is not asked about its start.
    """

    def __init__(
        self,
        hooking: Hooking,
        replay: Replay,
        program: Program[Any, Any],
        past: Sequence[AnyEvent],
    ) -> None:
        started = past[0]
        assert isinstance(started, RunStarted)  # the fold allows no other first event
        self._hooking = hooking
        self._taken: list[Key] = []
        self._replay = replay
        self._started = started
        self._tools = program.tools
        self._redactor = hooking.redactor
        self._begun = any(isinstance(event, ActionRequested | ActionDenied) for event in past)
        hooking.drop_asks()
        hooking.acts.replay, hooking.acts.tools = replay, program.tools

    def stored(self) -> None:
        """Go on from a plan that is in the journal now: forget what it says, ask what it asks."""
        for key in self._taken:
            self._hooking.forget(key)
        self._taken.clear()
        self._hooking.launch()
        self._hooking.acts.deliver()

    async def after(self, permit: Permit, ended: Ended) -> Ended:
        """Return the end of an attempt as hooks leave it."""
        action = permit.request.action
        tool = self._tools.get(action.tool) if isinstance(action, CallTool) else None
        return await self._hooking.after(permit, tool, ended, self._started)

    def heard(self, add: Add, status: Status, *, quiet: bool) -> bool:
        """Record what hooks have said since; tell whether the run may go on from its start."""
        if status is Status.CANCELLING:
            self._stop_asking()
        elif quiet or status is Status.INTERRUPTED:
            self._hooking.cancel_acting()
        self._taken = list(self._hooking.answers)
        for key in self._taken:
            if self._stands(key):
                for event in self._hooking.answers[key]:
                    add(event)
        self._hooking.acts.want()
        return status is not Status.RUNNING or quiet or self._ask_before_start(add)

    def _stop_asking(self) -> None:
        for point in ("on_run_start", "before_tool", "before_model"):
            self._hooking.cancel(point)
        self._hooking.cancel("on_run_end", but="cancelled")

    def _stands(self, key: Key) -> bool:
        point, address = key
        log = self._replay.hooks
        if point == "on_run_start":
            return log.start is None
        if point == "on_run_end":
            return log.end is None
        return address in self._replay.pending and address not in log.answered

    def _ask_before_start(self, add: Add) -> bool:
        """Ask the hooks of the start; return whether the run may go on, end it if one refuses."""
        if self._begun:
            return True
        said = self._replay.hooks.start
        if said is None and self._hooking.hooks.at("on_run_start"):
            self._hooking.ask(START, RunBegins(self._started), self._started)
            return False
        if said is not None and said.stops:
            add(RunFailed(error=_error(said), denied=True))
            return False
        self._begun = True
        return True

    def ready(self, wants: Sequence[Want], refused: Set[str]) -> list[Want]:
        """Return the wants that may go to the gate; the hooks of the others are asked."""
        return [want for want in wants if want.address in refused or self._ask_or_pass(want)]

    def _ask_or_pass(self, want: Want) -> bool:
        """Return whether a want may go to the gate; else its hooks are asked."""
        if want.address in self._replay.hooks.answered or BELOW in want.address:
            return True
        action = want.action
        subject: Subject
        if isinstance(action, CallTool):
            subject = ToolWanted(want.address, action)
            asked = self._hooking.hooks.at("before_tool", action.tool)
        elif isinstance(action, CallLLM):
            subject = ModelWanted(want.address, action, want.messages)
            asked = self._hooking.hooks.at("before_model")
        else:
            return True
        if not asked:
            return True
        self._hooking.ask((subject.point, want.address), subject, self._started)
        return False

    def refusal(self, want: Want) -> ActionDenied | None:
        """Return the denial of an action that a hook refuses, None for one that may be decided."""
        said = self._replay.hooks.refused.get(want.address)
        if said is None:
            return None
        error = _error(said)
        rule = f"hook {said.hook}"
        return ActionDenied(
            address=want.address,
            action=redacted(want.action, self._redactor, self._tools),
            decision=DecisionRecord("deny", rule=rule, reason=error.message, code=error.code),
            error=error,
        )

    def ended(self, end: Complete | Fail) -> Complete | Fail | None:
        """Return the end as hooks leave it, None while they are asked."""
        if isinstance(end, Complete):
            output = self._redactor.raw(end.output)
            ending = RunEnds(self._started.program, "completed", output=output)
        else:
            text = self._redactor.text(end.error.message)
            ending = RunEnds(self._started.program, "failed", error=text)
        said = self._heard(ending)
        if said is None:
            return None
        return Fail(_error(said), denied=True) if isinstance(end, Complete) and said.stops else end

    def ask_before_cancel(self) -> bool:
        """Tell hooks that the run ends as cancelled; return whether all of them know."""
        return self._heard(RunEnds(self._started.program, "cancelled")) is not None

    def _heard(self, ending: RunEnds) -> HookAnswered | None:
        hooking, said = self._hooking, self._replay.hooks.end
        if said is None and not hooking.hooks.at("on_run_end"):
            return _NOBODY
        if said is None:
            hooking.cancel("on_run_end", but=ending.status)
            hooking.ask(("on_run_end", ending.status), ending, self._started)
        return said


_NOBODY = HookAnswered(point="on_run_end", hook="")


def _error(said: HookAnswered) -> ErrorRecord:
    assert said.error is not None
    return said.error
