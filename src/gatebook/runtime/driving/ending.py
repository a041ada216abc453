"""How a run ends: what is still open is answered, then the last event is said. No I/O.

Knows state, program and services of one driven run; events go to its planner, one by one.
"""

import logging
from collections.abc import Callable, Set
from typing import Any

from gatebook.errors import GatebookError
from gatebook.kernel.actions import describe
from gatebook.kernel.append import MAX_EVENTS, WARN_EVENTS
from gatebook.kernel.events import (
    DOUBTFUL,
    ActionFailed,
    ActionUnknown,
    AnyEvent,
    ErrorRecord,
    RunCancelled,
    RunCompleted,
    RunFailed,
)
from gatebook.kernel.opened import Open
from gatebook.kernel.redact import Redactor
from gatebook.kernel.state import RunState
from gatebook.ports import Complete, Program
from gatebook.runtime.hooks.turns import HookTurns
from gatebook.runtime.replay import Replay

_log = logging.getLogger(__name__)


class Ending:
    """The end of one driven run.

    Attributes:
        begun: the program has ended or was cancelled: attempts that still run should stop.
        turns: whose hooks must be asked first; None without hooks.
        long_from: the seq from which the run is too long, or long and not told to be so yet.
    """

    def __init__(
        self,
        run: str,
        program: Program[Any, Any],
        state: RunState,
        replay: Replay,
        *,
        redactor: Redactor,
        add: Callable[[AnyEvent], None],
    ) -> None:
        self._run, self._program = run, program
        self._state, self._replay = state, replay
        self._redactor, self._add = redactor, add
        self.begun = False
        self.turns: HookTurns | None = None
        self.long_from = WARN_EVENTS

    def finish(self, running: Set[str], *, more: bool) -> None:
        """End the run if its program has ended, or has become too long; `more` is to come first."""
        head, end = self._state.head, self._replay.end
        if self.long_from <= head.seq < MAX_EVENTS:
            self.long_from = MAX_EVENTS
            told = GatebookError("W_RUN_LONG", run=self._run, seq=head.seq, limit=MAX_EVENTS)
            _log.warning("%s", told, extra={"run": self._run})
        if end is None and head.seq >= MAX_EVENTS:
            self.wind_up(running, cancelled=False)
            end = self._replay.end
            if end is None and not self._unanswered():
                error = GatebookError("E_RUN_TOO_LONG", run=self._run, limit=MAX_EVENTS)
                self._add(RunFailed(error=ErrorRecord.of(error), denied=True))
        if end is None or more:
            return
        self.wind_up(running, cancelled=False)
        if self._unanswered():
            return
        if self.turns and (end := self.turns.ended(end)) is None:
            return
        if isinstance(end, Complete):
            self._complete(end)
        else:
            text = self._redactor.text(end.error.message)
            record = ErrorRecord(end.error.code, text, end.error.kind, end.error.category)
            self._add(RunFailed(error=record, denied=end.denied))

    def _complete(self, end: Complete) -> None:
        if self._redactor.raw(end.output) is end.output:
            self._add(RunCompleted(output=end.output))
            return
        error = GatebookError("E_OUTPUT", program=self._program.name, detail="it holds a secret")
        self._add(RunFailed(error=ErrorRecord.of(error)))

    def _unanswered(self) -> bool:
        return any(entry.phase != "unknown" for entry in self._state.head.open.values())

    def wind_up(self, running: Set[str], *, cancelled: bool) -> None:
        """Answer every open action that nothing runs for, then end a cancelled run."""
        self.begun = True
        for address, entry in list(self._state.head.open.items()):
            if entry.phase == "unknown" or address in running:
                continue
            request = self._state.requests[address]
            name = describe(request.action)
            acted = entry.phase == "started" or address in self._state.doubts
            if acted and request.effect != "read":
                error = GatebookError("E_UNKNOWN_CANCELLED", tool=name)
                self._add(unknown(address, entry, error))
            else:
                error = GatebookError("E_ACTION_CANCELLED", tool=name, detail="ended")
                record = ErrorRecord.of(error)
                self._add(ActionFailed(address=address, attempt=entry.attempt, error=record))
        if not cancelled or self._unanswered():
            return
        if self.turns is None or self.turns.ask_before_cancel():
            self._add(RunCancelled(unknown=self._state.unknown))


def unknown(address: str, entry: Open, error: GatebookError) -> ActionUnknown:
    """Return the event that says: nobody knows how the last attempt of an action ended."""
    record = ErrorRecord(error.code, str(error), category=DOUBTFUL)
    return ActionUnknown(address=address, attempt=entry.attempt, error=record)
