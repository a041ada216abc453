"""Output that nobody takes, characters it does not have, and Ctrl-C before anything runs."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import PATIENCE_S, Folder, Inside

FULL = Path("/dev/full")
COMMAND = f"{sys.executable} -m gatebook"


def shell(folder: Folder, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of sh in which `gatebook` is the command."""
    return subprocess.run(
        ["sh", "-c", line.replace("gatebook", COMMAND)],
        cwd=folder.path, env=folder.env, capture_output=True, text=True, timeout=PATIENCE_S,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("target", [">&-", pytest.param(
    ">/dev/full", marks=pytest.mark.skipif(not FULL.exists(), reason="no /dev/full"))
])  # fmt: skip
@pytest.mark.parametrize("verb", ["list", "show paid", "tail paid", "--help"])
def test_output_that_cannot_be_written_is_one_line(verb: str, target: str, kept: Inside) -> None:
    """A full disk or a closed stream is no bug of ours: no traceback."""
    done = shell(kept, f"gatebook {verb} {target}")

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: standard output cannot be written: ")
    assert line.endswith("[E_STDOUT]")


def test_json_errors_say_so_too(kept: Inside) -> None:
    """Who reads JSON reads this."""
    done = shell(kept, "gatebook show paid --json >&-")

    assert json.loads(done.stderr)["error"]["code"] == "E_STDOUT"


def test_what_is_for_standard_error_never_goes_to_standard_output(kept: Inside) -> None:
    """A closed standard error would send it there."""
    done = shell(kept, "gatebook show paid 2>&-")

    assert done.returncode == 0
    assert "run paid" not in done.stdout


def test_a_character_that_the_terminal_lacks_is_written_as_an_escape(kept: Inside) -> None:
    """An old locale must not keep people from seeing a run."""
    done = shell(kept, "PYTHONIOENCODING=ascii gatebook show paid")

    assert done.returncode == 0
    assert r'{"order":"17"} \u2192 {"amount":20}' in done.stdout


def test_ctrl_c_while_the_command_is_loaded_says_nothing(kept: Inside, tmp_path: Path) -> None:
    """People change their mind within a tenth of a second."""
    (tmp_path / "click.py").write_text(
        "import time\nprint('loading', flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "gatebook", "list"],
        env=kept.env | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"

    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=PATIENCE_S)

    assert (process.returncode, told) == (130, "")
