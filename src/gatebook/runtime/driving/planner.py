"""The planner: from where a run stands to the events of its next append. No I/O, no waiting.

It folds what it plans at once, into the run's state and its program, so that the outcome of one
action and the requests that follow from it are one append. When that append is refused, state
and program are thrown away and rebuilt from the journal.
"""

from asyncio import _get_running_loop, _set_running_loop
from collections.abc import Mapping, Sequence, Set
from typing import Any

from gatebook.errors import GatebookError
from gatebook.kernel.actions import CALLS, WAITS, CallLLM, CallTool, Sleep, WaitSignal, describe
from gatebook.kernel.append import MAX_EVENTS, WARN_EVENTS, Batch, Draft
from gatebook.kernel.approvals.consent import admit_want, decide_again, lapses, ready
from gatebook.kernel.approvals.standing import NOBODY_ASKED
from gatebook.kernel.events import (
    ActionFailed,
    ActionRequested,
    ActionSucceeded,
    ActionUnknown,
    AnyEvent,
    AttemptStarted,
    Cause,
    EndOfAttempt,
    ErrorRecord,
    Interrupted,
    LedgersDeclared,
    Note,
    RunStarted,
)
from gatebook.kernel.grounds import Grounds
from gatebook.kernel.hooks.answers import BELOW
from gatebook.kernel.opened import Open
from gatebook.kernel.pins import Pins, pinned_by
from gatebook.kernel.policies import may_dawdle
from gatebook.kernel.policy import PolicyContext, wants_facts
from gatebook.kernel.results import JudgedResult
from gatebook.kernel.rules.past import Past
from gatebook.kernel.rules.policy import labels_of
from gatebook.kernel.spending.ledgers import Balance, Shared
from gatebook.kernel.spending.soft import moved
from gatebook.kernel.state import RunState
from gatebook.kernel.status import CANCELLING, RUNNING
from gatebook.ports import Lease, Program, Stretch, Want
from gatebook.runtime.driving.crowds import NOTHING_BEYOND, Crowd, refusal
from gatebook.runtime.driving.ending import Ending, unknown
from gatebook.runtime.driving.off_loop import off_the_loop
from gatebook.runtime.driving.outcomes import cleaned, failed, succeeded
from gatebook.runtime.driving.results import Results, with_judged
from gatebook.runtime.performing.ended import Ended
from gatebook.runtime.replay import Replay
from gatebook.runtime.services import Services

MAX_LOST = 3  # attempts that may die with their worker before a person must look
MAX_BATCH = 500  # events of one append; more go into the next


class Planner:
    """One driven run: its state, its program, and what to append next.

    Attributes:
        events: what `plan` has planned and not yet seen committed.
        program, started: what the run is a run of.
        ending: how the run ends; once it has begun, attempts that still run should stop.
        more: the last plan was cut short by its size.
        balances: of ledgers, for the next plan, when one of them could not carry the last.
    """

    def __init__(
        self,
        state: RunState,
        replay: Replay,
        *,
        services: Services,
        program: Program[Any, Any],
        lease: Lease,
        started: RunStarted,
    ) -> None:
        self.state = state
        self.replay = replay
        self.events: list[AnyEvent] = []
        self.more = False
        self.balances: dict[str, Balance] | None = None
        self._services = services
        self.program = program
        self._lease = lease
        self._now = 0
        self._draft: Draft
        self._loop = _get_running_loop()
        self.started = started
        self.ending = Ending(
            lease.run.id, program, state, replay,
            redactor=services.redactor, add=self._add,
        )  # fmt: skip
        self._past: Past | None = None
        if wants_facts(services.policy):
            specs = {name: tool.spec for name, tool in program.tools.items()}
            self._past = Past(labels_of(services.policy, specs, program.name))
        self._ledgers = dict(services.ledgers) or None
        self._crowd = Crowd(program, replay)
        self._shared: Shared | None = None
        self._grounds = Grounds(
            policy=services.policy,
            policy_digest=services.policy_digest,
            state=state,
            base=PolicyContext(
                run_id=lease.run.id,
                tenant=lease.run.tenant,
                program=program.name,
                address="",
                tools=frozenset(program.tools),
                models=frozenset(program.models),
                labels=started.labels,
            ),
            tools=program.tools,
            redactor=services.redactor,
            price=services.prices.price,
            run=None if self._past is None else self._past.facts,
            secrets=services.secrets.names,
            pins=Pins(started.pins, pinned_by(services.policy)),
            watch=services.clock.monotonic if may_dawdle(services.policy) else None,
        )
        self._results = Results(services.policy, self._grounds, program.tools)

    def plan(
        self,
        now: int,
        results: Mapping[str, tuple[int, Ended]],
        running: Set[str],
        *,
        quiet: bool = False,
        append_id: bytes = b"",
    ) -> list[AnyEvent]:
        """Return the events to append now, oldest cause first; empty when nothing is to be said.

        `batch` gives them with all an append needs.

        Args:
            now: the stamp to plan with, not below the run's last one.
            results: ended attempts that are not recorded yet: address -> (attempt, how).
            running: addresses with an attempt in flight.
            quiet: record what has happened and start nothing.
            append_id: of the append these events will be.
        """
        head, lease = self.state.head, self._lease
        self._draft = Draft(head, lease.run.id, append_id, lease.epoch, now)
        self.events, self.more, self._now = self._draft.events, False, now
        self._shared = None
        _set_running_loop(None)  # as `off_the_loop`, which takes four times as long
        try:
            self._record(results)
            turns = self.ending.turns
            if not turns or turns.heard(self._add, head.status, quiet=quiet):
                self._go_on(running, quiet)
        finally:
            _set_running_loop(self._loop)
        self.balances = None
        return self.events

    def batch(self) -> Batch:
        """Return what `plan` has planned as a batch to append."""
        return self._draft.finish()

    def _go_on(self, running: Set[str], quiet: bool) -> None:
        head = self.state.head
        if head.status is CANCELLING:
            self.ending.wind_up(running, cancelled=True)
        if head.status is not RUNNING:
            return
        if quiet:
            if self.ending.turns:
                self._admit(quiet=True)
            return
        if self._ledgers != (head.ledgers or None):
            self._add(LedgersDeclared(ledgers=self._ledgers or {}))
        if head.open and head.seq < MAX_EVENTS:  # a run that is full starts nothing again
            self._recover(running)
            if head.status is not RUNNING:
                return  # a person must look first
            self._fall_due()
        self._wake()
        self._admit()
        while not self.more and self._wake():
            self._admit()  # a new wait may find its signal kept
        if head.status is RUNNING and (self.replay.end or head.seq >= self.ending.long_from):
            self.ending.finish(running, more=self.more)

    def fold(self, stretch: Stretch) -> None:
        """Follow events that are in the journal already."""
        fold, note, feed = self.state.head.apply, self.state.note, self.replay.feed
        with off_the_loop(self._loop):
            for seq, event in enumerate(stretch.events, stretch.after + 1):
                fold(event)
                note(event)
                feed(event, seq)
        if self._past is not None:
            for event in stretch.events:
                self._past.apply(event)
        if stretch.events:
            self.state.head.hash = stretch.hash
            if not stretch.after and stretch.seq >= WARN_EVENTS:
                self.ending.long_from = MAX_EVENTS  # told when it became so long

    def _add(self, event: AnyEvent) -> None:
        fact, state = self._draft.add(event), self.state
        state.note(fact)
        if self._past is not None:
            self._past.apply(fact)
        self.replay.feed(fact, state.head.seq)

    def _as_it_stands(self, wants: Sequence[Want] = ()) -> Grounds:
        """Return the grounds of decisions about new wants at this moment of the plan."""
        grounds, head, soft = self._grounds, self.state.head, self.started.soft
        if head.limits.wall_ms is not None:
            grounds.share = sum(isinstance(want.action, CALLS) for want in wants)
        if soft:
            grounds.soft = moved(soft, self.started.limits, head.limits)
        ledgers = head.ledgers
        if ledgers and self._shared is None:  # one for a plan: it knows what that has reserved
            booked = (move for row in self._draft.rows for move in row.moves)
            self._shared = Shared(ledgers, self._now, self.balances, booked)
        grounds.shared = self._shared
        return grounds

    def _record(self, results: Mapping[str, tuple[int, Ended]]) -> None:
        state, looked = self.state, self._results
        for address, (attempt, whole) in results.items():
            entry = state.head.open.get(address)
            if entry is None or entry.attempt != attempt or entry.phase != "started":
                continue
            request = state.requests[address]
            ended, judged = whole, None
            if not looked.idle:
                ended, judged = looked.look(address, request.action, request.effect, whole)
            for answer in ended.answers:
                self._add(answer)
            if ended.note:
                self._add(Note(text=ended.note))
            if ended.error is None:
                self._settle(succeeded(address, attempt, ended), judged)
            else:
                self._settle(self._failed(request, entry, ended), judged)

    def _failed(self, request: ActionRequested, entry: Open, ended: Ended) -> AnyEvent:
        action, services = request.action, self._services
        tool = self.program.tools.get(action.tool) if isinstance(action, CallTool) else None
        decide = (services.policy, None if tool is None else tool.spec)
        doubted = request.address in self.state.doubts
        run_id = self._lease.run.id
        event = failed(run_id, request, entry, ended, decide=decide, doubted=doubted)
        return cleaned(event, services.redactor)

    def _settle(self, event: AnyEvent, judged: JudgedResult | None) -> None:
        """Add an outcome with what policy said of it, which may be that the run stops."""
        if judged is None:
            self._add(event)
            return
        self._add(with_judged(event, judged))
        if judged.stops and self.state.head.status is RUNNING:
            assert judged.decision is not None
            self._add(Interrupted(error=judged.decision.told))

    def outcome(self, request: ActionRequested, entry: Open, ended: Ended) -> AnyEvent:
        """Return what is to be recorded of an end when `plan` has raised; nothing is folded."""
        for event in self.events:
            if isinstance(event, EndOfAttempt) and event.address == request.address:
                return event
        action, effect = request.action, request.effect
        ended, judged = self._results.look(request.address, action, effect, ended)
        if ended.error is None:
            event = succeeded(request.address, entry.attempt, ended)
        else:
            event = self._failed(request, entry, ended)
        return event if judged is None else with_judged(event, judged)

    def seen(self, address: str, ended: Ended) -> Ended:
        """Return what may be seen of an end that comes too late."""
        request = self.state.requests.get(address)
        if request is None:
            return self._results.kept_back(ended)
        return self._results.look(address, request.action, request.effect, ended)[0]

    def _recover(self, running: Set[str]) -> None:
        """Answer attempts that died with another worker; see `Open.epoch`."""
        for address, entry in list(self.state.head.open.items()):
            request = self.state.requests[address]
            if entry.phase != "started" or address in running:
                continue
            if isinstance(request.action, WAITS):
                continue
            if entry.epoch == self._lease.epoch:
                continue  # committed by us and not started yet: the driver starts it
            if request.effect == "at_most_once":
                error = GatebookError("E_UNKNOWN_LOST", tool=describe(request.action))
                self._add(unknown(address, entry, error))
            elif entry.lost >= MAX_LOST:
                name = describe(request.action)
                error = GatebookError("E_ACTION_POISON", tool=name, limit=entry.lost)
                self._add(Interrupted(error=ErrorRecord.of(error)))
                return
            else:
                self._start_again(address, entry, request, lost=True)

    def _start_again(
        self, address: str, entry: Open, request: ActionRequested, *, lost: bool
    ) -> None:
        attempt = entry.attempt + 1
        action = request.action
        if type(action) is CallLLM:
            action = action.on(entry.route)
        again = decide_again(address, action, attempt, self._as_it_stands(), self._now)
        refusal, decision = again.refusal, again.decision
        if refusal is None:
            cause: Cause = "retry"
            if lost:
                cause = "recovery"
            elif address in self.state.ordered:
                cause = "resolved"
            event = AttemptStarted(
                address=address,
                attempt=attempt,
                reserve=again.reserve,
                cause=cause,
                route=entry.route,
                decision=decision,
            )
            self._add(event)
            return
        doubtful = lost or address in self.state.doubts
        kind = ActionUnknown if doubtful and request.effect != "read" else ActionFailed
        self._add(kind(address=address, attempt=entry.attempt, error=refusal, decision=decision))

    def _fall_due(self) -> None:
        for address, entry in list(self.state.head.open.items()):
            if entry.due is None or entry.due > self._now:
                continue
            request = self.state.requests[address]
            match request.action:
                case Sleep():
                    self._add(ActionSucceeded(address=address))
                case WaitSignal(name=name):
                    if not self.state.signals.get(name):
                        error = GatebookError("E_SIGNAL_TIMEOUT", name=name)
                        record = ErrorRecord.of(error)
                        self._add(ActionFailed(address=address, error=record))
                case _:
                    if entry.phase == "backoff":
                        self._start_again(address, entry, request, lost=False)

    def _wake(self) -> bool:
        """Let signals, time and silence end what waits for them; tell if they did."""
        if not self.state.waits and self.state.head.approvals is NOBODY_ASKED:
            return False
        before = len(self.events)
        self._deliver()
        if self.replay.end is None:
            for event in lapses(self.state, self._now):
                self._add(event)
        return len(self.events) > before

    def _deliver(self) -> None:
        """Hand kept signals to the waits for them, first in first out."""
        for name, waiting in list(self.state.waits.items()):
            while waiting and self.state.signals.get(name):
                seq, payload = self.state.signals[name][0]
                address = waiting[0]
                event = ActionSucceeded(address=address, output=payload, consumed=seq)
                self._settle(*self._results.arrived(self.state.requests[address].action, event))

    def _admit(self, *, quiet: bool = False) -> None:
        """Decide about what is wanted; when `quiet`, what hooks of attempts in flight wait for."""
        replay, head, turns = self.replay, self.state.head, self.ending.turns
        while replay.pending and replay.end is None and head.status is RUNNING:
            wants = ready(replay.pending, self.state)
            if quiet:
                wants = [want for want in wants if BELOW in want.address]
            if not wants or head.seq >= MAX_EVENTS:
                break
            beyond = NOTHING_BEYOND
            if replay.crowds or head.limits.fan_out is not None:
                beyond = self._crowd.beyond(wants, head.limits.fan_out)
            if turns and not (wants := turns.ready(wants, beyond.keys())):
                break
            grounds = self._as_it_stands(wants)
            for want in wants:
                if len(self.events) >= MAX_BATCH:
                    self.more = True
                    return
                if replay.notes:
                    self._write_notes()
                if error := beyond.get(want.address):
                    redactor = self._services.redactor
                    self._add(refusal(want, error, redactor, self.program.tools))
                elif turns and (refused := turns.refusal(want)):
                    self._add(refused)
                else:
                    for event in admit_want(want.address, want.action, grounds, self._now):
                        self._add(event)
                    if type(event) is Interrupted:
                        return
        if replay.notes:
            self._write_notes()

    def _write_notes(self) -> None:
        notes = self.replay.notes
        while notes:
            self._add(Note(text=notes[0]))
