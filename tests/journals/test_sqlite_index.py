"""A run's events are found without looking at all others, in new stores and in upgraded ones."""

import asyncio
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import apsw
import pytest

from gatebook.journals import sqlite_reads
from gatebook.journals.sqlite import SqliteJournal
from gatebook.journals.sqlite_files import APPLICATION_ID, Store
from gatebook.journals.sqlite_locks import OwnerLocks
from gatebook.kernel.append import Batch
from gatebook.kernel.events import Note
from gatebook.ports import Recorded, RunKey
from gatebook.testing.journal_facts.kit import begin

NEIGHBOURS = [f"r{number}" for number in range(20)]  # more than share a block of the index
RUN = RunKey("default", "r0")
HANDED_OUT = 1_000  # positions, the last of them to events that are gone


async def side_by_side(store: Path) -> dict[RunKey, list[Recorded]]:
    """Make runs of two notes each, taking turns, and return their events."""
    journal = SqliteJournal(store)
    await journal.open()
    runs = [await begin(journal, name) for name in NEIGHBOURS]
    for number in range(2):
        for run in runs:
            note = Note(text=f"{run.id} says {number}")
            await journal.append(run, Batch(events=(note,), append_id=b"%d" % number))
    events = {run: await journal.read(run) for run in runs}
    await journal.close()
    return events


def as_schema_4(new: Path, old: Path) -> None:
    """Write what is in a store as a store of schema 4 holds it."""
    connection = apsw.Connection(str(old))
    for number in (1, 2, 3, 4):
        script = files("gatebook.journals").joinpath(f"sql/schema_{number}.sql")
        connection.execute(script.read_text())
    connection.execute("ATTACH ? AS new", (str(new),))
    for table in ("runs", "events"):
        connection.execute(f"INSERT INTO main.{table} SELECT * FROM new.{table}")
    connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'events'", (HANDED_OUT,))
    connection.execute("INSERT INTO meta VALUES ('schema', '4')")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.close()


def test_neighbours_keep_their_events_apart(tmp_path: Path) -> None:
    """Sixteen runs share a block of the index: nobody may be told what another run did."""
    events = asyncio.run(side_by_side(tmp_path / "journal.db"))

    for run, found in events.items():
        assert [each.seq for each in found] == [1, 2, 3]
        assert [each.event.text for each in found[1:] if isinstance(each.event, Note)] == [
            f"{run.id} says 0", f"{run.id} says 1",
        ]  # fmt: skip


def test_events_of_an_earlier_schema_are_kept(tmp_path: Path) -> None:
    """The table is written anew to change its index: every event must come over as it was."""
    before = asyncio.run(side_by_side(tmp_path / "new.db"))
    as_schema_4(tmp_path / "new.db", tmp_path / "old.db")

    async def upgraded() -> dict[RunKey, list[Recorded]]:
        journal = SqliteJournal(tmp_path / "old.db")
        await journal.open()
        events = {run: await journal.read(run) for run in before}
        await journal.close()
        return events

    assert asyncio.run(upgraded()) == before


def test_positions_of_an_earlier_schema_go_on(tmp_path: Path) -> None:
    """A position that is handed out twice would hide an event from whoever follows the store."""
    runs = asyncio.run(side_by_side(tmp_path / "new.db"))
    as_schema_4(tmp_path / "new.db", tmp_path / "old.db")

    async def next_position() -> int:
        journal = SqliteJournal(tmp_path / "old.db")
        await journal.open()
        run = next(iter(runs))
        await journal.append(run, Batch(events=(Note(text="more"),), append_id=b"2"))
        events = await journal.read(run, after=3)
        await journal.close()
        return events[0].position

    assert asyncio.run(next_position()) == HANDED_OUT + 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda connection: sqlite_reads.read(connection, RUN, 0, None),
        lambda connection: sqlite_reads.stretch(connection, RUN, 0),
        lambda connection: sqlite_reads.raw(connection, RUN),
        lambda connection: connection.execute("SELECT * FROM journal WHERE run_id = 'r0'"),
    ],
    ids=["read", "stretch", "raw", "by hand"],
)
def test_one_run_is_read_by_index(tmp_path: Path, ask: Callable[[apsw.Connection], object]) -> None:
    """A statement that words the index's expression in another way would scan the whole store."""
    asyncio.run(side_by_side(tmp_path / "journal.db"))
    connection = apsw.Connection(str(tmp_path / "journal.db"))
    asked: list[tuple[str, Any]] = []

    def note(_: apsw.Cursor, statement: str, values: Any) -> bool:
        asked.append((statement, values))
        return True

    connection.exec_trace = note
    ask(connection)
    connection.exec_trace = None

    plan = [
        step[3]
        for statement, values in asked
        for step in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)
    ]
    connection.close()
    assert any("USING INDEX events_of_run (<expr>=?" in step for step in plan)
    assert not any(step.startswith(("SCAN e", "SCAN events")) for step in plan)


def test_a_question_is_planned_once(tmp_path: Path) -> None:
    """Planning anew for each value that meets the index costs more than asking."""
    path = tmp_path / "journal.db"
    asyncio.run(side_by_side(path))
    store = Store(path, busy_s=1, vfs="", locks=OwnerLocks(path))
    connection = store.connect(reading=True)
    planned: list[object] = []

    def note(*named: object) -> int:
        """Called as a statement is planned, for each name in it."""
        planned.append(named)
        return apsw.SQLITE_OK

    connection.authorizer = note
    sqlite_reads.stretch(connection, RunKey("default", NEIGHBOURS[0]), 0)
    first = len(planned)
    for name in NEIGHBOURS[1:]:
        sqlite_reads.stretch(connection, RunKey("default", name), 0)
    connection.close()

    assert first
    assert len(planned) == first
