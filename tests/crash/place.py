"""The outside world of a crash test: one folder of files that survive every process.

`starts` holds a line for each tool that was started, `ledger` one for each effect that took
place, `acks` one for each event whose append returned. Lines are synced before anybody goes on.
"""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

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
        strikes: where this process is to kill or freeze itself: `when:tool:n[:stop]`, counted
            per process; "before" is when the tool has started, "after" when its effect is there
            and it has not returned.
    """

    def __init__(self, folder: Path, strikes: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self._strikes = {
            (when, tool, int(n)): rest
            for when, tool, n, *rest in (strike.split(":") for strike in strikes)
        }
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

    # ---- for tools ----

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
        """Kill or freeze this process here when the plan says so."""
        n = self._counts[when, tool] = self._counts.get((when, tool), 0) + 1
        rest = self._strikes.get((when, tool, n))
        if rest is not None:
            os.kill(os.getpid(), signal.SIGSTOP if rest == ["stop"] else signal.SIGKILL)

    # ---- gates ----

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
