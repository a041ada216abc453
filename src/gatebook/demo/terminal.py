"""The command line as a reader would use it: processes of their own on the folder's journal."""

import asyncio
import os
import shlex
import sys
from pathlib import Path
from shutil import which

from gatebook.demo.screen import command, output
from gatebook.demo.stage import StageError

APP = "gatebook.demo.cast:PROGRAMS"


def path_from_here(path: Path) -> str:
    """Return a path as the reader would type it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _program() -> str:
    """Return how the reader calls `gatebook` from here."""
    here = Path(sys.executable).parent / "gatebook"
    return "gatebook" if which("gatebook") == str(here) else path_from_here(here)


PROGRAM = _program()


class Terminal:
    """A terminal that is opened on one demo folder."""

    def __init__(self, folder: Path) -> None:
        self._store = folder / "journal.db"

    def suggest(self, *lines: str) -> None:
        """Print commands that the reader can run, without running them."""
        command(f"export GATEBOOK_STORE={self._store}")
        for line in lines:
            command(f"{PROGRAM} {line}")

    async def run(self, *arguments: str, code: int = 0, most: int = 12) -> None:
        """Show a command, run it, and show what it says: the first lines.

        Raises:
            StageError: it did not exit with this code.
        """
        command(f"{PROGRAM} {shlex.join(arguments)}")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gatebook", *arguments,
            env=os.environ | {"GATEBOOK_STORE": str(self._store), "NO_COLOR": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await process.communicate()
        if process.returncode != code:
            raise StageError(f"gatebook {shlex.join(arguments)} failed:\n{said.decode()}")
        output(said.decode().splitlines(), most)
