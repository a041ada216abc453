"""Runs that no worker may drive: how they are found, and what lets them go on."""

import json
import re

import pytest

from gatebook.cli.output import STYLES
from gatebook.cli.verbs.doctor import NEEDS_A_PERSON
from gatebook.cli.verbs.list import STATUSES
from gatebook.ports import ParkedReason
from tests.cli.conftest import ALLOW, Inside

GUARDED = '''"""An app under a security hook, and the same without."""

from gatebook import AllowDeclared, Runtime, hook, workflow


@hook("before_tool", rights=["deny"], timeout=9, on_failure="closed", security=True)
async def guard(call) -> None:
    """Let everything through."""


@workflow
async def ask(ctx) -> str:
    return await ctx.wait_signal("go")


runtime = Runtime(programs=[ask], policy=AllowDeclared(), hooks=[guard])
'''


BREAKS = '''"""An app whose programs are broken while the environment says how."""

import os

from gatebook import workflow


@workflow
async def other(ctx) -> str:
    return await ctx.wait_signal(os.environ.get("BROKEN", "go"))


@workflow
async def stuck(ctx) -> str:
    await ctx.wait_signal("go")
    if "BROKEN" in os.environ:
        raise MemoryError("gone")
    return "gone on"
'''


@pytest.fixture
def parked(gatebook: Inside) -> Inside:
    """The command, in a folder whose run `r` was taken up without its security hook."""
    (gatebook.path / "guarded.py").write_text(GUARDED)
    gatebook("run", "ask", "--app", "guarded:runtime", "--run-id", "r")
    gatebook("signal", "r", "go", '"gone on"')
    assert gatebook("resume", "r", "--app", "guarded:ask", *ALLOW).returncode == 4
    return gatebook


def test_a_run_without_its_hooks_is_listed_and_asked_for_by_the_same_word(parked: Inside) -> None:
    """What `list` prints can be given back to it."""
    (row,) = parked.json("list", "--status", "hooks")["runs"]

    assert (row["run"], row["status"]) == ("r", "hooks")
    assert "guard" in row["waiting_on"][0]
    assert parked.json("list", "--status", "halted")["runs"] == []


def test_doctor_says_that_a_run_without_its_hooks_needs_a_person(parked: Inside) -> None:
    """No worker takes it up by itself."""
    checks = {check["check"]: check for check in parked.json("doctor")["checks"]}

    assert checks["need a person"]["verdict"] == "warn"
    assert "gatebook resume r" in checks["need a person"]["detail"]


def test_show_says_why_a_run_was_parked(parked: Inside) -> None:
    """docs/cli.md sends people there for the reason."""
    shown = parked("show", "r").stderr

    assert re.search(r"^run r hooks: .*guard", shown)
    assert "gatebook resume r" in shown


@pytest.mark.parametrize(
    "how", [("--app", "guarded:ask", *ALLOW, "--adopt"), ("--app", "guarded:runtime")]
)
def test_a_run_goes_on_with_its_hooks_or_when_somebody_says_without(
    how: tuple[str, ...], parked: Inside
) -> None:
    """`--adopt` is one word for all that changed around a run; docs/cli.md says so."""
    done = parked("resume", "r", *how)

    assert (done.returncode, done.stdout) == (0, "gone on\n")


@pytest.mark.parametrize(
    ("program", "reason", "code"),
    [("other", "diverged", "E_NONDETERMINISM"), ("stuck", "halted", "E_RUN_STUCK")],
)
def test_a_run_that_no_answer_moves_on_has_ended_badly_until_it_is_mended(
    program: str, reason: str, code: str, gatebook: Inside
) -> None:
    """A job that meets exit code 4 looks for a person to answer; here is nothing to answer."""
    (gatebook.path / "breaks.py").write_text(BREAKS)
    gatebook("run", f"breaks:{program}", "--run-id", "r", *ALLOW)
    gatebook("signal", "r", "go", '"gone on"')
    broken = {"BROKEN": "other"}

    refused = gatebook("resume", "r", env=broken)
    asked = gatebook("resume", "r", "--json", env=broken)
    started = gatebook("run", f"breaks:{program}", "--run-id", "r", *ALLOW, env=broken)
    mended = gatebook("resume", "r")

    assert [done.returncode for done in (refused, asked, started)] == [3, 3, 3]
    assert re.search(rf"^run r is {reason}: .*\[{code}\]$", refused.stderr, re.MULTILINE)
    document = json.loads(asked.stdout)
    assert (document["outcome"], document["next"]) == (reason, ["gatebook resume r"])
    assert code in document["waiting_on"][0]
    assert (mended.returncode, mended.stdout) == (0, "gone on\n")


@pytest.mark.parametrize("reason", ParkedReason)
def test_every_reason_is_a_state_in_the_colour_of_trouble(reason: ParkedReason) -> None:
    """A new reason must not be left out of what people ask for and look at."""
    assert reason in STATUSES
    assert reason in NEEDS_A_PERSON
    assert STYLES[reason] == STYLES["bad"]
