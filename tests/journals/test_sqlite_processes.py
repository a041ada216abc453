"""Several real processes on one store."""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.journals.child import Child

from gatebook.errors import Conflict, StoreError
from gatebook.journals.sqlite import SqliteJournal
from gatebook.kernel.events import CancelRequested, Note
from gatebook.ports import Recorded, RunKey
from gatebook.testing.journal_facts.kit import (
    LONG_MS,
    begin,
    eventually,
    inside,
    kinds,
    note,
    outside,
    requested,
    working,
)

pytestmark = pytest.mark.crash
RUN = RunKey("default", "r1")

HOLD = """
lease = await journal.claim(RunKey("default", "r1"), owner="child", ttl_ms=LONG)
say("claimed" if lease else "refused")
await order()
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def test_a_run_of_a_live_process_cannot_be_taken(store: Path) -> None:
    """Two workers on one run would run its effects twice."""

    async def scenario() -> None:
        journal = SqliteJournal(store)
        await journal.open()
        await begin(journal)

        with Child(store, HOLD) as child:
            assert child.hear() == "claimed"

            assert await journal.claim(RUN, owner="here", ttl_ms=LONG_MS) is None
            assert await journal.due("default", programs=["p"]) == []
        await journal.close()

    asyncio.run(scenario())


def test_a_run_of_a_dead_process_is_taken_at_once(store: Path) -> None:
    """A free lock proves the death, so nobody has to wait for the lease."""

    async def scenario() -> None:
        journal = SqliteJournal(store)
        await journal.open()
        await begin(journal)
        with Child(store, HOLD) as child:
            assert child.hear() == "claimed"
            child.kill()

            assert await journal.due("default", programs=["p"]) == [RUN]
            lease = await journal.claim(RUN, owner="here", ttl_ms=LONG_MS)

        assert lease is not None
        assert lease.epoch == 2
        await journal.close()

    asyncio.run(scenario())


def test_a_stopped_process_keeps_its_run_until_the_lease_lapses(store: Path) -> None:
    """A process that sleeps is not dead; its next append must meet the fence."""
    body = """
    run = RunKey("default", "r1")
    lease = await journal.claim(run, owner="child", ttl_ms=300)
    say("claimed")
    await order()
    try:
        await journal.append(run, inside(lease, 1, note("late")))
    except Exception as exc:
        say(type(exc).__name__)
    """

    async def scenario() -> None:
        journal = SqliteJournal(store)
        await journal.open()
        await begin(journal)
        with Child(store, body) as child:
            assert child.hear() == "claimed"
            os.kill(child.pid, signal.SIGSTOP)

            assert await journal.claim(RUN, owner="here", ttl_ms=LONG_MS) is None
            lease = await eventually(lambda: journal.claim(RUN, owner="here", ttl_ms=300))
            os.kill(child.pid, signal.SIGCONT)
            child.tell("go")

            assert child.hear() == "Fenced"
        assert lease is not None
        assert lease.epoch == 2
        assert await kinds(journal, RUN) == ["run_started"]
        await journal.close()

    asyncio.run(scenario())


def test_a_closed_process_leaves_its_runs_and_no_lock(store: Path) -> None:
    """A clean stop hands over; it must not look like a crash or like a living worker."""

    async def scenario() -> None:
        journal = SqliteJournal(store)
        await journal.open()
        await begin(journal)
        with Child(store, HOLD) as child:
            assert child.hear() == "claimed"
            child.tell("end")
            child.rest()

        assert (await journal.row(RUN)).owner == ""
        assert await journal.due("default", programs=["p"]) == [RUN]
        assert not (store.parent / "journal.db.locks").exists()
        await journal.close()

    asyncio.run(scenario())


def test_what_another_process_brings_wakes_the_worker(store: Path) -> None:
    """A signal sent from a shell reaches the process that sleeps on it."""
    body = """
    await journal.append(RunKey("default", "r1"), outside(signal("go")))
    await begin(journal, "r2")
    """

    async def scenario() -> None:
        journal = SqliteJournal(store)
        await journal.open()
        await working(journal)
        await journal.touched()
        waiting = asyncio.create_task(journal.wait(1))

        with Child(store, body) as child:
            seen = set(await journal.touched())
            while len(seen) < 2:
                seen |= await journal.touched()
            child.rest()

        assert seen == {RUN, RunKey("default", "r2")}
        assert await waiting >= 2
        assert [r.position for r in await journal.tail("default", after=0)] == [1, 2, 3]
        await journal.close()

    asyncio.run(scenario())


def test_a_cancel_from_another_process_stops_the_next_request(store: Path) -> None:
    """The writer keeps heads in memory; it must notice that they are old."""

    async def scenario() -> None:
        journal = SqliteJournal(store)
        await journal.open()
        lease = await working(journal)
        await journal.append(RUN, inside(lease, 1, note()))
        body = "await journal.append(RunKey('default', 'r1'), outside(CancelRequested()))"
        body = "from gatebook.kernel.events import CancelRequested\n" + body

        with Child(store, body) as child:
            child.rest()

        with pytest.raises(Conflict) as caught:
            await journal.append(RUN, inside(lease, 2, requested("1")))
        assert [type(r.event) for r in caught.value.tail] == [CancelRequested]
        await journal.close()

    asyncio.run(scenario())


def test_every_acknowledged_append_survives_a_kill(store: Path) -> None:
    """What a caller was told is kept must be there after the process is gone."""
    body = """
    runs = [await begin(journal, f"r{i}") for i in range(4)]
    async def write(run):
        for i in range(100_000):
            await journal.append(run, outside(note(f"{run}-{i}")))
            say(f"{run}-{i}")
    await asyncio.gather(*(write(run) for run in runs))
    """
    for round in range(5):
        place = store.with_name(f"{round}.db")
        with Child(place, body) as child:
            heard = [child.hear() for _ in range(20 + 37 * round)]
            heard += child.kill()

        async def scenario(place: Path, acknowledged: set[str]) -> None:
            journal = SqliteJournal(place)
            await journal.open()
            there = set()
            for i in range(4):
                events = await journal.read(RunKey("default", f"r{i}"))
                there |= {r.event.text for r in events if isinstance(r.event, Note)}
            assert acknowledged <= there
            assert len(there) <= len(acknowledged) + 4  # one in flight per run
            await journal.close()

        asyncio.run(scenario(place, set(heard)))


@pytest.mark.parametrize(("point", "there"), [("before:append:2", 1), ("after:append:2", 2)])
def test_a_failpoint_kills_on_either_side_of_the_commit(
    store: Path, point: str, there: int
) -> None:
    """Crash tests of everything above stand on this difference."""
    body = """
    from gatebook.testing.failpoints import from_env
    journal = from_env(journal)
    run = await begin(journal)
    for _ in range(3):
        await journal.append(run, outside(note()))
    """

    with Child(store, body, GATEBOOK_FAILPOINT=point) as child:
        child.rest()

    async def scenario() -> None:
        journal = SqliteJournal(store)
        await journal.open()
        assert await kinds(journal, RUN) == ["run_started", *["note"] * there]
        await journal.close()

    assert child.returncode == -signal.SIGKILL
    asyncio.run(scenario())


def test_eight_processes_may_make_one_store_at_once(tmp_path: Path) -> None:
    """Switching a fresh file to WAL is refused while another process does it."""
    body = """
    for _ in range(20):
        name = await order()
        fresh = SqliteJournal(os.path.join(os.path.dirname(sys.argv[1]), name))
        await fresh.open()
        await begin(fresh, f"r{os.getpid()}")
        await fresh.close()
        say("made")
    """
    with ExitStack() as stack:
        own = [Child(tmp_path / f"own{i}.db", body) for i in range(8)]
        children = [stack.enter_context(child) for child in own]

        for round in range(20):
            for child in children:
                child.tell(f"{round}.db")
            assert [child.hear() for child in children] == ["made"] * 8

    async def count(store: Path) -> int:
        journal = SqliteJournal(store)
        await journal.open()
        events = await journal.tail("default", after=0)
        await journal.close()
        return len(events)

    assert [asyncio.run(count(tmp_path / f"{i}.db")) for i in range(20)] == [8] * 20


def test_processes_that_write_at_once_lose_nothing(store: Path) -> None:
    """Positions are handed out under the lock, whoever asks."""
    body = """
    run = await begin(journal, f"r{os.getpid()}")
    await asyncio.gather(*(journal.append(run, outside(note(str(i)))) for i in range(50)))
    for i in range(50):
        await journal.append(RunKey("default", "shared"), outside(note(f"{os.getpid()}-{i}")))
    """

    async def scenario() -> None:
        journal = SqliteJournal(store)
        await journal.open()
        shared = await begin(journal, "shared")
        children = [Child(store, body) for _ in range(4)]
        want = 1 + 4 * (1 + 50 + 50)
        cursor = 0
        followed: list[Recorded] = []
        while len(followed) < want:
            await journal.wait(cursor)
            page = await journal.tail("default", after=cursor, limit=9)
            followed += page
            cursor = page[-1].position
        for child in children:
            child.rest()

        assert [r.position for r in followed] == list(range(1, want + 1))
        assert len(await journal.read(shared)) == 201
        await journal.close()

    asyncio.run(scenario())


def test_a_lock_that_is_not_given_back_names_its_process(store: Path) -> None:
    """The person who reads this has to know which process to look at."""
    body = """
    import apsw
    connection = apsw.Connection(sys.argv[1])
    connection.execute("BEGIN IMMEDIATE")
    say("locked")
    await order()
    """

    async def scenario() -> None:
        journal = SqliteJournal(store, busy_s=0.05)
        await journal.open()
        await begin(journal)
        with Child(store, body) as child:
            assert child.hear() == "locked"

            with pytest.raises(StoreError) as caught:
                await journal.append(RUN, outside(note()))

            assert caught.value.code == "E_STORE_BUSY"
            assert str(child.pid) in str(caught.value)
        await journal.append(RUN, outside(note()))
        await journal.close()

    asyncio.run(scenario())


async def in_time(call: Awaitable[object]) -> None:
    async with asyncio.timeout(5):
        await call


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_store_is_refused_after_a_fork(store: Path) -> None:
    """A child shares the parent's file locks by accident and its threads not at all."""
    with asyncio.Runner() as runner:
        journal = SqliteJournal(store)
        runner.run(journal.open())
        runner.run(begin(journal))

        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                asyncio.run(in_time(journal.append(RUN, outside(note()))))
            except StoreError as exc:
                code = 42 if exc.code == "E_STORE_FORKED" else 2
            finally:
                os._exit(code)

        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 42
        runner.run(journal.append(RUN, outside(note())))
        runner.run(journal.close())


def test_a_renewal_may_come_from_another_thread(store: Path) -> None:
    """A tool that blocks the event loop must not cost the worker its runs."""

    async def scenario() -> None:
        journal = SqliteJournal(store)
        await journal.open()
        lease = await working(journal)
        before = (await journal.row(RUN)).lease_until
        lost: list[object] = []

        def heartbeat() -> None:
            lost.append(asyncio.run(journal.renew("w1", [lease], ttl_ms=2 * LONG_MS)))

        thread = threading.Thread(target=heartbeat)
        thread.start()
        thread.join()  # the loop stands still meanwhile

        assert lost == [[]]
        assert (await journal.row(RUN)).lease_until > before
        await journal.close()

    asyncio.run(scenario())


def test_nothing_is_left_running_after_close(store: Path) -> None:
    """A library that leaves threads or files behind cannot be used in a test suite."""

    async def scenario() -> None:
        journal = SqliteJournal(store)
        await journal.open()
        await working(journal)
        await asyncio.gather(*(journal.row(RUN) for _ in range(20)))
        await journal.close()

    threads = threading.active_count()
    files = len(os.listdir("/proc/self/fd"))
    asyncio.run(scenario())

    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == files
    assert [path.name for path in store.parent.iterdir()] == ["journal.db"]
