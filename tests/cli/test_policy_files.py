"""`--policy FILE`: policies as files on the command line."""

import json
from pathlib import Path

from tests.cli.conftest import Inside

DESK = """version = 1
name = "desk"
[budgets]
tool_calls = 7
[[rule]]
id = "all"
then = "allow"
tool = "*"
"""


def write(gatebook: Inside, text: str = DESK, name: str = "desk.toml") -> Path:
    path = gatebook.path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_a_run_is_governed_by_a_file(gatebook: Inside) -> None:
    """It is named where the run is shown, and its budget holds."""
    write(gatebook)

    done = gatebook("run", "app:pay", "17", "--run-id", "r1", "--policy", "desk.toml")
    shown = gatebook.json("show", "r1")

    assert done.returncode == 0
    assert done.stderr.splitlines()[0] == "run r1  policy: desk"
    assert shown["meters"]["tool_calls"]["limit"] == 7


def test_several_files_are_given_with_commas(gatebook: Inside) -> None:
    """They are one policy."""
    write(gatebook)
    write(gatebook, 'version = 1\nname = "small"\n[budgets]\ntool_calls = 3\n', "small.toml")

    document = gatebook.json("run", "app:pay", "17", "--policy", "desk.toml,small.toml")

    assert document["meters"]["tool_calls"]["limit"] == 3


def test_resume_finds_the_file_that_run_was_given_from_another_folder(gatebook: Inside) -> None:
    """Its path is kept whole, beside the store."""
    write(gatebook)
    gatebook("run", "app:ask", "--run-id", "r1", "--policy", "desk.toml", "--store", "runs.db")
    gatebook("signal", "r1", "go", "1", "--store", "runs.db")

    kept = json.loads((gatebook.path / "runs.db.apps.json").read_text())["ask"]
    done = gatebook("resume", "r1", "--store", "runs.db")

    assert kept["runs"]["r1"]["policy"] == str(gatebook.path / "desk.toml")
    assert (done.returncode, done.stdout) == (0, '{"answer":1}\n')


def test_settings_name_a_file_beside_them(gatebook: Inside) -> None:
    """A path in a settings file is seen from there."""
    write(gatebook, name="rules/desk.toml")
    (gatebook.path / "gatebook.toml").write_text('policy = "rules/desk.toml"\n')

    done = gatebook("run", "app:pay", "17", "--run-id", "r1")

    assert done.stderr.splitlines()[0] == "run r1  policy: desk"


def test_a_wrong_file_says_where(gatebook: Inside) -> None:
    """And nothing starts."""
    write(gatebook, DESK.replace('tool = "*"', 'tool = "*"\nwhen = "now"'))

    done = gatebook("run", "app:pay", "17", "--policy", "desk.toml")

    assert done.returncode == 1
    assert "desk.toml:9" in done.stderr
    assert "E_POLICY_KEY" in done.stderr
    assert not (gatebook.path / "refunds").exists()


def test_a_file_that_is_not_there_is_no_policy(gatebook: Inside) -> None:
    """Fail closed, with the choices."""
    done = gatebook("run", "app:pay", "17", "--policy", "desk.toml")

    assert done.returncode == 1
    assert "no policy can be read at desk.toml (No such file or directory)" in done.stderr
    assert "E_POLICY_MISSING" in done.stderr


def test_a_policy_that_does_not_fit_the_app_is_refused(gatebook: Inside) -> None:
    """Before the first event."""
    write(gatebook, DESK.replace('"*"', '"refunt"'))

    done = gatebook("run", "app:pay", "17", "--policy", "desk.toml")

    assert done.returncode == 1
    assert "did you mean: refund" in done.stderr
    assert not (gatebook.path / "refunds").exists()


def test_a_result_that_is_withheld_is_told_as_such(gatebook: Inside) -> None:
    """While the run is watched, and afterwards."""
    hold = '[[rule]]\nid = "hold"\non = "result"\nthen = "deny"\ntool = "look_up"\n'
    write(gatebook, DESK + hold + 'message = "orders are private"\n')

    done = gatebook("run", "app:pay", "17", "--run-id", "r1", "--policy", "desk.toml")
    shown = gatebook("show", "r1")

    assert done.returncode == 3
    assert "withheld" in done.stderr
    assert "orders are private" in done.stderr
    assert "orders are private" in shown.stdout
    assert '"amount"' not in done.stderr + shown.stdout


def test_a_run_that_begins_interrupted_waits_for_resume(gatebook: Inside) -> None:
    """It says why, and does nothing until then."""
    stop = '[[rule]]\nid = "stop"\non = "start"\nthen = "interrupt"\nmessage = "look first"\n'
    write(gatebook, DESK + stop)

    done = gatebook("run", "app:pay", "17", "--run-id", "r1", "--policy", "desk.toml")
    before = (gatebook.path / "refunds").exists()
    resumed = gatebook("resume", "r1")

    assert done.returncode == 4
    assert "which stops it here: look first" in done.stderr
    assert not before
    assert resumed.returncode == 0
    assert (gatebook.path / "refunds").exists()
