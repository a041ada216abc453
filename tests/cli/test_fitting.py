"""Signals and results that a run could not read: refused where its program is known."""

import pytest

from tests.cli.conftest import ALLOW, Inside

TYPED = """
from gatebook import InvalidInput, workflow


@workflow
async def typed(ctx) -> str:
    return await ctx.wait_signal("name", str)


@workflow
async def patient(ctx) -> list[str]:
    try:
        await ctx.wait_signal("name", str)
    except InvalidInput as error:
        return [error.code, await ctx.wait_signal("name", str)]


@workflow
async def both(ctx) -> list:
    return await ctx.gather(ctx.wait_signal("x", str), ctx.wait_signal("x", int))
"""


@pytest.fixture
def waiting(gatebook: Inside) -> Inside:
    """A folder with workflows that wait for signals of a type."""
    (gatebook.path / "typed.py").write_text(TYPED)
    return gatebook


def test_a_result_of_another_type_resolves_nothing(gatebook: Inside) -> None:
    """The run would fail on it after the chance to correct it has passed."""
    gatebook("run", "app:unsure", "17", "--run-id", "r1", *ALLOW)

    wrong = gatebook("resolve", "r1", "0", "--succeeded", "1")
    right = gatebook("resolve", "r1", "0", "--succeeded", '"paid"')

    assert (wrong.returncode, right.returncode) == (1, 0)
    assert "resolve it with the same [E_RESULT_TYPE]" in wrong.stderr


def test_a_signal_of_another_type_is_not_sent(waiting: Inside) -> None:
    """It would fail the run, and none could be sent after it."""
    waiting("run", "typed:typed", "--run-id", "r1", *ALLOW)

    wrong = waiting("signal", "r1", "name", "5")
    early = waiting("signal", "r1", "other", "5")
    right = waiting("signal", "r1", "name", '"ann"')
    done = waiting("resume", "r1")

    assert (wrong.returncode, early.returncode, right.returncode) == (1, 0, 0)
    assert "run 'r1' could not read signal 'name': it is not text" in wrong.stderr
    assert "nothing was sent" in wrong.stderr
    assert (done.returncode, done.stdout) == (0, "ann\n")


def test_signals_of_one_name_are_for_their_waits_in_order(waiting: Inside) -> None:
    """What is kept already goes to the first; the next is checked as the second reads it."""
    waiting("run", "typed:both", "--run-id", "r1", *ALLOW)

    codes = [waiting("signal", "r1", "x", text).returncode for text in ("1", '"a"', '"b"', "2")]

    assert codes == [1, 0, 1, 0]
    assert waiting("resume", "r1").stdout == '["a",2]\n'


def test_a_wrong_signal_without_its_program_is_an_error_that_can_be_caught(
    waiting: Inside,
) -> None:
    """Who only has the store cannot know the type; the text says what is left to do."""
    for name in ("typed", "patient"):
        waiting("run", f"typed:{name}", "--run-id", name, *ALLOW)
    (waiting.path / "data/gatebook/journal.db.apps.json").unlink()
    sent = [waiting("signal", name, "name", "5").returncode for name in ("typed", "patient")]

    failed = waiting("resume", "typed", "--app", "typed:typed", *ALLOW)
    caught = waiting("resume", "patient", "--app", "typed:patient", *ALLOW)
    waiting("signal", "patient", "name", '"bob"')
    done = waiting("resume", "patient", "--app", "typed:patient", *ALLOW)

    assert sent == [0, 0]
    assert failed.returncode == 3
    assert "start a new run and send what fits, or catch InvalidInput" in failed.stderr
    assert caught.returncode == 4
    assert done.stdout == '["E_SIGNAL_TYPE","bob"]\n'
