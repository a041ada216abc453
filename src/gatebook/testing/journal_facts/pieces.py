"""What is kept of answers that are being written, and when it goes."""

import pytest

from gatebook.errors import Fenced, RunNotFound
from gatebook.kernel.events import (
    AnyEvent,
    AttemptFailed,
    AttemptStarted,
    CancelRequested,
    ErrorRecord,
    RunCancelled,
)
from gatebook.ports import Journal, Lease, Piece, RunKey
from gatebook.testing.journal_facts.kit import (
    begin,
    claimed,
    fact,
    inside,
    kinds,
    note,
    outside,
    requested,
    succeeded,
    unknown,
    working,
)

LOST = ErrorRecord("E_PROVIDER", "lost")


def piece(address: str = "1", *, attempt: int = 0, first: int = 0, body: bytes = b"[]") -> Piece:
    """Return a piece of two events."""
    return Piece(address, attempt, first, 2, body)


async def speaking(journal: Journal, id: str = "r1", *addresses: str) -> Lease:
    """Create and claim a run, and begin its actions."""
    lease = await working(journal, id)
    asked = [requested(address) for address in addresses or ("1",)]
    await journal.append(lease.run, inside(lease, 1, *asked))
    return lease


async def kept(journal: Journal, run: RunKey) -> list[tuple[str, int, int]]:
    """Return (address, attempt, first) of what is kept of a run."""
    return [(p.address, p.attempt, p.first) for p in await journal.pieces(run)]


class PieceFacts:
    """Facts about `put_pieces` and `pieces`."""

    @fact
    async def test_pieces_come_back_as_they_were_put(self, journal: Journal) -> None:
        """A reader in another process puts the answer together from them."""
        lease = await speaking(journal, "r1", "1", "2")
        put = [piece(body=b"[1]"), piece("2", body='["naïve"]'.encode()), piece(first=2)]

        await journal.put_pieces(lease, put[:2])
        await journal.put_pieces(lease, put[2:])

        found = await journal.pieces(lease.run)
        assert [(p.address, p.attempt, p.first, p.count, p.body) for p in found] == [
            (p.address, p.attempt, p.first, p.count, p.body) for p in put
        ]

    @fact
    async def test_a_reader_takes_what_is_new(self, journal: Journal) -> None:
        """To read the whole answer again with each look would cost its square."""
        lease = await speaking(journal)
        await journal.put_pieces(lease, [piece()])
        (first,) = await journal.pieces(lease.run)
        await journal.put_pieces(lease, [piece(first=2)])

        (new,) = await journal.pieces(lease.run, after=first.mark)

        assert (new.first, new.mark > first.mark > 0) == (2, True)
        assert await journal.pieces(lease.run, after=new.mark) == []

    @fact
    async def test_a_mark_is_not_given_twice(self, journal: Journal) -> None:
        """A reader that holds the mark of what is gone must not skip what comes after."""
        lease = await speaking(journal, "r1", "1", "2")
        await journal.put_pieces(lease, [piece()])
        (first,) = await journal.pieces(lease.run)
        await journal.append(lease.run, inside(lease, 3, succeeded("1")))

        await journal.put_pieces(lease, [piece("2")])

        assert len(await journal.pieces(lease.run, after=first.mark)) == 1

    @fact
    async def test_a_piece_put_twice_is_there_once(self, journal: Journal) -> None:
        """Who does not know whether it was kept puts it again."""
        lease = await speaking(journal)
        await journal.put_pieces(lease, [piece()])

        await journal.put_pieces(lease, [piece(), piece(first=2)])

        assert await kept(journal, lease.run) == [("1", 0, 0), ("1", 0, 2)]

    @pytest.mark.parametrize(
        "end",
        [
            succeeded("1"),
            unknown("1"),
            AttemptFailed(address="1", attempt=0, error=LOST, delay_ms=1),
            AttemptStarted(address="1", attempt=1, cause="recovery"),
        ],
        ids=lambda event: str(event.__struct_config__.tag),
    )
    def test_pieces_go_with_the_end_of_their_attempt(self, journal: Journal, end: AnyEvent) -> None:
        """The outcome holds the answer; a superseded attempt must not be shown."""

        @fact
        async def scenario(self: object, journal: Journal) -> None:
            lease = await speaking(journal, "r1", "1", "2")
            other = await speaking(journal, "r2")
            await journal.put_pieces(lease, [piece(), piece("2"), piece(first=2)])
            await journal.put_pieces(other, [piece()])

            await journal.append(lease.run, inside(lease, 3, end))

            assert await kept(journal, lease.run) == [("2", 0, 0)]
            assert await kept(journal, other.run) == [("1", 0, 0)]

        scenario(self, journal)

    @fact
    async def test_pieces_of_the_next_attempt_stay(self, journal: Journal) -> None:
        """A new attempt deletes what came before it, not what it says itself."""
        lease = await speaking(journal)
        await journal.put_pieces(lease, [piece()])
        begun = AttemptStarted(address="1", attempt=1, cause="recovery")
        await journal.append(lease.run, inside(lease, 2, begun))

        await journal.put_pieces(lease, [piece(attempt=1), piece(first=2)])

        assert await kept(journal, lease.run) == [("1", 1, 0)]

    @fact
    async def test_nothing_is_left_of_a_run_that_is_over(self, journal: Journal) -> None:
        """The table holds answers that are being written, not all that were."""
        lease = await speaking(journal)
        await journal.put_pieces(lease, [piece()])
        await journal.append(lease.run, outside(CancelRequested()))
        end = inside(lease, 3, unknown("1"), RunCancelled(unknown=("1",)))
        await journal.append(lease.run, end)

        await journal.put_pieces(lease, [piece(first=2)])

        assert await kept(journal, lease.run) == []

    @fact
    async def test_pieces_of_actions_that_do_not_run_are_left_out(self, journal: Journal) -> None:
        """What comes late is of an answer that is recorded already."""
        lease = await speaking(journal)
        await journal.append(lease.run, inside(lease, 2, succeeded("1")))

        await journal.put_pieces(lease, [piece(), piece("9"), piece(attempt=1)])

        assert await journal.pieces(lease.run) == []

    @fact
    async def test_a_worker_that_lost_the_run_is_refused(self, journal: Journal) -> None:
        """Two workers must not write one answer together."""
        lease = await speaking(journal)
        await journal.park(lease, after=2, wake_at=0, waiting_on="")
        await claimed(journal, lease.run, owner="w2")

        with pytest.raises(Fenced):
            await journal.put_pieces(lease, [piece()])

        assert await journal.pieces(lease.run) == []

    @fact
    async def test_pieces_are_no_events(self, journal: Journal) -> None:
        """They must move neither the chain nor a cursor, nor wake a follower."""
        lease = await speaking(journal)
        before = await journal.row(lease.run)
        last = await journal.wait(0)

        await journal.put_pieces(lease, [piece()])

        assert await journal.row(lease.run) == before
        assert await kinds(journal, lease.run) == ["run_started", "action_requested"]
        done = await journal.append(lease.run, outside(note()))
        assert done.events[0].position == last + 1

    @fact
    async def test_pieces_are_their_tenants_own(self, journal: Journal) -> None:
        """Not found, never forbidden."""
        lease = await speaking(journal)
        await journal.put_pieces(lease, [piece()])
        stranger = RunKey("other", lease.run.id)

        with pytest.raises(RunNotFound):
            await journal.pieces(stranger)
        with pytest.raises(RunNotFound):
            await journal.put_pieces(Lease(stranger, lease.owner, lease.epoch), [piece()])
        assert await journal.pieces(await begin(journal, "mine", tenant="other")) == []
