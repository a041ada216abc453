"""The second step of the README, as a reader would take it."""

import re
import subprocess
from pathlib import Path

from tests.cli.conftest import COMMAND, PATIENCE_S, Folder

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
KILL, POLICY = "## Kill it", "## Say what it may do"


def section(name: str) -> str:
    """The text of the README under a heading."""
    return README.split(f"{name}\n", 1)[1].partition("\n## ")[0]


def block(text: str, language: str) -> str:
    """The first fenced block of a language in a text."""
    found = re.search(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def test_the_second_step_works_as_it_is_written(tmp_path: Path) -> None:
    """Whoever copies line by line must end with an approved refund and an explanation."""
    folder = Folder(tmp_path)
    app = block(section(KILL), "python").replace("time.sleep(20)", "time.sleep(0)")
    (tmp_path / "desk.py").write_text(app)
    (tmp_path / "answers.json").write_text(block(section(KILL), "json"))
    environment = folder.env | {"PATH": f"{COMMAND.parent}:{folder.env['PATH']}"}

    codes, output = [], {}
    for line in block(section(POLICY), "").splitlines():
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, env=environment, timeout=PATIENCE_S,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        verb = " ".join(line.split()[1:3])
        codes.append((verb, done.returncode))
        output[verb] = done.stdout

    assert codes == [
        ("init desk:support", 0), ("policy test", 0), ("run desk:support", 4), ("approvals #", 0),
        ("approve @last#4", 0), ("resume @last", 0), ("policy explain", 0), ("policy backtest", 0),
    ]  # fmt: skip
    assert output["resume @last"] == "I have refunded 20 EUR for order 17.\n"
    assert "rule\task-refund\task\tfires" in output["policy explain"]
