"""`gatebook verify --all` finds what somebody changed in a store, and goes on past it."""

import shutil
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from gatebook.cli.output import clock, stamp
from gatebook.errors import JournalCorrupt
from gatebook.kernel.stored import attach, decode
from tests.cli.conftest import Inside

POLICY = """
version = 1
[[rule]]
id = "tools"
then = "allow"
tool = "*"
[budgets.tenant]
tool_calls = 100
"""
ASKS = "run_id = 'asks'"
DEEP = f"""CAST('{{"kind":"note","text":"x","detail":{"[" * 100_000}' AS BLOB)"""
ASKED = "run = (SELECT id FROM runs WHERE run_id = 'asks')"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Inside:
    """The command, in a folder with a store of two runs and a ledger; tests copy it."""
    folder = Inside(tmp_path_factory.mktemp("stored"))
    (folder.path / "policy.toml").write_text(POLICY)
    for args in (("app:pay", "17", "--run-id", "paid"), ("app:ask", "--run-id", "asks")):
        folder("run", *args, "--policy", "policy.toml", "--store", "good.db")
    return folder


def verified(stored: Inside, *statements: str) -> dict[str, Any]:
    """Return what is found in a copy of the store in which somebody did this."""
    store = stored.path / "changed.db"
    shutil.copy(stored.path / "good.db", store)
    with sqlite3.connect(store) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount, "it changes something"
    connection.close()
    document: dict[str, Any] = stored.json("verify", "--all", "--store", "changed.db")
    return document


def bad(document: dict[str, Any]) -> dict[str, str]:
    """Return the codes of what does not hold, by run, ledger or "store"."""
    runs = {each["run"]: each["violation"] for each in document["runs"]}
    ledgers = {f"ledger {each['ledger']}": each["violation"] for each in document["ledgers"]}
    found = runs | ledgers | {"store": document.get("store", {}).get("violation")}
    return {name: violation["code"] for name, violation in found.items() if violation}


def test_a_store_that_nobody_changed_holds(stored: Inside) -> None:
    """Else the others would show nothing; a run that waits is said to wait, as in lists."""
    document = verified(stored)

    assert (document["ok"], bad(document)) == (True, {})
    assert [(each["run"], each["status"]) for each in document["runs"]] == [
        ("asks", "waiting"), ("paid", "completed")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        "program = 'pay'", "kind = 'agent'", "definition = 'other'", "status = 'completed'",
        "seq = seq + 1", "head_hash = zeroblob(32)", "epoch = 9", "cancel_seq = 2",
        "labels = '{\"a\":\"b\"}'", "labels = 'junk'", "created = 5", "updated = 5",
        "head = x'00'",
    ],
)  # fmt: skip
def test_a_row_that_says_something_else_than_its_events_is_found(
    change: str, stored: Inside
) -> None:
    """Lists, workers and second starts believe the row; the other run is looked at all the same."""
    document = verified(stored, f"UPDATE runs SET {change} WHERE {ASKS}")

    assert bad(document) == {"asks": "E_HEAD_INVALID"}


def test_a_run_without_events_is_found(stored: Inside) -> None:
    """A head that says so is no anchor: every run has a first event."""
    document = verified(
        stored,
        f"DELETE FROM events WHERE {ASKED}",
        "UPDATE runs SET head = CAST('{}' AS BLOB), seq = 0, head_hash = zeroblob(32), epoch = 0,"
        f" status = 'new' WHERE {ASKS}",
    )

    assert bad(document)["asks"] == "E_HEAD_INVALID"


@pytest.mark.parametrize("verb", [("show",), ("tail", "--no-follow"), ("replay",)])
def test_brackets_without_end_are_an_error_of_their_run(
    verb: tuple[str, ...], stored: Inside
) -> None:
    """Python's own limit would show as a traceback of ours."""
    verified(stored, f"UPDATE events SET body = {DEEP} WHERE {ASKED} AND seq = 2")

    done = stored(*verb, "asks", "--store", "changed.db")

    assert done.returncode == 1
    assert "E_EVENT_INVALID" in done.stderr


@pytest.mark.parametrize("verb", [("show",), ("tail", "--no-follow"), ("replay",)])
def test_an_event_that_was_changed_is_not_shown_as_if_it_had_happened(
    verb: tuple[str, ...], stored: Inside
) -> None:
    """Whoever looks at a run acts on what they see, and few verify it first."""
    other = "CAST(replace(CAST(body AS TEXT), 'refunded 20', 'refunded 02') AS BLOB)"
    paid = "run = (SELECT id FROM runs WHERE run_id = 'paid')"
    verified(stored, f"UPDATE events SET body = {other} WHERE {paid} AND seq = 6")

    done = stored(*verb, "paid", "--store", "changed.db")

    assert (done.returncode, done.stdout) == (1, "")
    assert "E_JOURNAL_CORRUPT" in done.stderr


@pytest.mark.parametrize("time_us", [2**63 - 1, -(2**63)])
@pytest.mark.parametrize("form", [stamp, clock])
def test_a_time_without_a_date_is_shown_as_the_nearest(
    form: Callable[[int], str], time_us: int
) -> None:
    """A row that somebody changed is still to be looked at."""
    assert form(time_us)[:4] in ("9999", "1970")


SALT = b'{"kind":"note","blob":"b","salt":"a","size":1,"v":1,"time":1,"epoch":0}'


@pytest.mark.parametrize(
    "read",
    [
        lambda: decode(b'{"kind":{},"v":1}', run="r", seq=1),
        lambda: attach(SALT, b"x", run="r", seq=1),
    ],
    ids=["kind", "salt"],
)
def test_what_is_no_text_there_is_an_event_that_does_not_read(read: Callable[[], object]) -> None:
    """Each was a traceback of ours."""
    with pytest.raises(JournalCorrupt) as caught:
        read()

    assert caught.value.code == "E_EVENT_INVALID"


def test_a_clock_that_was_set_forward_in_a_head_is_found(stored: Inside) -> None:
    """No later event would be stamped before it, and every wait would end too late."""
    later = """CAST(replace(CAST(head AS TEXT), '"time":1', '"time":4') AS BLOB)"""

    document = verified(stored, f"UPDATE runs SET head = {later} WHERE {ASKS}")

    assert bad(document) == {"asks": "E_INVARIANT"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (f"UPDATE events SET body = x'00' WHERE {ASKED} AND seq = 2", "E_JOURNAL_CORRUPT"),
        (f"UPDATE events SET body = {DEEP} WHERE {ASKED} AND seq = 2", "E_JOURNAL_CORRUPT"),
        (
            "INSERT INTO blob_refs SELECT id, 2, 'default', 'd' FROM runs WHERE " + ASKS,
            "E_EVENT_INVALID",
        ),
    ],
    ids=["no event", "brackets without end", "a body of nothing"],
)
def test_an_event_that_does_not_read_is_one_runs_alone(
    change: str, code: str, stored: Inside
) -> None:
    """Whoever restores a run wants to know that the others hold; ledgers cannot be added up."""
    found = bad(verified(stored, change))

    assert found.pop("asks") == code
    assert set(found) == {"ledger tenant"}


def test_an_event_that_was_moved_in_the_store_is_found(stored: Inside) -> None:
    """Its hash says where it stands in its run; readers of the store go by positions."""
    moved = f"UPDATE events SET position = -1 WHERE {ASKED} AND seq = 2"

    assert bad(verified(stored, moved))["asks"] == "E_INVARIANT"


@pytest.mark.parametrize(
    "changes",
    [
        (f"DELETE FROM runs WHERE {ASKS}",),
        (f"DELETE FROM events WHERE {ASKED}", f"DELETE FROM runs WHERE {ASKS}"),
        ("UPDATE sqlite_sequence SET seq = 3 WHERE name = 'events'",),
        ("DELETE FROM sqlite_sequence WHERE name = 'events'",),
    ],
    ids=["its row", "all of it", "the count", "no count"],
)
def test_a_run_that_is_gone_is_missed(changes: tuple[str, ...], stored: Inside) -> None:
    """No other run's hashes tell that there was one."""
    document = verified(stored, *changes)

    assert bad(document) == {"store": "E_STORE_INCOMPLETE"}


def test_a_balance_that_does_not_read_is_named(stored: Inside) -> None:
    """It was a traceback of ours, and no run was looked at."""
    document = verified(stored, "UPDATE ledgers SET balance = 'junk'")

    assert bad(document) == {"ledger tenant": "E_LEDGER_INVALID"}
