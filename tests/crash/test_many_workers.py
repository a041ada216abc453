"""Two workers share a store and are killed again and again while they drive many runs."""

import itertools
import random
import time
from contextlib import suppress
from typing import Any

import pytest

from gatebook import Client, InvalidInput, RunIsOver
from gatebook.kernel.events import ActionUnknown, AttemptStarted
from tests.crash.cast import PROGRAMS, value_of
from tests.crash.evidence import Evidence, answer_unknown, with_client
from tests.crash.fleet import Fleet, wait_until
from tests.crash.place import Place
from tests.crash.worker import BUDGET

pytestmark = pytest.mark.crash

WORKERS = 2


def start(place: Place, number: int, name: str) -> None:
    """Start a run of one kind or the other, with its signal sent ahead."""
    program = ("order", "agent")[number % 2]

    async def act(client: Client) -> None:
        value: Any = value_of(program, number)
        run = await client.start(PROGRAMS[program], value, run_id=name, budget=BUDGET)
        await run.signal("go", "gone")

    with_client(place, act)


def taken_up(place: Place, name: str) -> int:
    """Wait until a worker holds the run, and return its process; 0 when the run is over by then."""

    async def holder(client: Client) -> str:
        row = await client.handle(name).row()
        return "0.0.0" if row.head.terminal else row.owner

    return int(wait_until(f"{name} is taken up", lambda: with_client(place, holder)).split(".")[-2])


def storm(fleet: Fleet, place: Place, names: list[str], *, seed: int) -> int:
    """Start runs one by one and kill whoever takes them up; return the kills."""
    chance = random.Random(seed)
    workers = [fleet.start(place.folder, task="serve") for _ in range(WORKERS)]
    kills = 0
    for number, name in enumerate(names):
        start(place, number, name)
        holder = taken_up(place, name)
        time.sleep(chance.uniform(0, 0.15))  # what it is doing when it dies is left to chance
        for index, worker in enumerate(workers):
            if worker.pid == holder:
                worker.kill()
                workers[index] = fleet.start(place.folder, task="serve")
                kills += 1
    return kills


def still_open(place: Place, names: list[str]) -> list[str]:
    """Answer for the person what runs wait for; return the runs that are not over."""

    async def look(client: Client) -> list[str]:
        rows = [await client.handle(name).row() for name in names]
        for row in rows:
            if row.head.status == "interrupted":
                with suppress(InvalidInput, RunIsOver):  # it went on while we looked
                    await client.handle(row.run.id).resume(by="test")
        return [row.run.id for row in rows if not row.head.terminal]

    left = with_client(place, look)
    for name in left:
        answer_unknown(place, name)
    return left


def lost_in_flight(found: Evidence) -> bool:
    """Whether an action of the run was in flight when its worker died."""
    again = [event for event in found.of(AttemptStarted) if event.cause == "recovery"]
    return bool(again or found.of(ActionUnknown))


def check_storm(fleet: Fleet, place: Place, *, runs: int, seed: int) -> None:
    """Kill workers for a while, then let two go on undisturbed: every run must end, and right."""
    names = [f"storm{seed}-{number}" for number in range(runs)]

    kills = storm(fleet, place, names, seed=seed)
    wait_until("all runs are over", lambda: not still_open(place, names))
    fleet.kill_all()

    found = [Evidence(place, name) for name in names]
    for each in found:
        each.check_over()
    keys = {key for each in found for key in each.keys.values()}
    paid = [e.key for e in place.ledger if e.tool == "pay" and e.key in keys]
    assert len(paid) == len(set(paid)) == 2 * runs
    assert kills > runs // 2
    assert any(lost_in_flight(each) for each in found)


def test_random_kills_of_two_workers_lose_no_run_and_pay_nothing_twice(
    fleet: Fleet, place: Place
) -> None:
    """Kills at chosen points find what we thought of; these find the rest."""
    check_storm(fleet, place, runs=20, seed=11)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_minute_of_random_kills_loses_no_run_and_pays_nothing_twice(
    fleet: Fleet, place: Place
) -> None:
    """A minute is many storms in one store, each with its seed."""
    first = random.SystemRandom().randrange(10**6)
    end = time.monotonic() + 60
    for seed in itertools.count(first):
        check_storm(fleet, place, runs=20, seed=seed)
        if time.monotonic() > end:
            return
