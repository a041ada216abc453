"""Taking a run up from another folder, or where its model cannot be asked."""

import json
import sqlite3

import pytest

from tests.cli.conftest import ALLOW, Inside

APP = """
import os

from gatebook import Agent, tool


@tool
async def refund(order: str) -> str:
    \"\"\"Refund an order.\"\"\"
    with open(os.environ["REFUNDS"], "a") as file:
        file.write(order)
    if os.environ.get("DIES"):
        os._exit(9)
    return "done"


support = Agent(name="support", model="scripted:script.json", tools=[refund])
"""
ANSWERS = {
    "rules": [
        {"when": {"last_tool": "refund"}, "say": "Refunded."},
        {"when": {"user": "Refund"}, "call": [{"tool": "refund", "args": {"order": "17"}}]},
    ]
}


@pytest.fixture
def killed(gatebook: Inside) -> Inside:
    """A folder where a run was killed in the middle of a refund, and said to have ended well."""
    (gatebook.path / "desk.py").write_text(APP)
    (gatebook.path / "script.json").write_text(json.dumps(ANSWERS))
    gatebook.env |= {"REFUNDS": str(gatebook.path / "refunds"), "GATEBOOK_STORE": store(gatebook)}
    died = gatebook.outside(
        "run", "desk:support", "Refund order 17.", "--run-id", "r1", *ALLOW,
        env=gatebook.env | {"DIES": "1"},
    )  # fmt: skip
    assert died.returncode == 9, died.stderr
    with sqlite3.connect(gatebook.path / "runs.db") as journal:
        journal.execute("UPDATE runs SET lease_until = 1")
    journal.close()
    return gatebook


def store(folder: Inside) -> str:
    return f"sqlite:///{folder.path}/runs.db"


def elsewhere(folder: Inside) -> Inside:
    """Another folder, with the same store and nothing else."""
    (folder.path / "elsewhere").mkdir()
    other = Inside(folder.path / "elsewhere")
    other.env = folder.env
    return other


def test_the_script_of_a_model_is_found_beside_the_app(killed: Inside) -> None:
    """The run is taken up where it was left, from wherever that is done."""
    other = elsewhere(killed)

    waited = other.outside("resume", "r1", env=killed.env)
    other.outside("resolve", "r1", "t1.0", "--succeeded", '"done"', env=killed.env)
    done = other.outside("resume", "r1", env=killed.env)

    assert waited.returncode == 4, waited.stderr
    assert (done.returncode, done.stdout) == (0, "Refunded.\n"), done.stderr


def test_a_run_whose_model_cannot_be_asked_here_is_left_as_it_is(killed: Inside) -> None:
    """To end it for the want of a file would lose what it has done."""
    (killed.path / "script.json").rename(killed.path / "kept.json")

    refused = killed("resume", "r1")
    status = killed.json("show", "r1")["status"]
    (killed.path / "kept.json").rename(killed.path / "script.json")
    waited = killed("resume", "r1")

    assert refused.returncode == 1
    assert "E_SCRIPT_FILE" in refused.stderr
    assert "script.json" in refused.stderr
    assert status == "idle"
    assert waited.returncode == 4, waited.stderr
