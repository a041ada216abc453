"""Approvals from the command line: listed, answered, granted, asked inline."""

import os
import pty
import subprocess
from typing import Any

import pytest

from tests.cli.conftest import COMMAND, PATIENCE_S, Folder, Inside

RULES = """
version = 1
[[rule]]
id = "tools"
then = "allow"
tool = "*"
[[rule]]
id = "money"
then = "ask"
tool = "refund"
choices = ["approve", "edit", "deny"]
message = "Refund {args.amount} for order {args.order}?"
"""
RULED = ("--policy", "rules.toml")


@pytest.fixture
def ruled(gatebook: Inside) -> Inside:
    """A folder with a policy that asks about refunds."""
    (gatebook.path / "rules.toml").write_text(RULES)
    return gatebook


@pytest.fixture
def asked(ruled: Inside) -> Inside:
    """The same, with a run `r` that waits for an approval."""
    ruled("run", "app:pay", "17", "--run-id", "r", *RULED)
    return ruled


def asked_id(folder: Folder) -> str:
    (approval,) = folder.json("approvals")["approvals"]
    return str(approval["approval"])


def refunds(folder: Folder) -> list[str]:
    file = folder.path / "refunds"
    return file.read_text().split() if file.exists() else []


def test_a_run_that_asks_waits_and_says_how_to_answer(ruled: Inside) -> None:
    """Without a terminal nobody is prompted; exit code 4."""
    done = ruled("run", "app:pay", "17", "--run-id", "r", *RULED)
    id = asked_id(ruled)

    assert done.returncode == 4
    assert f"gatebook approve '{id}'" in done.stderr
    assert "gatebook resume r" in done.stderr
    assert refunds(ruled) == []


def test_what_waits_is_listed_with_what_will_run(asked: Inside) -> None:
    """The arguments are the whole point."""
    (approval,) = asked.json("approvals")["approvals"]
    line = asked("approvals").stdout.rstrip("\n").split("\t")

    assert approval["arguments"] == {"amount": 20, "order": "17"}
    assert approval["message"] == "Refund 20 for order 17?"
    assert (approval["rule"], approval["requester"]) == ("money", "pay")
    assert line[:3] == [approval["approval"], "refund", '{"amount":20,"order":"17"}']


def test_an_approved_run_goes_on(asked: Inside) -> None:
    """By whoever drives it next."""
    id = asked_id(asked)
    done = asked("approve", id)
    resumed = asked("resume", "r", *RULED)

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines()[0].startswith(f"approval {id}: approved, to be used before ")
    assert (resumed.returncode, resumed.stdout) == (0, "refunded 20\n")
    assert refunds(asked) == ["17"]
    assert asked("approvals").stdout == ""


def test_an_edit_is_what_runs(asked: Inside) -> None:
    """And is shown as what it is."""
    asked("approve", asked_id(asked), "--edit", '{"order": "18", "amount": 5}', "--by", "bob")
    done = asked("resume", "@last", *RULED)
    events = asked("show", "r", "--events").stdout

    assert done.stdout == "refunded 5\n"
    assert refunds(asked) == ["18"]
    assert "edited\t1\trefund  by bob" in events
    assert 'approval?\t1\trefund  {"amount":5,"order":"18"}' in events


def test_an_edit_that_the_tool_does_not_take_is_refused(asked: Inside) -> None:
    """At once, where `run` remembered the program; the question stays as it was asked."""
    id = asked_id(asked)

    done = asked("approve", id, "--edit", '{"order": "18"}')

    assert done.returncode == 1
    assert "argument amount of 'refund'" in done.stderr
    assert asked_id(asked) == id


def test_an_edit_that_did_not_fit_is_told_with_the_next_question(asked: Inside) -> None:
    """Who only has the store cannot check it; then the same question comes again, with why."""
    (asked.path / "data/gatebook/journal.db.apps.json").unlink()
    edited = asked("approve", asked_id(asked), "--edit", '{"order": "18"}')

    resumed = asked("resume", "r", "--app", "app:pay", *RULED)
    listed = asked("approvals").stdout

    assert (edited.returncode, resumed.returncode) == (0, 4)
    for text in (resumed.stderr, listed):
        assert "the edit of 'refund' is refused: argument amount" in text


def test_nobody_grants_what_only_others_may_approve(ruled: Inside) -> None:
    """The grant would stand there and answer nothing."""
    (ruled.path / "rules.toml").write_text(RULES + 'approvers = ["team:finance"]\n')
    ruled("run", "app:pay", "17", "--run-id", "r", *RULED)
    given = ("grants", "r", "--grant", "refund", "--until", "8h")

    refused = ruled(*given)
    listed = ruled.json("grants", "r")["grants"]
    granted = ruled(*given, "--group", "team:finance")

    assert (refused.returncode, listed, granted.returncode) == (1, [], 0)
    assert "these may: team:finance" in refused.stderr


def test_a_denied_run_reads_why(asked: Inside) -> None:
    """The reason is for the program, or the model."""
    asked("deny", "r#" + asked_id(asked).split("#")[1], "--reason", "by hand")
    done = asked("resume", "r", *RULED)

    assert done.returncode == 3
    assert "a person refused 'refund': by hand" in done.stderr
    assert refunds(asked) == []


def test_many_are_answered_with_one_command(ruled: Inside) -> None:
    """One that is refused does not hold up the others; the command says so."""
    for run in ("a", "b"):
        ruled("run", "app:pay", run, "--run-id", run, *RULED)
    ids = [each["approval"] for each in ruled.json("approvals")["approvals"]]
    ruled("deny", ids[0])

    done = ruled("approve", *ids)
    told = ruled.json("approve", *ids)["answers"]

    assert done.returncode == 1
    assert f"approval {ids[1]}: approved" in done.stderr
    assert "E_APPROVAL_ANSWERED" in done.stderr
    assert [each["error"]["code"] for each in told] == ["E_APPROVAL_ANSWERED"] * 2


def test_of_two_processes_one_wins_and_the_other_is_told(asked: Inside) -> None:
    """Whatever they say."""
    id = asked_id(asked)
    approve = asked.outside.begin("approve", id, "--by", "bob")
    deny = asked.outside.begin("deny", id, "--by", "eve")
    told = [process.communicate(timeout=PATIENCE_S)[0] for process in (approve, deny)]
    answered = asked("show", "r", "--events").stdout.count(" by bob") + asked(
        "show", "r", "--events"
    ).stdout.count(" by eve")

    assert sorted([approve.returncode, deny.returncode]) == [0, 1]
    assert "E_APPROVAL_ANSWERED" in "".join(told)
    assert answered == 1


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (("approve", "r"), 1, "E_APPROVAL_ID"),
        (("approve", "r#1"), 1, "E_APPROVAL_UNKNOWN"),
        (("approve", "nobody#3"), 1, "E_RUN_NOT_FOUND"),
        (("approve",), 2, "RUN#SEQ"),
        (("approve", "r#5", "r#6", "--edit", "{}"), 2, "one approval at a time"),
        (("approve", "r#5", "--edit", "[1]"), 2, "JSON object"),
        (("deny", "r#99"), 1, "E_APPROVAL_UNKNOWN"),
        (("grants", "r", "--grant", "refund"), 2, "--until"),
        (("grants", "r", "--grant", "refund", "--until", "soon"), 2, "30m, 8h, 2d"),
        (("grants", "r", "--grant", "refund", "--until", "9999-12-31T23:59-23:00"), 2, "30m"),
        (("grants", "r", "--grant", "refund", "--until", "9999-12-30"), 1, "E_GRANT_UNTIL"),
        (("grants", "r", "--grant", "none", "--until", "8h"), 1, "E_GRANT_TOOL"),
        (("grants", "r", "--revoke", "r#1"), 1, "E_GRANT_UNKNOWN"),
    ],
)
def test_what_cannot_be_answered_is_said(
    args: tuple[str, ...], code: int, text: str, asked: Inside
) -> None:
    """With the code, and nothing is written."""
    before = asked.json("show", "r")["event_count"]

    done = asked(*args)

    assert done.returncode == code, done.stderr
    assert text in done.stderr
    assert asked.json("show", "r")["event_count"] == before


def test_the_user_a_run_acts_for_cannot_answer(ruled: Inside) -> None:
    """Nor can they by another spelling."""
    context = ("--context", '{"user": "ann"}')
    ruled("run", "app:pay", "17", "--run-id", "r", *context, *RULED)
    id = asked_id(ruled)

    assert "deny it to take it back [E_APPROVAL_SELF]" in ruled("approve", id).stderr
    assert "E_APPROVAL_SELF" in ruled("approve", id, "--by", "ANN").stderr
    assert ruled("approve", id, "--by", "bob").returncode == 0


TWO = """
[[rule]]
id = "another"
then = "ask"
tool = "refund"
approvers = ["bob"]
"""


def test_who_approves_first_of_two_is_told_who_else_must(ruled: Inside) -> None:
    """Nothing goes on with one of two answers, so nobody is told to let it go on."""
    (ruled.path / "rules.toml").write_text(RULES + TWO)
    ruled("run", "app:pay", "17", "--run-id", "r", *RULED)
    id = asked_id(ruled)

    first = ruled("approve", id, "--by", "ann")
    second = ruled("approve", id, "--by", "bob")

    assert f"approval {id}: approved; bob must approve it too, before 20" in first.stderr
    assert "gatebook resume" not in first.stderr
    assert "approved, to be used before" in second.stderr
    assert "gatebook resume r" in second.stderr


def test_a_person_at_a_terminal_is_not_asked_what_only_others_can_answer_now(ruled: Inside) -> None:
    """Their yes is taken; the question waits for the next."""
    (ruled.path / "rules.toml").write_text(RULES + TWO)

    code, screen = typed(ruled, "approve\n", "run", "app:pay", "17", "--run-id", "r", *RULED)

    assert code == 4
    assert "approved; bob must approve it too" in screen
    assert screen.count("| wait? ") == 1


def test_what_a_run_would_ask_for_next_is_not_said_when_it_is_over(asked: Inside) -> None:
    """What waited for an answer when it was cancelled never comes."""
    before = asked("replay", "r").stderr
    asked("cancel", "r")
    asked("resume", "r", *RULED)

    after = asked("replay", "r")

    assert "next it would ask for: 1" in before
    assert (after.returncode, "next" in after.stderr) == (0, False)
    assert asked("approvals").stderr == "nothing waits for an answer\n"


def test_a_grant_answers_what_waits_and_what_comes(asked: Inside) -> None:
    """Until its time, for one tool, in one run."""
    none = asked("grants", "r")
    granted = asked("grants", "r", "--grant", "refund", "--until", "8h", "--reason", "small")
    (listed,) = asked.json("grants", "r")["grants"]
    done = asked("resume", "r", *RULED)

    assert (none.returncode, none.stderr) == (0, "run r has no grants\n")
    assert granted.returncode == 0
    assert granted.stderr.startswith(f"grant {listed['grant']}: refund until ")
    assert (listed["tool"], listed["by"], listed["over"]) == ("refund", "ann", False)
    assert (done.returncode, refunds(asked)) == (0, ["17"])


def test_a_grant_can_be_taken_back(asked: Inside) -> None:
    """And is listed no more."""
    asked("grants", "r", "--grant", "refund", "--until", "2099-01-01T00:00")
    (listed,) = asked.json("grants", "r")["grants"]

    done = asked("grants", "r", "--revoke", listed["grant"])

    assert done.stderr == f"grant {listed['grant']} is revoked\n"
    assert asked.json("grants", "r")["grants"] == []


def test_on_ask_deny_asks_nobody(ruled: Inside) -> None:
    """For jobs that must end, one way or the other."""
    done = ruled("run", "app:pay", "17", "--on-ask", "deny", *RULED)

    assert done.returncode == 3
    assert "nobody is asked" in done.stderr
    assert refunds(ruled) == []


def test_on_ask_deny_ends_a_run_that_only_others_may_answer(ruled: Inside) -> None:
    """The run is refused in the name of whom it acts for; the reason names who said so."""
    rules = ruled.path / "rules.toml"
    rules.write_text(RULES + 'approvers = ["team:finance"]\n')

    done = ruled("run", "app:pay", "17", "--run-id", "r", "--on-ask", "deny", *RULED)

    events = ruled.json("show", "r", "--events")["events"]
    (answer,) = [e["event"] for e in events if e["event"]["kind"] == "approval_answered"]
    assert (done.returncode, refunds(ruled)) == (3, [])
    assert answer["by"] == "pay"
    assert answer["reason"] == "nobody is asked: --on-ask deny, said ann"


def test_doctor_names_what_waits(asked: Inside) -> None:
    """Somebody has to look, and this is where they look first."""
    checks = {check["check"]: check for check in asked.json("doctor")["checks"]}

    assert checks["open approvals"]["verdict"] == "warn"
    assert "gatebook approve" in checks["open approvals"]["detail"]


def typed(folder: Folder, text: str, *args: str) -> tuple[int, str]:
    """Run the command on a terminal, type when it asks, and return its code and all it wrote."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, *args],
        cwd=folder.path, env=folder.env | {"COLUMNS": "120", "LINES": "40", "NO_COLOR": "1"},
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    written, sent = b"", False
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        written += part
        if b"| wait? " in written and not sent:
            os.write(ours, text.encode())
            sent = True
    os.close(ours)
    return process.wait(PATIENCE_S), written.decode()


@pytest.mark.parametrize(
    ("text", "code", "done"),
    [
        ("approve\n", 0, ["17"]),
        ('edit {"order": "18", "amount": 5}\n', 0, ["18"]),
        ("deny not now\n", 3, []),
        ("wait\n", 4, []),
        ("\n", 4, []),
        ('what\nedit {"order"\napprove\n', 0, ["17"]),
    ],
)
def test_a_person_at_a_terminal_is_asked(
    text: str, code: int, done: list[str], ruled: Inside
) -> None:
    """With what will run in front of them; what is not understood is asked again."""
    returned, screen = typed(ruled, text, "run", "app:pay", "17", "--run-id", "r", *RULED)

    assert returned == code, screen
    assert "Refund 20 for order 17?" in screen
    assert '{"amount":20,"order":"17"}' in screen
    assert refunds(ruled) == done


def test_the_prompt_explains_its_answers(ruled: Inside) -> None:
    """Whoever is asked for the first time has not read the page."""
    _, screen = typed(ruled, "?\nwait\n", "run", "app:pay", "17", "--run-id", "r", *RULED)

    assert "with exactly these arguments (also: a, y)" in screen
    assert "the program and its model read the reason" in screen
    assert "policy decides again" in screen


def test_an_answer_that_is_not_offered_is_none(ruled: Inside) -> None:
    """What policy does not let be edited has no e either, and says so."""
    rules = ruled.path / "rules.toml"
    rules.write_text(RULES.replace('choices = ["approve", "edit", "deny"]\n', ""))
    text = 'e {"order": "18", "amount": 5}\n?\nw\n'

    code, screen = typed(ruled, text, "run", "app:pay", "17", "--run-id", "r", *RULED)

    assert (code, refunds(ruled)) == (4, [])
    assert "not answered: 'edit' is no answer here; ? explains" in screen
    assert "policy decides again" not in screen


@pytest.mark.parametrize(("text", "reason"), [("n\nby hand\n", "by hand"), ("n\n\n", "")])
def test_a_denial_without_a_reason_is_asked_for_one(text: str, reason: str, ruled: Inside) -> None:
    """The model reads it; nobody has to give one."""
    code, screen = typed(ruled, text, "run", "app:pay", "17", "--run-id", "r", *RULED)

    assert code == 3
    assert "why? (the program reads it" in screen
    assert f"refused 'refund': {reason or 'no reason given'}" in screen


def test_answers_name_who_gave_them(asked: Inside) -> None:
    """You, unless --by says otherwise."""
    asked("approve", asked_id(asked), "--group", "team:finance", "--reason", "fine")
    events: list[dict[str, Any]] = asked.json("show", "r", "--events")["events"]

    (answer,) = [e["event"] for e in events if e["event"]["kind"] == "approval_answered"]
    assert (answer["by"], answer["groups"], answer["reason"]) == ("ann", ["team:finance"], "fine")
