"""Cancels from another process, and kills while a run waits for time or for a model."""

import pytest

from gatebook import Client, Succeeded
from gatebook.kernel.budget import OUTPUT_TOKENS
from gatebook.kernel.events import (
    ActionRequested,
    ActionResolved,
    ActionSucceeded,
    AttemptFailed,
    AttemptStarted,
    CancelRequested,
    RunCancelled,
)
from tests.crash.evidence import Evidence, with_client
from tests.crash.fleet import Fleet, wait_until
from tests.crash.place import Place
from tests.crash.recovery import in_back_off
from tests.crash.worker import BLOCKED, OVER

pytestmark = pytest.mark.crash


def cancel(place: Place) -> str:
    """Cancel the run from this process."""

    async def act(client: Client) -> str:
        return await client.handle("r1").cancel(reason="changed my mind")

    return with_client(place, act)


@pytest.mark.parametrize(
    ("program", "unknown"),
    [("slow_payment", ("0",)), ("slow_reservation", ("0",)), ("slow_reading", ()),
     ("slow_talk", ())],
)  # fmt: skip
def test_a_cancel_from_another_process_reaches_an_action_in_flight(
    fleet: Fleet, place: Place, program: str, unknown: tuple[str, ...]
) -> None:
    """The gate stays shut: the run can only end if the worker stops what it has started."""
    worker = fleet.start(place.folder, program=program)
    wait_until("the action is in flight", lambda: place.reached)

    said = cancel(place)

    assert said == "cancelling"
    assert worker.ended() == OVER
    found = Evidence(place)
    found.check()
    assert [end.unknown for end in found.of(RunCancelled)] == [unknown]


def test_a_cancel_outlives_the_worker_whose_payment_was_in_flight(
    fleet: Fleet, place: Place
) -> None:
    """The successor must not start anything, and must say what it cannot know."""
    doomed = fleet.start(place.folder, program="slow_payment")
    wait_until("the action is in flight", lambda: place.reached)
    doomed.freeze()
    cancel(place)
    doomed.kill()

    code = fleet.start(place.folder, program="slow_payment").ended()

    assert code == OVER
    found = Evidence(place)
    found.check()
    assert [end.unknown for end in found.of(RunCancelled)] == [("0",)]
    assert len(place.starts) == 1


def test_a_cancelled_worker_that_was_killed_left_no_request_after_the_cancel(
    fleet: Fleet, place: Place
) -> None:
    """The cancel and every request stand in one order, whoever writes them."""
    doomed = fleet.start(place.folder, still_at="after:append:3")
    doomed.freeze_at_point()
    cancel(place)
    doomed.thaw()

    assert doomed.ended() == OVER
    found = Evidence(place)
    found.check()
    (asked,) = (i for i, event in enumerate(found.events) if isinstance(event, CancelRequested))
    after = found.events[asked:]
    assert not [event for event in after if isinstance(event, ActionRequested | AttemptStarted)]


def test_a_word_about_an_unknown_action_after_the_cancel_is_kept(
    fleet: Fleet, place: Place
) -> None:
    """The run is over; what became of the payment is still worth knowing."""
    worker = fleet.start(place.folder, program="slow_payment")
    wait_until("the action is in flight", lambda: place.reached)
    cancel(place)
    worker.ended()

    async def say(client: Client) -> None:
        await client.handle("r1").resolve("0", Succeeded("paid, says the ledger"))

    with_client(place, say)

    found = Evidence(place)
    found.check()
    assert isinstance(found.events[-1], ActionResolved)
    assert found.row.head.status == "cancelled"


def test_a_back_off_goes_on_where_the_killed_worker_left_it(fleet: Fleet, place: Place) -> None:
    """Attempt and due time are the journal's, so a restart neither hurries nor begins again."""
    part = {"program": "patient", "number": 59_000}
    doomed = fleet.start(place.folder, **part, failpoints=("before:park:1",))
    doomed.ended()
    assert Evidence(place).row.owner

    code = fleet.start(place.folder, **part).ended()

    assert code == BLOCKED
    found = Evidence(place)
    found.check()
    (failed,) = found.of(AttemptFailed)
    assert found.row.wake_at == failed.time + 59_000_000
    assert found.row.waiting_on == "retry 0"
    assert len(place.starts) == 1


def test_a_killed_back_off_goes_on_with_the_next_attempt(fleet: Fleet, place: Place) -> None:
    """The count of attempts survives, so a limit on them holds over restarts."""
    part = {"program": "patient", "number": 1_000}
    doomed = fleet.start(place.folder, **part)
    wait_until("an attempt failed", lambda: in_back_off(place))
    doomed.kill()

    code = fleet.start(place.folder, **part).ended()

    assert code == OVER
    found = Evidence(place)
    found.check_over()
    assert [start.attempt for start in place.starts] == [0, 1]
    assert [(e.attempt, e.cause) for e in found.of(AttemptStarted)] == [(1, "retry")]


def test_a_stream_cut_by_a_kill_is_asked_again_and_charged_twice(
    fleet: Fleet, place: Place
) -> None:
    """Half an answer is no answer, but its tokens are spent."""
    doomed = fleet.start(place.folder, program="slow_talk")
    wait_until("half of the answer is there", lambda: place.reached)
    doomed.kill()
    place.open_gate()

    code = fleet.start(place.folder, program="slow_talk").ended()

    assert code == OVER
    found = Evidence(place)
    found.check_over()
    assert found.output == "one two three four"
    assert [(e.attempt, e.cause) for e in found.of(AttemptStarted)] == [(1, "recovery")]
    (answer,) = found.of(ActionSucceeded)
    assert answer.attempt == 1
    assert found.row.head.spent.llm_tokens > OUTPUT_TOKENS
