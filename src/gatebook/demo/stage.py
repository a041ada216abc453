"""The processes of the story: a worker is started, waited for, and killed."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from gatebook.demo.cast import Model

T = TypeVar("T")
PATIENCE_S = 120.0  # the local model loads in about a second; a busy machine takes longer
LOOK_S = 0.01


class StageError(Exception):
    """A worker process did not do its part; the text says which and ends with its output."""


class WorkerProcess:
    """A worker as a process of its own. Leaving the `async with` kills one that still runs."""

    def __init__(self, folder: Path, model: Model, *, morning: bool) -> None:
        """Say which worker; `morning` is the one whose calls are held for the kill."""
        self._log = folder / ("worker-1.log" if morning else "worker-2.log")
        self._arguments = ["worker", "--folder", str(folder), "--model", model]
        if morning:
            self._arguments.append("--morning")

    async def __aenter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gatebook.demo", *self._arguments, stdout=log, stderr=log
            )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until something is so.

        Raises:
            StageError: the worker ended before, or it took too long.
        """
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not holds():
                    if self._process.returncode is not None:
                        raise self._failure(f"ended before {what}")
                    await asyncio.sleep(LOOK_S)
        except TimeoutError as exc:
            raise self._failure(f"did not come so far that {what} within {PATIENCE_S:g} s") from exc

    async def during(self, what: str, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns, which needs this worker alive or ended well.

        Raises:
            StageError: the worker failed before, or it took too long.
        """
        working = asyncio.ensure_future(work)
        ending = asyncio.ensure_future(self.ended())
        try:
            await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                ending.result()
            async with asyncio.timeout(PATIENCE_S):
                return await working
        except TimeoutError as exc:
            raise self._failure(f"ended, but not so that {what}") from exc
        finally:
            working.cancel()
            ending.cancel()

    def _failure(self, what: str) -> StageError:
        return StageError(f"the worker {what}; its output:\n{self._log.read_text()}")

    async def kill(self) -> int:
        """Send SIGKILL, which no process can catch, and return the exit code."""
        self._process.send_signal(signal.SIGKILL)
        return await self._process.wait()

    async def ended(self) -> int:
        """Wait until it ends by itself, and return its exit code, which is 0.

        Raises:
            StageError: it ended otherwise, or not in time.
        """
        try:
            async with asyncio.timeout(PATIENCE_S):
                code = await self._process.wait()
        except TimeoutError as exc:
            raise self._failure(f"did not end within {PATIENCE_S:g} s") from exc
        if code != 0:
            raise self._failure(f"ended with exit code {code}")
        return code
