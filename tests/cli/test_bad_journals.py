"""Taking up a run whose journal does not read: one error, and one that programs can read."""

import json
import sqlite3
import subprocess

import pytest

from tests.cli.conftest import ALLOW, Inside

NEWER = "UPDATE events SET body = CAST(replace(body, 'action_requested', 'later') AS BLOB)"
GAP = "DELETE FROM events"


def spoilt(gatebook: Inside, change: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Resume a run of which one event was changed, in a process of its own."""
    gatebook("run", "app:ask", "--run-id", "r1", "--store", "runs.db", *ALLOW)
    gatebook("signal", "r1", "go", "--store", "runs.db")
    with sqlite3.connect(gatebook.path / "runs.db") as store:
        store.execute(f"{change} WHERE seq = 2")
    store.close()
    return gatebook.outside("resume", "r1", "--store", "runs.db", *ALLOW, *options)


@pytest.mark.parametrize(("change", "code"), [(NEWER, "E_EVENT_UNKNOWN"), (GAP, "E_JOURNAL")])
def test_it_is_said_once(change: str, code: str, gatebook: Inside) -> None:
    """A traceback of ours after it would hide what is wrong."""
    done = spoilt(gatebook, change)

    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if code in line] == [
        done.stderr.splitlines()[-1]
    ], done.stderr
    assert "Traceback" not in done.stderr
    assert "never retrieved" not in done.stderr


@pytest.mark.parametrize("change", [NEWER, GAP])
def test_as_json_it_is_one_document(change: str, gatebook: Inside) -> None:
    """Whatever reads it cannot know our log lines."""
    done = spoilt(gatebook, change, "--json")

    assert done.returncode == 1
    assert json.loads(done.stderr)["error"]["run"] == "r1"
