"""Replay: stepping a program along a journal, to check it or to come to where the run stands.

Knows the program contract and the events. Performs nothing, reads no clock, appends nothing.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from gatebook.errors import Diverged, InvalidInput
from gatebook.kernel.actions import (
    Action,
    CallLLM,
    CallTool,
    WaitSignal,
    describe,
    rerouted,
    same_action,
)
from gatebook.kernel.approvals.events import ActionDeferred, ApprovalAsked
from gatebook.kernel.codec import NULL
from gatebook.kernel.events import (
    ActionDenied,
    ActionFailed,
    ActionRequested,
    ActionResolved,
    ActionSucceeded,
    AnyEvent,
    ErrorRecord,
    Event,
    HookAnswered,
    Note,
    RunCancelled,
    RunCompleted,
    RunFailed,
)
from gatebook.kernel.hooks.answers import BELOW, HookLog, applied
from gatebook.kernel.redact import MARKED
from gatebook.ports import Complete, Fail, Outcome, Recorded, Stepper, Tool, Want

Normalise = Callable[[CallTool], bytes]

LOST = ErrorRecord("E_ACTION", "resolved as failed")


def final_args(tools: Mapping[str, Tool]) -> Normalise:
    """Return the function that gives a call's arguments as the gate would record them."""

    def normalise(action: CallTool) -> bytes:
        return tools[action.tool].validate(bytes(action.args))

    return normalise


class Replay:
    """One program moving along one run's events; after `feed`, it is where the journal is.

    Args:
        stepper: fresh, at the beginning of the run; stepped at once. None: nobody asks the program
            any more, of a run that was cancelled; what is recorded is what was wanted.
        normalise: the final bytes of a tool call's arguments, see `final_args`.
        clean: a log line as it is written, secrets left out.

    Attributes:
        pending: what the program wants and the journal does not have yet, by address, in order.
        crowds: of pending wants that one step asked for together: its place among them, and of
            how many.
        asked: the wants behind open requests, by address, until their final outcome.
        hooks: what hooks have answered; a before-answer changes the want it was about.
        notes: log lines the program wrote and the journal does not have yet.
        end: how the program ended, None while it goes on. It is not stepped after its end.
    """

    __slots__ = (
        "_clean", "_normalise", "_over", "_stepper", "asked", "crowds", "end", "hooks", "notes",
        "pending",
    )  # fmt: skip

    def __init__(
        self, stepper: Stepper | None, normalise: Normalise, *, clean: Callable[[str], str] = str
    ) -> None:
        self._stepper = stepper
        self._normalise = normalise
        self._clean = clean
        self._over = False
        self.pending: dict[str, Want] = {}
        self.crowds: dict[str, tuple[int, int]] = {}
        self.asked: dict[str, Want] = {}
        self.hooks = HookLog()
        self.notes: deque[str] = deque()
        self.end: Complete | Fail | None = None
        self._step(())

    def check(self, address: str, output: bytes) -> None:
        """Read an output as what waits at an address would; see `ports.Stepper.check`."""
        if self._stepper:
            self._stepper.check(address, output)

    def close(self) -> None:
        """Let go of the program's parked computation."""
        if self._stepper:
            self._stepper.close()

    def feed(self, event: AnyEvent, seq: int) -> None:
        """Follow one more event; events come in order, each once.

        Raises:
            Diverged: E_NONDETERMINISM when the program does not ask for what is recorded, or
                ends otherwise.
        """
        _FOLLOW.get(type(event), _pass_by)(self, event, seq)

    def _of_hook(self, event: ActionRequested | ActionDenied) -> None:
        """Note what a hook asked for itself: the program knows nothing of it."""
        self.hooks.acted[event.address] = event
        want = self.pending.pop(event.address, None)
        self.asked[event.address] = want or Want(event.address, event.action)

    def acted_alike(self, want: Want) -> bool:
        """Whether a hook asks for what is recorded at the address of its act."""
        event = self.hooks.acted[want.address]
        if isinstance(event, ActionDenied):
            return _same_kind(event.action, want.action)
        return self._agrees(event, want.action)

    def _requested(self, event: ActionRequested, seq: int) -> None:
        address = event.address
        if BELOW in address:
            self._of_hook(event)
            return
        want = self.pending.pop(address, None)
        if want is None:
            want = self._unasked(event, seq)
        if self.crowds:
            self.crowds.pop(address, None)
        recorded, wanted = event.action, want.action
        if recorded is not wanted and recorded != wanted and not self._agrees(event, wanted):
            raise _diverged(seq, address, recorded, wanted)
        self.asked[address] = want

    def _denied(self, event: ActionDenied, seq: int) -> None:
        if BELOW in event.address:
            self._of_hook(event)
            self._show(event, seq)
            return
        want = self.pending.pop(event.address, None)
        if want is None:
            want = self._unasked(event, seq)
        self.crowds.pop(event.address, None)
        if not _same_kind(event.action, want.action):
            raise _diverged(seq, event.address, event.action, want.action)
        self._show(event, seq)

    def _hooked(self, event: HookAnswered, seq: int) -> None:
        self.hooks.take(event)
        want = self.pending.get(event.address)
        if want is not None:
            action, messages = applied(want.action, want.messages, event)
            self.pending[event.address] = msgspec.structs.replace(
                want, action=action, messages=messages
            )

    def _held(self, event: ApprovalAsked | ActionDeferred, seq: int) -> None:
        """Follow what waits before it may start; other arguments are the gate's to refuse.

        A hook that waits for its act asks for it again, and it is pending then.
        """
        if event.address not in self.pending and BELOW not in event.address:
            self._unasked(event, seq)

    def _noted(self, event: Note, seq: int) -> None:
        if self.notes and self.notes[0] == event.text:
            self.notes.popleft()

    def _show(
        self, event: ActionSucceeded | ActionFailed | ActionDenied | ActionResolved, seq: int
    ) -> None:
        """Step the program with what became of an action."""
        outcome = outcome_of(event, seq)
        if outcome is None:
            return
        address = outcome.address
        self.asked.pop(address, None)
        if BELOW in address:
            self.hooks.acts[address] = outcome
        elif self.end is None and not self._over:
            self._step((outcome,))

    def _unasked(
        self, event: ActionRequested | ActionDenied | ApprovalAsked | ActionDeferred, seq: int
    ) -> Want:
        """Return what is recorded as wanted where nobody asks the program.

        Raises:
            Diverged: somebody does, and it wants something else.
        """
        if self._stepper is None:
            return Want(event.address, event.action)
        got = ", ".join(_spelt(a, w.action) for a, w in self.pending.items()) or "nothing"
        want = _spelt(event.address, event.action)
        raise Diverged("E_NONDETERMINISM", seq=seq, got=got, want=want)

    def _agrees(self, event: ActionRequested, wanted: Action) -> bool:
        recorded = event.action
        if same_action(recorded, wanted):
            return True
        modified = event.decision.verdict == "modify" or event.decision.patch != NULL
        if isinstance(recorded, CallLLM) and isinstance(wanted, CallLLM) and modified:
            return same_action(recorded, rerouted(wanted, recorded))
        if not isinstance(recorded, CallTool) or not isinstance(wanted, CallTool):
            return False
        if not same_action(recorded, msgspec.structs.replace(wanted, args=recorded.args)):
            return False
        if modified:
            return True
        try:
            return self._normalise(wanted) == bytes(recorded.args)
        except (InvalidInput, KeyError):
            return False

    def _step(self, outcomes: tuple[Outcome, ...]) -> None:
        if self._stepper is None:
            return
        step = self._stepper.step(outcomes)
        wants = step.wants
        for want in wants:
            self.pending[want.address] = want
        if len(wants) > 1:
            count = len(wants)
            self.crowds.update((want.address, (n, count)) for n, want in enumerate(wants))
        if step.notes:
            self.notes.extend(map(self._clean, step.notes))
        self.end = step.end

    def _finish(self, event: RunCompleted | RunFailed | RunCancelled, seq: int) -> None:
        self._over = True
        match event, self.end:
            case RunCompleted(), Complete() if bytes(event.output) == bytes(self.end.output):
                return
            case RunFailed(), Fail() if event.error.code == self.end.error.code:
                return
            case (RunFailed(), None) | (RunCancelled(), _):
                return
            case RunFailed(), Complete() if event.error.code == "E_OUTPUT":
                return  # the runtime does not store an output that holds a secret
            case RunFailed(), _ if self.hooks.refused_run(event.error.code):
                return
            case _:
                got, want = _ending(self.end), _ending(event)
                raise Diverged("E_NONDETERMINISM", seq=seq, got=got, want=want)


def outcome_of(
    event: ActionSucceeded | ActionFailed | ActionDenied | ActionResolved, seq: int
) -> Outcome | None:
    """Return what a program is shown for an event: the final outcome of an action, or None."""
    if type(event) is ActionSucceeded:
        if event.decision is not None and event.decision.withholds:
            told = event.decision.told
            return Outcome(event.address, "denied", seq, event.time, error=told)
        return Outcome(
            event.address, "succeeded", seq, event.time, event.output, None, event.artifact
        )
    if type(event) is ActionFailed:
        return Outcome(event.address, "failed", seq, event.time, error=event.error)
    if type(event) is ActionDenied:
        return Outcome(event.address, "denied", seq, event.time, error=event.error)
    match event:
        case ActionResolved(resolution="succeeded"):
            return Outcome(event.address, "succeeded", seq, event.time, event.output)
        case ActionResolved(resolution="failed"):
            return Outcome(event.address, "failed", seq, event.time, error=event.error or LOST)
        case _:
            return None


def _pass_by(replay: Replay, event: Event, seq: int) -> None:
    """Follow what the program never learns of."""


_FOLLOW: dict[type[Event], Callable[[Replay, Any, int], None]] = {
    ActionRequested: Replay._requested,
    ActionDenied: Replay._denied,
    ActionSucceeded: Replay._show,
    ActionFailed: Replay._show,
    ActionResolved: Replay._show,
    ApprovalAsked: Replay._held,
    ActionDeferred: Replay._held,
    HookAnswered: Replay._hooked,
    Note: Replay._noted,
    RunCompleted: Replay._finish,
    RunFailed: Replay._finish,
    RunCancelled: Replay._finish,
}


class ReplayReport(msgspec.Struct, frozen=True):
    """What a replay saw. `pending` names what the program would ask for next."""

    events: int
    actions: int
    pending: tuple[str, ...]
    ended: bool


def replay(stepper: Stepper, normalise: Normalise, recorded: Iterable[Recorded]) -> ReplayReport:
    """Step a program over a whole journal, with no effect and no clock.

    Raises:
        Diverged: the program no longer asks for what the journal records.
    """
    along = Replay(stepper, normalise)
    events = actions = 0
    try:
        for each in recorded:
            along.feed(each.event, each.seq)
            events += 1
            actions += isinstance(each.event, ActionRequested | ActionDenied)
    finally:
        along.close()
    return ReplayReport(events, actions, tuple(along.pending), along.end is not None)


def _same_kind(recorded: Action, wanted: Action) -> bool:
    """Whether a refused action is the one asked for; its bytes may have been redacted."""
    if isinstance(recorded, CallTool) and isinstance(wanted, CallTool):
        return recorded.tool == wanted.tool
    if isinstance(recorded, CallLLM) and isinstance(wanted, CallLLM):
        same_prompt = recorded.prompt.digest == wanted.prompt.digest
        return same_prompt or recorded.route == wanted.route  # a policy may have changed the route
    if isinstance(recorded, WaitSignal) and isinstance(wanted, WaitSignal):
        return recorded.name == wanted.name or MARKED in recorded.name
    return same_action(recorded, wanted)


def _diverged(seq: int, address: str, recorded: Action, wanted: Action) -> Diverged:
    want, got = _spelt(address, recorded), _spelt(address, wanted)
    if want == got:
        want, got = f"{want} as recorded", f"{got} with other settings"
    return Diverged("E_NONDETERMINISM", seq=seq, got=got, want=want)


def _spelt(address: str, action: Action) -> str:
    args = f" {bytes(action.args).decode()[:40]}" if isinstance(action, CallTool) else ""
    return f"{describe(action)}{args} at {address}"


def _ending(end: Complete | Fail | RunCompleted | RunFailed | RunCancelled | None) -> str:
    match end:
        case None:
            return "no end yet"
        case Complete() | RunCompleted():
            return f"completed with {bytes(end.output).decode()[:40]}"
        case Fail() | RunFailed():
            return f"failed with {end.error.code}"
        case RunCancelled():
            return "cancelled"
