"""Other processes for tests of one store: Python programs that answer line by line."""

import os
import subprocess
import sys
import textwrap
from typing import Any

HEAD = """
import asyncio, os, signal, sys
from gatebook.journals.sqlite import SqliteJournal
from gatebook.ports import RunKey
from gatebook.testing.journal_facts.kit import *

LONG = 3_600_000

def say(*words):
    print(*words, flush=True)

async def order():
    return (await asyncio.to_thread(sys.stdin.readline)).strip()

async def main():
    journal = SqliteJournal(sys.argv[1])
    await journal.open()
{body}
    await journal.close()

asyncio.run(main())
"""


class Child:
    """A process that runs `body` (the inside of an async function with `journal`) on a store."""

    def __init__(self, store: Any, body: str, **environ: str) -> None:
        lines = textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")
        self._process = subprocess.Popen(
            [sys.executable, "-c", HEAD.replace("{body}", lines), str(store)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=dict(os.environ) | environ,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        if self.returncode is None:
            self.kill()

    def hear(self) -> str:
        """Return the next line the process says; "" when it has ended."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def tell(self, line: str) -> None:
        """Let the process go on."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def kill(self) -> list[str]:
        """End the process at once, as a crash would; return what it had said and nobody heard."""
        self._process.kill()
        return self.rest()

    def rest(self) -> list[str]:
        """Wait for the end and return what was said until then and not heard."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        said = self._process.stdout.read()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        return said.splitlines()

    @property
    def returncode(self) -> int | None:
        return self._process.returncode
