"""`gatebook endorse`: labels of a run, and vouching for what brought one in."""

import json

import pytest

from tests.cli.conftest import Inside

LABELLED = '''"""Runs that read what strangers wrote, and wait."""

from gatebook import AllowDeclared, Runtime, tool, workflow


@tool(effect="read", returns={"untrusted"})
async def page() -> str:
    return "hello"


@workflow(tools=[page])
async def reads(ctx) -> str:
    found = await ctx.call_tool(page)
    await ctx.wait_signal("go")
    return found


runtime = Runtime(programs=[reads], policy="policy.toml")
'''
POLICY = 'version = 1\n[[rule]]\nid = "all"\nthen = "allow"\ntool = "*"\n'


@pytest.fixture
def reader(gatebook: Inside) -> Inside:
    """A folder with a run that carries a label and waits."""
    (gatebook.path / "labelled.py").write_text(LABELLED)
    (gatebook.path / "policy.toml").write_text(POLICY)
    done = gatebook("run", "reads", "--app", "labelled:runtime", "--run-id", "r")
    assert done.returncode == 4, done.stderr
    return gatebook


def test_the_labels_of_a_run_are_shown_with_the_event_that_brought_them(reader: Inside) -> None:
    """Whoever vouches must know where to look."""
    shown = json.loads(reader("endorse", "r", "--json").stdout)

    assert shown["labels"] == {"untrusted": 3}


def test_an_endorsement_is_recorded_and_takes_the_label_away(reader: Inside) -> None:
    """With who and why, in the timeline."""
    done = reader("endorse", "r", "untrusted", "--reason", "read it", "--by", "ann")
    timeline = reader("show", "r", "--events").stdout

    assert done.returncode == 0
    assert "no longer carries untrusted" in done.stderr
    assert json.loads(reader("endorse", "r", "--json").stdout)["labels"] == {}
    assert reader("endorse", "r").stderr == "run r carries no label\n"
    assert "endorsed" in timeline
    assert "read it" in timeline


def test_a_label_that_came_later_stays(reader: Inside) -> None:
    """Nobody has looked at what brought it in."""
    done = reader("endorse", "r", "untrusted", "--upto", "2")

    assert "still carries untrusted: event 3" in done.stderr


def test_a_label_the_run_does_not_carry_is_an_error(reader: Inside) -> None:
    """It was probably misspelt."""
    done = reader("endorse", "r", "private")

    assert (done.returncode, "E_ENDORSE" in done.stderr) == (1, True)
