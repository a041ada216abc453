"""The verbs that only read: list, show, tail, verify, replay, doctor."""

import json
import os
import re
import sqlite3
from pathlib import Path

import pytest

from tests.cli.conftest import ALLOW, Inside


def test_list_names_every_run_newest_first(kept: Inside) -> None:
    """What ran last is what people look for."""
    rows = [line.split("\t") for line in kept("list").stdout.splitlines()]

    assert [(row[0], row[2]) for row in rows] == [
        ("agent", "completed"), ("failed", "failed"), ("unsure", "waiting"),
        ("asks", "waiting"), ("paid", "completed"),
    ]  # fmt: skip


def test_piped_rows_are_complete_and_without_a_header(kept: Inside) -> None:
    """`cut -f1` must give ids and nothing else."""
    first = kept("list").stdout.splitlines()[0].split("\t")

    assert len(first) == 7
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first[4])


@pytest.mark.parametrize(
    ("options", "runs"),
    [
        (("--status", "waiting"), ["unsure", "asks"]),
        (("--status", "completed", "--status", "failed"), ["agent", "failed", "paid"]),
        (("--program", "pay"), ["paid"]),
        (("--label", "team=desk"), ["paid"]),
        (("--limit", "2"), ["agent", "failed"]),
        (("--since", "1d"), ["agent", "failed", "unsure", "asks", "paid"]),
    ],
)
def test_a_list_can_be_narrowed(options: tuple[str, ...], runs: list[str], kept: Inside) -> None:
    """A store holds more runs than a screen."""
    assert [row["run"] for row in kept.json("list", *options)["runs"]] == runs


def test_a_list_that_is_narrowed_to_nothing_does_not_say_that_the_store_is_empty(
    kept: Inside,
) -> None:
    """It may hold thousands."""
    assert kept("list", "--status", "halted").stderr.startswith("no such runs in sqlite:///")


def test_every_json_document_names_its_schema(kept: Inside) -> None:
    """Programs that read it must be able to tell when it changes."""
    documents = [
        kept.json("list"), kept.json("show", "paid"), kept.json("verify", "paid"),
        kept.json("replay", "paid"), kept.json("doctor"),
    ]  # fmt: skip

    assert {document["schema"] for document in documents} == {1}


def test_show_draws_one_row_per_action(kept: Inside) -> None:
    """The timeline is what most questions are about."""
    rows = [line.split("\t") for line in kept("show", "paid").stdout.splitlines()]

    assert [row[1:4] for row in rows] == [
        ["tool", "look_up", "succeeded"], ["tool", "refund", "succeeded"],
    ]  # fmt: skip


def test_show_says_which_command_moves_a_waiting_run_on(kept: Inside) -> None:
    """Nobody should have to look it up."""
    assert kept.json("show", "asks")["next"] == ["gatebook signal asks go [JSON]"]
    assert kept.json("show", "unsure")["next"] == [
        "gatebook resolve unsure 0 --succeeded JSON | --failed TEXT | --retry"
    ]


def test_show_gives_output_or_error(kept: Inside) -> None:
    """How it ended belongs to what a run is."""
    assert kept.json("show", "paid")["output"] == "refunded 20"
    assert kept.json("show", "failed")["error"]["message"] == "no such order"


def test_show_can_list_events_and_cost(kept: Inside) -> None:
    """Two more questions: what exactly happened, and what was expensive."""
    kinds = [e["event"]["kind"] for e in kept.json("show", "agent", "--events")["events"]]
    costs = {cost["what"]: cost["calls"] for cost in kept.json("show", "agent", "--cost")["cost"]}

    assert (kinds[0], kinds[-1]) == ("run_started", "run_completed")
    assert costs == {"scripted:answers.json": 2, "look_up": 1}


def test_a_run_is_found_by_a_beginning_and_by_last(kept: Inside) -> None:
    """Ids are long."""
    assert kept.json("show", "pa")["run"] == "paid"
    assert kept.json("show", "@last")["run"] == "agent"


def test_a_beginning_that_fits_several_names_them(kept: Inside) -> None:
    """The right one is then a copy away."""
    done = kept("show", "a")

    assert done.returncode == 1
    assert "'a' matches several runs: agent, asks" in done.stderr


def copies(store: Path, run: str, count: int) -> None:
    """Put later runs into a store that are as another one, but for their ids."""
    with sqlite3.connect(store) as connection:
        columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(runs)")][2:]
        others = ", ".join(name for name in columns if name != "run_id")
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            f"INSERT INTO runs (tenant, run_id, {others}) "
            f"SELECT tenant, run_id || '-' || i, {others} FROM runs, n WHERE run_id = ?",
            (count, run),
        )
    connection.close()


def test_a_run_whose_id_begins_many_others_is_found(gatebook: Inside) -> None:
    """It is named in full; there is nothing more to give."""
    gatebook("run", "app:ask", "--run-id", "a", "--store", "runs.db", *ALLOW)
    copies(gatebook.path / "runs.db", "a", 150)

    assert gatebook.json("show", "a", "--store", "runs.db")["run"] == "a"


def test_a_list_by_status_looks_at_every_run(gatebook: Inside) -> None:
    """What waits longest is the oldest, and thousands may have ended since."""
    gatebook("run", "app:ask", "--run-id", "asks", "--store", "runs.db", *ALLOW)
    gatebook("run", "app:pay", "17", "--run-id", "paid", "--store", "runs.db", *ALLOW)
    copies(gatebook.path / "runs.db", "paid", 10_001)

    found = gatebook.json("list", "--status", "waiting", "--store", "runs.db")["runs"]

    assert [each["run"] for each in found] == ["asks"]


@pytest.mark.parametrize("verb", [("show",), ("tail",), ("cancel",), ("list", "--program")])
def test_a_name_that_is_no_text_is_refused(verb: tuple[str, ...], kept: Inside) -> None:
    """Python hands over bytes of the command line that are not UTF-8 as lone surrogates."""
    done = kept(*verb, "\udcff")

    assert done.returncode == 1
    assert "E_TEXT_INVALID" in done.stderr


def test_an_unknown_run_is_an_error_document_with_json(kept: Inside) -> None:
    """A program must not have to read sentences."""
    done = kept("show", "nobody", "--json")

    error = json.loads(done.stderr)["error"]
    assert (done.returncode, done.stdout) == (1, "")
    assert (error["code"], error["run"]) == ("E_RUN_NOT_FOUND", "nobody")
    assert error["hint"] == "check the id: gatebook list shows them"


def test_reading_makes_no_store(gatebook: Inside) -> None:
    """A misspelt path must not look like an empty store."""
    done = gatebook("list", "--store", "nowhere.db")

    assert done.returncode == 1
    assert "[E_STORE_MISSING]" in done.stderr
    assert not (gatebook.path / "nowhere.db").exists()


def test_an_empty_file_is_no_store(gatebook: Inside) -> None:
    """Else one that was cut to nothing would hold, and reading would make a store of it."""
    empty = gatebook.path / "empty.db"
    empty.touch()

    done = [gatebook(*verb, "--store", "empty.db") for verb in (("list",), ("verify", "--all"))]

    assert [each.returncode for each in done] == [1, 1]
    assert all("E_STORE_MISSING" in each.stderr for each in done)
    assert empty.stat().st_size == 0


@pytest.mark.parametrize("verb", ["list", "doctor"])
def test_a_pipe_is_no_store(verb: str, gatebook: Inside) -> None:
    """Opening one waits until somebody writes to it, which is for ever."""
    os.mkfifo(gatebook.path / "pipe.db")

    done = gatebook.outside(verb, "--store", "pipe.db")

    assert done.returncode == 1
    assert "it is no file" in done.stdout + done.stderr


def test_tail_of_a_run_ends_with_it(kept: Inside) -> None:
    """Its events are followed to its end, and no further."""
    lines = kept("tail", "paid").stdout.splitlines()

    assert [line.split("\t")[0] for line in lines] == ["1", "2", "3", "4", "5", "6"]
    assert lines[-1].split("\t")[3] == "completed"


def test_tail_goes_on_after_a_cursor(kept: Inside) -> None:
    """A reader that was cut off must neither miss nor repeat an event."""
    lines = kept("tail", "paid", "--after", "4").stdout.splitlines()

    assert [line.split("\t")[0] for line in lines] == ["5", "6"]


def test_tail_of_the_store_has_one_json_object_a_line(kept: Inside) -> None:
    """That is what `jq` and log shippers read."""
    lines = kept("tail", "--no-follow", "--after", "0", "--json").stdout.splitlines()

    events = [json.loads(line) for line in lines]
    assert [event["cursor"] for event in events] == sorted(event["position"] for event in events)
    assert {event["run"] for event in events} == {"paid", "asks", "unsure", "failed", "agent"}


def test_verify_says_ok_for_every_run(kept: Inside) -> None:
    """What this machine wrote must hold."""
    document = kept.json("verify", "--all")

    assert document["ok"] is True
    assert len(document["runs"]) == 5


def test_verify_finds_a_changed_byte_and_exits_with_1(gatebook: Inside) -> None:
    """The check is there for the day somebody edited the file."""
    gatebook("run", "app:pay", "17", "--policy", "allow-declared", "--store", "runs.db")
    with sqlite3.connect(gatebook.path / "runs.db") as store:
        store.execute("UPDATE events SET body = CAST(body || ' ' AS BLOB) WHERE seq = 3")
    store.close()

    done = gatebook("verify", "@last", "--store", "runs.db", "--json")

    (report,) = json.loads(done.stdout)["runs"]
    assert done.returncode == 1
    assert report["violation"]["code"] == "E_JOURNAL_CORRUPT"


def test_replay_finds_the_same_state_on_every_call(kept: Inside) -> None:
    """Promise 6: replay is byte-identical, whatever the hash seed."""
    digests = {
        kept.outside.json("replay", "agent", env={"PYTHONHASHSEED": seed})["state_digest"]
        for seed in ("1", "2")
    }

    assert len(digests) == 1


def test_replay_of_a_changed_program_exits_with_3(gatebook: Inside) -> None:
    """That is how an upgrade finds the runs it would strand."""
    gatebook("run", "app:changes", "17", "--run-id", "c", "--policy", "allow-declared")
    gatebook("signal", "c", "go")
    gatebook("resume", "c", "--policy", "allow-declared")

    same = gatebook("replay", "c")
    changed = gatebook("replay", "c", env={"CHANGE": "2"})

    assert same.returncode == 0
    assert changed.returncode == 3
    assert "the program asks for" in changed.stderr


@pytest.mark.parametrize("how", ["let go", "handled"])
def test_replay_names_the_clock_that_a_program_reads(how: str, gatebook: Inside) -> None:
    """Why it asks for something else is what helps; nor does it replay where it handles that."""
    ran = gatebook("run", "app:timed", how, "--policy", "allow-declared")

    done = gatebook("replay", "@last")

    assert ran.returncode == 0
    assert done.returncode == 3
    assert "workflow 'timed' called 'time.time' while being stepped" in done.stderr
    assert "use ctx.now()" in done.stderr
    assert "E_WORKFLOW_CLOCK" in done.stderr
    assert "asks for" not in done.stderr


def test_replay_of_a_program_that_could_read_a_clock_passes(gatebook: Inside) -> None:
    """Only what it does counts."""
    gatebook("run", "app:timed", "never", "--policy", "allow-declared")

    assert gatebook("replay", "@last").returncode == 0


def test_doctor_finds_nothing_bad_and_names_what_needs_a_person(kept: Inside) -> None:
    """One command for "is it all right?"."""
    document = kept.json("doctor")

    checks = {check["check"]: check for check in document["checks"]}
    assert document["ok"] is True
    assert checks["unknown outcomes"]["verdict"] == "warn"
    assert "gatebook resolve unsure 0" in checks["unknown outcomes"]["detail"]


def test_doctor_tells_where_a_setting_came_from_and_exits_with_1_for_a_bad_one(
    gatebook: Inside,
) -> None:
    """Most trouble is a setting from a file nobody thought of."""
    (gatebook.path / "gatebook.toml").write_text('app = "app:pay"\n')
    good = gatebook("doctor")
    (gatebook.path / "gatebook.toml").write_text('ap = "app:pay"\n')
    bad = gatebook("doctor")

    assert re.search(r"setting app\tok\tapp:pay \(from .*gatebook\.toml:1\)", good.stdout)
    assert bad.returncode == 1
    assert "did you mean app?" in bad.stdout


def test_doctor_refuses_what_is_no_store(gatebook: Inside) -> None:
    """It would be told that the first run makes it."""
    done = gatebook("doctor", "--store", "postgres://x")

    assert done.returncode == 1
    assert "is not a known location" in done.stdout


@pytest.mark.parametrize(
    ("run", "line"),
    [
        ("failed", "run failed failed: no such order"),
        ("paid", 'run paid completed: "refunded 20"'),
        ("asks", "run asks waiting"),
    ],
)
def test_show_says_beside_the_rows_how_the_run_stands(run: str, line: str, kept: Inside) -> None:
    """The rows are of actions: a run can fail although every one of them succeeded."""
    shown = kept("show", run)

    assert shown.stderr.splitlines()[0].startswith(line)
    assert "run " not in shown.stdout


@pytest.mark.parametrize("damage", ["junk", "cut", "folder"])
def test_doctor_reports_a_store_that_cannot_be_opened(damage: str, gatebook: Inside) -> None:
    """It is for just these stores: the words of `list`, and then the other checks."""
    store = gatebook.path / "broken.db"
    if damage == "folder":
        store.mkdir()
    elif damage == "junk":
        store.write_text("junk\n")
    else:
        gatebook("run", "app:pay", "17", "--store", "broken.db", *ALLOW)
        store.write_bytes(store.read_bytes()[:20_000])

    document = gatebook.json("doctor", "--store", "broken.db")
    listed = gatebook("list", "--store", "broken.db")

    checks = {check["check"]: check for check in document["checks"]}
    assert document["ok"] is False
    assert checks["store"]["verdict"] == "bad"
    assert checks["store"]["detail"] in listed.stderr
    assert checks["free disk"]["verdict"] == "ok"
    assert "app" in checks


def test_show_imports_neither_pydantic_nor_an_http_client_nor_rich(kept: Inside) -> None:
    """Looking at a run is done often and must be quick."""
    code = (
        "import sys; from gatebook.cli.main import run; run(['show', 'paid']); print(*sys.modules)"
    )
    import subprocess
    import sys

    modules = subprocess.run(
        [sys.executable, "-c", code],
        cwd=kept.path, env=kept.env, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip

    assert not {"pydantic", "httpx2", "rich", "gatebook.runtime.runtime"} & set(modules)


def test_remembered_apps_are_private_and_not_in_the_store(kept: Inside) -> None:
    """A journal that could name code would be a way to run some."""
    store = kept.path / "data" / "gatebook" / "journal.db"
    memory = Path(f"{store}.apps.json")

    assert json.loads(memory.read_text())["pay"]["app"] == "app:pay"
    assert memory.stat().st_mode & 0o777 == 0o600
    assert b"app:pay" not in store.read_bytes()
