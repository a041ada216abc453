"""The command lines on the page about policies print what the page says."""

import re
import subprocess
from pathlib import Path

from tests.cli.conftest import COMMAND, PATIENCE_S, Folder
from tests.cli.test_page import BLOCK, as_pattern

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")


def test_every_command_on_the_page_prints_what_the_page_says(tmp_path: Path) -> None:
    """An example that was never run is a guess about the program."""
    folder = Folder(tmp_path)
    blocks = BLOCK.findall(PAGE)
    for language, text in blocks:
        name = text.partition("\n")[0].removeprefix("# ")
        if language == "toml" and name.endswith(".toml"):
            (tmp_path / name).write_text(text)
    environment = folder.env | {"PATH": f"{COMMAND.parent}:{folder.env['PATH']}"}

    different, count = [], 0
    for part in [p for kind, text in blocks if kind == "console" for p in text.split("$ ")[1:]]:
        line, _, expected = part.partition("\n")
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, env=environment, timeout=PATIENCE_S,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False,
        )  # fmt: skip
        count += 1
        if not re.fullmatch(as_pattern(expected), done.stdout):
            different.append(f"$ {line}\n{done.stdout}")

    assert count >= 2
    assert different == []
