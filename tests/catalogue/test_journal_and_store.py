"""Section C: journals that were changed, and places a store must not be."""

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import apsw
import pytest

from gatebook import AllowDeclared, Client, Finished, GatebookError, Runtime, Waiting
from gatebook.journals.sqlite import SqliteJournal
from gatebook.journals.sqlite_files import SCHEMA, check_place, check_sqlite
from gatebook.kernel.events import SignalReceived
from gatebook.ports import RunKey
from gatebook.runtime.runs.audit import audit
from gatebook.runtime.runs.handles import RunHandle
from tests.catalogue.kit import told, written
from tests.journals.child import Child
from tests.journals.disk import Disk
from tests.runtime.kit import flow

KEY = RunKey("default", "r")
LONG_MS = 3_600_000


async def wait(ctx: Any) -> Any:
    return [await ctx.wait_signal("go"), await ctx.wait_signal("go")]


WAIT = flow(wait)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


async def fill(store: Path) -> None:
    """Leave a store with one run of some events that waits for a signal."""
    async with Runtime(f"sqlite:///{store}", policy=AllowDeclared()) as runtime:
        handle = await runtime.start(WAIT, None, run_id="r")
        await handle.signal("go", "needle")
        while True:
            state = await handle.settled()
            if isinstance(state, Waiting) and await written(runtime.journal) > 4:
                return
            await asyncio.sleep(0.01)


def edit(store: Path, statements: str) -> None:
    connection = apsw.Connection(str(store))
    connection.execute(statements)
    connection.close()


async def refusal(call: Callable[[], Awaitable[Any]]) -> GatebookError:
    with pytest.raises(GatebookError) as caught:
        await call()
    return caught.value


async def events(store: Path) -> None:
    """Read a run as a user does."""
    async with Client(f"sqlite:///{store}") as client:
        async for _ in client.handle("r").events():
            pass


async def verified(store: Path) -> GatebookError:
    """What `gatebook verify` finds."""
    async with Client(f"sqlite:///{store}") as client:
        report = await audit(client.journal, KEY)
    assert report.violation is not None
    return report.violation


def bytes_of(store: Path) -> bytes:
    return store.read_bytes()


def test_a_gap_is_named(store: Path) -> None:
    """C31: a missing event is never skipped."""

    async def scenario() -> None:
        await fill(store)
        edit(store, "DELETE FROM events WHERE seq = 3")
        before = bytes_of(store)

        told(await refusal(lambda: events(store)), "E_JOURNAL_GAP", "'r'", "seq 3", "backup")
        told(await verified(store), "E_JOURNAL_GAP", "'r'", "seq 3", "backup")
        assert bytes_of(store) == before

    asyncio.run(scenario())


TWICE = """
ALTER TABLE events RENAME TO old;
CREATE TABLE events (
    position INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER, seq INTEGER, epoch INTEGER,
    append_id BLOB, hash BLOB, body BLOB,
    kind TEXT AS (CAST(body AS TEXT) ->> '$.kind'),
    version INTEGER AS (CAST(body AS TEXT) ->> '$.v'),
    time INTEGER AS (CAST(body AS TEXT) ->> '$.time')
);
INSERT INTO events (position, run, seq, epoch, append_id, hash, body)
  SELECT position, run, seq, epoch, append_id, hash, body FROM old;
INSERT INTO events (run, seq, epoch, append_id, hash, body)
  SELECT run, seq, epoch, append_id, hash, body FROM old WHERE seq = 2;
DROP TABLE old;
"""


def test_an_event_that_stands_twice_is_named(store: Path) -> None:
    """C32: somebody got round the constraint; which of the two happened nobody can say."""

    async def scenario() -> None:
        await fill(store)
        edit(store, TWICE)

        told(await refusal(lambda: events(store)), "E_JOURNAL_DUPLICATE", "seq 2", "backup")
        told(await verified(store), "E_JOURNAL_DUPLICATE", "seq 2", "backup")

    asyncio.run(scenario())


def test_a_changed_byte_is_found_by_its_hash(store: Path) -> None:
    """C33: the changed event still reads; the chain says where, what it is and should be."""

    async def scenario() -> None:
        await fill(store)
        edit(
            store,
            "UPDATE events SET body = CAST(replace(CAST(body AS TEXT), 'needle', 'noodle') AS BLOB)"
            " WHERE seq = 2",
        )

        error = await verified(store)

        told(error, "E_JOURNAL_CORRUPT", "seq 2", "hash is", "should be", "backup")
        assert error.fields["got"] != error.fields["want"]

    asyncio.run(scenario())


def test_no_worker_goes_on_from_a_changed_byte(store: Path) -> None:
    """C33: an effect that follows from what somebody wrote into the file is nobody's decision."""

    async def scenario() -> None:
        await fill(store)
        edit(
            store,
            "UPDATE events SET body = CAST(replace(CAST(body AS TEXT), 'need', 'food') AS BLOB)",
        )

        async with Runtime(
            f"sqlite:///{store}", programs=[WAIT], policy=AllowDeclared()
        ) as runtime:
            handle: RunHandle[Any] = runtime.handle("r")
            await handle.signal("go", "thread")
            state = await handle.settled()
            events = await runtime.journal.row(KEY)

        assert isinstance(state, Waiting)
        assert (state.parked_reason, events.head.seq) == ("halted", 6)
        assert "was changed at seq" in events.waiting_on

    asyncio.run(scenario())


def test_a_cut_tail_is_found_by_the_anchor(store: Path) -> None:
    """C34: without its last events a run would repeat them."""

    async def scenario() -> None:
        await fill(store)
        edit(store, "DELETE FROM events WHERE seq > 2")

        told(await refusal(lambda: events(store)), "E_JOURNAL_TRUNCATED", "seq 2", "anchor")
        told(await verified(store), "E_JOURNAL_TRUNCATED", "seq 2", "anchor", "backup")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("DELETE FROM events WHERE seq > 2", "E_JOURNAL_TRUNCATED"),
        ("UPDATE events SET hash = zeroblob(32) WHERE seq = 5", "E_JOURNAL_CORRUPT"),
    ],
)
def test_nothing_is_added_behind_a_cut(store: Path, statement: str, code: str) -> None:
    """C34: what an outsider appends there would turn a missing end into a mere gap."""

    async def scenario() -> None:
        await fill(store)
        edit(store, statement)

        async with Client(f"sqlite:///{store}") as client:
            handle: RunHandle[Any] = client.handle("r")
            before = await client.journal.raw(KEY)
            for say in (lambda: handle.signal("go"), handle.cancel):
                told(await refusal(say), code, "'r'", "backup")
            after = await client.journal.raw(KEY)

        assert after == before

    asyncio.run(scenario())


def test_an_event_of_a_later_version_is_not_guessed(store: Path) -> None:
    """C35: skipping what we do not know would change what happened."""

    async def scenario() -> None:
        await fill(store)
        edit(
            store,
            "UPDATE events SET body = CAST(replace(CAST(body AS TEXT), 'signal_received', "
            "'prophecy') AS BLOB) WHERE seq = 2",
        )

        error = await refusal(lambda: events(store))

        told(error, "E_EVENT_UNKNOWN", "'r'", "prophecy", "upgrade Gatebook")

    asyncio.run(scenario())


async def opened(store: Path | str) -> None:
    async with Client(f"sqlite:///{store}"):
        pass


@pytest.mark.parametrize(
    ("schema", "code", "says"),
    [
        ("99", "E_SCHEMA_NEWER", ("schema 99", f"knows {SCHEMA}", "upgrade Gatebook")),
        ("0", "E_SCHEMA_OLD", ("schema 0", f"needs {SCHEMA}", "start a new store")),
    ],
)
def test_another_schema_is_left_alone(
    store: Path, schema: str, code: str, says: tuple[str, ...]
) -> None:
    """C36, C37: reading with the wrong schema would be guessing."""

    async def scenario() -> None:
        await fill(store)
        edit(store, f"UPDATE meta SET value = '{schema}' WHERE name = 'schema'")
        before = bytes_of(store)

        told(await refusal(lambda: opened(store)), code, store.name, *says)
        assert bytes_of(store) == before

    asyncio.run(scenario())


def test_a_file_that_is_no_database_is_left_alone(store: Path) -> None:
    """C38: a wrong path must not cost the file that lies there."""
    text = "notes of mine, longer than the header of a database would be, and precious" * 2
    store.write_text(text)

    error = asyncio.run(refusal(lambda: opened(store)))

    told(error, "E_STORE_FORMAT", "not a Gatebook store", "no database", "another path")
    assert store.read_text() == text


READ_ONLY = """
import asyncio, os, sys
from gatebook import Client, GatebookError
from gatebook.journals.sqlite import SqliteJournal
if os.geteuid() == 0:  # root may write anywhere
    os.chown(sys.argv[1], 65534, 65534)
    os.chown(sys.argv[2], 65534, 65534)
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
async def main():
    async with Client(SqliteJournal(sys.argv[1])):
        pass
try:
    asyncio.run(main())
except GatebookError as exc:
    print(exc.code, exc)
"""


@pytest.mark.parametrize("locked", ["file", "folder", "closed folder"])
def test_a_store_that_cannot_be_written_is_named(tmp_path: Path, locked: str) -> None:
    """C39: found out at the first append it would be too late."""
    folder = tmp_path / "folder"
    folder.mkdir()
    store = folder / "journal.db"
    asyncio.run(opened(store))
    if locked == "file":
        store.chmod(0o400)
    else:
        folder.chmod(0o500 if locked == "folder" else 0o000)
    for place in (tmp_path, *tmp_path.parents):
        if place.is_relative_to(gettempdir()) and place != Path(gettempdir()):
            place.chmod(place.stat().st_mode | stat.S_IXOTH | stat.S_IXGRP)

    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, store, folder], capture_output=True, text=True, check=True
    )

    folder.chmod(0o700)
    code, _, text = done.stdout.strip().partition(" ")
    assert code == "E_STORE_READONLY"
    assert "cannot be written; check its permissions" in text


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.unregister()


@asynccontextmanager
async def runtime_on(store: Path, disk: Disk) -> Any:
    journal = SqliteJournal(store, vfs=disk.vfs, busy_s=1)
    async with Runtime(journal, policy=AllowDeclared()) as runtime:
        yield runtime


def test_a_full_disk_keeps_nothing_and_the_run_goes_on_later(store: Path, disk: Disk) -> None:
    """C40: half a signal is worse than none."""

    async def scenario() -> None:
        async with runtime_on(store, disk) as runtime:
            handle = await runtime.start(WAIT, None, run_id="r")
            await handle.settled()
            before = await written(runtime.journal)

            disk.plan = lambda operation, name, number: "full" if operation == "write" else ""
            error = await refusal(lambda: handle.signal("go", 1))
            disk.plan = lambda operation, name, number: ""

            told(error, "E_STORE_FULL", store.name, "nothing was written", "free space")
            assert await written(runtime.journal) == before
            await handle.signal("go", 2)
            await handle.signal("go", 3)
            assert await handle.settled() == Finished([2, 3])

    asyncio.run(scenario())


def test_a_commit_that_failed_at_the_disk_is_unknown_then_resolved(store: Path, disk: Disk) -> None:
    """C41: the caller is told that nobody knows; whoever opens the store again knows."""

    async def scenario() -> None:
        async with runtime_on(store, disk) as runtime:
            handle = await runtime.start(WAIT, None, run_id="r")
            await handle.settled()
            await runtime.journal.row(KEY)

            disk.plan = lambda operation, name, number: "io" if operation == "sync" else ""
            unknown = await refusal(lambda: handle.signal("go", 1))
            after = await refusal(lambda: handle.signal("go", 2))
            disk.plan = lambda operation, name, number: ""

            told(unknown, "E_COMMIT_UNKNOWN", "may still be durable", "read the run again")
            told(after, "E_STORE_STOPPED", store.name, "restart this process")

        async with Client(f"sqlite:///{store}") as client:
            found = [each.event for each in await client.journal.read(KEY)]
            signals = [event for event in found if isinstance(event, SignalReceived)]
            assert len(signals) <= 1
            assert (await audit(client.journal, KEY)).ok
            await client.handle("r").signal("go", 3)

    asyncio.run(scenario())


LOCK = """
import apsw
connection = apsw.Connection(sys.argv[1])
connection.execute("BEGIN IMMEDIATE")
say("locked")
await order()
"""


@pytest.mark.crash
def test_whoever_holds_the_lock_too_long_is_named(store: Path) -> None:
    """C42: the person who reads this has to know which process to look at."""

    async def scenario() -> None:
        await fill(store)
        async with Client(SqliteJournal(store, busy_s=0.05)) as client:
            before = await written(client.journal)
            with Child(store, LOCK) as child:
                assert child.hear() == "locked"
                error = await refusal(lambda: client.handle("r").signal("go"))
                told(error, "E_STORE_BUSY", store.name, "0.05", f"process {child.pid}", "stop")
            assert await written(client.journal) == before
            await client.handle("r").signal("go")

    asyncio.run(scenario())


def test_a_network_filesystem_is_refused(store: Path) -> None:
    """C43: WAL needs memory shared between its users, which no network offers."""
    mounts = f"/dev/sda1 / ext4 rw 0 0\nserver:/home {store.parent} nfs4 rw 0 0\n"

    with pytest.raises(GatebookError) as caught:
        check_place(store, mounts=mounts)

    told(caught.value, "E_STORE_NETFS", store.name, "nfs4", "use a local disk")
    assert not store.exists()


def test_a_sqlite_that_corrupts_its_log_is_refused() -> None:
    """C44: two connections that reset the log at once; sqlite.org, 3.51.3."""
    with pytest.raises(GatebookError) as caught:
        check_sqlite("3.51.2")

    told(caught.value, "E_SQLITE_WAL_RESET", "'3.51.2'", "install apsw 3.51.3")
    check_sqlite(apsw.sqlite_lib_version())


def test_a_store_that_others_can_write_is_refused(store: Path) -> None:
    """C47: whoever can write the file can write a run's history."""
    asyncio.run(opened(store))
    assert stat.S_IMODE(store.stat().st_mode) == 0o600
    store.chmod(0o666)

    error = asyncio.run(refusal(lambda: opened(store)))

    told(error, "E_STORE_PERMS", "0o666", f"chmod o-w {store}")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_store_is_refused_after_a_fork(store: Path) -> None:
    """C48: a child shares the parent's locks by accident and its threads not at all."""
    asyncio.run(fill(store))
    with asyncio.Runner() as runner:
        client = Client(f"sqlite:///{store}")
        runner.run(client.open())
        before = runner.run(written(client.journal))
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                asyncio.run(client.handle("r").signal("go"))
            except GatebookError as exc:
                told(exc, "E_STORE_FORKED", store.name, "fork()", "in the child process")
                code = 42
            finally:
                os._exit(code)

        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 42
        assert runner.run(written(client.journal)) == before
        runner.run(client.handle("r").signal("go"))
        runner.run(client.close())


def test_two_workers_of_one_name_are_refused(store: Path) -> None:
    """C49: each would take the other's leases for its own."""

    async def scenario() -> None:
        await fill(store)
        first, second = SqliteJournal(store), SqliteJournal(store)
        await first.open()
        await second.open()
        await first.claim(KEY, owner="worker", ttl_ms=LONG_MS)
        before = (await first.row(KEY)).head.epoch

        error = await refusal(lambda: second.claim(KEY, owner="worker", ttl_ms=LONG_MS))

        told(error, "E_OWNER_DUPLICATE", "'worker'", "choose owner ids")
        assert (await first.row(KEY)).head.epoch == before
        await second.close()
        await first.close()

    asyncio.run(scenario())
