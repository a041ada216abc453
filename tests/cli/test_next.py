"""Which command moves a run on: also right after somebody has answered what it waited for."""

import pytest

from tests.cli.conftest import ALLOW, Inside

ASKED = """
version = 1
[[rule]]
id = "ask-refund"
then = "ask"
tool = "refund"
[[rule]]
id = "both"
then = "allow"
tool = ["look_up", "refund"]
"""


TWICE = """
from app import look_up, refund
from gatebook import workflow


@workflow(tools=[look_up, refund])
async def twice(ctx) -> None:
    await ctx.gather(
        ctx.call_tool(refund, order="1", amount=1), ctx.call_tool(refund, order="2", amount=1)
    )
"""


TWO_SIGNALS = """
from gatebook import workflow


@workflow
async def both(ctx) -> list:
    return await ctx.gather(ctx.wait_signal("go"), ctx.wait_signal("go"))
"""


@pytest.fixture
def waiting(gatebook: Inside) -> Inside:
    """The command, in a folder with three runs: each waits for another kind of word."""
    (gatebook.path / "asked.toml").write_text(ASKED)
    gatebook("run", "app:ask", "--run-id", "signal", *ALLOW)
    gatebook("run", "app:unsure", "17", "--run-id", "unsure", *ALLOW)
    gatebook("run", "app:pay", "17", "--run-id", "asked", "--policy", "asked.toml")
    return gatebook


ANSWERS = {
    "signal": ("signal", "signal", "go"),
    "unsure": ("resolve", "unsure", "0", "--retry"),
    "asked": ("approve", "asked#4", "--by", "bob"),
}


@pytest.mark.parametrize("run", ANSWERS)
def test_what_was_answered_is_not_asked_for_again(run: str, waiting: Inside) -> None:
    """The run is due: only somebody who drives it is missing."""
    before = waiting.json("show", run)["next"]
    told = waiting.json(*ANSWERS[run])
    after = waiting.json("show", run)
    checks = {check["check"]: check for check in waiting.json("doctor")["checks"]}

    assert before[0].split()[1] == ANSWERS[run][0]
    assert told.get("answers", [told])[0]["waiting_on"] == []
    assert (after["status"], after["waiting_on"]) == ("idle", [])
    assert after["next"] == [f"gatebook resume {run}"]
    assert f"gatebook resume {run}" in checks["nobody drives"]["detail"]


def test_what_is_still_missing_after_one_of_two_answers_is_named(gatebook: Inside) -> None:
    """A run can ask twice at once; the second question stays open."""
    (gatebook.path / "asked.toml").write_text(ASKED)
    (gatebook.path / "twice.py").write_text(TWICE)
    gatebook("run", "twice:twice", "--run-id", "r", "--policy", "asked.toml")
    first, second = gatebook.json("show", "r")["waiting_on"]
    gatebook("approve", f"r#{first.split()[1]}", "--by", "bob")

    after = gatebook.json("show", "r")

    assert after["waiting_on"] == [second]
    assert [line.split()[1] for line in after["next"]] == ["approve", "resume"]


@pytest.mark.parametrize("run", ANSWERS)
def test_a_signal_that_nobody_waits_for_changes_nothing_that_is_told(
    run: str, waiting: Inside
) -> None:
    """A misspelt one would hide what the run waits for, until a worker has looked."""
    before = waiting.json("show", run)

    sent = [waiting("signal", run, "misspelt", str(n)) for n in range(20)]  # more than one page
    after = waiting.json("show", run)
    listed = waiting.json("list", "--status", "waiting")["runs"]

    assert (after["status"], after["next"]) == ("waiting", before["next"])
    assert (run, after["waiting_on"]) in [(each["run"], each["waiting_on"]) for each in listed]
    assert all("goes on" not in done.stderr for done in sent)


def test_a_sleeping_run_sleeps_on_when_a_signal_comes(gatebook: Inside) -> None:
    """An append makes every run due, but this one has nothing to do before its time."""
    gatebook("run", "app:naps", "--run-id", "r", *ALLOW)
    before = gatebook.json("show", "r")

    gatebook("signal", "r", "go")
    after = gatebook.json("show", "r")

    assert (after["status"], after["waiting_on"]) == ("waiting", ["sleep 0"])
    assert after["wake_at"] == before["wake_at"]


def test_what_is_still_missing_after_one_of_two_signals_is_named(gatebook: Inside) -> None:
    """Two waits of one name take two signals; a worker may go on with the first."""
    (gatebook.path / "twice.py").write_text(TWO_SIGNALS)
    gatebook("run", "twice:both", "--run-id", "r", *ALLOW)
    gatebook("signal", "r", "go")

    after = gatebook.json("show", "r")

    assert (after["status"], after["waiting_on"]) == ("idle", ["signal go"])
    assert [line.split()[1] for line in after["next"]] == ["signal", "resume"]


RUNS = {
    "signal": ("app:ask", *ALLOW),
    "unsure": ("app:unsure", "17", *ALLOW),
    "asked": ("app:pay", "17", "--policy", "asked.toml"),
}


@pytest.mark.parametrize("run", RUNS)
def test_a_run_that_waits_is_started_again_and_still_waits_for_the_same(
    run: str, waiting: Inside
) -> None:
    """It is taken up, looked at and parked again, and only then is it told how it stands."""
    before = waiting.json("show", run)

    told = [waiting("run", *RUNS[run], "--run-id", run).stderr for _ in range(8)]
    after = waiting.json("show", run)

    assert all(f"gatebook {ANSWERS[run][0]} " in text for text in told)
    assert (after["status"], after["waiting_on"]) == ("waiting", before["waiting_on"])
