"""The steps of the README, as a reader would take them."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

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


def saved(folder: Folder, *, bank: str) -> dict[str, str]:
    """Save the app of the README, with its bank; return the environment of its commands."""
    told = section(KILL)
    (folder.path / "desk.py").write_text(block(told, "python").replace("time.sleep(20)", bank))
    (folder.path / "answers.json").write_text(block(told, "json"))
    return folder.env | {"PATH": f"{COMMAND.parent}:{folder.env['PATH']}"}


def run_lines(lines: list[str], folder: Folder, env: dict[str, str]) -> list[Any]:
    """Run lines of a shell, one after the other; return (verb and its first word, done)."""
    found = []
    for line in lines:
        done = subprocess.run(
            ["bash", "-c", line], cwd=folder.path, env=env, timeout=PATIENCE_S,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        found.append((" ".join(line.split()[1:3]), done))
    return found


def test_the_plug_is_pulled_as_it_is_written(tmp_path: Path) -> None:
    """The first thing a reader tries: a payment, `kill -9`, and no second payment."""
    folder = Folder(tmp_path)
    env = saved(folder, bank="open('paid', 'a').write('x'); time.sleep(600)")
    after_files = section(KILL).partition(block(section(KILL), "json"))[2].partition("```\n")[2]
    run, pause, *others = [line for line in block(after_files, "").splitlines() if line]
    assert "sleep 5" in pause
    paid = pause.replace("sleep 5", "until test -f paid; do sleep 0.1; done")

    (_, killed), *found = run_lines([f"{run}\n{paid}\nwait $!", *others], folder, env)

    assert killed.returncode == 128 + 9
    assert [(verb, done.returncode) for verb, done in found] == [
        ("resume @last", 4), ("show @last", 0), ("resolve @last", 0), ("resume @last", 0),
        ("verify @last", 0),
    ]  # fmt: skip
    assert found[3][1].stdout == "Refund: 20 EUR for order 17.\n"
    assert (tmp_path / "paid").read_text() == "x"


def test_the_policy_works_as_it_is_written(tmp_path: Path) -> None:
    """Whoever copies line by line must end with an approved refund and an explanation."""
    folder = Folder(tmp_path)
    env = saved(folder, bank="time.sleep(0)")

    found = run_lines(block(section(POLICY), "").splitlines(), folder, env)

    assert [(verb, done.returncode) for verb, done in found] == [
        ("init desk:support", 0), ("policy test", 0), ("run desk:support", 4), ("approvals #", 0),
        ("approve @last#4", 0), ("resume @last", 0), ("policy explain", 0), ("policy backtest", 0),
    ]  # fmt: skip
    output = {verb: done.stdout for verb, done in found}
    assert output["resume @last"] == "Refund: 20 EUR for order 17.\n"
    assert "rule\task-refund\task\tfires" in output["policy explain"]


def test_a_denial_as_it_is_written_is_not_told_as_a_refund(tmp_path: Path) -> None:
    """The other answer that the page offers; the stand-in must not claim what did not happen."""
    folder = Folder(tmp_path)
    env = saved(folder, bank="time.sleep(0)")
    init, _, run, _, approve, resume, *_ = block(section(POLICY), "").splitlines()
    deny = approve.partition("or: ")[2]

    *_, (_, resumed) = run_lines([init, run, deny, resume], folder, env)

    assert resumed.stdout.startswith("Refund: a person refused 'refund': not ours")


def test_the_example_prints_what_it_says(tmp_path: Path) -> None:
    """The first code a reader pastes: one process, no key, and the line beside `print`."""
    example = block(README, "python")
    folder = Folder(tmp_path)

    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, env=folder.env, timeout=PATIENCE_S,
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout == example.rpartition("# ")[2]
