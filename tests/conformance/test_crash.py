"""A worker killed by the system in the middle of a model call: the restart goes on where it was."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from gatebook import Client
from gatebook.kernel.events import (
    ActionFailed,
    ActionSucceeded,
    AnyEvent,
    AttemptFailed,
    AttemptStarted,
    RunCompleted,
)
from gatebook.ports import RunKey
from gatebook.runtime.runs.audit import audit
from gatebook.testing.fault_server import FaultServer
from tests.conformance.adapters import CHAT_ADAPTER, Adapter, every_adapter, on
from tests.conformance.cases import case
from tests.conformance.kit import answering, failing_with, run
from tests.conformance.test_cancellation import begun
from tests.conformance.worker import RUN

PATIENCE_S = 170.0  # each test starts up to three interpreters
pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
KEY = RunKey("default", RUN)
HINT_S = 59


class Workers:
    """Starts worker processes on one store."""

    def __init__(self, adapter: Adapter, server: FaultServer, store: Path) -> None:
        self._arguments = [adapter.name, server.url, str(store)]
        self._started: list[Process] = []

    async def start(self, *, ahead_s: float = 0) -> Process:
        """Start a worker whose clock is ahead of ours."""
        command = ["-m", "tests.conformance.worker", *self._arguments, str(ahead_s)]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=PIPE, cwd=ROOT
        )
        self._started.append(process)
        return process

    async def ended(self, *, ahead_s: float = 0) -> str:
        """Start a worker, wait for its end and return its last line."""
        process = await self.start(ahead_s=ahead_s)
        said, _ = await process.communicate()
        assert process.returncode == 0
        return said.decode().splitlines()[-1]

    async def kill_all(self) -> None:
        """End every worker that is left."""
        for process in self._started:
            if process.returncode is None:
                process.kill()
            await process.communicate()


@asynccontextmanager
async def workers(adapter: Adapter, server: FaultServer, store: Path) -> AsyncIterator[Workers]:
    """Start workers; none is left behind."""
    fleet = Workers(adapter, server, store)
    try:
        yield fleet
    finally:
        await fleet.kill_all()


class Evidence:
    """The events in the store."""

    def __init__(self, events: list[AnyEvent]) -> None:
        self.events = events

    def of(self, kind: type[T]) -> list[T]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


async def look(store: Path) -> Evidence:
    """Read the run as another process would, after checking that its journal verifies."""
    async with Client(f"sqlite:///{store}") as client:
        report = await audit(client.journal, KEY)
        assert report.ok, report.violation
        recorded = await client.journal.read(KEY)
    return Evidence([each.event for each in recorded])


async def look_until(store: Path, holds: Callable[[Evidence], bool]) -> Evidence:
    """Look until something is in the store."""
    while not store.exists():  # noqa: ASYNC110, ASYNC240 - another process makes it
        await asyncio.sleep(0.01)
    async with Client(f"sqlite:///{store}") as client:
        while True:
            try:
                recorded = await client.journal.read(KEY)
            except Exception as exc:
                if getattr(exc, "code", "") != "E_RUN_NOT_FOUND":
                    raise
            else:
                found = Evidence([each.event for each in recorded])
                if holds(found):
                    return found
            await asyncio.sleep(0.01)


@case(41)
@every_adapter
def test_a_stream_whose_worker_was_killed_is_asked_again_once(
    adapter: Adapter, tmp_path: Path
) -> None:
    """Case 41: half an answer is no answer; the journal ends with one success."""
    store = tmp_path / "runs.db"

    async def scenario() -> None:
        async with FaultServer(begun(adapter), answering(adapter)) as server:
            async with workers(adapter, server, store) as fleet:
                doomed = await fleet.start()
                assert doomed.stdout is not None
                assert await doomed.stdout.readline() == b"text hel\n"
                doomed.kill()
                await doomed.wait()
                await server.until(lambda server: server.hangups == 1)
                said = await fleet.ended()
            found = await look(store)

            assert said == "over"
            assert server.count == 2
            attempts = [(each.attempt, each.cause) for each in found.of(AttemptStarted)]
            assert attempts == [(1, "recovery")]
            (answer,) = found.of(ActionSucceeded)
            assert answer.attempt == 1
            assert not [*found.of(AttemptFailed), *found.of(ActionFailed)]
            (end,) = found.of(RunCompleted)
            assert bytes(end.output) == b'"hello"'
            keys = {request.headers.get("idempotency-key") for request in server.requests}
            assert len(keys) == 1

    run(scenario(), patience_s=PATIENCE_S)


@case(41)
@every_adapter
def test_a_back_off_whose_worker_was_killed_goes_on(adapter: Adapter, tmp_path: Path) -> None:
    """Case 41: count of attempts and due time are the journal's; nothing is drawn again."""
    store = tmp_path / "runs.db"
    busy = failing_with(adapter, "server")
    slow_down = failing_with(adapter, "rate_limited", retry_after=HINT_S)

    async def scenario() -> None:
        async with FaultServer(busy, slow_down, busy, answering(adapter)) as server:
            async with workers(adapter, server, store) as fleet:
                doomed = await fleet.start()
                before = await look_until(store, lambda found: len(found.of(AttemptFailed)) == 2)
                doomed.kill()
                await doomed.wait()
                too_soon = await fleet.ended()
                between = await look(store)
                asked_too_soon = server.count
                said = await fleet.ended(ahead_s=HINT_S + 1)
            found = await look(store)

            first, second, *_ = before.of(AttemptFailed)
            assert (first.attempt, second.attempt) == (0, 1)
            assert second.delay_ms == HINT_S * 1_000
            assert (too_soon, asked_too_soon) == ("waiting", 2)
            assert between.of(AttemptFailed) == [first, second]

            assert (said, server.count) == ("over", 4)
            attempts = [(each.attempt, each.cause) for each in found.of(AttemptStarted)]
            assert attempts == [(1, "retry"), (2, "retry"), (3, "retry")]
            assert found.of(AttemptStarted)[1].time >= second.time + HINT_S * 1_000_000
            assert [each.attempt for each in found.of(ActionSucceeded)] == [3]
            assert len(found.of(RunCompleted)) == 1

    run(scenario(), patience_s=PATIENCE_S)


@case(41)
@on(CHAT_ADAPTER)
def test_the_limit_of_attempts_holds_over_a_restart(adapter: Adapter, tmp_path: Path) -> None:
    """Case 41: otherwise a worker that dies in each back-off would retry for ever."""
    store = tmp_path / "runs.db"
    busy = failing_with(adapter, "server")
    slow_down = failing_with(adapter, "rate_limited", retry_after=HINT_S)

    async def scenario() -> None:
        async with FaultServer(slow_down, busy) as server:
            async with workers(adapter, server, store) as fleet:
                doomed = await fleet.start()
                await look_until(store, lambda found: len(found.of(AttemptFailed)) == 1)
                doomed.kill()
                await doomed.wait()
                said = await fleet.ended(ahead_s=HINT_S + 1)
            found = await look(store)

            assert (said, server.count) == ("over", 4)
            assert [each.attempt for each in found.of(ActionFailed)] == [3]
            assert found.of(ActionSucceeded) == []

    run(scenario(), patience_s=PATIENCE_S)
