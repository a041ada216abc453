"""The test's side of its worker processes: start them, watch them, kill, freeze and thaw them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tests.crash.place import Place
from tests.crash.worker import Part, Request

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 30.0  # far above what anything here takes, far below the workers' lease of 600 s
LOOK_S = 0.004

T = TypeVar("T")


def wait_until(what: str, probe: Callable[[], T | None], *, within_s: float = PATIENCE_S) -> T:
    """Return the first true answer of `probe`; fail with `what` when there is none in time."""
    deadline = time.monotonic() + within_s
    while not (found := probe()):
        assert time.monotonic() < deadline, f"not in {within_s:g} s: {what}"
        time.sleep(LOOK_S)
    return found


class Worker:
    """One worker process."""

    def __init__(self, fleet: "Fleet", pid: int, part: Part) -> None:
        self._fleet = fleet
        self._code: int | None = None
        self._stopped = False
        self.pid = pid
        self.part = part
        self._place = Place(Path(part.folder))

    @property
    def alive(self) -> bool:
        """Whether it has not ended; a frozen process is alive."""
        self._look()
        return self._code is None

    @property
    def stopped(self) -> bool:
        """Whether it is frozen."""
        self._look()
        return self._stopped

    def _look(self) -> None:
        if self._code is None:
            status = self._fleet.ask(Request(poll=self.pid))
            if status == "stopped":
                self._stopped = True
            elif status != "running":
                self._code = int(status)

    def ended(self) -> int:
        """Wait for its end and return its exit code, negative for a signal."""
        wait_until(f"worker {self.part} ends", lambda: not self.alive)
        assert self._code is not None
        return self._code

    def kill(self) -> int:
        """End it with SIGKILL and wait for that."""
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)
        return self.ended()

    def freeze(self) -> None:
        """Stop it where it is, but not inside a transaction."""
        with self._place.quiet_store():
            os.kill(self.pid, signal.SIGSTOP)
            wait_until(f"worker {self.part} freezes", lambda: self.stopped)

    def freeze_at_point(self) -> None:
        """Stop it at the journal call where it stands still."""
        wait_until(f"worker {self.part} stands still", lambda: self._place.stands_still)
        self.freeze()

    def thaw(self) -> None:
        """Let it go on."""
        self._stopped = False
        self._place.thaw()
        os.kill(self.pid, signal.SIGCONT)


class Fleet:
    """All worker processes of a test module; use it as a context manager."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.worker"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._workers: list[Worker] = []

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *error: object) -> None:
        self.kill_all()
        self._server.communicate()

    def ask(self, request: Request) -> str:
        """Send a request to the fork server and return its answer."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(msgspec.json.encode(request) + b"\n")
        self._server.stdin.flush()
        answer = self._server.stdout.readline().decode().strip()
        assert answer, "the fork server has died"
        return answer

    def start(self, folder: Path, **part: Any) -> Worker:
        """Start a worker; see `Part`."""
        whole = Part(folder=str(folder), **part)
        worker = Worker(self, int(self.ask(Request(start=whole))), whole)
        self._workers.append(worker)
        return worker

    def kill_all(self) -> None:
        """End every worker that is left."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()
