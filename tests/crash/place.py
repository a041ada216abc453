"""The outside world of a crash test: one folder of files that survive every process.

`starts` holds a line for each tool that was started, `ledger` one for each effect that took
place, `acks` one for each event whose append returned. Lines are synced before anybody goes on.
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec

from gatebook.tools.context import ToolContext

LOOK_S = 0.01


class Start(msgspec.Struct, frozen=True):
    """A tool was started: which, with what key, as which attempt, by which process."""

    tool: str
    key: str
    attempt: int
    pid: int


class Effect(msgspec.Struct, frozen=True):
    """An effect took place."""

    tool: str
    key: str
    pid: int


class Ack(msgspec.Struct, frozen=True):
    """A worker heard that an event is in the journal."""

    run: str
    seq: int
    hash: str


class Place:
    """The folder of one test, as its workers and the test itself see it.

    Args:
        strikes: where this process is to kill itself: `when:tool:n`, counted per process;
            "before" is when the tool has started, "after" when its effect is there and it has
            not returned.
    """

    def __init__(self, folder: Path, strikes: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self._strikes = strikes
        self._counts: dict[tuple[str, str], int] = {}

    @property
    def store(self) -> str:
        """Where the journal is."""
        return f"sqlite:///{self.folder / 'runs.db'}"

    def write(self, name: str, fact: Any) -> None:
        """Add one line to a file and sync it."""
        fd = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(fd, msgspec.json.encode(fact) + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)

    def read(self, name: str, kind: Any) -> list[Any]:
        """Return the lines of a file; a file that is not there has none."""
        path = self.folder / name
        if not path.exists():
            return []
        return [msgspec.json.decode(line, type=kind) for line in path.read_bytes().splitlines()]

    @property
    def starts(self) -> list[Start]:
        """Every tool start, in order."""
        return self.read("starts", Start)

    @property
    def ledger(self) -> list[Effect]:
        """Every effect, in order."""
        return self.read("ledger", Effect)

    @property
    def acks(self) -> list[Ack]:
        """Every acknowledged event."""
        return self.read("acks", Ack)

    def started(self, tool: str, ctx: ToolContext[Any]) -> None:
        """Record that a tool was started."""
        self.write("starts", Start(tool, ctx.idempotency_key, ctx.attempt, os.getpid()))
        self.strike("before", tool)

    def act(self, tool: str, ctx: ToolContext[Any]) -> None:
        """Record a start and let the effect take place."""
        self.started(tool, ctx)
        self.write("ledger", Effect(tool, ctx.idempotency_key, os.getpid()))
        self.strike("after", tool)

    def strike(self, when: str, tool: str) -> None:
        """Kill this process here when the plan says so."""
        n = self._counts[when, tool] = self._counts.get((when, tool), 0) + 1
        if f"{when}:{tool}:{n}" in self._strikes:
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def quiet_store(self) -> Iterator[None]:
        """Hold the store's write lock: nobody else is inside a transaction meanwhile.

        A process that is frozen inside one keeps everybody from the file; that is SQLite's way,
        reported as E_STORE_BUSY, and not what these tests are about.
        """
        connection = apsw.Connection(str(self.folder / "runs.db"))
        connection.set_busy_timeout(30_000)
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")
            connection.close()

    def stand_still(self) -> None:
        """Block this thread, and so the loop, until the test has frozen and thawed the process."""
        (self.folder / "still").touch()
        while not (self.folder / "thawed").exists():
            time.sleep(LOOK_S)

    @property
    def stands_still(self) -> bool:
        """Whether a worker waits to be frozen."""
        return (self.folder / "still").exists()

    def thaw(self) -> None:
        """Let a worker that stood still go on once it runs again."""
        (self.folder / "thawed").touch()

    def open_gate(self) -> None:
        """Let everybody through who waits."""
        (self.folder / "gate").touch()

    @property
    def reached(self) -> bool:
        """Whether somebody has come to the gate."""
        return (self.folder / "reached").exists()

    async def pass_gate(self) -> None:
        """Say that the gate is reached and wait until it is open."""
        (self.folder / "reached").touch()
        while not (self.folder / "gate").exists():  # noqa: ASYNC110 - another process opens it
            await asyncio.sleep(LOOK_S)
