"""Handles: one run as its callers see it, from any process: read it, wait for it, steer it."""

import os
from collections.abc import AsyncIterator
from typing import Any, Generic, Literal, TypeVar, overload

from gatebook.errors import (
    InvalidInput,
    RunIsOver,
)
from gatebook.kernel.actions import CallTool
from gatebook.kernel.append import Batch
from gatebook.kernel.budget import NO_LIMITS, Budget, checked_budget
from gatebook.kernel.codec import Raw, canonical, check_signal_name, plain
from gatebook.kernel.events import (
    ActionRequested,
    ActionResolved,
    AnyEvent,
    BudgetRaised,
    CancelRequested,
    Ends,
    ErrorRecord,
    LabelEndorsed,
    Note,
    Resumed,
    SignalReceived,
)
from gatebook.kernel.events import RunCancelled as RunCancelledEvent
from gatebook.kernel.events import RunCompleted as RunCompletedEvent
from gatebook.kernel.events import RunFailed as RunFailedEvent
from gatebook.kernel.history import find_artifact
from gatebook.kernel.rules.past import Past
from gatebook.kernel.status import Status
from gatebook.ports import Program, Recorded, RunKey, RunRow
from gatebook.runtime.runs.approvals import text_of
from gatebook.runtime.runs.reading import Door, Follower, Reading
from gatebook.runtime.runs.states import (
    RETRY,
    Cancelled,
    Denied,
    Failed,
    Finished,
    RunResult,
    Settled,
    Succeeded,
    Waiting,
    blocked,
    stopped,
)
from gatebook.runtime.subscriptions import Delta, Live, Reset

Out = TypeVar("Out")


class RunHandle(Generic[Out]):
    """One run. Get it from `start` or `handle`; it holds no resources."""

    def __init__(self, door: Door, key: RunKey, program: Program[Any, Out] | None) -> None:
        self._door = door
        self._key = key
        self._program = program

    @property
    def id(self) -> str:
        """The run id."""
        return self._key.id

    @property
    def key(self) -> RunKey:
        """Tenant and run id."""
        return self._key

    async def row(self) -> RunRow:
        """Return the run at a glance. Raises RunNotFound."""
        return await self._door.journal.row(self._key)

    async def result(self) -> RunResult[Out]:
        """Wait to the end and return the result.

        Raises:
            RunFailed, RunDenied, RunCancelled: it ended without one.
        """
        row, _ = await self._watch(until_over=True)
        state = await self._ending(row)
        if isinstance(state, Finished):
            return RunResult(state.output, self.id, row.head.spent, row.head.seq)
        raise stopped(self.id, state)

    async def settled(self) -> Settled:
        """Wait until the run is over or blocked, and return which."""
        row, waiting = await self._watch(until_over=False)
        return waiting or await self._ending(row)

    async def _watch(self, *, until_over: bool) -> tuple[RunRow, Waiting | None]:
        """Wait until the run is over or blocked; return where it stands and what it waits for."""
        door = self._door
        with door.hub.subscribe(self._key, catch_up=False, follows=False) as news:
            while True:
                news.drain()
                row = await self.row()
                if row.head.terminal:
                    return row, None
                waiting = None if until_over else blocked(row, door.journal.now())
                if waiting and not door.claims(self._key):
                    return row, waiting
                await news.wait(door.clock, door.look_s(self._key))

    async def _ending(self, row: RunRow) -> Settled:
        end = await self._end_event(row)
        match end:
            case RunCompletedEvent():
                return Finished(self._decode(end.output))
            case RunFailedEvent():
                return Failed(end.error, end.denied)
            case RunCancelledEvent():
                return Cancelled(await self._cancel_reason(), end.unknown)

    async def _end_event(self, row: RunRow) -> Ends:
        for after in (row.head.seq - 1, 0):
            for each in reversed(await self._door.journal.read(self._key, after=after)):
                if isinstance(each.event, Ends):
                    return each.event
        raise AssertionError("a run that is over has an end")

    async def _cancel_reason(self) -> str:
        for each in await self._door.journal.read(self._key):
            if isinstance(each.event, CancelRequested):
                return each.event.reason
        return ""

    def _decode(self, output: Raw) -> Any:
        data = bytes(output)
        return plain(data) if self._program is None else self._program.decode(data)

    async def artifact(self, digest: str) -> Any:
        """Return the whole of a tool's result that was too long for the model, as plain JSON.

        Args:
            digest: as the model and `gatebook show` are told it; a beginning that fits one will do.

        Raises:
            InvalidInput: E_ARTIFACT, E_TEXT_TYPE. RunNotFound.
        """
        name, recorded = text_of("digest", digest), await self._door.journal.read(self._key)
        return plain(find_artifact((each.event for each in recorded), name, run=self.id))

    @overload
    def events(
        self, *, after: int | str = ..., deltas: Literal[False] = ...
    ) -> Reading[Recorded]: ...

    @overload
    def events(
        self, *, after: int | str = ..., deltas: Literal[True]
    ) -> Reading[Recorded | Delta | Reset]: ...

    def events(self, *, after: int | str = 0, deltas: bool = False) -> Reading[Any]:
        """Yield the run's events after a cursor, and new ones as they come, to its end.

        The `cursor` of what is returned is the place to come back with, from any process; so is
        the seq of the last event, without deltas.

        Args:
            deltas: also what model calls say while they run. Each outcome is preceded by the rest
                of the answer's text that this reader has not been given, so that it gets the text
                once whenever it comes; a Reset says what to drop.

        Raises:
            InvalidInput: E_CURSOR_INVALID.
        """
        follower = Follower(self._door, self._key, after)
        return Reading(follower, follower.items() if deltas else follower.events())

    async def live(self) -> AsyncIterator[Live]:
        """Yield what is said while the run goes on: deltas, progress; in this process only.

        Never blocks the run: a slow reader gets a Lagged. Ends with the run.
        """
        with self._door.hub.subscribe(self._key, follows=False) as news:
            while True:
                row = await self.row()
                for item in news.drain():
                    yield item
                if row.head.terminal:
                    return
                await news.wait(self._door.clock, self._door.look_s(self._key))

    def text(self, *, after: int | str = 0) -> Reading[str | Reset]:
        """Yield the text of the run's answers as it is written, here or in another process.

        Reset says when what was shown is superseded: by another attempt, or because it did not
        fit the declared output and is asked for again. The `cursor` of what is returned is the
        place to come back with.

        Raises:
            InvalidInput: E_CURSOR_INVALID.
        """
        follower = Follower(self._door, self._key, after)
        return Reading(follower, follower.texts())

    async def signal(self, name: str, payload: Any = None, *, by: str = "") -> None:
        """Send a signal; it is kept until a wait takes it.

        Raises:
            InvalidInput: E_SIGNAL_NAME, E_SIGNAL_LIMIT, E_JSON_*. RunIsOver, RunNotFound.
        """
        if isinstance(name, str) and self._door.redactor.text(name) != name:
            raise InvalidInput("E_NAME_SECRET", what="the signal's name")
        check_signal_name(name)
        data = self._clean(canonical(payload, what="signal payload"))
        await self._say(SignalReceived(name=name, payload=data, by=self._by(by)))

    async def cancel(
        self, *, reason: str = "", by: str = ""
    ) -> Literal["cancelling", "already_cancelling", "already_over"]:
        """Cancel the run durably and return what happened; no action starts after this.

        Raises:
            InvalidInput: E_TEXT_TYPE, E_TEXT_INVALID. RunNotFound.
        """
        why = self._door.redactor.text(text_of("reason", reason))
        try:
            await self._say(CancelRequested(reason=why, by=self._by(by)))
        except RunIsOver:
            return "already_over"
        except InvalidInput as exc:
            if exc.code != "E_ALREADY_CANCELLING":
                raise
            return "already_cancelling"
        return "cancelling"

    async def resolve(
        self, action: str, outcome: Succeeded | Denied | Literal["retry"], *, by: str = ""
    ) -> None:
        """Say what became of an unknown action: it succeeded, it failed, or start it again.

        Args:
            action: its address, as `Waiting.on` and `gatebook show` name it.

        Raises:
            InvalidInput: E_ACTION_NOT_UNKNOWN, E_RESOLUTION, or the output does not fit the
                tool's result type.
        """
        by, action = self._by(by), text_of("action", action)
        if isinstance(outcome, Succeeded):
            output = self._clean(canonical(outcome.output, what="resolved output"))
            await self._check_output(action, bytes(output))
            event = ActionResolved(address=action, resolution="succeeded", output=output, by=by)
        elif isinstance(outcome, Denied):
            text = self._door.redactor.text(text_of("message", outcome.message))
            error = ErrorRecord("E_ACTION_FAILED", text)
            event = ActionResolved(address=action, resolution="failed", error=error, by=by)
        elif type(outcome) is str and outcome == RETRY:
            event = ActionResolved(address=action, resolution="retry", by=by)
        else:
            raise InvalidInput("E_RESOLUTION", value=outcome)
        try:
            await self._say(event)
        except InvalidInput as exc:
            if exc.fields.get("status") != "not open":
                raise
            status = "it has ended" if await self._request(action) else "there is no such action"
            fields = {"address": action, "run": self.id, "status": status}
            raise InvalidInput("E_ACTION_NOT_UNKNOWN", **fields) from exc

    async def resume(self, *, by: str = "") -> None:
        """Let a run go on that was interrupted, or parked for a reason (`Waiting.parked_reason`).

        Recorded, with who and, of a parked one, after what. What it was parked for is not mended
        by this: a worker that meets it again parks the run again.

        Raises:
            InvalidInput: E_NOT_INTERRUPTED: it is neither. RunIsOver, RunNotFound.
        """
        who, row = self._by(by), await self.row()
        if row.parked_reason and row.head.status is not Status.INTERRUPTED:
            signed = f" by {who}" if who else ""
            await self._say(Note(text=f"taken up again{signed} after: {row.parked_reason}"))
        else:
            await self._say(Resumed(by=who))

    async def raise_budget(
        self,
        budget: Budget | None = None,
        *,
        more: Budget | None = None,
        by: str = "",
        reason: str = "",
    ) -> None:
        """Raise limits of the run; they count from the next request on.

        Recorded, with who and why. A run that waits is looked at again; one that is over stays
        over. Soft limits keep their distance from the limits above them.

        Args:
            budget: the new limits of the meters it names.
            more: how much is added to the limits of the meters it names.

        Raises:
            InvalidInput: E_BUDGET_TYPE; E_BUDGET_RAISE: a limit would not grow, or there is none.
                RunIsOver, RunNotFound.
        """
        limits, added = (
            NO_LIMITS if each is None else checked_budget(each, what).limits
            for each, what in ((budget, "budget"), (more, "more="))
        )
        if limits == added == NO_LIMITS:
            raise InvalidInput("E_BUDGET_TYPE", what="budget", value=budget)
        why = self._door.redactor.text(text_of("reason", reason))
        await self._say(BudgetRaised(limits=limits, more=added, by=self._by(by), reason=why))

    async def labels(self) -> dict[str, int]:
        """Return the labels of what the run has touched: which event brought each in last.

        Of what a person said an action brought back, those that its tool declares: what a
        policy's `[[label]]` adds to it, the worker knows.
        """
        tools = {} if self._program is None else self._program.tools
        past = Past({name: tool.spec.returns for name, tool in tools.items()})
        for each in await self._door.journal.read(self._key):
            past.apply(each.event)
        return {label: past.history.brought.get(label, 0) for label in sorted(past.history.seen)}

    async def endorse(
        self, label: str, *, by: str, reason: str = "", upto: int | None = None
    ) -> None:
        """Vouch for what brought a label into the run: rules do not see it any more.

        Recorded, with who and why. What brings the label in later brings it back.

        Args:
            upto: the last event that was looked at; the label stays when a later one brought it
                in. None is where the run stands now.

        Raises:
            InvalidInput: E_ENDORSE: the run does not carry the label, or it is not said by whom.
                RunIsOver, RunNotFound.
        """
        row, found = await self.row(), await self.labels()
        if type(label) is not str or label not in found:
            names = ", ".join(found) or "none"
            raise InvalidInput("E_ENDORSE", value=label, run=self.id, detail=f"it carries {names}")
        seen = row.head.seq if upto is None else upto
        why = self._door.redactor.text(text_of("reason", reason))
        await self._say(LabelEndorsed(label=label, upto=seen, by=self._by(by), reason=why))

    async def _say(self, event: AnyEvent) -> None:
        batch = Batch(events=(event,), append_id=os.urandom(8))
        await self._door.journal.append(self._key, batch)
        self._door.touched(self._key)

    def _by(self, by: Any) -> str:
        return self._door.redactor.text(text_of("by", by))

    def _clean(self, data: bytes) -> Raw:
        return self._door.redactor.raw(Raw(data))

    async def _check_output(self, address: str, output: bytes) -> None:
        if self._program is None:
            return
        asked = await self._request(address)
        if asked is not None and isinstance(asked.action, CallTool):
            self._program.tools[asked.action.tool].decode(output)

    async def _request(self, address: str) -> ActionRequested | None:
        for each in await self._door.journal.read(self._key):
            event = each.event
            if isinstance(event, ActionRequested) and event.address == address:
                return event
        return None
