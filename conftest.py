"""Keeps every test on this machine, and runs the examples of README.md and docs/ (`make docs`).

A page runs from top to bottom in one namespace and one empty folder, as a reader would. Python
blocks run; TOML blocks must parse, and one that opens with `# name.toml` is saved under that name.
"""

import os
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

pytest_plugins = ["loopback_plugin"]

HOMES = ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME")
home = tempfile.TemporaryDirectory(prefix="gatebook-tests-")


def use_home(folder: str) -> None:
    """Keep away from the store and settings of whoever runs the tests."""
    for name in HOMES:
        os.environ[name] = str(Path(folder) / ".home")


use_home(home.name)


def open_page(namespace: dict[str, Any]) -> None:
    """Give a page its own empty folder, and the name a script has."""
    folder = tempfile.TemporaryDirectory(prefix="gatebook-docs-")
    namespace.update(__name__="__main__", _folder=folder, _left=Path.cwd())
    namespace["_ci"] = os.environ.pop("CI", None)  # a reader is at work, and may record
    os.chdir(folder.name)
    use_home(folder.name)


def close_page(namespace: dict[str, Any]) -> None:
    """Leave the page's folder and remove it."""
    os.chdir(namespace["_left"])
    use_home(home.name)
    if namespace["_ci"] is not None:
        os.environ["CI"] = namespace["_ci"]
    namespace["_folder"].cleanup()


def read_toml(example: Example) -> None:
    """Parse a TOML block, and save it if its first line names a file."""
    text = str(example.parsed)
    tomllib.loads(text)
    name = text.partition("\n")[0].removeprefix("# ").strip()
    if name.endswith(".toml"):
        Path(name).write_text(text)


pytest_collect_file = Sybil(
    parsers=[
        PythonCodeBlockParser(),
        CodeBlockParser(language="toml", evaluator=read_toml),
        SkipParser(),
    ],
    patterns=["README.md", "docs/*.md"],
    setup=open_page,
    teardown=close_page,
).pytest()
