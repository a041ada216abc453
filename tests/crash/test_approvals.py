"""A worker that is killed between a question, its answer, and the payment the answer is for."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gatebook.journals import open_journal
from gatebook.kernel.approvals.events import ApprovalAnswered, ApprovalAsked
from gatebook.kernel.events import ActionRequested, AnyEvent, RunCompleted
from gatebook.kernel.verify import verify_facts
from gatebook.ports import RunKey
from gatebook.testing.failpoints import VARIABLE

WORKER = Path(__file__).with_name("approval_worker.py")
RUN = RunKey("default", "r")
APPENDS = 4  # of an undisturbed run: the question, the answer, the request, the end


def worker(folder: Path, failpoint: str = "") -> int:
    """Run a worker process over the folder's store; return how it ended."""
    done = subprocess.run(
        [sys.executable, str(WORKER), str(folder / "runs.db"), str(folder / "log")],
        env=os.environ | {VARIABLE: failpoint}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, -9), done.stderr
    return done.returncode


def journaled(folder: Path) -> list[AnyEvent]:
    """The events of the run, which has ended and verifies."""

    async def read() -> list[AnyEvent]:
        journal = open_journal(f"sqlite:///{folder / 'runs.db'}")
        await journal.open()
        try:
            events = [each.event for each in await journal.read(RUN)]
            verify_facts("r", events, (await journal.row(RUN)).head)
        finally:
            await journal.close()
        return events

    return asyncio.run(read())


@pytest.mark.parametrize("append", range(1, APPENDS + 1))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_worker_asks_once_and_pays_once_what_was_approved(
    tmp_path: Path, when: str, append: int
) -> None:
    """An answer that was given must not be asked for again, nor be good for a second payment."""
    killed = worker(tmp_path, f"{when}:append:{append}")

    ended = worker(tmp_path)

    events = journaled(tmp_path)
    asked, edited = (event for event in events if isinstance(event, ApprovalAsked))
    (answer,) = (event for event in events if isinstance(event, ApprovalAnswered))
    (request,) = (event for event in events if isinstance(event, ActionRequested))
    assert (killed, ended) == (-9, 0)
    assert (asked.answered, edited.answered) == (False, True)
    assert (answer.answer, bytes(answer.args)) == ("edit", b'{"amount":40}')
    assert request.action == edited.action
    assert request.decision.approval
    assert (tmp_path / "log").read_text() == "paid 40\n"
    assert isinstance(events[-1], RunCompleted)
    assert bytes(events[-1].output) == b"40"


def test_an_undisturbed_run_appends_as_often_as_is_swept(tmp_path: Path) -> None:
    """A longer run would hide commits beside which nobody was killed."""
    assert worker(tmp_path, f"after:append:{APPENDS + 1}") == 0
