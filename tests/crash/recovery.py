"""Bringing a run to its end after a crash, and the points at which a crash can come."""

from pathlib import Path

from gatebook.kernel.events import AttemptFailed
from tests.crash.evidence import Evidence, answer_unknown, new_place
from tests.crash.fleet import Fleet
from tests.crash.place import Place
from tests.crash.worker import BLOCKED, OVER, TTL_S

RESTARTS = 6  # far more than two crashes can need


def calls(fleet: Fleet, folder: Path, program: str) -> list[str]:
    """Run a program without a crash; return its journal calls to the end of the run, in order."""
    dry = new_place(folder, "dry")
    assert fleet.start(dry.folder, program=program).ended() == OVER
    Evidence(dry).check_over()
    made = dry.read("calls", str)
    last = max(i for i, call in enumerate(made) if call.startswith("append:"))
    return made[: last + 1]


def effects(place: Place) -> list[str]:
    """Return where the tools of a finished run can be hit: before and after each effect."""
    found = []
    for when, facts in (("before", place.starts), ("after", place.ledger)):
        seen: dict[str, int] = {}
        for fact in facts:
            seen[fact.tool] = seen.get(fact.tool, 0) + 1
            found.append(f"{when}:{fact.tool}:{seen[fact.tool]}")
    return found


def recover(fleet: Fleet, place: Place, program: str, *, ttl_s: float = TTL_S) -> Evidence:
    """Let workers, and a person who reads the ledger, bring a run to its end."""
    for _ in range(RESTARTS):
        code = fleet.start(place.folder, program=program, ttl_s=ttl_s).ended()
        found = Evidence(place)
        found.check()
        if code == OVER:
            return found
        assert code == BLOCKED, (place.folder / "log").read_text()
        assert answer_unknown(place), f"blocked on {found.row.waiting_on!r}"
    raise AssertionError(f"not over after {RESTARTS} restarts: {Evidence(place).row}")


def in_back_off(place: Place) -> bool:
    """Whether a tool of the run has been started and its failure recorded."""
    return bool(place.starts) and bool(Evidence(place).of(AttemptFailed))
