"""What tests of the tools that ship share: calling them as the executor does."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.tools.invocations import Given

from gatebook.errors import ActionError

linux = pytest.mark.skipif(sys.platform != "linux", reason="it looks at processes in /proc")
WAIT_S = 30  # far above what any machine needs; only a broken build gets there


def invocation(*, attempt: int = 0, key: str = "gb1-key") -> Given:
    """One attempt."""
    return Given(attempt=attempt, idempotency_key=lambda: key)


async def ask(made: Any, *, attempt: int = 0, **args: Any) -> Any:
    """Validate and call a tool, and return its result as plain JSON."""
    final = made.validate(json.dumps(args).encode())
    return json.loads(await made.call(final, invocation(attempt=attempt)))


def call(made: Any, *, attempt: int = 0, **args: Any) -> Any:
    """The same, in a loop of its own."""
    return asyncio.run(ask(made, attempt=attempt, **args))


def refusal(made: Any, **args: Any) -> ActionError:
    """The error that says: refused, and nothing happened."""
    with pytest.raises(ActionError) as caught:
        call(made, **args)
    return caught.value


def wait_until(fact: Callable[[], bool], what: str) -> None:
    """Wait until a fact about another process holds."""
    until = time.monotonic() + WAIT_S
    while not fact():
        assert time.monotonic() < until, f"not seen in {WAIT_S} s: {what}"
        time.sleep(0.005)


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone before it was opened, or before the read
        return False


def pids(file: Path, count: int) -> list[int]:
    """The process ids that programs have written to a file, once they are all there."""
    wait_until(lambda: file.exists() and len(file.read_text().split()) >= count, str(file))
    return [int(word) for word in file.read_text().split()]


def all_gone(found: list[int]) -> bool:
    """Whether none of the processes runs any more."""
    assert os.getpid() not in found
    return not any(map(is_running, found))
