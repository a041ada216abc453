"""What was acknowledged is there and what was refused is not, whatever the disk does."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw
import pytest
from tests.journals.disk import Disk, Fault, Plan

from gatebook.errors import CommitUnknown, GatebookError, JournalCorrupt, StoreError
from gatebook.journals.sqlite import SqliteJournal
from gatebook.kernel.events import Note
from gatebook.kernel.stored import GENESIS, chain
from gatebook.ports import RunKey, RunQuery
from gatebook.testing.journal_facts.kit import (
    begin,
    eventually,
    inside,
    kinds,
    note,
    outside,
    requested,
    succeeded,
    working,
)

RUNS = [RunKey("default", f"r{i}") for i in range(3)]


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.unregister()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


async def found(path: Path) -> set[str]:
    """Return the texts of all notes in a store, each run read and its chain checked."""
    journal = SqliteJournal(path)
    await journal.open()
    texts = set()
    for row in await journal.runs("default", RunQuery()):
        previous = GENESIS
        for seq, prev_hash, hash, body in await journal.raw(row.run):
            assert prev_hash == previous
            assert hash == chain(previous, seq, body)
            previous = hash
        notes = [r.event.text for r in await journal.read(row.run) if isinstance(r.event, Note)]
        assert len(notes) == len(set(notes)), "an append is there twice"
        texts |= set(notes)
    await journal.close()
    return texts


class Told:
    """What the callers of one scenario were told about each note."""

    def __init__(self) -> None:
        self.kept: set[str] = set()
        self.refused: set[str] = set()
        self.unknown: set[str] = set()

    async def append(self, journal: SqliteJournal, run: RunKey, text: str) -> None:
        try:
            await journal.append(run, outside(note(text)))
        except CommitUnknown:
            self.unknown.add(text)
        except (StoreError, JournalCorrupt):
            self.refused.add(text)
        else:
            self.kept.add(text)


async def write_notes(store: Path, disk: Disk, plan: Plan) -> Told:
    """Append notes to three runs at once, in groups, on a disk that fails by the plan."""
    journal = SqliteJournal(store, vfs=disk.vfs, busy_s=1)
    await journal.open()
    for run in RUNS:
        await begin(journal, run.id)
    await journal.row(RUNS[0])  # a reading connection keeps the log open
    told = Told()
    disk.operations, disk.plan = 0, plan
    for turn in range(3):
        await asyncio.gather(
            *(told.append(journal, run, f"{run}-{turn}-{i}") for run in RUNS for i in range(2))
        )
    await journal.close()
    return told


def at(number: int, fault: Fault, *, lasting: bool) -> Plan:
    """Return a plan that fails the nth operation, or everything from there on."""

    def plan(operation: str, name: str, count: int) -> Fault:
        hit = count >= number if lasting else count == number
        if fault == "full" and operation == "sync":
            return ""
        return fault if hit else ""

    return plan


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("fault", ["io", "full"])
def test_the_disk_may_fail_at_any_operation(tmp_path: Path, fault: Fault, lasting: bool) -> None:
    """An answer is a promise: kept survives a power loss, refused never comes back."""
    answers: Counter[str] = Counter()
    for number in range(1, 50):
        folder = tmp_path / str(number)
        folder.mkdir()
        store, disk = folder / "journal.db", Disk()

        told = asyncio.run(write_notes(store, disk, at(number, fault, lasting=lasting)))

        after_crash = asyncio.run(found(store))
        after_power_loss = asyncio.run(found(disk.cut_power(store, folder / "elsewhere")))
        disk.unregister()
        for there in (after_crash, after_power_loss):
            assert told.kept <= there, f"operation {number}: an acknowledged append is gone"
            assert not told.refused & there, f"operation {number}: a refused append came back"
        answers.update(kept=len(told.kept), refused=len(told.refused))
        answers.update(unknown=len(told.unknown))

    assert answers["kept"]
    assert bool(answers["refused"]) == lasting  # what failed once was tried again
    assert bool(answers["unknown"]) == (lasting and fault == "io")


def test_a_full_disk_is_named_and_survived(store: Path, disk: Disk) -> None:
    """Space can be made while the process goes on; the run then goes on too."""

    async def scenario() -> None:
        journal = SqliteJournal(store, vfs=disk.vfs)
        await journal.open()
        run = await begin(journal)

        disk.plan = lambda operation, name, number: "full" if operation == "write" else ""
        with pytest.raises(StoreError) as caught:
            await journal.append(run, outside(note("lost")))
        disk.plan = lambda operation, name, number: ""
        await journal.append(run, outside(note("kept")))

        assert caught.value.code == "E_STORE_FULL"
        assert await kinds(journal, run) == ["run_started", "note"]
        await journal.close()

    asyncio.run(scenario())


def test_no_insert_slips_through_after_the_engine_rolled_back(store: Path) -> None:
    """After SQLITE_FULL the next insert of the group would commit alone, half of its batch."""

    async def scenario() -> None:
        journal = SqliteJournal(store)
        await journal.open()
        runs = [await begin(journal, f"r{i}") for i in range(8)]
        big = [note(f"{i}" + "x" * 30_000) for i in range(3)]

        answers = await asyncio.gather(
            *(journal.append(run, outside(*big)) for run in runs), return_exceptions=True
        )

        refused = [a for a in answers if isinstance(a, StoreError)]
        assert 0 < len(refused) < len(runs)
        assert {error.code for error in refused} == {"E_STORE_FULL"}
        for run, answer in zip(runs, answers, strict=True):
            whole = 1 if isinstance(answer, StoreError) else 4
            assert len(await journal.read(run)) == whole
        await journal.close()

    with connections_get("PRAGMA max_page_count=120"):
        asyncio.run(scenario())


@contextmanager
def connections_get(statement: str) -> Iterator[None]:
    """Run a statement on every connection that is opened meanwhile."""

    def hook(connection: apsw.Connection) -> None:
        connection.execute(statement)

    apsw.connection_hooks.append(hook)
    try:
        yield
    finally:
        apsw.connection_hooks.remove(hook)


def test_a_commit_that_raised_and_holds_is_success(store: Path) -> None:
    """An error at commit says nothing: the store looks before it answers."""
    raised: list[int] = []
    connections: list[apsw.Connection] = []

    def after_commit(connection: apsw.Connection, name: str, pages: int) -> int:
        if raised:
            return apsw.SQLITE_OK
        raised.append(pages)
        return apsw.SQLITE_IOERR

    async def hooked() -> bool:
        with suppress(apsw.ThreadingViolationError):  # the thread that claimed has it still
            connections[0].set_wal_hook(after_commit)
            return True
        return False

    async def scenario() -> None:
        journal = SqliteJournal(store)
        await journal.open()
        lease = await working(journal)
        await eventually(hooked)

        done = await journal.append(lease.run, inside(lease, 1, requested("1")))
        again = await journal.append(lease.run, inside(lease, 2, succeeded("1")))

        assert raised
        assert (done.head.seq, again.head.seq) == (2, 3)
        assert await kinds(journal, lease.run) == [
            "run_started", "action_requested", "action_succeeded"
        ]  # fmt: skip
        await journal.close()

    apsw.connection_hooks.append(connections.append)
    try:
        asyncio.run(scenario())
    finally:
        apsw.connection_hooks.remove(connections.append)


def test_a_store_whose_log_cannot_be_synced_stops(store: Path, disk: Disk) -> None:
    """Going on after a failed sync would build on what a power loss may take away."""

    async def scenario() -> None:
        journal = SqliteJournal(store, vfs=disk.vfs)
        await journal.open()
        run = await begin(journal)
        await journal.row(run)

        disk.plan = lambda operation, name, number: "io" if operation == "sync" else ""
        with pytest.raises(CommitUnknown):
            await journal.append(run, outside(note("first")))
        disk.plan = lambda operation, name, number: ""
        with pytest.raises(StoreError) as caught:
            await journal.append(run, outside(note("second")))

        assert caught.value.code == "E_STORE_STOPPED"
        assert (await journal.row(run)).run == run
        await journal.close()

    asyncio.run(scenario())


def test_a_value_the_engine_refuses_spoils_no_other_call(store: Path) -> None:
    """A group fails as a whole; its members are then tried one by one."""

    async def scenario() -> None:
        journal = SqliteJournal(store)
        await journal.open()
        lease = await working(journal, "bad")
        run = await begin(journal, "good")

        answers = await asyncio.gather(
            journal.append(run, outside(note("a"))),
            journal.park(lease, after=1, wake_at=2**70, waiting_on=""),
            journal.append(run, outside(note("b"))),
            return_exceptions=True,
        )

        assert isinstance(answers[1], OverflowError)
        assert [type(a).__name__ for a in answers[::2]] == ["Appended", "Appended"]
        assert (await journal.row(lease.run)).owner == "w1"
        await journal.close()

    asyncio.run(scenario())


def test_one_append_is_one_sync_and_fifty_share_theirs(store: Path, disk: Disk) -> None:
    """A sync is what a step costs on a real disk, so it is counted and not timed."""

    async def scenario() -> None:
        journal = SqliteJournal(store, vfs=disk.vfs)
        await journal.open()
        runs = [await begin(journal, f"r{i}") for i in range(50)]
        before = disk.syncs
        for i in range(20):
            await journal.append(runs[0], outside(note(str(i))))
        alone = disk.syncs - before
        for i in range(20):
            await asyncio.gather(*(journal.append(run, outside(note(str(i)))) for run in runs))
        shared = disk.syncs - before - alone

        assert alone == 20
        assert shared <= 20 * 50 * 0.10
        await journal.close()

    asyncio.run(scenario())


def flip(store: Path, needle: bytes) -> None:
    """Change one bit right behind a text in a file."""
    content = bytearray(store.read_bytes())
    content[content.index(needle) + len(needle)] ^= 0x01
    store.write_bytes(content)


async def small_store(store: Path) -> RunKey:
    """Leave a store with one run of five events, one of them stored apart."""
    journal = SqliteJournal(store)
    await journal.open()
    run = await begin(journal)
    await journal.append(run, outside(note("needle one"), note("needle two"), note("needle three")))
    await journal.append(run, outside(note("y" * 100_000)))
    await journal.close()
    return run


def edit(store: Path, statement: str) -> None:
    connection = apsw.Connection(str(store))
    connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("DELETE FROM events WHERE seq = 3", "E_JOURNAL_GAP"),
        ("DELETE FROM events WHERE seq = 5", "E_JOURNAL_TRUNCATED"),
        ("UPDATE runs SET seq = 4", "E_JOURNAL_TRUNCATED"),
        ("DELETE FROM blobs", "E_BLOB_MISSING"),
        ("UPDATE blobs SET body = zeroblob(100)", "E_JOURNAL_CORRUPT"),
        ("UPDATE events SET body = x'7b7d' WHERE seq = 2", "E_EVENT_INVALID"),
        (
            "UPDATE events SET body = CAST(replace(CAST(body AS TEXT), 'note', 'nope') AS BLOB)",
            "E_EVENT_UNKNOWN",
        ),
    ],
)
def test_an_edited_store_is_noticed_by_a_reader(store: Path, statement: str, code: str) -> None:
    """Whoever edits the file must not be able to change what a run is believed to have done."""

    async def scenario() -> None:
        run = await small_store(store)
        edit(store, statement)
        journal = SqliteJournal(store)
        await journal.open()

        with pytest.raises(JournalCorrupt) as caught:
            await journal.read(run)

        assert caught.value.code == code
        await journal.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("statement", "seq"),
    [
        (
            "UPDATE events SET body = CAST(replace(CAST(body AS TEXT), 'needle', 'noodle') AS BLOB)"
            " WHERE seq > 2",
            3,
        ),
        ("UPDATE events SET hash = zeroblob(32), body = CAST(body AS BLOB) WHERE seq = 4", None),
        ("UPDATE runs SET head_hash = zeroblob(32)", 5),
    ],
    ids=["a body", "a hash beside it", "the anchor"],
)
def test_who_folds_events_folds_what_was_hashed(
    store: Path, statement: str, seq: int | None
) -> None:
    """A worker acts on what it folds: what does not lead to the anchor is not acted on.

    The hash beside an event is `verify`'s to look at: it says nothing a fold would believe.
    """

    async def scenario() -> None:
        run = await small_store(store)
        edit(store, statement)
        journal = SqliteJournal(store)
        await journal.open()

        if seq is None:
            assert (await journal.stretch(run)).seq == 5
        else:
            with pytest.raises(JournalCorrupt) as caught:
                await journal.stretch(run)
            assert (caught.value.code, caught.value.fields["seq"]) == ("E_JOURNAL_CORRUPT", seq)
        await journal.close()

    asyncio.run(scenario())


def test_what_follows_must_be_chained_to_what_was_folded(store: Path) -> None:
    """A history that was written anew is sound in itself, but not the one a worker knows."""

    async def scenario() -> None:
        run = await small_store(store)
        journal = SqliteJournal(store)
        await journal.open()

        with pytest.raises(JournalCorrupt) as caught:
            await journal.stretch(run, after=3, hash=b"\1" * 32)

        assert caught.value.code == "E_JOURNAL_CORRUPT"
        await journal.close()

    asyncio.run(scenario())


def test_an_unreadable_head_is_named(store: Path) -> None:
    """An append must not be checked against a head that was guessed."""

    async def scenario() -> None:
        run = await small_store(store)
        edit(store, "UPDATE runs SET head = x'7b'")
        journal = SqliteJournal(store)
        await journal.open()

        for call in (journal.row(run), journal.append(run, outside(note()))):
            with pytest.raises(JournalCorrupt) as caught:
                await call
            assert caught.value.code == "E_HEAD_INVALID"
        await journal.close()

    asyncio.run(scenario())


def test_a_flipped_bit_breaks_the_chain_where_it_is(store: Path) -> None:
    """A changed letter still reads as an event; only its hash tells."""

    async def scenario() -> None:
        run = await small_store(store)
        flip(store, b"needle tw")
        journal = SqliteJournal(store)
        await journal.open()

        rows = await journal.raw(run)

        broken = [seq for seq, before, hash, body in rows if chain(before, seq, body) != hash]
        assert broken == [3]
        await journal.close()

    asyncio.run(scenario())


def test_no_flipped_bit_passes_unnoticed(tmp_path: Path) -> None:
    """Wherever it falls: refused, found by the chain, or without effect on any event."""

    async def look(store: Path, run: RunKey) -> list[tuple[int, bytes, bytes, bytes]] | None:
        journal = SqliteJournal(store)
        try:
            await journal.open()
            await journal.read(run)
            return await journal.raw(run)
        except GatebookError:
            return None
        finally:
            await journal.close()

    def sound(rows: list[tuple[int, bytes, bytes, bytes]]) -> bool:
        return all(chain(before, seq, body) == hash for seq, before, hash, body in rows)

    async def scenario() -> None:
        run = await small_store(tmp_path / "whole.db")
        whole = (tmp_path / "whole.db").read_bytes()
        true = await look(tmp_path / "whole.db", run)
        draw = random.Random(7)
        noticed = 0
        for number in range(60):
            content = bytearray(whole)
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            store = tmp_path / f"{number}.db"
            store.write_bytes(content)
            store.chmod(0o600)

            rows = await look(store, run)

            noticed += rows is None or not sound(rows)
            assert rows is None or not sound(rows) or rows == true
        assert noticed > 10

    asyncio.run(scenario())
