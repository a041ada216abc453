"""A draft: the rows of an append made ahead, taken only where the store would make the same."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatebook.kernel.append import DETACH, Batch, Draft, admit
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import (
    ActionSucceeded,
    AnyEvent,
    AttemptFailed,
    CancelRequested,
    ErrorRecord,
    Note,
    RunCompleted,
)
from gatebook.kernel.head import Head
from tests.kernel.test_append import again, asked, begun

ERROR = ErrorRecord("E_ACTION", "no")
STEPS: list[AnyEvent] = [
    asked("0"),
    asked("1"),
    AttemptFailed(address="0", attempt=0, error=ERROR, delay_ms=5),
    again("0", 1),
    ActionSucceeded(address="0", attempt=1, output=Raw(b"[1]")),
    ActionSucceeded(address="1"),
    Note(text="x" * (DETACH + 1)),
    RunCompleted(),
]


def drafted(head: Head, *events: AnyEvent, time: int = 100, epoch: int = 1) -> Batch:
    """A batch planned on a copy of this head, as a worker would."""
    draft = Draft(head.copy(), "r", b"id", epoch, time)
    for event in events:
        draft.add(event)
    return draft.finish()


def fits(batch: Batch, head: Head, *, now: int = 100) -> bool:
    assert batch.draft is not None
    return batch.draft.fits(head, now=now)


@given(st.integers(1, len(STEPS)), st.integers(100, 300))
def test_a_draft_holds_what_the_store_would_have_made(count: int, time: int) -> None:
    """Two ways to the same rows must not differ in a byte, nor in the head they leave."""
    head = begun()
    batch = drafted(head, *STEPS[:count], time=time)

    stored = head.copy()
    rows = admit(stored, batch, now=300, run="r")

    assert batch.draft is not None
    assert fits(batch, head, now=300)
    assert batch.draft.rows == rows
    assert msgspec.json.encode(batch.draft.head) == msgspec.json.encode(stored)


def test_a_draft_does_not_fit_where_something_came_between() -> None:
    """A cancel that won the race was not seen by the plan."""
    head = begun()
    batch = drafted(head, asked())
    admit(head, Batch(events=(CancelRequested(),), append_id=b"c"), now=100, run="r")

    assert not fits(batch, head)


def test_a_draft_does_not_fit_a_run_of_another_history() -> None:
    """Equal seqs prove nothing; only the hash names all that happened."""
    batch = drafted(begun(Note(text="one")), asked())

    assert not fits(batch, begun(Note(text="another")))


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_a_draft_does_not_fit_under_another_claim(epoch: int) -> None:
    """A claim leaves no event, so the hash cannot tell it."""
    head = begun()
    batch = drafted(head, asked(), epoch=epoch)
    head.epoch = 2

    assert not fits(batch, head)


@pytest.mark.parametrize(("time", "now"), [(99, 200), (201, 200)])
def test_a_draft_cannot_move_time(time: int, now: int) -> None:
    """Stamps never go back, nor ahead of the store's clock."""
    head = begun()
    batch = drafted(head, asked(), time=time)

    assert not fits(batch, head, now=now)


def test_what_an_append_would_refuse_spoils_the_draft() -> None:
    """The store is asked then, and says why."""
    head = begun()
    full = [asked(str(i)) for i in range(6)]

    batch = drafted(head, *full)

    assert batch.draft is None
    assert batch.events == tuple(full)


def test_a_finished_draft_is_not_changed_by_the_next_plan() -> None:
    """The worker's head goes on while the store still holds the one it was given."""
    live = begun()
    draft = Draft(live, "r", b"id", 1, 100)
    draft.add(asked("0"))
    batch = draft.finish()

    Draft(live, "r", b"id", 1, 100).add(asked("1"))

    assert batch.draft is not None
    assert list(batch.draft.head.open) == ["0"]
