"""What a hook's answer means: the event that records it, and what it makes of its subject.

Pure. A before-answer is applied by whoever folds its event, live and on replay alike.
"""

from typing import Any

import msgspec

from gatebook.errors import GatebookError, InvalidInput, printable, shown
from gatebook.kernel.actions import CallTool
from gatebook.kernel.events import ErrorRecord, HookAnswered
from gatebook.kernel.hooks.declared import AFTER, BEFORE, Change, Deny, Hook
from gatebook.kernel.hooks.subjects import ModelWanted, Subject
from gatebook.kernel.messages import Message
from gatebook.kernel.redact import Redactor

BELOW = "~"  # between the address of what a hook is asked about and what it does itself
MAX_REASON = 400  # characters of a reason that are kept


def place_of_acts(address: str, hook: str, attempt: int) -> str:
    """Return what the addresses of all that a hook does itself begin with."""
    return f"{address}{BELOW}{hook}.{attempt}."


def heard(
    hook: Hook[Any], subject: Subject, said: Any, redactor: Redactor
) -> tuple[HookAnswered, Subject]:
    """Return the event of what a hook said, and its subject after that."""
    name, rights = hook.spec.name, hook.spec.rights
    if said is None:
        return _event(hook, subject), subject
    if type(said) is Deny:
        if "deny" not in rights:
            return failed(hook, subject, GatebookError("E_HOOK_RIGHTS", hook=name, right="deny"))
        return _event(hook, subject, "deny", _denial(hook, subject, said, redactor)), subject
    if type(said) is not Change:
        return failed(hook, subject, GatebookError("E_HOOK_ANSWER", hook=name, detail=shown(said)))
    if "change" not in rights:
        return failed(hook, subject, GatebookError("E_HOOK_RIGHTS", hook=name, right="change"))
    try:
        after, change = subject.changed(said.value, redactor)
    except InvalidInput as exc:
        detail = redactor.text(str(exc))
        return failed(hook, subject, GatebookError("E_HOOK_ANSWER", hook=name, detail=detail))
    if after.digest() == subject.digest():
        return _event(hook, subject), subject
    event = _event(hook, subject, "change")
    return msgspec.structs.replace(event, made=after.digest(), change=change), after


def failed(hook: Hook[Any], subject: Subject, error: GatebookError) -> tuple[HookAnswered, Subject]:
    """Return the event of a hook that gave no answer; what it means is its failure mode."""
    record = ErrorRecord(error.code, printable(str(error)))
    event = _event(hook, subject, "failed", record)
    return msgspec.structs.replace(event, stops=hook.spec.on_failure == "closed"), subject


def _event(
    hook: Hook[Any], subject: Subject, verdict: Any = "pass", error: ErrorRecord | None = None
) -> HookAnswered:
    return HookAnswered(
        point=subject.point,
        hook=hook.spec.name,
        verdict=verdict,
        address=subject.address,
        attempt=subject.attempt,
        saw=subject.digest(),
        error=error,
        stops=error is not None,
    )


def _denial(hook: Hook[Any], subject: Subject, said: Deny, redactor: Redactor) -> ErrorRecord:
    reason: Any = said.reason
    text = redactor.text(reason[:MAX_REASON]) if isinstance(reason, str) and reason else ""
    name, what = hook.spec.name, subject.what
    code = "E_HOOK_WITHHELD" if subject.point in AFTER else "E_HOOK_DENIED"
    error = GatebookError(code, hook=name, what=what, detail=printable(text) or "no reason given")
    return ErrorRecord.of(error)


def withheld(event: HookAnswered, what: str) -> ErrorRecord:
    """Return the error that stands for a result which a hook withheld."""
    assert event.error is not None
    if event.error.code == "E_HOOK_WITHHELD":
        return event.error
    detail = event.error.message
    error = GatebookError("E_HOOK_WITHHELD", hook=event.hook, what=what, detail=detail)
    return ErrorRecord.of(error)


def applied(
    action: Any, messages: tuple[Message, ...], event: HookAnswered
) -> tuple[Any, tuple[Message, ...]]:
    """Return a wanted action and its conversation after a recorded before-answer."""
    if event.verdict != "change":
        return action, messages
    if isinstance(action, CallTool):
        return msgspec.structs.replace(action, args=event.change), messages
    wanted = ModelWanted(event.address, action, messages).spliced(event.change)
    return wanted.action, wanted.messages


class HookLog:
    """What hooks have answered in a run, as a fold of its events; nothing of it is asked again.

    Attributes:
        answered: addresses of wanted actions whose hooks have all answered.
        refused: those of them that are not to be requested, and why.
        start, end: the last answer at the run's own points, None before it.
        acted: what hooks asked for themselves, by address.
        acts: what became of it (outcomes), by address.
    """

    __slots__ = ("acted", "acts", "answered", "end", "refused", "start")

    def __init__(self) -> None:
        self.answered: set[str] = set()
        self.refused: dict[str, HookAnswered] = {}
        self.acted: dict[str, Any] = {}
        self.acts: dict[str, Any] = {}
        self.start: HookAnswered | None = None
        self.end: HookAnswered | None = None

    @property
    def refuses(self) -> bool:
        """Whether something was refused that may not have had its consequence yet."""
        said = [self.start, self.end, *self.refused.values()]
        return any(event is not None and event.stops for event in said)

    def refused_run(self, code: str) -> bool:
        """Whether a hook ended the run, with this code."""
        said = [self.start, self.end]
        return any(e is not None and e.error is not None and e.error.code == code for e in said)

    def take(self, event: HookAnswered) -> None:
        """Take in one more answer, in journal order."""
        if event.point == "on_run_start":
            self.start = event
        elif event.point == "on_run_end":
            self.end = event
        elif event.point in BEFORE:
            self.answered.add(event.address)
            if event.stops:
                self.refused[event.address] = event
