"""A worker that is killed between a hook's answer and what follows from it."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gatebook.journals import open_journal
from gatebook.kernel.events import AnyEvent, HookAnswered, RunCompleted
from gatebook.kernel.verify import verify_facts
from gatebook.ports import RunKey
from gatebook.testing.failpoints import VARIABLE

WORKER = Path(__file__).with_name("hook_worker.py")
RUN = RunKey("default", "r")
APPENDS = 6  # of an undisturbed run: its start, two for each call, its end


def worker(folder: Path, failpoint: str = "") -> int:
    """Run a worker process over the folder's store; return how it ended."""
    done = subprocess.run(
        [sys.executable, str(WORKER), str(folder / "runs.db"), str(folder / "log")],
        env=os.environ | {VARIABLE: failpoint}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, -9), done.stderr
    return done.returncode


def journaled(folder: Path) -> list[AnyEvent]:
    """The run's events; they verify once the run has ended."""

    async def read() -> list[AnyEvent]:
        journal = open_journal(f"sqlite:///{folder / 'runs.db'}")
        await journal.open()
        try:
            events = [each.event for each in await journal.read(RUN)]
            head = (await journal.row(RUN)).head
        finally:
            await journal.close()
        if head.terminal:
            verify_facts("r", events, head)
        return events

    return asyncio.run(read())


def answers(events: list[AnyEvent]) -> dict[str, HookAnswered]:
    """The recorded answers by the line that the log has for each."""
    found = [event for event in events if isinstance(event, HookAnswered)]
    by_line = {f"{e.point} {e.address} {e.attempt}": e for e in found}
    assert len(by_line) == len(found)
    return by_line


@pytest.mark.parametrize("append", range(1, APPENDS + 1))
@pytest.mark.parametrize("when", ["after", pytest.param("before", marks=pytest.mark.soak)])
def test_a_killed_worker_loses_no_answer_and_none_is_given_twice(
    tmp_path: Path, when: str, append: int
) -> None:
    """What the journal had at the kill is used as it is; the money never moves twice."""
    killed = worker(tmp_path, f"{when}:append:{append}")
    kept = answers(journaled(tmp_path))

    ended = worker(tmp_path)

    events = journaled(tmp_path)
    asked = Counter((tmp_path / "log").read_text().splitlines())
    final = answers(events)
    assert (killed, ended) == (-9, 0)
    assert isinstance(events[-1], RunCompleted)
    assert sum(count for line, count in asked.items() if line.startswith("pay")) <= 1
    for line, answer in kept.items():
        assert final[line] == answer
        assert asked[line] == 1
