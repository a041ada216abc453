"""Taking runs up from another folder, or where a model or a program cannot be had."""

import json
import signal
import sqlite3

import pytest

from tests.cli.conftest import ALLOW, Inside
from tests.cli.test_running import rest, until

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


WAITS = """
from gatebook import workflow


@workflow
async def {name}(ctx, ends: str) -> str:
    await ctx.wait_signal("go")
    if ends == "badly":
        raise ValueError("badly")
    return "{name} ended"
"""


@pytest.fixture
def two(gatebook: Inside) -> Inside:
    """Two folders, each with a program in a module of its own and in one of the same name."""
    gatebook.env |= {"GATEBOOK_STORE": store(gatebook)}
    for name in ("first", "second"):
        place = gatebook.path / name
        place.mkdir()
        for module in (name, "flows"):
            (place / f"{module}.py").write_text(WAITS.format(name=name))
    return gatebook


def inside(folder: Inside, name: str) -> Inside:
    place = Inside(folder.path / name)
    place.env = folder.env
    return place


def waiting(
    folder: Inside,
    name: str,
    run: str,
    *,
    module: str = "",
    ends: str = "well",
    goes_on: bool = True,
) -> None:
    """Start a run of a folder's program, and send the signal it waits for."""
    place = inside(folder, name)
    place("run", f"{module or name}:{name}", ends, "--run-id", run, *ALLOW)
    if goes_on:
        place("signal", run, "go")


def rename(folder: Inside, name: str) -> None:
    """Call a folder's program otherwise: what is remembered of it cannot be loaded any more."""
    (folder.path / name / f"{name}.py").write_text(WAITS.format(name="renamed"))


def test_resume_all_goes_past_a_run_whose_program_is_gone(two: Inside) -> None:
    """One forgotten experiment must not keep all other runs waiting."""
    waiting(two, "second", "r3")
    waiting(two, "first", "r2")
    waiting(two, "second", "r1")
    rename(two, "first")

    done = two("resume", "--all", "--json")
    left = two.json("show", "r2")["status"]

    assert done.returncode == 1
    assert done.stdout.count('"second ended"') == 2, done.stdout
    assert "first has no first (it has renamed)" in done.stderr
    assert json.loads(done.stderr)["error"]["run"] == "r2"
    assert left == "idle"


def test_the_exit_code_of_resume_all_is_that_of_the_worst(two: Inside) -> None:
    """A run that failed must not hide behind one that only waits."""
    waiting(two, "first", "r1", goes_on=False)
    waiting(two, "first", "r2", ends="badly")
    waiting(two, "first", "r3")

    done = two("resume", "--all")

    assert (done.returncode, done.stdout) == (3, "first ended\n")
    assert two("resume", "--all").returncode == 4


def test_two_modules_of_one_name_are_not_taken_for_each_other(two: Inside) -> None:
    """What was imported first would be driven under the other's name."""
    waiting(two, "first", "r1", module="flows")
    waiting(two, "second", "r2", module="flows")

    done = two("resume", "--all")
    again = inside(two, "first")("resume", "--all")

    assert (done.returncode, done.stdout) == (1, "second ended\n")
    first, second = (str(two.path / name / "flows.py") for name in ("first", "second"))
    assert f"flows is {second} here already, and {first} is another" in done.stderr
    assert f"go to {two.path / 'first'} and begin there" in done.stderr
    assert "run r1 was not taken up" in done.stderr
    assert again.stdout == "first ended\n"


def test_an_app_named_like_a_module_of_python_is_told_so(gatebook: Inside) -> None:
    """Python's own would be searched for the program."""
    (gatebook.path / "json.py").write_text(WAITS.format(name="first"))

    done = gatebook("run", "json:first", "well", *ALLOW)

    assert done.returncode == 1
    assert f"and {gatebook.path / 'json.py'} is another; rename one of them" in done.stderr


def test_a_worker_serves_what_it_can_and_says_what_it_cannot(two: Inside) -> None:
    """A program that is gone concerns its own runs."""
    waiting(two, "first", "r1")
    waiting(two, "second", "r2")
    rename(two, "first")
    worker = two.begin("worker")
    try:
        until(worker, "not served, 1 open run of first: cannot load 'first:first'")
        until(worker, "serving second on sqlite:///")
        until(worker, "second ended")
    finally:
        worker.send_signal(signal.SIGTERM)
        rest(worker)

    assert worker.returncode == 0


def test_a_worker_that_can_serve_nothing_says_why(two: Inside) -> None:
    """It would sit there and look as if it worked."""
    waiting(two, "first", "r1")
    rename(two, "first")

    done = two("worker")

    assert done.returncode == 1
    assert "first has no first (it has renamed)" in done.stderr


def test_a_cancelled_run_whose_program_is_gone_can_be_ended(two: Inside) -> None:
    """Else it would be open for ever, with nobody to ask for its end."""
    waiting(two, "first", "r1", goes_on=False)
    rename(two, "first")
    two("cancel", "r1")

    done = two("resume", "r1")
    shown = two.json("show", "r1")

    assert done.returncode == 3
    assert "run r1 was cancelled" in done.stderr
    assert shown["status"] == "cancelled"
    assert two("verify", "r1").returncode == 0


def test_a_run_that_is_not_cancelled_needs_its_program(two: Inside) -> None:
    """Nobody else knows how it goes on."""
    waiting(two, "first", "r1")
    rename(two, "first")

    done = two("resume", "r1")

    assert done.returncode == 1
    assert "first has no first (it has renamed)" in done.stderr
    assert two.json("show", "r1")["status"] == "idle"


@pytest.mark.parametrize("other", [True, False], ids=["another is served", "nothing is"])
def test_doctor_names_the_program_that_open_runs_miss(two: Inside, other: bool) -> None:
    """Who looks why a run stands still finds it there; runs that are over miss nothing."""
    waiting(two, "first", "r1", goes_on=False)
    if other:
        waiting(two, "second", "r2", goes_on=False)
    rename(two, "first")

    open_run = two("doctor")
    two("cancel", "r1")
    two("resume", "r1")
    over = two("doctor")

    assert (open_run.returncode, over.returncode) == (0, 0)
    assert "first has no first (it has renamed)" in open_run.stdout
    assert "first has no first" not in over.stdout
