"""What must hold of a run after any crash: journal, acknowledgements and outside world agree."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from gatebook import RETRY, Client, Denied, RunHandle, Succeeded
from gatebook.kernel.actions import CallTool
from gatebook.kernel.budget import NOTHING
from gatebook.kernel.codec import idempotency_key, plain
from gatebook.kernel.events import (
    ActionDenied,
    ActionFailed,
    ActionRequested,
    ActionResolved,
    ActionSucceeded,
    ActionUnknown,
    AnyEvent,
    AttemptFailed,
    AttemptStarted,
    Note,
    RunCompleted,
    RunStarted,
)
from gatebook.kernel.state import RunState
from gatebook.ports import Recorded, RunKey, RunRow
from gatebook.runtime.replay import final_args, replay
from gatebook.runtime.runs.audit import audit
from tests.crash.cast import POLICY, PROGRAMS
from tests.crash.place import Place

T = TypeVar("T")


def with_client(place: Place, act: Callable[[Client], Awaitable[T]]) -> T:
    """Open the store as another process would, act, and close it."""

    async def main() -> T:
        async with Client(place.store, policy=POLICY) as client:
            return await act(client)

    return asyncio.run(main())


class Evidence:
    """A run's row and events, read once.

    Attributes:
        events: in order; seq n is at index n - 1.
        keys: the idempotency key of each requested tool call, by address.
    """

    def __init__(self, place: Place, run: str = "r1") -> None:
        self.place = place
        self.run = run
        self.row, self.recorded, self.report = with_client(place, self._read)
        self.events: list[AnyEvent] = [each.event for each in self.recorded]
        started = self.events[0]
        assert isinstance(started, RunStarted)
        self.started = started
        self.requests = {e.address: e for e in self.of(ActionRequested)}
        self.keys = {
            address: idempotency_key("default", run, started.nonce, address)
            for address, event in self.requests.items()
            if isinstance(event.action, CallTool)
        }

    async def _read(self, client: Client) -> tuple[RunRow, list[Recorded], Any]:
        key = RunKey("default", self.run)
        report = await audit(client.journal, key)
        return await client.journal.row(key), await client.journal.read(key), report

    def of(self, kind: type[T]) -> list[T]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def late(self) -> list[str]:
        """The notes about outcomes that came too late."""
        return [note.text for note in self.of(Note) if note.text.startswith("late outcome")]

    @property
    def unknown(self) -> dict[str, str]:
        """The keys of the actions that wait for a person's word, by address."""
        state = RunState()
        for event in self.events:
            state.apply(event)
        return {address: self.keys[address] for address in state.unknown}

    @property
    def output(self) -> Any:
        """What the run completed with."""
        (end,) = self.of(RunCompleted)
        return plain(bytes(end.output))

    def check(self) -> None:
        """Check everything that holds of a run at any moment while nobody drives it."""
        assert self.report.ok, self.report.violation
        self._check_acks()
        self._check_starts()
        self._check_ledger()
        self._check_waits()

    def check_over(self) -> None:
        """Check a run that has completed."""
        self.check()
        assert self.row.head.status == "completed", self.row
        self._check_outcomes()
        self._check_budget()
        self._check_replay()

    def _check_acks(self) -> None:
        acked = {(ack.seq, ack.hash) for ack in self.place.acks if ack.run == self.run}
        stored = {(each.seq, each.hash.hex()) for each in self.recorded}
        assert acked <= stored, f"acknowledged and lost: {acked - stored}"

    def _check_starts(self) -> None:
        """No start without its committed attempt, and each attempt starts at most once."""
        attempts = {(key, 0) for key in self.keys.values()}
        attempts |= {
            (self.keys[e.address], e.attempt)
            for e in self.of(AttemptStarted)
            if e.address in self.keys
        }
        starts = Counter((s.key, s.attempt) for s in self._mine(self.place.starts))
        assert set(starts) <= attempts, f"started without a request: {set(starts) - attempts}"
        assert max(starts.values(), default=0) <= 1, f"started twice: {starts}"
        ordered = Counter(
            self.keys[e.address] for e in self.of(ActionResolved) if e.resolution == "retry"
        )
        for address, key in self.keys.items():
            if self.requests[address].effect == "at_most_once":
                count = sum(n for (k, _), n in starts.items() if k == key)
                assert count <= 1 + ordered[key], f"{address} started {count} times"

    def _mine(self, facts: list[Any]) -> list[Any]:
        mine = set(self.keys.values())
        return [fact for fact in facts if fact.key in mine]

    def _check_ledger(self) -> None:
        """An at-most-once effect is there once at most; what succeeded is there."""
        effects = Counter(effect.key for effect in self._mine(self.place.ledger))
        acting = {effect.tool for effect in self.place.ledger}
        succeeded = {e.address for e in self.of(ActionSucceeded)}
        for address, key in self.keys.items():
            request = self.requests[address]
            if request.effect == "at_most_once":
                assert effects[key] <= 1, f"{address} took effect {effects[key]} times"
            if address in succeeded and request.action.tool in acting:  # type: ignore[union-attr]
                assert effects[key] >= 1, f"{address} succeeded without effect"

    def _check_waits(self) -> None:
        """A retry starts no earlier than its wait allows, whatever process starts it."""
        due: dict[str, int] = {}
        for event in self.events:
            if isinstance(event, AttemptFailed):
                due[event.address] = event.time + event.delay_ms * 1000
            elif isinstance(event, AttemptStarted) and event.cause == "retry":
                assert event.time >= due[event.address], f"{event.address} did not wait"

    def _check_outcomes(self) -> None:
        """Every request has exactly one final outcome."""
        finals = [e.address for e in self.events if isinstance(e, ActionSucceeded | ActionFailed)]
        finals += [e.address for e in self.of(ActionResolved) if e.resolution != "retry"]
        assert not self.of(ActionDenied)
        assert sorted(finals) == sorted(self.requests)

    def _check_budget(self) -> None:
        """Nothing stays reserved; each started attempt of a tool is charged one call."""
        head = self.row.head
        attempts = [*self.requests, *(e.address for e in self.of(AttemptStarted))]
        calls = sum(address in self.keys for address in attempts)
        assert head.reserved == NOTHING
        assert head.spent.tool_calls == calls
        assert calls <= (head.limits.tool_calls or 0)

    def _check_replay(self) -> None:
        """The program, stepped along the journal, asks for what is in it and ends as it did."""
        program = PROGRAMS[self.started.program]
        told = replay(program.begin(self.started), final_args(program.tools), self.recorded)
        assert told.ended
        assert not told.pending


def answer_unknown(place: Place, run: str = "r1") -> int:
    """Resolve each unknown action as the ledger says; return how many there were.

    What is not in the ledger is ordered again, or taken for failed when it was ordered before.
    """
    found = Evidence(place, run)
    acted = {effect.key for effect in place.ledger}
    again = {e.address for e in found.of(ActionResolved)}
    unknown = found.unknown

    async def say(client: Client) -> None:
        handle: RunHandle[Any] = client.handle(run)
        for address, key in unknown.items():
            if key in acted:
                await handle.resolve(address, Succeeded("paid, says the ledger"))
            elif address in again:
                await handle.resolve(address, Denied("it is not in the ledger"))
            else:
                await handle.resolve(address, RETRY)

    if unknown:
        with_client(place, say)
    return len(unknown)


def lost_attempts(found: Evidence) -> list[str]:
    """Return the addresses of actions that became unknown, in order."""
    return [event.address for event in found.of(ActionUnknown)]


def new_place(folder: Path, name: str) -> Place:
    """Return a fresh place in a folder of its own."""
    inside = folder / name.replace(":", "-")
    inside.mkdir()
    return Place(inside)
