"""The whole demo, as a user runs it: the exit code, what it says, and what it leaves."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gatebook import Client
from gatebook.demo.cast import Model, cast_of
from gatebook.demo.desk import Desk
from gatebook.demo.facts import Day
from gatebook.demo.worker import store_of

# Whole demos, of several processes each.
pytestmark = [pytest.mark.crash, pytest.mark.timeout(300)]


def run_demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the demo as a process and return how it ended and what it said."""
    return subprocess.run(
        [sys.executable, "-m", "gatebook.demo", "--folder", str(folder), *arguments],
        env=os.environ | {"COLUMNS": "200"},  # else a phrase may be broken by whoever runs this
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the output of one demo with the scripted model."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    ended = run_demo(folder)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder, ended.stdout


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the JSON lines of a file of the demo."""
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def broken(folder: Path, model: Model = "scripted") -> list[str]:
    """Return the checks that do not hold for a folder."""

    async def read() -> Day:
        async with Client(store_of(folder)) as client:
            return await Day.read(client, cast_of(model), Desk(folder))

    return [fact.text for fact in asyncio.run(read()).facts() if not fact.holds]


def test_the_worker_dies_by_the_signal_no_process_can_catch(told: tuple[Path, str]) -> None:
    """Anything gentler would let it clean up."""
    assert "Killed with SIGKILL, exit code -9" in told[1]


def test_exactly_the_refunds_ask(told: tuple[Path, str]) -> None:
    """Reads and mails with a key are repeated without asking; payments never are."""
    story = told[1]

    assert story.count("waits for  resolve t3.0") == 2
    assert "ticket-015  search_kb  read        2 attempts" in story
    assert "ticket-020  send_mail  idempotent  2 attempts" in story


def test_the_ledger_decides_how_each_payment_is_resolved(told: tuple[Path, str]) -> None:
    """One was paid before the kill and one was not; confusing them costs money either way."""
    story = told[1]

    assert "gatebook resolve ticket-008 t3.0 --succeeded" in story
    assert "gatebook resolve ticket-018 t3.0 --retry" in story


def test_large_refunds_wait_for_a_person(told: tuple[Path, str]) -> None:
    """Approved as asked, approved with other arguments, and denied: each is told by the command."""
    story, ledger = (
        told[1],
        {line["order"]: line["amount"] for line in lines(told[0], "ledger.jsonl")},
    )

    assert "approval ticket-019#14: edited and approved" in story
    assert "approval ticket-037#18: denied" in story
    assert (ledger["KK-20405"], ledger["KK-20419"]) == ("79.00", "89.00")
    assert "KK-20437" not in ledger


def test_decisions_are_explained_and_compared(told: tuple[Path, str]) -> None:
    """A stricter file is tried on what was recorded before it is put to use."""
    story = told[1]

    assert "recorded  deny, rule no-account-closing" in story
    assert "5 would differ (5 allow -> ask)" in story


def test_each_refund_is_in_the_ledger_once(told: tuple[Path, str]) -> None:
    """This is the promise the demo is about."""
    keys = Counter(line["key"] for line in lines(told[0], "ledger.jsonl"))

    assert len(keys) == 12
    assert set(keys.values()) == {1}


def test_each_mail_is_in_the_outbox_once(told: tuple[Path, str]) -> None:
    """A customer who gets the same mail twice trusts neither."""
    keys = Counter(mail["key"] for mail in lines(told[0], "outbox.jsonl"))

    assert set(keys.values()) == {1}


def test_the_forbidden_tool_is_refused_and_the_reason_is_shown(told: tuple[Path, str]) -> None:
    """The message of M-014 talks the model into calling it; the gate must not be talked to."""
    folder, story = told

    assert "close_account: denied by rule 'no-account-closing'" in story
    assert "the privacy team does" in story
    assert not (folder / "closed-accounts.jsonl").exists()


def test_every_check_is_shown_to_hold(told: tuple[Path, str]) -> None:
    """The exit code alone would not tell a reader what was checked."""
    story = told[1]

    assert story.count("    ok  ") == 11
    assert "FAILED" not in story
    assert "all 40 runs verify" in story


def test_the_output_is_plain_when_it_is_no_terminal(told: tuple[Path, str]) -> None:
    """Escape codes in a log are noise."""
    assert "\x1b" not in told[1]


def test_no_line_is_wider_than_the_screen(told: tuple[Path, str]) -> None:
    """The story is laid out for 100 columns; commands may be longer, to be copied whole."""
    wide = [line for line in told[1].splitlines() if len(line) > 100 and "$ " not in line]

    assert wide == []


def test_a_payment_made_twice_would_be_found(told: tuple[Path, str], tmp_path: Path) -> None:
    """A check that cannot fail proves nothing."""
    folder = shutil.copytree(told[0], tmp_path / "copy")
    twice = lines(folder, "ledger.jsonl")[0]
    Desk(folder).ledger.append(twice)

    found = broken(folder)

    assert "each refund is in the ledger once" in found
    assert "the ledger holds what the journal says succeeded, and nothing else" in found


def test_a_payment_that_is_missing_would_be_found(told: tuple[Path, str], tmp_path: Path) -> None:
    """Resolving an unpaid refund as succeeded is as wrong as paying twice."""
    folder = shutil.copytree(told[0], tmp_path / "copy")
    kept = (folder / "ledger.jsonl").read_text().splitlines(keepends=True)[1:]
    (folder / "ledger.jsonl").write_text("".join(kept))

    assert "the ledger holds what the journal says succeeded, and nothing else" in broken(folder)


def test_a_closed_account_would_be_found(told: tuple[Path, str], tmp_path: Path) -> None:
    """The denial in the journal must agree with the world."""
    folder = shutil.copytree(told[0], tmp_path / "copy")
    Desk(folder).closed_accounts.append({"customer": "sam.okafor@example.com"})

    assert broken(folder) == ["close_account was refused each time, and no account was closed"]


def test_an_untouched_copy_has_nothing_to_find(told: tuple[Path, str], tmp_path: Path) -> None:
    """The tests above find what they change, not what copying changes."""
    folder = shutil.copytree(told[0], tmp_path / "copy")

    assert broken(folder) == []


def test_a_demo_may_be_told_again_in_its_folder(told: tuple[Path, str], tmp_path: Path) -> None:
    """`make demo` is run more than once; yesterday's runs must not be taken for today's."""
    folder = shutil.copytree(told[0], tmp_path / "again")

    ended = run_demo(folder)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(lines(folder, "ledger.jsonl")) == 12


def test_a_folder_that_is_no_demo_is_left_alone(tmp_path: Path) -> None:
    """The demo empties its folder first, so a wrong path must not cost anybody their files."""
    (tmp_path / "thesis.txt").write_text("precious")

    ended = run_demo(tmp_path)

    assert ended.returncode == 1
    assert "choose another --folder" in ended.stderr
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_the_commands_at_the_end_can_be_run(told: tuple[Path, str]) -> None:
    """They are the first thing a newcomer will paste."""
    end = told[1].partition("Look around:")[2]
    commands = [line.removeprefix("    $ ") for line in end.splitlines() if "    $ " in line]

    ended = [
        subprocess.run(
            ["/bin/sh", "-ec", f"{commands[0]}; {command}"],
            capture_output=True,
            text=True,
            check=False,
        )
        for command in commands[1:]
    ]

    assert [each.stderr for each in ended if each.returncode != 0] == []
    assert "ticket-040" in ended[0].stdout
    assert len(ended) == 4


@pytest.mark.local_model
def test_the_story_holds_with_a_real_model(tmp_path: Path) -> None:
    """The promises may not depend on a model that does as it is told."""
    ended = run_demo(tmp_path / "run", "--model", "local")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "ok      the server counted the tokens of every answer" in ended.stdout
    assert broken(tmp_path / "run", "local") == []
