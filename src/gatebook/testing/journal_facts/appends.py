"""What an append keeps, refuses and answers."""

import asyncio
import secrets

import msgspec
import pytest

from gatebook.errors import Conflict, Fenced, InvalidInput, RunIsOver, RunNotFound, StoreError
from gatebook.kernel.append import BudgetShort
from gatebook.kernel.budget import Amount, Limits
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import (
    ActionResolved,
    BudgetRaised,
    DefinitionChanged,
    ErrorRecord,
    RunCompleted,
    RunFailed,
)
from gatebook.kernel.status import Status
from gatebook.kernel.stored import GENESIS, chain
from gatebook.ports import Journal, RunKey, RunQuery
from gatebook.testing.journal_facts.kit import (
    begin,
    claimed,
    fact,
    inside,
    kind,
    kinds,
    note,
    outside,
    requested,
    signal,
    started,
    succeeded,
    unknown,
    working,
)

ONE_CALL = Amount(tool_calls=1)


class AppendFacts:
    """Facts about `create` and `append`."""

    @fact
    async def test_a_created_run_is_running_and_due(self, journal: Journal) -> None:
        """A start must be picked up by whoever drives, without another message."""
        run = RunKey("default", "r1")

        row = await journal.create(run, started(labels={"a": "b"}), input_hash="h")

        assert row is not None
        assert (row.head.seq, row.head.status, row.owner) == (1, Status.RUNNING, "")
        assert (row.program, row.definition, row.input_hash) == ("p", "d1", "h")
        assert row.labels == {"a": "b"}
        assert row == await journal.row(run)
        assert await journal.due("default", programs=["p"]) == [run]

    @fact
    async def test_an_id_can_be_taken_once(self, journal: Journal) -> None:
        """The second start must learn that the run exists, and change nothing."""
        run = await begin(journal)

        again = await journal.create(run, started(program="other"), input_hash="other")

        assert again is None
        assert (await journal.row(run)).program == "p"

    @fact
    async def test_fifty_concurrent_creates_make_one_run(self, journal: Journal) -> None:
        """All bodies of a workflow id started twice at once ran in a peer; only one may."""
        run = RunKey("default", "r1")

        rows = await asyncio.gather(
            *(journal.create(run, started(), input_hash=str(i)) for i in range(50))
        )

        assert sum(row is not None for row in rows) == 1
        assert await kinds(journal, run) == ["run_started"]

    @fact
    async def test_seqs_are_contiguous_from_one(self, journal: Journal) -> None:
        """A gap means a lost event, so there must never be one without a loss."""
        lease = await working(journal)

        await journal.append(lease.run, inside(lease, 1, requested("1")))
        await journal.append(lease.run, inside(lease, 2, succeeded("1"), requested("2")))

        assert [r.seq for r in await journal.read(lease.run)] == [1, 2, 3, 4]

    @fact
    async def test_an_append_answers_what_a_reader_will_see(self, journal: Journal) -> None:
        """The live fold and a later replay must be of the same events."""
        lease = await working(journal)

        done = await journal.append(lease.run, inside(lease, 1, requested("1"), note()))

        assert list(done.events) == await journal.read(lease.run, after=1)
        assert done.head == (await journal.row(lease.run)).head

    @fact
    async def test_a_batch_is_kept_whole_or_not_at_all(self, journal: Journal) -> None:
        """Half a step would be a state that no program was in."""
        lease = await working(journal, limits=Limits(tool_calls=1))
        first = requested("1", reserve=ONE_CALL)
        await journal.append(lease.run, inside(lease, 1, first))
        before = await journal.row(lease.run)

        with pytest.raises(BudgetShort):
            await journal.append(
                lease.run, inside(lease, 2, succeeded("1"), requested("2", reserve=ONE_CALL))
            )

        assert await journal.row(lease.run) == before
        assert await kinds(journal, lease.run) == ["run_started", "action_requested"]

    @fact
    async def test_a_wrong_seq_is_a_conflict_with_the_tail(self, journal: Journal) -> None:
        """The driver folds the tail and decides again, so it must be complete."""
        lease = await working(journal)
        await journal.append(lease.run, outside(signal("a")))
        await journal.append(lease.run, outside(signal("b")))

        with pytest.raises(Conflict) as caught:
            await journal.append(lease.run, inside(lease, 1, requested("1")))

        assert list(caught.value.tail) == await journal.read(lease.run, after=1)
        assert (caught.value.fields["seq"], caught.value.fields["expected"]) == (3, 1)

    @fact
    async def test_ones_own_append_in_the_tail_is_success(self, journal: Journal) -> None:
        """After an unknown commit the same append is tried again and must not be refused."""
        lease = await working(journal)
        batch = inside(lease, 1, requested("1"), note())
        first = await journal.append(lease.run, batch)

        again = await journal.append(lease.run, batch)

        assert again.events == first.events
        assert await kinds(journal, lease.run) == ["run_started", "action_requested", "note"]

    @fact
    async def test_the_same_events_under_another_append_id_are_not_ours(
        self, journal: Journal
    ) -> None:
        """Equal content proves nothing: two workers may want the same step."""
        lease = await working(journal)
        batch = inside(lease, 1, note())
        await journal.append(lease.run, batch)

        other = msgspec.structs.replace(batch, append_id=secrets.token_bytes(16))
        with pytest.raises(Conflict):
            await journal.append(lease.run, other)

    @fact
    async def test_of_concurrent_appends_at_one_seq_one_wins(self, journal: Journal) -> None:
        """Check and write are one transaction, also inside a group commit."""
        lease = await working(journal)

        answers = await asyncio.gather(
            *(journal.append(lease.run, inside(lease, 1, note(str(i)))) for i in range(20)),
            return_exceptions=True,
        )

        assert sum(isinstance(a, Conflict) for a in answers) == 19
        assert (await journal.row(lease.run)).head.seq == 2

    @fact
    async def test_no_concurrent_append_to_a_run_is_lost(self, journal: Journal) -> None:
        """Read-filter-write lost other writers' events in a peer, 30 times of 30."""
        run = await begin(journal)

        await asyncio.gather(*(journal.append(run, outside(note(str(i)))) for i in range(32)))

        events = await journal.read(run)
        assert [r.seq for r in events] == list(range(1, 34))
        texts = {r.event.text for r in events if kind(r) == "note"}  # type: ignore[union-attr]
        assert texts == {str(i) for i in range(32)}

    @fact
    async def test_a_refused_append_spoils_no_other(self, journal: Journal) -> None:
        """Members of one group commit must not share their refusals."""
        lease = await working(journal, "good")
        other = await working(journal, "bad")
        bad = msgspec.structs.replace(other, epoch=other.epoch + 7)

        answers = await asyncio.gather(
            journal.append(other.run, inside(bad, 1, note())),
            journal.append(lease.run, inside(lease, 1, requested("1"))),
            journal.append(RunKey("default", "absent"), outside(note())),
            journal.append(other.run, outside(signal())),
            return_exceptions=True,
        )

        assert isinstance(answers[0], Fenced)
        assert isinstance(answers[2], RunNotFound)
        assert await kinds(journal, lease.run) == ["run_started", "action_requested"]
        assert await kinds(journal, other.run) == ["run_started", "signal_received"]

    @fact
    async def test_an_old_epoch_is_fenced(self, journal: Journal) -> None:
        """A worker that slept through its lease must not add to what another drives."""
        old = await working(journal)
        await claimed(journal, old.run)

        with pytest.raises(Fenced):
            await journal.append(old.run, inside(old, 1, requested("1")))

        assert await kinds(journal, old.run) == ["run_started"]

    @fact
    async def test_nothing_but_audit_notes_follows_the_end(self, journal: Journal) -> None:
        """A terminal state is final: a peer recorded a failure after completion."""
        lease = await working(journal)
        await journal.append(lease.run, inside(lease, 1, RunCompleted(output=Raw(b"1"))))

        with pytest.raises(RunIsOver):
            await journal.append(lease.run, outside(signal()))
        await journal.append(lease.run, outside(note("late")))

        assert await kinds(journal, lease.run) == ["run_started", "run_completed", "note"]
        assert (await journal.row(lease.run)).head.status is Status.COMPLETED

    @fact
    async def test_no_action_is_ordered_to_start_after_the_end(self, journal: Journal) -> None:
        """It would never start, and nobody could say any more what became of it."""
        lease = await working(journal)
        await journal.append(lease.run, inside(lease, 1, requested("1"), unknown("1")))
        end = RunFailed(error=ErrorRecord("E_RUN_TOO_LONG", "it is full"))
        await journal.append(lease.run, inside(lease, 3, end))

        with pytest.raises(RunIsOver):
            await journal.append(
                lease.run, outside(ActionResolved(address="1", resolution="retry"))
            )
        await journal.append(lease.run, outside(ActionResolved(address="1", resolution="failed")))

        assert (await journal.row(lease.run)).head.open == {}

    @fact
    async def test_the_reservations_of_one_batch_count_together(self, journal: Journal) -> None:
        """Parallel calls passed the limit in peers because each was checked alone."""
        lease = await working(journal, limits=Limits(tool_calls=1))
        two = (requested("1", reserve=ONE_CALL), requested("2", reserve=ONE_CALL))

        with pytest.raises(BudgetShort):
            await journal.append(lease.run, inside(lease, 1, *two))
        await journal.append(lease.run, inside(lease, 1, two[0]))

        assert (await journal.row(lease.run)).head.reserved == ONE_CALL

    @fact
    async def test_a_raised_budget_counts_at_once(self, journal: Journal) -> None:
        """Whoever raises a budget should not have to restart the run."""
        lease = await working(journal, limits=Limits(tool_calls=0))
        await journal.append(lease.run, outside(BudgetRaised(limits=Limits(tool_calls=1))))

        await journal.append(lease.run, inside(lease, 2, requested("1", reserve=ONE_CALL)))

        assert (await journal.row(lease.run)).head.used == ONE_CALL

    @fact
    async def test_an_outcome_needs_no_expected_seq(self, journal: Journal) -> None:
        """An effect has happened: a signal that came meanwhile must not lose its record."""
        lease = await working(journal)
        await journal.append(lease.run, inside(lease, 1, requested("1")))
        await journal.append(lease.run, outside(signal()))

        done = await journal.append(lease.run, inside(lease, None, succeeded("1")))

        assert (done.head.seq, done.head.open) == (4, {})

    @fact
    async def test_an_action_succeeds_once(self, journal: Journal) -> None:
        """A second outcome would let two results exist for one effect."""
        lease = await working(journal)
        await journal.append(lease.run, inside(lease, 1, requested("1")))
        await journal.append(lease.run, inside(lease, None, succeeded("1")))

        with pytest.raises(InvalidInput) as caught:
            await journal.append(lease.run, inside(lease, None, succeeded("1")))

        assert caught.value.code == "E_ACTION_NOT_OPEN"

    @fact
    async def test_a_request_needs_an_expected_seq(self, journal: Journal) -> None:
        """A request decided on an older state may be one that must not start."""
        lease = await working(journal)

        with pytest.raises(StoreError) as caught:
            await journal.append(lease.run, inside(lease, None, requested("1")))

        assert caught.value.code == "E_INVARIANT"

    @fact
    async def test_an_unknown_run_is_not_found(self, journal: Journal) -> None:
        """A typing error must not create anything."""
        run = RunKey("default", "absent")

        with pytest.raises(RunNotFound):
            await journal.append(run, outside(note()))

        assert await journal.runs("default", RunQuery()) == []

    @fact
    async def test_the_hash_chain_holds_and_the_row_is_its_anchor(self, journal: Journal) -> None:
        """The row must notice a cut tail, and each event a changed predecessor."""
        lease = await working(journal)
        await journal.append(lease.run, inside(lease, 1, requested("1"), note()))
        await journal.append(lease.run, outside(signal()))

        previous = GENESIS
        for seq, prev_hash, hash, body in await journal.raw(lease.run):
            assert prev_hash == previous
            assert hash == chain(previous, seq, body)
            previous = hash
        head = (await journal.row(lease.run)).head
        assert (head.seq, head.hash) == (4, previous)

    @fact
    async def test_a_large_body_comes_back_whole(self, journal: Journal) -> None:
        """Large bodies are stored apart; nobody who reads may notice."""
        lease = await working(journal)
        await journal.append(lease.run, inside(lease, 1, requested("1")))
        output = b'"' + b"x" * 200_000 + b'"'

        done = await journal.append(lease.run, inside(lease, None, succeeded("1", output)))

        (read,) = await journal.read(lease.run, after=2)
        (followed,) = await journal.tail("default", after=done.events[0].position - 1)
        with pytest.raises(Conflict) as caught:
            await journal.append(lease.run, inside(lease, 2, note()))
        assert bytes(read.event.output) == output  # type: ignore[union-attr]
        assert read == followed == done.events[0] == caught.value.tail[0]
        assert len((await journal.raw(lease.run))[-1][3]) < 1_000

    @fact
    async def test_an_adopted_definition_shows_in_the_row(self, journal: Journal) -> None:
        """A later resume compares with the definition in force, not the first one.

        So does whoever replays a run that ended at once.
        """
        going, ended = await working(journal, "going"), await working(journal, "ended")

        change = DefinitionChanged(before="d1", after="d2")
        await journal.append(going.run, inside(going, 1, change))
        await journal.append(ended.run, inside(ended, 1, change, RunCompleted(output=Raw(b"1"))))

        assert (await journal.row(going.run)).definition == "d2"
        assert (await journal.row(ended.run)).definition == "d2"

    @fact
    async def test_an_abandoned_append_still_ends(self, journal: Journal) -> None:
        """A cancelled caller gives up the answer, never half of the work."""
        run = await begin(journal)

        tasks = [asyncio.create_task(journal.append(run, outside(note(str(i))))) for i in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        done = await journal.append(run, outside(note("last")))

        assert [r.seq for r in await journal.read(run)] == list(range(1, done.head.seq + 1))
