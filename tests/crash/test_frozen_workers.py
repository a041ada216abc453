"""A worker is frozen past its lease, another takes over, and the first goes on where it was.

It cannot know that it was frozen. Only the journal and its own clock may stop it from acting.
"""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from gatebook import Client
from gatebook.kernel.events import ActionSucceeded, ActionUnknown, AttemptStarted
from gatebook.ports import Lease, RunKey
from tests.crash.evidence import Evidence, answer_unknown, new_place, with_client
from tests.crash.fleet import PATIENCE_S, Fleet, Worker, wait_until
from tests.crash.place import Place
from tests.crash.recovery import calls, in_back_off, recover
from tests.crash.worker import BLOCKED, OVER

pytestmark = pytest.mark.crash

TTL_S = 1.0
RUN = RunKey("default", "r1")


def started_by(place: Place, worker: Worker) -> list[tuple[str, int]]:
    """Return the (key, attempt) of every tool start in a process."""
    return [(start.key, start.attempt) for start in place.starts if start.pid == worker.pid]


def frozen_at_the_gate(fleet: Fleet, place: Place, program: str) -> Worker:
    """Return a worker that was frozen while its action was in flight."""
    worker = fleet.start(place.folder, program=program, ttl_s=TTL_S)
    wait_until("the action is in flight", lambda: place.reached)
    worker.freeze()
    place.open_gate()
    return worker


def test_a_payment_in_flight_in_a_frozen_worker_is_unknown_and_its_late_outcome_a_note(
    fleet: Fleet, place: Place
) -> None:
    """Nobody but the frozen process knows of the payment; when it wakes it may only say so."""
    first = frozen_at_the_gate(fleet, place, "slow_payment")

    assert fleet.start(place.folder, program="slow_payment", ttl_s=TTL_S).ended() == BLOCKED
    waiting = Evidence(place)
    assert list(waiting.unknown) == ["0"]
    assert [event.epoch for event in waiting.of(ActionUnknown)] == [2]

    assert answer_unknown(place) == 1
    assert fleet.start(place.folder, program="slow_payment", ttl_s=TTL_S).ended() == OVER
    first.thaw()
    assert first.ended() == OVER
    found = Evidence(place)
    found.check_over()
    assert found.late == ["late outcome of 0 attempt 0"]
    assert len(place.ledger) == 1


def test_a_late_outcome_comes_before_a_person_has_answered(fleet: Fleet, place: Place) -> None:
    """The note is what the person needs to answer; it must not be taken for the answer."""
    first = frozen_at_the_gate(fleet, place, "slow_payment")
    assert fleet.start(place.folder, program="slow_payment", ttl_s=TTL_S).ended() == BLOCKED

    first.thaw()
    first.ended()

    found = Evidence(place)
    assert found.late == ["late outcome of 0 attempt 0"]
    assert list(found.unknown) == ["0"]
    assert recover(fleet, place, "slow_payment", ttl_s=TTL_S).row.head.terminal
    assert len(place.ledger) == 1


def test_an_outcome_is_fenced_though_the_new_holder_has_written_nothing(
    fleet: Fleet, place: Place
) -> None:
    """The journal is where the old holder left it: only the epoch tells that the run is taken."""
    first = frozen_at_the_gate(fleet, place, "slow_payment")
    second = fleet.start(
        place.folder, program="slow_payment", ttl_s=TTL_S, still_at="before:append:1"
    )
    wait_until("the run is taken over", lambda: place.stands_still)

    os.kill(first.pid, signal.SIGCONT)
    wait_until("the late outcome is noted", lambda: Evidence(place).late)
    place.thaw()

    assert second.ended() == BLOCKED
    found = Evidence(place)
    assert list(found.unknown) == ["0"]
    assert not found.of(ActionSucceeded)


def test_a_silent_stream_in_a_frozen_worker_is_asked_again_and_its_answer_a_note(
    fleet: Fleet, place: Place
) -> None:
    """Two answers to one question: the journal has room for one."""
    first = frozen_at_the_gate(fleet, place, "slow_talk")

    assert fleet.start(place.folder, program="slow_talk", ttl_s=TTL_S).ended() == OVER
    first.thaw()
    assert first.ended() == OVER

    found = Evidence(place)
    found.check_over()
    assert [event.attempt for event in found.of(ActionSucceeded)] == [1]
    assert found.late == ["late outcome of 0 attempt 0"]
    assert found.output == "one two three four"


def test_a_reservation_in_a_frozen_worker_is_made_again_under_its_key(
    fleet: Fleet, place: Place
) -> None:
    """The other side tells two calls of one action by nothing but the key."""
    first = frozen_at_the_gate(fleet, place, "slow_reservation")

    assert fleet.start(place.folder, program="slow_reservation", ttl_s=TTL_S).ended() == OVER
    first.thaw()
    assert first.ended() == OVER

    found = Evidence(place)
    found.check_over()
    assert [effect.key for effect in place.ledger] == [found.keys["0"]] * 2
    assert [(e.attempt, e.cause) for e in found.of(AttemptStarted)] == [(1, "recovery")]


def test_a_worker_frozen_in_back_off_does_not_try_again(fleet: Fleet, place: Place) -> None:
    """Its timer rings after the takeover; the attempt it would start is not its own any more."""
    first = fleet.start(place.folder, program="patient", number=1_500, ttl_s=TTL_S)
    wait_until("the first attempt failed", lambda: in_back_off(place))
    first.freeze()

    second = fleet.start(place.folder, program="patient", number=1_500, ttl_s=TTL_S)
    assert second.ended() == OVER
    first.thaw()
    assert first.ended() == OVER

    found = Evidence(place)
    found.check_over()
    assert [attempt for _, attempt in started_by(place, first)] == [0]
    assert [attempt for _, attempt in started_by(place, second)] == [1]


def test_a_worker_frozen_at_any_journal_call_starts_nothing_after_the_takeover(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Between a commit and its effect there is always an instant to be frozen in."""
    points = [f"{when}:{call}" for call in calls(fleet, tmp_path, "order")
              for when in ("before", "after")]  # fmt: skip
    places = [new_place(tmp_path, point) for point in points]
    first = [
        fleet.start(place.folder, ttl_s=TTL_S, still_at=point)
        for place, point in zip(places, points, strict=True)
    ]
    for worker in first:
        worker.freeze_at_point()

    finish_together(fleet, places)
    before = [started_by(*pair) for pair in zip(places, first, strict=True)]
    ledgers = [place.ledger for place in places]
    heads = [Evidence(place).row.head.seq for place in places]
    for worker in first:
        worker.thaw()

    assert [worker.ended() for worker in first] == [OVER] * len(first)
    assert [started_by(*pair) for pair in zip(places, first, strict=True)] == before
    assert [place.ledger for place in places] == ledgers
    for place, seq in zip(places, heads, strict=True):
        found = Evidence(place)
        found.check_over()
        assert len(found.events) - seq == len(found.late)


def finish_together(fleet: Fleet, places: list[Place]) -> None:
    """Bring runs in several places to their end, all at the same time."""
    left = list(places)
    while left:
        workers = [fleet.start(place.folder, ttl_s=TTL_S) for place in left]
        codes = [worker.ended() for worker in workers]
        for place, code in zip(left, codes, strict=True):
            assert code in (OVER, BLOCKED), (place.folder / "log").read_text()
        left = [place for place, code in zip(left, codes, strict=True) if code == BLOCKED]
        assert all(answer_unknown(place) for place in left)


def claim(place: Place, *, ttl_s: float) -> Lease | None:
    """Try to claim the run once, as a worker would that has just come."""

    async def once(client: Client) -> Lease | None:
        return await client.journal.claim(RUN, owner="other", ttl_ms=round(ttl_s * 1000))

    return with_client(place, once)


def test_a_frozen_holder_keeps_its_run_while_its_lease_lasts(fleet: Fleet, place: Place) -> None:
    """Its lock is held, so it may be alive; a killed one lets go of the lock at once."""
    holder = fleet.start(place.folder, program="slow_payment", ttl_s=600.0)
    wait_until("the action is in flight", lambda: place.reached)
    holder.freeze()

    held = claim(place, ttl_s=600.0)
    holder.kill()
    free = claim(place, ttl_s=600.0)

    assert held is None
    assert free == Lease(RUN, "other", 2)


def test_a_lapsed_lease_of_a_living_holder_must_also_be_watched(fleet: Fleet, place: Place) -> None:
    """The holder's clock may be wrong: only what the observer saw stand still for a TTL counts."""
    holder = fleet.start(place.folder, program="slow_payment", ttl_s=TTL_S)
    wait_until("the action is in flight", lambda: place.reached)
    holder.freeze()

    async def watch(client: Client) -> tuple[Lease | None, Lease | None]:
        journal = client.journal
        lease_until = (await journal.row(RUN)).lease_until
        async with asyncio.timeout(PATIENCE_S):
            while journal.now() <= lease_until:  # noqa: ASYNC110 - the store's clock
                await asyncio.sleep(0.01)
            first = await journal.claim(RUN, owner="other", ttl_ms=1_000)
            lease = None
            while lease is None:
                await asyncio.sleep(0.01)
                lease = await journal.claim(RUN, owner="other", ttl_ms=1_000)
        return first, lease

    first, lease = with_client(place, watch)

    assert first is None
    assert lease == Lease(RUN, "other", 2)


@pytest.mark.parametrize("program", ["slow_payment", "slow_reservation", "slow_reading"])
def test_a_worker_frozen_before_its_effect_never_starts_it(
    fleet: Fleet, place: Place, program: str
) -> None:
    """The request is committed and nothing has happened: the takeover owns the action now."""
    place.open_gate()
    first = fleet.start(place.folder, program=program, ttl_s=TTL_S, still_at="after:append:1")
    first.freeze_at_point()

    recover(fleet, place, program, ttl_s=TTL_S)
    first.thaw()

    assert first.ended() == OVER
    assert started_by(place, first) == []
    Evidence(place).check_over()
