"""The verbs that drive: run, resume, worker; and those that steer a run from outside."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.cli.conftest import ALLOW, COMMAND, PATIENCE_S, Inside


def until(process: subprocess.Popen[str], text: str) -> list[str]:
    """Read a process's lines to the first that holds a text."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"{text!r} did not come: {''.join(lines)}")


def rest(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    text = process.stdout.read()
    process.stdout.close()
    process.wait(PATIENCE_S)
    return text


@pytest.fixture
def long_run(gatebook: Inside) -> Iterator[subprocess.Popen[str]]:
    """A run whose tool works until a file `go` is there; it has begun."""
    process = gatebook.begin("run", "app:long", "--run-id", "long", *ALLOW)
    until(process, "slow  {}")
    yield process
    process.kill()
    process.wait(PATIENCE_S)


def test_a_run_whose_worker_was_killed_is_idle_at_once(
    gatebook: Inside, long_run: subprocess.Popen[str]
) -> None:
    """Its lease has not lapsed, but `resume` would take it up now."""
    before = gatebook.json("list")["runs"][0]["status"]
    long_run.kill()
    rest(long_run)

    after = gatebook.json("list")["runs"][0]["status"]
    shown = gatebook.json("show", "long")

    assert (before, after) == ("running", "idle")
    assert (shown["status"], shown["next"]) == ("idle", ["gatebook resume long"])
    told = gatebook("show", "long").stderr
    assert told == "run long idle\nnobody drives it\n  gatebook resume long\n"


def test_what_a_killed_worker_had_begun_is_not_said_to_run(
    gatebook: Inside, long_run: subprocess.Popen[str]
) -> None:
    """Nobody can know: perhaps it ended, perhaps it goes on in a process that it left behind."""
    before = gatebook("show", "long")
    long_run.kill()
    rest(long_run)

    after = gatebook("show", "long")
    (action,) = gatebook.json("show", "long")["timeline"]

    assert before.stdout.split("\t")[3] == "running"
    assert (after.stdout.split("\t")[3], action["status"]) == ("started", "started")
    assert re.search(r"\tstarted \d+ \w+ ago; no worker has the run: {}$", after.stdout)


def test_the_answer_is_on_standard_output_and_nothing_else(gatebook: Inside) -> None:
    """`gatebook run ... > answer.txt` must hold the answer."""
    done = gatebook("run", "app:pay", "17", *ALLOW)

    assert (done.returncode, done.stdout) == (0, "refunded 20\n")


def test_the_run_id_and_the_policy_come_first(gatebook: Inside) -> None:
    """Whatever happens next, the run can be found, and under what rules it ran is known."""
    done = gatebook("run", "app:pay", "17", "--run-id", "r1", *ALLOW)

    assert done.stderr.splitlines()[0] == "run r1  policy: allow-declared (development)"


def test_progress_is_one_line_an_event(gatebook: Inside) -> None:
    """A log of a CI job is read line by line."""
    lines = gatebook("run", "app:pay", "17", *ALLOW).stderr.splitlines()[1:]

    assert [line.split()[1] for line in lines] == [
        "started", "asked", "done", "asked", "done", "completed",
    ]  # fmt: skip


def test_without_a_policy_nothing_starts_and_three_choices_are_named(gatebook: Inside) -> None:
    """Fail closed, and say how to go on."""
    done = gatebook("run", "app:pay", "17")

    assert done.returncode == 1
    for choice in ("--policy allow-declared", "--policy module:attribute", "policy = in gatebook"):
        assert choice in done.stderr
    assert not (gatebook.path / "refunds").exists()


def test_a_policy_can_be_named_and_its_budget_holds(gatebook: Inside) -> None:
    """A policy is code of the user's; the run keeps its limits."""
    document = gatebook.json("run", "app:pay", "17", "--policy", "app:policy")

    assert document["meters"]["tool_calls"] == {"spent": 2, "reserved": 0, "limit": 9}


def test_input_is_json_a_file_or_standard_input(gatebook: Inside) -> None:
    """Shell quoting is no place for long input."""
    (gatebook.path / "in.json").write_text('"17"')

    outputs = [
        gatebook("run", "app:pay", "--input", '"17"', *ALLOW).stdout,
        gatebook("run", "app:pay", "--input", "@in.json", *ALLOW).stdout,
        gatebook("run", "app:pay", "--input", "-", *ALLOW, stdin='"17"').stdout,
        gatebook("run", "app:pay", "-", *ALLOW, stdin="17").stdout,
    ]

    assert outputs == ["refunded 20\n"] * 4


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (("run", "app:pay", "17", "--input", "1"), 2, "not both"),
        (("run", "app:pay", "--input", "{"), 2, "not JSON"),
        (("run", "app:pay", "--input", '{"a":1}', *ALLOW), 1, "E_INPUT"),
        (("run", "app:ask", "17", *ALLOW), 1, "anything else as JSON: --input '{...}'"),
        (("run", "app:support", *ALLOW), 1, "E_CONTENT"),
        (("run", "app:pay", "17", "--run-id", "", *ALLOW), 1, "E_ID_EMPTY"),
        (("run", "app:pay", "17", "--store", "", *ALLOW), 2, "'--store': it is empty"),
        (("run", "app:pay", "17", "--app", "", *ALLOW), 2, "'--app': it is empty"),
        (("run", "app:pay", "17", "--policy", ""), 2, "'--policy': it is empty"),
        (("policy", "backtest", "p.toml", "--store", ""), 2, "'--store': it is empty"),
        (("policy", "check", "p.toml", "--app", ""), 2, "'--app': it is empty"),
        (("run", "app:nobody", "x", *ALLOW), 1, "app has no nobody (it has pay, ask"),
        (("run", "nowhere:pay", "x", *ALLOW), 1, "there is no module nowhere in /"),
        (("run", "pay", "x", *ALLOW), 1, "there is no --app"),
        (("run", "nobody", "x", "--app", "app:runtime"), 1, "registered: ask, long, pay"),
        (("rnu",), 2, "did you mean run?"),
        (("bogus",), 2, "error: there is no verb 'bogus'; gatebook --help [E_USAGE]"),
        (("run", "app:pay", "17", "--label", "=x", *ALLOW), 2, "got '=x'"),
        (("list", "--store", "postgres://x"), 1, "E_STORE_URL"),
        (("worker", *ALLOW), 1, "no app was named, and gatebook run has started nothing"),
        (("signal", "@last", "go", "yes"), 2, "error: text at $ is not JSON: Expecting value"),
        (("run",), 2, "gatebook run --help"),
        (("verify",), 2, "give a RUN or --all"),
        (("list", "--since", "soon"), 2, "an age is like"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    args: tuple[str, ...], code: int, text: str, gatebook: Inside
) -> None:
    """Each mistake has its sentence and its exit code."""
    done = gatebook(*args)

    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
    assert done.stderr.startswith("error: ")
    assert text in done.stderr


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ('{"a":NaN}', "E_JSON_NUMBER"),
        ('{"a":1,"a":2}', "E_JSON_DUPLICATE_KEY"),
        ("yes", "E_JSON_SYNTAX"),
        ("123456789012345678901234567890", "E_JSON_INT_RANGE"),
    ],
)
def test_json_that_is_wrong_has_the_code_of_what_is_wrong(
    value: str, code: str, gatebook: Inside
) -> None:
    """A program that reads the error must not search its text for the code."""
    done = gatebook("signal", "@last", "go", value, "--json")
    error = json.loads(done.stderr)["error"]

    assert (done.returncode, error["code"]) == (2, code)
    assert value in error["message"]
    assert "[E_" not in error["message"]
    assert "gatebook signal --help" not in error["hint"]


def test_a_key_that_is_missing_is_said_once(gatebook: Inside) -> None:
    """Nobody else drives this run, so nothing is left to other workers."""
    (gatebook.path / "lab.py").write_text(
        'from gatebook import Agent\na = Agent(name="a", model="lab:x", tools=[])\n'
    )
    (gatebook.path / "gatebook.toml").write_text(
        '[providers.lab]\nbase_url = "http://127.0.0.1:9/v1"\napi_key = "env:LAB_KEY"\n'
    )

    done = gatebook.outside("run", "lab:a", "hi", *ALLOW)

    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the key of provider 'lab' is not set; ")


def test_an_app_that_fails_to_import_names_its_line(gatebook: Inside) -> None:
    """The user's mistake is in the user's file."""
    (gatebook.path / "bad.py").write_text("import asyncio\n\nx = 1 / 0\n")

    done = gatebook("run", "bad:program", "x", *ALLOW)

    assert "bad.py:3: ZeroDivisionError: division by zero" in done.stderr


def test_the_same_id_and_input_is_the_same_run(gatebook: Inside) -> None:
    """A command that is repeated by a script must not pay twice."""
    first = gatebook("run", "app:pay", "17", "--run-id", "r1", *ALLOW)
    second = gatebook("run", "app:pay", "17", "--run-id", "r1", *ALLOW)

    assert first.stdout == second.stdout == "refunded 20\n"
    assert (gatebook.path / "refunds").read_text() == "17\n"


def test_an_empty_run_id_is_not_a_new_run(gatebook: Inside) -> None:
    """A script whose variable is not set would pay again with each retry."""
    gatebook("run", "app:pay", "17", "--run-id", "", *ALLOW)

    assert not (gatebook.path / "refunds").exists()


def test_a_failed_run_exits_with_3_and_says_why(gatebook: Inside) -> None:
    """A script can tell a bad end from a broken command."""
    done = gatebook("run", "app:fails", "17", *ALLOW)
    document = gatebook.json("run", "app:fails", "17", *ALLOW)

    assert (done.returncode, done.stdout) == (3, "")
    assert "failed: no such order" in done.stderr
    assert (document["outcome"], document["error"]["message"]) == ("failed", "no such order")


def test_a_run_that_waits_exits_with_4_and_names_the_next_commands(gatebook: Inside) -> None:
    """Waiting is neither success nor failure."""
    done = gatebook("run", "app:ask", "--run-id", "r1", *ALLOW)

    assert done.returncode == 4
    assert done.stderr.splitlines()[-4:] == [
        "run r1 waits: signal go has not come",
        "  gatebook signal r1 go [JSON]",
        "then",
        "  gatebook resume r1 --policy allow-declared",
    ]


def test_a_store_in_memory_is_lost_and_no_command_is_suggested(gatebook: Inside) -> None:
    """No later command could find the run."""
    done = gatebook("run", "app:ask", "--run-id", "r1", "--store", ":memory:", *ALLOW)
    document = gatebook.json("run", "app:ask", "--store", ":memory:", *ALLOW)

    assert done.returncode == 4
    assert done.stderr.splitlines()[-1].startswith("run r1 waits for signal go: its store ends")
    assert "gatebook signal" not in done.stderr
    assert document["next"] == []


def test_a_long_sleep_does_not_keep_the_command(gatebook: Inside) -> None:
    """A run may sleep for days without a process."""
    document = gatebook.json("run", "app:naps", *ALLOW)

    assert (document["outcome"], document["next"]) == (
        "waiting", ["gatebook worker --policy allow-declared"],
    )  # fmt: skip


def test_a_signal_and_a_resume_bring_a_run_to_its_end(gatebook: Inside) -> None:
    """The commands that were suggested must work as they stand, without --app."""
    gatebook("run", "app:ask", "--run-id", "r1", *ALLOW)

    sent = gatebook("signal", "r1", "go", '{"yes": true}')
    done = gatebook("resume", "r1", *ALLOW)

    assert sent.returncode == 0
    assert (done.returncode, done.stdout) == (0, '{"answer":{"yes":true}}\n')


def test_a_signal_that_nobody_waits_for_says_which_ones_are(gatebook: Inside) -> None:
    """It is kept, since it may come early; a slip of the pen would wait for ever."""
    gatebook("run", "app:ask", "--run-id", "r1", *ALLOW)

    early = gatebook("signal", "r1", "gone")
    wanted = gatebook("signal", "r1", "go")

    assert (early.returncode, early.stderr) == (
        0, "signal gone is kept for run r1; it waits for: signal go\n",
    )  # fmt: skip
    assert "it waits for" not in wanted.stderr
    assert "gatebook resume r1" in wanted.stderr


def test_resume_goes_on_under_the_policy_that_run_was_given(gatebook: Inside) -> None:
    """Whoever resumes after a crash should not have to remember the flags."""
    gatebook("run", "app:ask", "--run-id", "r1", *ALLOW)
    gatebook("signal", "r1", "go", "1")

    done = gatebook("resume", "r1")

    assert (done.returncode, done.stdout) == (0, '{"answer":1}\n')


def test_a_remembered_policy_starts_no_new_run(gatebook: Inside) -> None:
    """Starting is a decision of its own."""
    gatebook("run", "app:ask", "--run-id", "r1", *ALLOW)

    done = gatebook("run", "app:ask", "--run-id", "r2")

    assert done.returncode == 1
    assert "E_POLICY_MISSING" in done.stderr


@pytest.mark.parametrize(
    ("text", "read"), [("@order.txt", "18"), ("@@order.txt", "@order.txt"), ("-", "19")]
)
def test_a_text_is_read_from_a_file_too(text: str, read: str, gatebook: Inside) -> None:
    """As --input is; who means the sign itself writes it twice."""
    (gatebook.path / "order.txt").write_text("18")

    done = gatebook("run", "app:pay", text, "--run-id", "r1", *ALLOW, stdin="19")

    assert done.returncode == 0
    assert (gatebook.path / "refunds").read_text() == f"{read}\n"


def test_a_text_that_names_no_file_says_how_to_begin_with_the_sign(gatebook: Inside) -> None:
    """Nothing is started with a name in the place of what it holds."""
    done = gatebook("run", "app:pay", "@ann", *ALLOW)

    assert done.returncode == 2
    assert (
        "cannot read ann: No such file or directory; @@ begins a text with @ itself" in done.stderr
    )


def test_a_workflow_without_its_input_says_how_to_give_it(gatebook: Inside) -> None:
    """Nothing was given; that is not the same as null."""
    done = gatebook("run", "app:pay", *ALLOW)

    assert done.returncode == 1
    assert "the input is empty; give it as TEXT or @file, or as JSON" in done.stderr


ODD = """
from gatebook import AllowDeclared


class Odd(AllowDeclared):
    def __init__(self, **odd):
        super().__init__()
        vars(self).update(odd)


budget = Odd(budget=lambda: {}["limit"])
ledgers = Odd(ledgers=lambda: {}["limit"])
none = Odd(budget=lambda: None)
"""


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("app:pay", "17", "--policy", "allow-declred"), "did you mean allow-declared?"),
        (("app:pay", "17", "--policy", "rules"), "it is no policy; give a file policy.toml"),
        (("nothere:pay", "17"), "there is no module nothere in {folder}; correct its name"),
        (("raises:pay", "17"), "raises.py:1: ZeroDivisionError: division by zero; correct that"),
        (("lacks:pay", "17"), "lacks.py:1: ModuleNotFoundError: No module named 'gone'; correct"),
        (("app:pay", "17", "--store", "runs", *ALLOW), "or a path that ends in .db"),
        (("app:pay", "17", "--policy", "odd:budget"), "raised KeyError in budget() of Odd; "),
        (("app:pay", "17", "--policy", "odd:ledgers"), "raised KeyError in ledgers() of Odd; "),
        (("app:pay", "17", "--policy", "odd:none"), "budget() of Odd' is None, not a Budget; "),
    ],
)
def test_what_cannot_be_loaded_says_what_to_correct(
    args: tuple[str, ...], text: str, gatebook: Inside
) -> None:
    """And not what would have to be done if something else were wrong."""
    (gatebook.path / "raises.py").write_text("x = 1 / 0")
    (gatebook.path / "odd.py").write_text(ODD)
    (gatebook.path / "lacks.py").write_text("import gone")

    done = gatebook("run", *args)

    assert done.returncode == 1
    assert text.format(folder=gatebook.path) in done.stderr


def test_resume_shows_what_is_new(gatebook: Inside) -> None:
    """What the reader has seen is not told again."""
    gatebook("run", "app:ask", "--run-id", "r1", *ALLOW)
    gatebook("signal", "r1", "go")

    lines = gatebook("resume", "r1", *ALLOW).stderr.splitlines()[1:]

    assert [line.split()[1] for line in lines] == ["done", "completed"]


@pytest.mark.parametrize(
    ("answer", "code", "stdout"),
    [(("--succeeded", '"paid"'), 0, "paid\n"), (("--failed", "never sent"), 3, "")],
)
def test_an_unknown_outcome_is_resolved_by_a_person(
    answer: tuple[str, ...], code: int, stdout: str, gatebook: Inside
) -> None:
    """Gatebook never guesses what became of an action."""
    waited = gatebook("run", "app:unsure", "17", "--run-id", "r1", *ALLOW)

    gatebook("resolve", "r1", "0", *answer)
    done = gatebook("resume", "r1", *ALLOW)

    assert waited.returncode == 4
    assert (done.returncode, done.stdout) == (code, stdout)
    assert gatebook.json("show", "r1")["timeline"][0]["resolved_by"] == "ann"


def test_what_cannot_be_resolved_says_why(gatebook: Inside) -> None:
    """A misspelt address is another mistake than a second word about the same action."""
    gatebook("run", "app:unsure", "17", "--run-id", "r1", *ALLOW)
    gatebook("resolve", "r1", "0", "--failed", "never sent")

    none = gatebook("resolve", "r1", "7", "--retry")
    again = gatebook("resolve", "r1", "0", "--retry")

    assert (none.returncode, again.returncode) == (1, 1)
    assert "does not wait for a resolution (there is no such action)" in none.stderr
    assert "does not wait for a resolution (it has ended)" in again.stderr


def test_resolve_wants_exactly_one_answer(gatebook: Inside) -> None:
    """Two answers are none."""
    done = gatebook("resolve", "r1", "0", "--retry", "--failed", "x")

    assert done.returncode == 2


def test_a_cancelled_run_ends_when_a_worker_has_seen_it(gatebook: Inside) -> None:
    """Cancelling is durable; ending needs somebody who looks."""
    gatebook("run", "app:ask", "--run-id", "r1", *ALLOW)

    told = gatebook.json("cancel", "r1", "--reason", "wrong customer")
    done = gatebook("resume", "r1", *ALLOW)
    again = gatebook.json("cancel", "r1")

    assert (told["cancel"], told["status"]) == ("cancelling", "cancelling")
    assert done.returncode == 3
    assert "was cancelled: wrong customer" in done.stderr
    assert again["cancel"] == "already_over"


def test_ctrl_c_pauses_and_resume_repeats_nothing(
    gatebook: Inside, long_run: subprocess.Popen[str]
) -> None:
    """What was in flight ends and is kept; nothing new starts."""
    long_run.send_signal(signal.SIGINT)
    until(long_run, "pausing: waiting for what is in flight")
    (gatebook.path / "go").touch()
    text = rest(long_run)

    resumed = gatebook("resume", "long", *ALLOW)

    assert long_run.returncode == 130
    assert "paused: nothing drives run long until\n  gatebook resume long" in text
    assert "look_up" not in text
    assert (resumed.returncode, resumed.stdout) == (0, "done\n")
    assert (gatebook.path / "slow-calls").read_text() == "x"


def test_a_second_ctrl_c_cancels(gatebook: Inside, long_run: subprocess.Popen[str]) -> None:
    """Somebody who presses it twice wants it to end."""
    long_run.send_signal(signal.SIGINT)
    until(long_run, "pausing: waiting for what is in flight")
    long_run.send_signal(signal.SIGINT)
    text = rest(long_run)

    assert long_run.returncode == 130
    assert "run long was cancelled: Ctrl-C" in text
    assert "the outcome of 0 is unknown" in text


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_pauses_with_its_own_code(
    number: signal.Signals, code: int, gatebook: Inside, long_run: subprocess.Popen[str]
) -> None:
    """Whoever supervises the command must see that it was told to stop."""
    long_run.send_signal(number)
    until(long_run, "pausing: waiting for what is in flight")
    (gatebook.path / "go").touch()
    text = rest(long_run)

    assert long_run.returncode == code
    assert "paused: nothing drives run long until\n  gatebook resume long" in text
    assert "look_up" not in text


def test_under_nohup_a_terminal_that_is_closed_is_nothing(gatebook: Inside) -> None:
    """That is what people start it under."""
    line = f"trap '' HUP; exec {COMMAND} run app:long --run-id long {' '.join(ALLOW)}"
    process = subprocess.Popen(
        ["sh", "-c", line], cwd=gatebook.path, env=gatebook.env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    until(process, "slow  {}")

    process.send_signal(signal.SIGHUP)
    (gatebook.path / "go").touch()
    text = rest(process)

    assert (process.returncode, text.splitlines()[-1]) == (0, "done")


def test_another_run_of_the_same_program_is_left_alone(gatebook: Inside) -> None:
    """`gatebook run` drives its own run; taking up others is the worker's job."""
    gatebook("run", "app:ask", "--run-id", "r1", *ALLOW)
    gatebook("signal", "r1", "go")

    gatebook("run", "app:ask", "--run-id", "r2", *ALLOW)

    assert gatebook.json("show", "r1")["status"] == "idle"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_worker_takes_up_what_waits_and_stops_on_a_signal(
    number: signal.Signals, gatebook: Inside
) -> None:
    """A worker is how runs go on without anybody's terminal."""
    gatebook("run", "app:ask", "--run-id", "r1", *ALLOW)
    worker = gatebook.begin("worker", *ALLOW)
    until(worker, "serving ask on sqlite:///")

    gatebook("signal", "r1", "go", "1")
    until(worker, "r1  ")
    until(worker, "completed")
    worker.send_signal(number)
    text = rest(worker)

    assert worker.returncode == 0
    assert "stopped: the runs are given back" in text


def test_resume_all_goes_through_every_open_run(gatebook: Inside) -> None:
    """After an outage there is one command."""
    for run in ("r1", "r2"):
        gatebook("run", "app:ask", "--run-id", run, *ALLOW)
        gatebook("signal", run, "go", f'"{run}"')

    done = gatebook("resume", "--all", *ALLOW)

    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == ['{"answer":"r1"}', '{"answer":"r2"}']


def test_a_changed_definition_is_refused_until_it_is_adopted(gatebook: Inside) -> None:
    """An upgrade in the middle of a run is a decision of a person's."""
    gatebook("run", "app:changes", "17", "--run-id", "r1", *ALLOW)
    gatebook("signal", "r1", "go")

    refused = gatebook("resume", "r1", *ALLOW, env={"CHANGE": "2"})
    adopted = gatebook("resume", "r1", "--adopt", *ALLOW, env={"CHANGE": "2"})

    assert refused.returncode == 4
    assert "gatebook resume r1 --policy allow-declared --adopt" in refused.stderr
    assert (adopted.returncode, adopted.stdout) == (0, "refunded 1\n")


def test_an_app_of_a_runtime_brings_policy_and_programs(gatebook: Inside) -> None:
    """What is declared in code need not be repeated as flags."""
    done = gatebook("run", "pay", "17", "--app", "app:runtime")

    assert (done.returncode, done.stdout) == (0, "refunded 20\n")


def test_the_store_of_a_runtime_is_used_and_named_in_suggestions(gatebook: Inside) -> None:
    """A suggested command must find the run."""
    gatebook("run", "pay", "17", "--app", "app:own_store", "--run-id", "r1")

    assert gatebook.json("show", "r1", "--store", "own.db")["status"] == "completed"


def test_settings_name_app_store_and_policy(gatebook: Inside) -> None:
    """In a project, commands are short."""
    (gatebook.path / "gatebook.toml").write_text(
        'app = "app:runtime"\nstore = "runs.db"\npolicy = "allow-declared"\n'
    )

    done = gatebook("run", "pay", "17")

    assert done.stdout == "refunded 20\n"
    assert json.loads(gatebook("show", "@last", "--json").stdout)["output"] == "refunded 20"
    assert (gatebook.path / "runs.db").exists()
