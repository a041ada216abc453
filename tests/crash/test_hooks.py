"""A worker that is killed between a hook's answer and what follows from it."""

from collections import Counter
from pathlib import Path

import pytest

from gatebook.kernel.events import AnyEvent, HookAnswered, RunCompleted
from tests.crash.alone import journaled, work

WORKER = "hook_worker.py"
APPENDS = 6  # of an undisturbed run: its start, two for each call, its end


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
    killed = work(WORKER, tmp_path, f"{when}:append:{append}")
    kept = answers(journaled(tmp_path))

    ended = work(WORKER, tmp_path)

    events = journaled(tmp_path)
    asked = Counter((tmp_path / "log").read_text().splitlines())
    final = answers(events)
    assert (killed, ended) == (-9, 0)
    assert isinstance(events[-1], RunCompleted)
    assert sum(count for line, count in asked.items() if line.startswith("pay")) <= 1
    for line, answer in kept.items():
        assert final[line] == answer
        assert asked[line] == 1
