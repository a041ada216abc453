"""One worker process over a folder's store, killed at a failpoint, and what it has left there."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from gatebook.journals import open_journal
from gatebook.kernel.events import AnyEvent
from gatebook.kernel.verify import verify_facts
from gatebook.ports import RunKey
from gatebook.testing.failpoints import VARIABLE

HERE = Path(__file__).parent
RUN = RunKey("default", "r")


def work(script: str, folder: Path, failpoint: str = "") -> int:
    """Run a worker's script of this package in a process; return how it ended."""
    done = subprocess.run(
        [sys.executable, str(HERE / script), str(folder / "runs.db"), str(folder / "log")],
        env=os.environ | {VARIABLE: failpoint}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, -9), done.stderr
    return done.returncode


def journaled(folder: Path) -> list[AnyEvent]:
    """Return the events of the run "r"; they verify once it has ended."""

    async def read() -> list[AnyEvent]:
        journal = open_journal(f"sqlite:///{folder / 'runs.db'}")
        await journal.open()
        try:
            events = [each.event for each in await journal.read(RUN)]
            head = (await journal.row(RUN)).head
        finally:
            await journal.close()
        if head.terminal:
            verify_facts(RUN.id, events, head)
        return events

    return asyncio.run(read())
