"""What people see: drawn on a real terminal device, with nothing of the model's own making."""

import fcntl
import json
import os
import pty
import re
import subprocess
import termios

import pytest

from gatebook.cli.main import report
from gatebook.cli.output import document, json_line
from tests.cli.conftest import ALLOW, COMMAND, PATIENCE_S, Folder, Inside

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
CURSOR = re.compile(r"\x1b\[(?:\?25[lh]|\d*[A-K])")


def on_a_terminal(folder: Folder, *args: str, **env: str) -> str:
    """Run the command with a terminal as its output and return all it wrote there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, *args],
        cwd=folder.path, env=folder.env | {"COLUMNS": "120", "LINES": "40", "CI": ""} | env,
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says EIO when the other end is closed
            break
        if not part:
            break
        written += part
    os.close(ours)
    process.wait(PATIENCE_S)
    return written.decode().replace("\r\n", "\n")


def test_show_has_a_head_a_table_and_the_next_command(kept: Folder) -> None:
    """One look must tell what it is, how it stands and what to do."""
    screen = COLOUR.sub("", on_a_terminal(kept, "show", "unsure"))

    assert re.search(r"^status +waiting$", screen, re.MULTILINE)
    assert re.search(r"^ADDRESS +KIND +ACTION +STATUS", screen, re.MULTILINE)
    assert "gatebook resolve unsure 0 --succeeded JSON" in screen


@pytest.mark.parametrize(
    ("run", "line"), [("failed", r"error +.*no such order"), ("paid", r'answer +"refunded 20"')]
)
def test_the_head_says_how_a_run_ended(run: str, line: str, kept: Folder) -> None:
    """Why it failed, or what it gave."""
    screen = COLOUR.sub("", on_a_terminal(kept, "show", run))

    assert re.search(f"^{line}$", screen, re.MULTILINE)


def test_a_model_cannot_write_to_the_terminal(kept: Folder) -> None:
    """Its answer held an escape sequence that turns the screen red."""
    screens = [
        on_a_terminal(kept, "show", "agent"),
        on_a_terminal(kept, "show", "agent", "--events"),
        on_a_terminal(kept, "tail", "agent"),
        on_a_terminal(kept, "run", "app:support", "What does order 17 cost?", "--run-id", "agent",
                      *ALLOW),
    ]  # fmt: skip

    for screen in screens:
        assert r"It costs 20 euros.\x1b[31m" in COLOUR.sub("", screen)
        assert "euros.\x1b" not in screen


@pytest.mark.parametrize("char", ["\x9b", "\x7f", "\u202e", "\u2066", "\u2028", "\x1b"])
def test_a_json_document_does_not_reach_the_terminal_either(
    char: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON need not escape what some terminals take for an order, or lines for their end."""
    report("E_X", char, "", as_json=True)
    document(said=char)
    json_line(said=char)

    told = capsys.readouterr()
    assert char not in told.out + told.err
    assert json.loads(told.err)["error"]["message"] == char
    assert json.loads(told.out[: told.out.index("}") + 1])["said"] == char


def test_a_run_is_one_block_and_then_its_answer(gatebook: Folder) -> None:
    """The last picture stays, with the words for how it ended."""
    screen = on_a_terminal(gatebook, "run", "app:pay", "17", "--policy", "app:policy")

    last = CURSOR.sub("", COLOUR.sub("", screen)).rsplit("completed  ", 1)[1]
    assert last.startswith("tool calls 2/9 █░░░░░░░")
    assert re.search(r"^1  refund   succeeded", last, re.MULTILINE)
    assert last.rstrip().endswith("\nrefunded 20")


def test_a_narrow_terminal_breaks_no_meter(gatebook: Folder) -> None:
    """An amount on another line than its name is read as another meter's."""
    ask = ("run", "app:support", "What does order 17 cost?", *ALLOW)

    screen = on_a_terminal(gatebook, *ask, COLUMNS="34")

    last = CURSOR.sub("", COLOUR.sub("", screen)).rsplit("completed  ", 1)[1]
    first, second, *_ = last.splitlines()
    assert first.rstrip() == "tool calls 1"
    assert re.match(r" {11}tokens \d+", second)


def test_an_error_is_two_lines_with_a_hint(gatebook: Folder) -> None:
    """What happened, and what to do."""
    screen = COLOUR.sub("", on_a_terminal(gatebook, "run", "app:pay", "17"))

    first, second = screen.splitlines()
    assert first == "error: no policy was given, so nothing may run"
    assert second.startswith("hint:  choose one: --policy allow-declared")


@pytest.mark.parametrize("args", [("list",), ("show", "paid"), ("run", "app:nobody")])
def test_no_color_means_no_colour(args: tuple[str, ...], kept: Folder) -> None:
    """https://no-color.org: any value that is not empty."""
    screen = on_a_terminal(kept, *args, NO_COLOR="1")

    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", screen)


def test_a_dumb_terminal_gets_lines_and_nothing_else(gatebook: Folder) -> None:
    """An editor's shell window cannot move a cursor."""
    screen = on_a_terminal(gatebook, "run", "app:pay", "17", *ALLOW, TERM="dumb")

    assert "\x1b" not in screen
    assert re.search(r"^\S+  completed  \"refunded 20\"$", screen, re.MULTILINE)


def test_the_command_alone_shows_its_verbs_and_no_error(gatebook: Folder) -> None:
    """The first thing a newcomer types is not a mistake."""
    screen = on_a_terminal(gatebook)

    assert screen.startswith("Usage: gatebook")
    assert "error:" not in screen
    assert "Exit codes: 0 done, 1 error, 2 usage" in screen


WORKS = """
import asyncio
import os
from contextlib import suppress

from gatebook import tool, workflow


@tool
async def works() -> str:
    with suppress(OSError):  # the terminal may be closed before the write of this has returned
        print("begun", flush=True)
    while os.isatty(2):
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.5)  # so that it is waited for, and said to be
    return "done"


@workflow(tools=[works])
async def twice(ctx) -> list:
    return [await ctx.call_tool(works), await ctx.call_tool(works)]
"""


def test_a_terminal_that_is_closed_pauses_the_run_in_good_order(gatebook: Inside) -> None:
    """Nothing that is said then can be written; what was in flight ends and is kept still."""
    (gatebook.path / "works.py").write_text(WORKS)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, "run", "works:twice", "--run-id", "r", *ALLOW],
        cwd=gatebook.path, env=gatebook.env | {"CI": ""}, start_new_session=True,
        stdin=theirs, stdout=theirs, stderr=theirs,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - it is its own
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while b"begun" not in seen:
        seen += os.read(ours, 65536)

    os.close(ours)
    process.wait(PATIENCE_S)

    assert process.returncode == 129
    shown = gatebook.json("show", "r")
    assert [action["status"] for action in shown["timeline"]] == ["succeeded"]
    assert (shown["status"], shown["next"]) == ("idle", ["gatebook resume r"])
