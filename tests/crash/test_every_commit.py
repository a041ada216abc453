"""A worker is killed before and after every commit and around every effect; another goes on.

Leases last ten minutes here: that anything ends at all shows that a dead holder loses its runs
at once.
"""

import random
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.crash.evidence import Evidence, lost_attempts, new_place
from tests.crash.fleet import Fleet
from tests.crash.place import Place
from tests.crash.recovery import calls, effects, recover

pytestmark = pytest.mark.crash

OUTPUTS: dict[str, Any] = {
    "order": ["paid fee", "reserved room", "gone", "room is there", "paid room", "7", "refused"],
    "agent": "all done",
}
PROGRAMS = tuple(OUTPUTS)
EXTERNAL = "paid, says the ledger"


def check_end(found: Evidence, program: str) -> None:
    """Check that a recovered run is over, right, and gave what it would have given."""
    found.check_over()
    want = OUTPUTS[program]
    if isinstance(want, list):
        pairs_of = zip(found.output, want, strict=True)
        assert all(got in (expected, EXTERNAL) for got, expected in pairs_of), found.output
    else:
        assert found.output == want


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_kill_beside_any_commit_loses_and_repeats_nothing(
    fleet: Fleet, tmp_path: Path, program: str, when: str
) -> None:
    """Between any two commits the machine may go down; the journal alone must be enough."""
    for call in calls(fleet, tmp_path, program):
        place = new_place(tmp_path, f"{when}:{call}")
        doomed = fleet.start(place.folder, program=program, failpoints=(f"{when}:{call}",))

        assert doomed.ended() == -signal.SIGKILL, f"{when}:{call} was not reached"
        check_end(recover(fleet, place, program), program)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_kill_around_any_effect_repeats_no_payment(
    fleet: Fleet, tmp_path: Path, program: str
) -> None:
    """An effect is outside the journal, so no commit can say whether it took place."""
    calls(fleet, tmp_path, program)
    for strike in effects(Place(tmp_path / "dry")):
        place = new_place(tmp_path, strike)
        doomed = fleet.start(place.folder, program=program, strikes=(strike,))

        assert doomed.ended() == -signal.SIGKILL, f"{strike} was not reached"
        check_end(recover(fleet, place, program), program)


@pytest.mark.parametrize("deed", ["before:{}:unknown", "after:{}:unknown", "before:{}:error",
                                  "after:{}:error"])  # fmt: skip
def test_a_lost_answer_at_any_append_loses_and_repeats_nothing(
    fleet: Fleet, tmp_path: Path, deed: str
) -> None:
    """A worker that lives on must find out what a commit without an answer has done."""
    program = "order"
    for call in calls(fleet, tmp_path, program):
        if call.startswith("append:"):
            place = new_place(tmp_path, deed.format(call))
            fleet.start(place.folder, program=program, failpoints=(deed.format(call),)).ended()

            check_end(recover(fleet, place, program), program)
            assert not lost_attempts(Evidence(place)), f"{call}: nobody has died"


def crash_twice(fleet: Fleet, folder: Path, program: str, first: str, second: str) -> bool:
    """Kill a worker at one point and its successor at another; return whether both were hit."""
    place = new_place(folder, f"{first}+{second}")
    fleet.start(place.folder, program=program, failpoints=(first,)).ended()
    code = fleet.start(place.folder, program=program, failpoints=(second,)).ended()
    check_end(recover(fleet, place, program), program)
    return code == -signal.SIGKILL


def pairs(made: list[str]) -> list[tuple[str, str]]:
    """Return every crash of a worker with every early crash of its successor."""
    early = ["claim:1", "append:1", "append:2"]
    points = [f"{when}:{call}" for call in made for when in ("before", "after")]
    return [(a, f"{when}:{call}") for a in points for call in early for when in ("before", "after")]


def test_a_kill_during_recovery_loses_and_repeats_nothing(fleet: Fleet, tmp_path: Path) -> None:
    """Whatever brought the first worker down may bring its successor down too."""
    program = "order"
    some = random.Random(7).sample(pairs(calls(fleet, tmp_path, program)), 12)

    hit = [crash_twice(fleet, tmp_path, program, *pair) for pair in some]

    assert sum(hit) >= len(hit) // 2


@pytest.mark.soak
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_pair_of_kills_loses_and_repeats_nothing(
    fleet: Fleet, tmp_path: Path, program: str
) -> None:
    """The short test takes a sample of these."""
    for pair in pairs(calls(fleet, tmp_path, program)):
        crash_twice(fleet, tmp_path, program, *pair)
