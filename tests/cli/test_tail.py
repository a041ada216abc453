"""`gatebook tail`: what models say while they say it to another process, and coming back to it."""

import asyncio
import json
import os
import pty
import re
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gatebook import Agent, AllowDeclared, Runtime
from gatebook.kernel.messages import MessageEnd, MessageStart, TextDelta
from gatebook.runtime.runs.handles import RunHandle
from tests.cli.conftest import COMMAND, PATIENCE_S, Folder, Inside
from tests.runtime.kit import Model, Said

STORE = "live.db"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
TEXT = "Tea is older than the oldest kettle, and kettles are old. "
SAYS = 3  # the column of what happened, after cursor, run and time
END = MessageEnd("stop", "stop", None)


def spoken(*said: Any) -> Said:
    """Return an answer of texts and of waits."""
    parts = [TextDelta(0, each) if isinstance(each, str) else each for each in said]
    return [MessageStart("m"), *parts, END]


@asynccontextmanager
async def writing(path: Path, *answers: Said, **options: Any) -> AsyncIterator[RunHandle[Any]]:
    """Drive a run `r` of an agent here, on a store that other processes read."""
    agent: Any = Agent(name="writer", model="fake:m", **options)
    models = {"fake": Model(*answers)}
    url = f"sqlite:///{path / STORE}"
    async with Runtime(url, policy=AllowDeclared(), providers=models) as runtime:
        yield await runtime.start(agent, "Tell me of tea.", run_id="r")


class Tail:
    """A `gatebook tail` in a process of its own; its lines as they come."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def until(self, holds: Callable[[str], bool]) -> None:
        """Read up to the first line that is wanted."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip("\n"))
            if holds(self.lines[-1]):
                return
        raise AssertionError(f"it never came: {self.lines}")

    async def end(self) -> tuple[int | None, str]:
        """Read the rest; return the exit code and what stands on standard error."""
        out, err = await self.process.communicate()
        self.lines += out.decode().splitlines()
        return self.process.returncode, err.decode()


async def tail(folder: Folder, *args: str) -> Tail:
    """Start to follow a run through a pipe."""
    process = await asyncio.create_subprocess_exec(
        COMMAND, "tail", *args, "--store", STORE,
        cwd=folder.path, env=folder.env, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    return Tail(process)


def said(lines: list[str]) -> str:
    """Return what the models said in these lines."""
    rows = [line.split("\t") for line in lines]
    return "".join(row[-1] for row in rows if row[SAYS] == "says")


def run(scenario: Any) -> None:
    """Run a scenario that only a broken build does not end."""

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await scenario

    asyncio.run(bounded())


def test_an_answer_is_read_along_left_and_gone_on_with(gatebook: Inside) -> None:
    """Ctrl-C says with which command, and that command repeats nothing and loses nothing."""

    async def scenario() -> None:
        half, rest = asyncio.Event(), asyncio.Event()
        answer = spoken("Green, ", half.wait, "black, ", rest.wait, "white.")
        async with writing(gatebook.path, answer) as handle:
            first = await tail(gatebook, "r")
            await first.until(lambda line: line.endswith("Green, "))
            half.set()
            await first.until(lambda line: line.endswith("black, "))
            first.process.send_signal(signal.SIGINT)
            code, told = await first.end()
            command = told.strip().removeprefix("go on with: gatebook tail ").split(" ")
            second = await tail(gatebook, *command[:-2])
            rest.set()
            ended, _ = await second.end()
            result = await handle.result()

        lines = [*first.lines, *second.lines]
        assert (code, ended) == (130, 0)
        assert command[-2:] == ["--store", STORE]
        assert said(lines) == result.output == "Green, black, white."
        facts = [line.split("\t")[0] for line in lines if line.split("\t")[SAYS] != "says"]
        assert facts == ["1", "2", "3", "4"]

    run(scenario())


def test_what_does_not_count_is_to_be_dropped(gatebook: Inside) -> None:
    """A program that adds up pieces must know which of them were taken back."""

    async def scenario() -> None:
        held = asyncio.Event()
        answers = (spoken("about ", held.wait, "seven"), spoken("7"))
        async with writing(gatebook.path, *answers, output=int) as handle:
            following = await tail(gatebook, "r", "--json")
            await following.until(lambda line: "about" in line)
            held.set()
            await following.end()
            assert (await handle.result()).output == 7

        items = [json.loads(line) for line in following.lines]
        (reset,) = [each["reset"] for each in items if "reset" in each]
        assert (reset["address"], reset["instead"]) == ("t1", "t2")
        deltas = [each["delta"] for each in items if "delta" in each]
        assert "".join(d["text"] for d in deltas if d["address"] == "t2") in ("", "7")
        assert all(each["cursor"] for each in items)

    run(scenario())


async def on_a_terminal(folder: Folder, columns: int, act: Callable[[str], None]) -> str:
    """Follow the run on a terminal; `act` sees the screen as it grows."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        COMMAND, "tail", "r", "--store", STORE,
        cwd=folder.path, env=folder.env | {"COLUMNS": str(columns), "CI": ""},
        stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    screen = ""
    while True:
        try:
            part = await asyncio.to_thread(os.read, ours, 65536)
        except OSError:  # Linux says EIO when the other end is closed
            break
        if not part:
            break
        screen += COLOUR.sub("", part.decode()).replace("\r\n", "\n")
        act(screen)
    os.close(ours)
    await process.wait()
    return screen


def test_on_a_terminal_an_answer_has_a_column_of_its_own(gatebook: Inside) -> None:
    """Broken between words, and nothing under the cursors, which are there to be copied."""

    async def scenario() -> None:
        held = asyncio.Event()

        def act(screen: str) -> None:
            if "kettle" in screen:
                held.set()

        answer = spoken(TEXT * 2, held.wait, "The end.")
        async with writing(gatebook.path, answer) as handle:
            screen = await on_a_terminal(gatebook, 80, act)
            result = await handle.result()

        lines = [line for line in screen.splitlines() if line.startswith(" " * 20)]
        assert all(len(line) <= 80 for line in lines)
        assert len(lines) > 2
        words = " ".join(line.strip().removeprefix("t1").strip() for line in lines)
        assert words == result.output

    run(scenario())


def test_on_a_terminal_an_answer_that_does_not_count_is_told(gatebook: Inside) -> None:
    """It stands there already, so words must say so."""

    async def scenario() -> None:
        held = asyncio.Event()

        def act(screen: str) -> None:
            if "about" in screen:
                held.set()

        answers = (spoken("about ", held.wait, "seven"), spoken("7"))
        async with writing(gatebook.path, *answers, output=int):
            screen = await on_a_terminal(gatebook, 80, act)

        assert "t1      what it said does not count: t2 asks again" in screen

    run(scenario())


@pytest.mark.parametrize(
    "args",
    [
        ("paid", "--after", "yesterday"),
        ("paid", "--after", "-1"),
        ("paid", "--after", "2+t1.0"),
        ("--after", "2+t1.0.97.454"),
        ("paid", "--after", "99"),
        ("paid", "--no-follow", "--after", "99"),
        ("--no-follow", "--after", "99"),
    ],
)
def test_what_is_no_cursor_is_refused(args: tuple[str, ...], gatebook: Inside) -> None:
    """Reading from the beginning instead would show everything twice, to wait would skip."""
    gatebook("run", "app:pay", "17", "--run-id", "paid", "--policy", "allow-declared")

    done = gatebook("tail", *args)

    assert (done.returncode, done.stdout) == (1, "")
    assert "[E_CURSOR_INVALID]" in done.stderr
    assert args[-1] in done.stderr
