"""Worker processes: a fork server that has imported everything, and what its children do.

A request on standard input is one JSON line, the answer one line. A child opens its own store
and loop after the fork; nothing of a store exists before.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from gatebook import Budget, Runtime, Waiting
from gatebook.errors import RunIsOver
from gatebook.journals import open_journal
from gatebook.kernel.append import Batch
from gatebook.kernel.events import RunStarted
from gatebook.ports import Appended, Journal, RunKey, RunRow
from gatebook.testing.failpoints import Failpoint, FailpointJournal
from tests.crash.cast import POLICY, PROGRAMS, providers, value_of
from tests.crash.place import Ack, Place

OVER, BLOCKED = 0, 3  # exit codes: the run ended, or waits for a person or for time
TTL_S = 600.0  # nothing that ends in time has waited for a lease
_log = logging.getLogger(__name__)
BUDGET = Budget(tool_calls=60, llm_tokens=200_000)


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker process is to do.

    Attributes:
        task: "finish" starts or takes up one run and leaves when it is over or blocked; "serve"
            drives whatever is due until it is killed.
        failpoints, strikes: where it kills itself, see `Failpoint` and `Place`.
        still_at: the journal call, `when:method:n`, where it stands still to be frozen.
    """

    folder: str
    task: Literal["finish", "serve"] = "finish"
    program: str = "order"
    run: str = "r1"
    number: int = 17
    failpoints: tuple[str, ...] = ()
    strikes: tuple[str, ...] = ()
    still_at: str = ""
    ttl_s: float = TTL_S


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the test asks of the fork server: start this part, or how is that process."""

    start: Part | None = None
    poll: int | None = None


class Witness(FailpointJournal):
    """A journal with failpoints that records what it was asked and what it has acknowledged."""

    def __init__(
        self, inner: Journal, plan: Sequence[Failpoint], place: Place, still_at: str
    ) -> None:
        super().__init__(inner, plan)
        self._place = place
        self._still_at = still_at

    def _at(self, when: str, method: str, n: int) -> None:
        super()._at(when, method, n)
        if f"{when}:{method}:{n}" == self._still_at:
            self._place.stand_still()

    def _count(self, method: str) -> int:
        self._place.write("calls", f"{method}:{self.calls.get(method, 0) + 1}")
        return super()._count(method)

    async def create(self, run: RunKey, started: RunStarted, *, input_hash: str) -> RunRow | None:
        row = await super().create(run, started, input_hash=input_hash)
        if row is not None:
            self._place.write("acks", Ack(run.id, row.head.seq, row.head.hash.hex()))
        return row

    async def append(self, run: RunKey, batch: Batch) -> Appended:
        done = await super().append(run, batch)
        for each in done.events:
            self._place.write("acks", Ack(run.id, each.seq, each.hash.hex()))
        return done


async def play(part: Part) -> int:
    """Do a part; return the exit code."""
    place = Place(Path(part.folder), part.strikes)
    plan = [Failpoint.parse(text) for text in part.failpoints]
    journal = Witness(open_journal(place.store), plan, place, part.still_at)
    runtime = Runtime(
        journal,
        programs=list(PROGRAMS.values()),
        policy=POLICY,
        providers=providers(place),
        deps=lambda: place,
        lease_ttl_s=part.ttl_s,
    )
    async with runtime:
        if part.task == "serve":
            await runtime.serve()
        return await _finish(runtime, part)


async def _finish(runtime: Runtime, part: Part) -> int:
    value: Any = value_of(part.program, part.number)
    run = await runtime.start(PROGRAMS[part.program], value, run_id=part.run, budget=BUDGET)
    while True:
        state = await run.settled()
        if not isinstance(state, Waiting):
            return OVER
        if state.on != ("signal go",):
            return BLOCKED
        with suppress(RunIsOver):  # while this process was frozen, another brought it to its end
            await run.signal("go", "gone")


def _child(part: Part) -> None:
    log = os.open(Path(part.folder) / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for fd, to in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(fd, to)
    logging.basicConfig(level=logging.INFO, format=f"{os.getpid()} %(name)s %(message)s")
    code = 1
    try:
        code = asyncio.run(play(part))
    except BaseException:  # noqa: BLE001 - the process ends here, the log tells why
        _log.exception("the worker failed")
    finally:
        os._exit(code)


def _status(pid: int) -> str:
    """Return "running", "stopped", or the exit code (negative: the signal) as text."""
    done, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
    if done == 0:
        return "running"
    return "stopped" if os.WIFSTOPPED(status) else str(os.waitstatus_to_exitcode(status))


def _warm_up() -> None:
    """Do what every child would do first: read the tools' schemas, import what opens a store."""
    import gatebook.journals.sqlite
    import gatebook.runtime.settings  # noqa: F401

    for program in PROGRAMS.values():
        assert program.digest
        assert all(tool.spec for tool in program.tools.values())


def main() -> None:
    """Serve requests until standard input ends."""
    _warm_up()
    for line in sys.stdin.buffer:
        request = msgspec.json.decode(line, type=Request)
        if request.start is not None:
            pid = os.fork()
            if pid == 0:
                _child(request.start)
            answer = str(pid)
        else:
            answer = _status(request.poll or 0)
        os.write(1, answer.encode() + b"\n")


if __name__ == "__main__":
    main()
