"""The failing journal fails exactly where it was told to."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from gatebook.errors import CommitUnknown, ConfigError, StoreError
from gatebook.journals.memory import MemoryJournal
from gatebook.ports import RunKey
from gatebook.testing.failpoints import Failpoint, FailpointJournal, from_env
from gatebook.testing.journal_facts.kit import begin, kinds, note, outside

KILLED = """
import asyncio, sys
from gatebook.journals.memory import MemoryJournal
from gatebook.testing.failpoints import from_env
from gatebook.testing.journal_facts.kit import begin, note, outside

async def main():
    journal = from_env(MemoryJournal())
    await journal.open()
    run = await begin(journal)
    for i in range(5):
        await journal.append(run, outside(note()))
        print("acknowledged", i, flush=True)

asyncio.run(main())
"""


def test_an_error_before_leaves_nothing() -> None:
    """A refused call is one thing that the caller must survive."""

    async def scenario() -> None:
        journal = FailpointJournal(MemoryJournal(), [Failpoint("before", "append", 2, "error")])
        await journal.open()
        run = await begin(journal)
        await journal.append(run, outside(note()))

        with pytest.raises(StoreError):
            await journal.append(run, outside(note()))

        assert await kinds(journal, run) == ["run_started", "note"]
        assert journal.calls == {"create": 1, "append": 2}

    asyncio.run(scenario())


def test_an_unknown_commit_after_is_durable() -> None:
    """An answer that is lost after the commit is the other."""

    async def scenario() -> None:
        journal = FailpointJournal(MemoryJournal(), [Failpoint("after", "append", 1, "unknown")])
        await journal.open()
        run = await begin(journal)

        with pytest.raises(CommitUnknown):
            await journal.append(run, outside(note()))

        assert await kinds(journal, run) == ["run_started", "note"]

    asyncio.run(scenario())


@pytest.mark.parametrize(("point", "acknowledged"), [("before:append:3", 2), ("after:append:3", 2)])
def test_a_kill_ends_the_process_before_the_answer(point: str, acknowledged: int) -> None:
    """Crash tests name their point in the environment of a real process."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED],
        env=os.environ | {"GATEBOOK_FAILPOINT": point},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == -signal.SIGKILL
    assert done.stdout.count("acknowledged") == acknowledged


def test_without_the_variable_the_journal_is_untouched() -> None:
    """Nothing may slow or change a journal that no failure is asked of."""
    journal = MemoryJournal()

    assert from_env(journal, {}) is journal


def test_several_failpoints_stand_between_commas() -> None:
    """A test of recovery from recovery needs two."""
    text = {"GATEBOOK_FAILPOINT": "before:append:1:error,after:create:1:unknown"}

    async def scenario() -> None:
        journal = from_env(MemoryJournal(), text)
        await journal.open()
        with pytest.raises(CommitUnknown):
            await begin(journal)
        with pytest.raises(StoreError):
            await journal.append(RunKey("default", "r1"), outside(note()))

    asyncio.run(scenario())


@pytest.mark.parametrize("text", ["", "after", "after:append", "after:append:0", "after:read:1",
                                  "later:append:1", "after:append:x", "after:append:1:bang",
                                  "after:append:1:kill:now"])  # fmt: skip
def test_an_unreadable_failpoint_is_refused(text: str) -> None:
    """A crash test with a typing error would pass without a crash."""
    with pytest.raises(ConfigError):
        Failpoint.parse(text)
