"""Who commits: the loop while the disk is quick, the thread when it is not, never both."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from tests.journals.disk import Disk

from gatebook.errors import StoreError
from gatebook.journals import sqlite_scribe, sqlite_writer
from gatebook.journals.sqlite import SqliteJournal
from gatebook.journals.sqlite_members import Member
from gatebook.journals.sqlite_writer import Writer
from gatebook.ports import RunKey, RunQuery
from gatebook.testing.journal_facts.kit import begin, note, outside


class Told(Disk):
    """A disk that remembers which threads made it sync, and takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.by: list[str] = []
        self.slow_s = 0.0

    def ask(self, operation: str, name: str) -> None:
        if operation == "sync":
            self.by.append(threading.current_thread().name.partition(" ")[0])
            time.sleep(self.slow_s)
        super().ask(operation, name)


@pytest.fixture
def disk() -> Iterator[Told]:
    disk = Told()
    yield disk
    disk.unregister()


def never_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no machine be too slow for a test of what a quick disk does."""
    monkeypatch.setattr(sqlite_writer, "QUICK_S", float("inf"))


def fails_once(disk: Told, by: threading.Thread | None = None) -> None:
    """Let the next sync fail, that of a thread if one is named, and no other."""
    failures = iter([True])

    def meant(operation: str) -> bool:
        return operation == "sync" and by in (None, threading.current_thread())

    disk.plan = lambda operation, name, number: (
        "full" if meant(operation) and next(failures, False) else ""
    )


async def begun(folder: Path, disk: Told) -> tuple[SqliteJournal, RunKey]:
    """Open a store on that disk and begin a run."""
    journal = SqliteJournal(folder / "j.db", vfs=disk.vfs)
    await journal.open()
    return journal, await begin(journal)


def test_a_quick_commit_is_made_where_it_is_asked_for(
    tmp_path: Path, disk: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handing it to a thread and back would cost more than the sync."""
    never_slow(monkeypatch)

    async def scenario() -> None:
        journal, run = await begun(tmp_path, disk)
        disk.by.clear()
        for i in range(3):
            await journal.append(run, outside(note(str(i))))
        assert disk.by == ["MainThread"] * 3
        await journal.close()

    asyncio.run(scenario())


def test_runs_a_turn_apart_come_to_share_their_commits(
    tmp_path: Path, disk: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They began in different turns of the loop, and would each pay for a sync for ever."""
    never_slow(monkeypatch)

    async def scenario() -> None:
        journal = SqliteJournal(tmp_path / "j.db", vfs=disk.vfs)
        await journal.open()

        async def steps(run: RunKey) -> None:
            for i in range(20):
                await journal.append(run, outside(note(str(i))))
                await asyncio.sleep(0)  # as a tool takes a turn between its commits

        runs = [await begin(journal, f"r{i}") for i in range(3)]
        disk.by.clear()
        async with asyncio.TaskGroup() as group:
            group.create_task(steps(runs[0]))
            group.create_task(steps(runs[1]))
            await asyncio.sleep(0)
            group.create_task(steps(runs[2]))

        assert len(disk.by) < 30
        await journal.close()

    asyncio.run(scenario())


def test_who_was_alone_waits_for_nobody(
    tmp_path: Path, disk: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn of the loop after every commit is a tenth of a lone run's step."""
    never_slow(monkeypatch)

    async def scenario() -> None:
        journal, run = await begun(tmp_path, disk)
        await journal.append(run, outside(note("alone")))
        await asyncio.sleep(0)

        appending = journal.append(run, outside(note("at once")))
        with pytest.raises(StopIteration):
            appending.send(None)

        await journal.close()

    asyncio.run(scenario())


def test_appends_one_after_another_let_others_have_their_turns(
    tmp_path: Path, disk: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits that wait for nobody would stop a loop's timers and cancellations for as long."""
    never_slow(monkeypatch)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def scenario() -> None:
        journal, run = await begun(tmp_path, disk)
        counting = asyncio.create_task(other())
        before = turns
        for i in range(20):
            await journal.append(run, outside(note(str(i))))
        assert turns - before >= 10
        counting.cancel()
        await journal.close()

    asyncio.run(scenario())


def test_a_slow_disk_is_waited_for_by_the_thread(tmp_path: Path, disk: Told) -> None:
    """The loop serves everybody; a disk of many milliseconds must not stop it."""

    async def scenario() -> None:
        journal, run = await begun(tmp_path, disk)
        disk.slow_s = 4 * sqlite_writer.QUICK_S
        for _ in range(4):
            await journal.append(run, outside(note("one that shows it")))
        disk.by.clear()
        for i in range(3):
            await journal.append(run, outside(note(str(i))))
        assert disk.by == ["gatebook-writer"] * 3
        await journal.close()

    asyncio.run(scenario())


def test_another_process_s_lock_is_waited_for_by_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may take seconds, and the loop goes on meanwhile."""
    never_slow(monkeypatch)
    store = tmp_path / "j.db"

    async def scenario() -> None:
        journal = SqliteJournal(store)
        await journal.open()
        run = await begin(journal)
        other = apsw.Connection(str(store))
        other.execute("BEGIN IMMEDIATE")

        waiting = asyncio.ensure_future(journal.append(run, outside(note("late"))))
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not waiting.done()
        other.execute("ROLLBACK")
        assert (await waiting).head.seq == 2

        other.close()
        await journal.close()

    asyncio.run(scenario())


def test_a_commit_of_the_loop_that_failed_is_looked_up_before_anything_else(
    tmp_path: Path, disk: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written after an unknown commit would build on what may not be there."""
    never_slow(monkeypatch)

    async def scenario() -> None:
        journal = SqliteJournal(tmp_path / "j.db", vfs=disk.vfs)
        await journal.open()
        first, second = await begin(journal, "a"), await begin(journal, "b")
        fails_once(disk)

        answers = await asyncio.gather(
            journal.append(first, outside(note("one"))),
            journal.append(second, outside(note("two"))),
        )

        assert [answer.head.seq for answer in answers] == [2, 2]
        rows = await journal.runs("default", RunQuery())
        assert {row.head.seq for row in rows} == {2}
        await journal.close()

    asyncio.run(scenario())


def test_who_comes_while_a_failed_commit_is_looked_up_is_answered_too(
    tmp_path: Path, disk: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread is told to look, and has not begun: what comes then is not what is in doubt."""
    never_slow(monkeypatch)
    asked, go_on = threading.Event(), threading.Event()
    take = Writer._take

    def dawdling(writer: Writer) -> list[Member]:
        members = take(writer)
        if not members:
            asked.set()
            go_on.wait()
        return members

    async def scenario() -> None:
        monkeypatch.setattr(Writer, "_take", dawdling)
        journal, run = await begun(tmp_path, disk)
        other = await begin(journal, "b")
        fails_once(disk, threading.main_thread())
        first = asyncio.ensure_future(journal.append(run, outside(note("one"))))
        while not asked.is_set():
            if first.done():  # the thread was still about: it was committed there
                first = asyncio.ensure_future(journal.append(run, outside(note("one"))))
            await asyncio.sleep(0.001)
        second = asyncio.ensure_future(journal.append(other, outside(note("two"))))
        await asyncio.sleep(0.01)
        go_on.set()

        assert (await first).head.seq > 1
        assert (await second).head.seq == 2
        await journal.close()

    asyncio.run(scenario())


def test_the_log_is_copied_by_the_thread_after_its_commits_were_answered(
    tmp_path: Path, disk: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint syncs two files; no caller should wait for it, nor the log grow for ever."""
    never_slow(monkeypatch)
    monkeypatch.setattr(sqlite_scribe, "FIRST_PAGES", 20)
    monkeypatch.setattr(sqlite_scribe, "LOG_PAGES", 20)
    store = tmp_path / "j.db"

    async def scenario() -> None:
        journal = SqliteJournal(store, vfs=disk.vfs)
        await journal.open()
        run = await begin(journal)
        for i in range(200):
            await journal.append(run, outside(note(str(i))))
        await journal.claim(run, owner="w1", ttl_ms=30_000)  # by the thread, after what it had
        assert "gatebook-writer" in disk.by
        assert os.stat(f"{store}-wal").st_size < 200 * 4096
        await journal.close()

    asyncio.run(scenario())


def test_a_log_is_short_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To sync what makes its file longer takes longer: it is used again before it grows."""
    monkeypatch.setattr(sqlite_writer, "QUICK_S", 0.0)  # by the thread, which copies it first
    monkeypatch.setattr(sqlite_scribe, "FIRST_PAGES", 40)
    monkeypatch.setattr(sqlite_scribe, "LOG_PAGES", 160)
    store = tmp_path / "j.db"

    async def scenario() -> None:
        journal = SqliteJournal(store)
        await journal.open()
        run = await begin(journal)
        pages: list[int] = []
        while len(pages) < 150:  # of some 5 pages each
            await journal.append(run, outside(note("x")))
            pages.append(os.stat(f"{store}-wal").st_size // 4096)
        await journal.close()

        assert all(40 <= each < 60 for each in pages[4:8]), pages
        assert all(80 <= each < 100 for each in pages[20:24]), pages
        assert 160 <= max(pages) < 180

    asyncio.run(scenario())


def test_a_call_that_comes_after_the_end_is_told(tmp_path: Path) -> None:
    """It must not wait for a thread that is gone."""

    async def scenario() -> None:
        journal = SqliteJournal(tmp_path / "j.db")
        await journal.open()
        run = await begin(journal)
        closing = asyncio.ensure_future(journal.close())
        late = asyncio.ensure_future(journal.append(run, outside(note("late"))))
        await closing
        with pytest.raises(StoreError) as caught:
            await late
        assert caught.value.code == "E_STORE_CLOSED"

    asyncio.run(scenario())
