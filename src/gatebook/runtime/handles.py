"""Handles: one run as its callers see it, from any process: read it, wait for it, steer it."""

import os
from collections.abc import AsyncIterator
from typing import Any, Generic, Literal, Protocol, TypeVar

import msgspec

from gatebook.errors import (
    InvalidInput,
    RunIsOver,
)
from gatebook.kernel.actions import CallLLM, CallTool
from gatebook.kernel.append import Batch
from gatebook.kernel.budget import Budget, checked_budget
from gatebook.kernel.codec import ID_CHARS, MAX_ID, Raw, canonical, plain
from gatebook.kernel.events import (
    ActionRequested,
    ActionResolved,
    ActionSucceeded,
    AnyEvent,
    BudgetRaised,
    CancelRequested,
    Ends,
    ErrorRecord,
    Resumed,
    SignalReceived,
)
from gatebook.kernel.events import RunCancelled as RunCancelledEvent
from gatebook.kernel.events import RunCompleted as RunCompletedEvent
from gatebook.kernel.events import RunFailed as RunFailedEvent
from gatebook.kernel.messages import ChatResponse
from gatebook.kernel.redact import Redactor
from gatebook.ports import Clock, Journal, Program, Recorded, RunKey, RunRow
from gatebook.runtime.states import (
    RETRY,
    Cancelled,
    Denied,
    Failed,
    Finished,
    RunResult,
    Settled,
    Succeeded,
    blocked,
    stopped,
)
from gatebook.runtime.subscriptions import Delta, Hub, Lagged, Live, Reset, either, texts

Out = TypeVar("Out")


class Door(Protocol):
    """What a handle needs of the client it came from."""

    hub: Hub
    clock: Clock
    redactor: Redactor

    @property
    def journal(self) -> Journal:
        """The open store."""

    def touched(self, run: RunKey) -> None:
        """Somebody appended to a run here."""

    def look_s(self, run: RunKey) -> float:
        """How often to look at a run that nobody here tells about."""


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

    async def _pause(self) -> None:
        await self._door.clock.sleep(self._door.look_s(self._key))

    # ---- reading ----

    async def row(self) -> RunRow:
        """Return the run at a glance. Raises RunNotFound."""
        return await self._door.journal.row(self._key)

    async def result(self) -> RunResult[Out]:
        """Wait to the end and return the result.

        Raises:
            RunFailed, RunDenied, RunCancelled: it ended without one.
        """
        while True:
            state = await self._watch(until_over=True)
            if isinstance(state, Finished):
                row = await self.row()
                return RunResult(state.output, self.id, row.head.spent, row.head.seq)
            raise stopped(self.id, state)

    async def settled(self) -> Settled:
        """Wait until the run is over or blocked, and return which."""
        return await self._watch(until_over=False)

    async def _watch(self, *, until_over: bool) -> Settled:
        with self._door.hub.subscribe(self._key, catch_up=False, follows=False) as news:
            while True:
                news.drain()
                row = await self.row()
                if row.head.terminal:
                    return await self._ending(row)
                if not until_over and (waiting := blocked(row, self._door.journal.now())):
                    return waiting
                await either(news.wait(), self._pause())

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

    async def events(self, *, after: int = 0) -> AsyncIterator[Recorded]:
        """Yield the run's events with seq > `after`, and new ones as they come, to its end.

        The seq of the last event you saw is the cursor to come back with, from any process.
        """
        journal = self._door.journal
        with self._door.hub.subscribe(self._key, catch_up=False) as news:
            while True:
                news.drain()
                for each in await journal.read(self._key, after=after):
                    after = each.seq
                    yield each
                    if isinstance(each.event, Ends):
                        return
                if (await self.row()).head.terminal:
                    if not await journal.read(self._key, after=after, limit=1):
                        return
                    continue
                await either(news.wait(), self._pause())

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
                await either(news.wait(), self._pause())

    async def text(self) -> AsyncIterator[str | Reset]:
        """Yield the model's text as it is written; Reset when what was shown is superseded.

        What was said before you came, in another process, or faster than you read, comes whole
        from the journal.
        """
        asked: set[str] = set()
        shown: dict[str, int] = {}  # address -> attempt, of answers that are not recorded yet
        whole: set[str] = set()  # answers of which something was lost on the way
        cursor = 0
        with self._door.hub.subscribe(self._key) as news:
            while True:
                row = await self.row()
                live = news.drain()
                said = {item.address: item.attempt for item in live if isinstance(item, Delta)}
                if any(isinstance(item, Lagged) for item in live):
                    for address, attempt in shown.items():
                        yield Reset(address, attempt)
                    whole |= shown.keys() | said.keys()
                    shown.clear()
                async for part in texts(_each(live), without=whole):
                    yield part
                shown.update((a, n) for a, n in said.items() if a not in whole)
                for each in await self._door.journal.read(self._key, after=cursor):
                    cursor, event = each.seq, each.event
                    if isinstance(event, ActionRequested) and isinstance(event.action, CallLLM):
                        asked.add(event.address)
                    if not isinstance(event, ActionSucceeded) or event.address not in asked:
                        continue
                    if shown.pop(event.address, None) is None:
                        yield answer_text(event)
                if row.head.terminal and cursor >= row.head.seq:
                    return
                await either(news.wait(), self._pause())

    # ---- steering ----

    async def signal(self, name: str, payload: Any = None, *, by: str = "") -> None:
        """Send a signal; it is kept until a wait takes it.

        Raises:
            InvalidInput: E_SIGNAL_NAME, E_SIGNAL_LIMIT, E_JSON_*. RunIsOver, RunNotFound.
        """
        if not isinstance(name, str) or not name or len(name) > MAX_ID or set(name) - ID_CHARS:
            raise InvalidInput("E_SIGNAL_NAME", value=name)
        data = self._clean(canonical(payload, what="signal payload"))
        await self._say(SignalReceived(name=name, payload=data, by=_text("by", by)))

    async def cancel(
        self, *, reason: str = "", by: str = ""
    ) -> Literal["cancelling", "already_cancelling", "already_over"]:
        """Cancel the run durably and return what happened; no action starts after this.

        Raises:
            InvalidInput: E_TEXT_TYPE, E_TEXT_INVALID. RunNotFound.
        """
        why = self._door.redactor.text(_text("reason", reason))
        try:
            await self._say(CancelRequested(reason=why, by=_text("by", by)))
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
        by, action = _text("by", by), _text("action", action)
        if isinstance(outcome, Succeeded):
            output = self._clean(canonical(outcome.output, what="resolved output"))
            await self._check_output(action, bytes(output))
            event = ActionResolved(address=action, resolution="succeeded", output=output, by=by)
        elif isinstance(outcome, Denied):
            text = self._door.redactor.text(_text("message", outcome.message))
            error = ErrorRecord("E_ACTION_FAILED", text)
            event = ActionResolved(address=action, resolution="failed", error=error, by=by)
        elif type(outcome) is str and outcome == RETRY:
            event = ActionResolved(address=action, resolution="retry", by=by)
        else:
            raise InvalidInput("E_RESOLUTION", value=outcome)
        await self._say(event)

    async def resume(self, *, by: str = "") -> None:
        """Let an interrupted run go on. Raises InvalidInput E_NOT_INTERRUPTED."""
        await self._say(Resumed(by=_text("by", by)))

    async def raise_budget(self, budget: Budget, *, by: str = "") -> None:
        """Set new limits for the meters that `budget` names; they count from the next request.

        Raises:
            InvalidInput: E_BUDGET_TYPE. RunIsOver, RunNotFound.
        """
        limits = checked_budget(budget, "budget").limits
        await self._say(BudgetRaised(limits=limits, by=_text("by", by)))

    async def _say(self, event: AnyEvent) -> None:
        batch = Batch(events=(event,), append_id=os.urandom(8))
        await self._door.journal.append(self._key, batch)
        self._door.touched(self._key)

    def _clean(self, data: bytes) -> Raw:
        return self._door.redactor.raw(Raw(data))

    async def _check_output(self, address: str, output: bytes) -> None:
        if self._program is None:
            return
        for each in await self._door.journal.read(self._key):
            event = each.event
            if isinstance(event, ActionRequested) and event.address == address:
                if isinstance(event.action, CallTool):
                    self._program.tools[event.action.tool].decode(output)
                return


def _text(name: str, value: Any) -> str:
    """Return a text that can be journaled, or refuse it with E_TEXT_TYPE or E_TEXT_INVALID."""
    if type(value) is not str:
        raise InvalidInput("E_TEXT_TYPE", name=name, value=value)
    canonical(value, what=name)
    return value


async def _each(items: list[Live]) -> AsyncIterator[Live]:
    for item in items:
        yield item


def answer_text(event: ActionSucceeded) -> str:
    """Return the text of a recorded model answer."""
    return msgspec.json.decode(event.output, type=ChatResponse).text
