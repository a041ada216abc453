"""A14: what callers filter by is a value, in every list, on every store."""

from pathlib import Path
from typing import Any

import pytest

from gatebook import AllowDeclared, Runtime
from gatebook.errors import InvalidInput, RunNotFound
from gatebook.journals import open_journal
from gatebook.ports import RunKey, RunQuery
from tests.runtime.kit import flow, run

HOSTILE = [
    "a') OR 1=1--", "a' OR 'a'='a", '") OR 1=1 --', "1; DROP TABLE runs; --", "%", "_", "*", "?",
    "x' UNION SELECT * FROM events --", "$.a", "$[*]", "a.b", '"]', "\\", "\x00", "'",
    "json_extract(labels,'$')", "${jndi:ldap://x}", "{{7*7}}",
]  # fmt: skip
FIELDS = ["program", "id_prefix", "label name", "label value", "status", "tenant"]


def query(field: str, text: str) -> RunQuery:
    """A query with the text in one of its fields."""
    match field:
        case "program":
            return RunQuery(program=text)
        case "id_prefix":
            return RunQuery(id_prefix=text)
        case "label name":
            return RunQuery(labels={text: "desk"})
        case "label value":
            return RunQuery(labels={"team": text})
        case "status":
            return RunQuery(statuses=(text,))
        case _:
            return RunQuery()


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the runs are."""
    return f"sqlite:///{tmp_path}/runs.db" if request.param == "sqlite" else ":memory:"


async def body(ctx: Any) -> None:
    """Do nothing."""


@pytest.mark.parametrize("field", FIELDS)
def test_a14_hostile_filters_find_nothing_and_change_nothing(field: str, store: str) -> None:
    """Neither other runs, nor another tenant's, nor an error of the database's own."""

    async def scenario() -> None:
        journal = open_journal(store)
        program = flow(body, name="mine")
        async with Runtime(journal, policy=AllowDeclared(), tenant="t1") as runtime:
            run = await runtime.start(program, None, run_id="r1", labels={"team": "desk"})
            await run.result()
            for text in HOSTILE:
                tenant = text if field == "tenant" else "t2"
                assert await runtime.journal.runs(tenant, query(field, text)) == [], text
                if field != "tenant":
                    assert await runtime.runs(query(field, text)) == [], text
            assert [row.run.id for row in await runtime.runs()] == ["r1"]

    run(scenario())


def test_a14_labels_with_hostile_names_are_found_by_just_these(store: str) -> None:
    """They are text on the way in, too."""

    async def scenario() -> None:
        journal = open_journal(store)
        names = [name for name in HOSTILE if name != "\x00"]
        async with Runtime(journal, policy=AllowDeclared()) as runtime:
            for number, name in enumerate(names):
                handle = await runtime.start(
                    flow(body, name="mine"), None, run_id=f"r{number}", labels={name: name}
                )
                await handle.result()
            for number, name in enumerate(names):
                found = await runtime.runs(RunQuery(labels={name: name}))
                assert [row.run.id for row in found] == [f"r{number}"], name

    run(scenario())


@pytest.mark.parametrize("run_id", [text for text in HOSTILE if text not in ("_", "a.b")])
def test_a14_hostile_run_ids_are_refused_or_not_found(run_id: str, store: str) -> None:
    """An id is checked before it reaches a store."""

    async def scenario() -> None:
        async with Runtime(open_journal(store), policy=AllowDeclared()) as runtime:
            with pytest.raises(InvalidInput):
                runtime.handle(run_id)
            with pytest.raises(RunNotFound):
                await runtime.journal.row(RunKey("default", run_id))

    run(scenario())


@pytest.mark.parametrize("cursor", [*HOSTILE, "9" * 30, -1])
def test_a14_hostile_cursors_are_refused(cursor: Any, store: str) -> None:
    """A cursor says a place, and nothing else."""

    async def scenario() -> None:
        async with Runtime(open_journal(store), policy=AllowDeclared()) as runtime:
            handle = await runtime.start(flow(body, name="mine"), None, run_id="r1")
            await handle.result()
            with pytest.raises(InvalidInput) as caught:
                _ = [event async for event in handle.events(after=cursor)]

        assert caught.value.code == "E_CURSOR_INVALID"

    run(scenario())
