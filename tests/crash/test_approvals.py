"""A worker that is killed between a question, its answer, and the payment the answer is for."""

from pathlib import Path

import pytest

from gatebook.kernel.approvals.events import ApprovalAnswered, ApprovalAsked
from gatebook.kernel.events import ActionRequested, RunCompleted
from tests.crash.alone import journaled, work

WORKER = "approval_worker.py"
APPENDS = 4  # of an undisturbed run: the question, the answer, the request, the end


@pytest.mark.parametrize("append", range(1, APPENDS + 1))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_worker_asks_once_and_pays_once_what_was_approved(
    tmp_path: Path, when: str, append: int
) -> None:
    """An answer that was given must not be asked for again, nor be good for a second payment."""
    killed = work(WORKER, tmp_path, f"{when}:append:{append}")

    ended = work(WORKER, tmp_path)

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
    assert work(WORKER, tmp_path, f"after:append:{APPENDS + 1}") == 0
