"""A run is taken up under the policy that it was given, never under another run's."""

import json
import os
from pathlib import Path

import pytest

from gatebook import AllowDeclared
from gatebook.cli.memory import RUNS, Remembered, recall, remember, remembered_runs
from gatebook.cli.verbs.show import policy_of
from gatebook.kernel.actions import Sleep
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import ActionRequested, AnyEvent, DecisionRecord, RunStarted
from gatebook.ports import Recorded, RunKey
from tests.cli.conftest import ALLOW, Inside
from tests.cli.test_running import rest, until

STRICT = """
from gatebook import AllowDeclared, AllowListPolicy, Runtime

from app import changes

strict = AllowListPolicy(tools=["look_up"])
loose = Runtime(programs=[changes], policy=AllowDeclared())
tight = Runtime(programs=[changes], policy=strict)
"""
KEY = RunKey("default", "r")
REFUNDS = {"CHANGE": "1"}  # the program of `app:changes` refunds then


@pytest.fixture
def desk(gatebook: Inside) -> Inside:
    """A folder with an app, and policies of which one forbids refunds."""
    (gatebook.path / "desk.py").write_text(STRICT)
    return gatebook


def waits(desk: Inside, run: str, *options: str, target: str = "app:changes") -> None:
    """Start a run that waits for a signal, and send the signal."""
    done = desk("run", target, "17", "--run-id", run, *options, env=REFUNDS)
    assert done.returncode == 4, done.stderr
    desk("signal", run, "go")


def test_what_another_run_of_the_program_was_given_does_not_count(desk: Inside) -> None:
    """A policy for trying things out must not open what the other forbids."""
    waits(desk, "prod", "--policy", "desk:strict")
    waits(desk, "dev", *ALLOW)

    done = desk("resume", "prod", env=REFUNDS)

    assert done.returncode == 3
    assert "run prod  policy: allow-list" in done.stderr
    assert not (desk.path / "refunds").exists()


def test_a_run_that_is_not_remembered_wants_its_policy_said(desk: Inside) -> None:
    """The last that was given to any run is nobody's decision about this one."""
    waits(desk, "old", "--policy", "desk:strict")
    store = desk.path / "data" / "gatebook" / "journal.db"
    file = Path(f"{store}.apps.json")
    kept = json.loads(file.read_text())
    del kept["changes"]["runs"]["old"]
    file.write_text(json.dumps(kept))
    waits(desk, "new", *ALLOW)

    done = desk("resume", "old", env=REFUNDS)

    assert done.returncode == 1
    assert "no policy is remembered for run 'old'" in done.stderr
    assert "--policy" in done.stderr
    assert "E_POLICY_MISSING" in done.stderr


def test_the_policy_of_a_runtime_is_that_of_its_own_runs(desk: Inside) -> None:
    """Two Runtimes may hold the same program under different rules."""
    waits(desk, "prod", "--app", "desk:tight", target="changes")
    waits(desk, "dev", "--app", "desk:loose", target="changes")

    done = desk("resume", "prod", env=REFUNDS)

    assert done.returncode == 3
    assert not (desk.path / "refunds").exists()


def test_a_policy_that_was_said_for_a_run_goes_before_that_of_the_app(desk: Inside) -> None:
    """Whoever resumes with --app names programs, and loosens nothing by it."""
    waits(desk, "prod", "--app", "desk:loose", "--policy", "desk:strict", target="changes")

    done = desk("resume", "prod", "--app", "desk:loose", env=REFUNDS)

    assert "run prod  policy: allow-list" in done.stderr
    assert not (desk.path / "refunds").exists()


def test_a_policy_that_is_said_now_wins(desk: Inside) -> None:
    """That is a person's decision about this run."""
    waits(desk, "prod", "--policy", "desk:strict")

    done = desk("resume", "prod", *ALLOW, env=REFUNDS)

    assert (done.returncode, done.stdout) == (0, "refunded 1\n")


def test_show_names_the_policy_that_decided_last(desk: Inside) -> None:
    """Whoever looks a run over must see that it went on under a policy for development."""
    waits(desk, "prod", "--policy", "desk:strict")

    before = desk.json("show", "prod")["policy"]
    desk("resume", "prod", *ALLOW, env=REFUNDS)

    assert (before, desk.json("show", "prod")["policy"]) == (
        "allow-list", "allow-declared (development)",
    )  # fmt: skip


def test_show_knows_the_development_policy_of_older_journals_by_its_digest() -> None:
    """They hold no name beside it."""
    started = RunStarted(
        program="p", program_kind="workflow", definition="", nonce="", input=Raw(b"1"),
        policy="aa", policy_name="strict",
    )  # fmt: skip

    def shown(*digests: str) -> str:
        events: list[AnyEvent] = [started, *(asked(digest) for digest in digests)]
        places = enumerate(events, 1)
        return policy_of([Recorded(KEY, seq, seq, b"", b"", event) for seq, event in places])

    assert shown() == "strict"
    assert shown(AllowDeclared().digest) == "allow-declared (development)"
    assert shown("bb" * 32) == "another, bbbbbbbbbbbb"
    assert shown("bb" * 32, "aa") == "strict"


def asked(policy: str) -> ActionRequested:
    return ActionRequested(address="0", action=Sleep(ms=1), decision=DecisionRecord(policy=policy))


def test_changed_settings_hold_for_runs_that_were_started_under_settings(desk: Inside) -> None:
    """What a project tightens is meant for all of it."""
    settings = desk.path / "gatebook.toml"
    settings.write_text('policy = "allow-declared"\n')
    waits(desk, "r1")
    settings.write_text('policy = "desk:strict"\n')

    done = desk("resume", "r1", env=REFUNDS)

    assert "run r1  policy: allow-list" in done.stderr


def test_a_policy_in_code_is_found_from_another_folder(desk: Inside) -> None:
    """The folder that `run` saw it from is remembered with it."""
    waits(desk, "prod", "--policy", "desk:strict")
    (desk.path / "elsewhere").mkdir()
    elsewhere = Inside(desk.path / "elsewhere")
    data = desk.env["XDG_DATA_HOME"]
    (elsewhere.path / "desk.py").write_text("from gatebook import AllowDeclared as strict\n")

    done = elsewhere.outside("resume", "prod", env=REFUNDS | {"XDG_DATA_HOME": data})

    assert "run prod  policy: allow-list" in done.stderr, done.stderr


def test_a_worker_does_not_choose_among_policies(desk: Inside) -> None:
    """It says which differ, and asks."""
    waits(desk, "prod", "--policy", "desk:strict")
    waits(desk, "dev", *ALLOW)

    done = desk("worker", env=REFUNDS)

    assert done.returncode == 1
    assert "different policies: allow-declared (dev), desk:strict (prod)" in done.stderr
    assert "--policy" in done.stderr
    assert "E_POLICY_DIFFERS" in done.stderr


def test_a_worker_looks_at_runs_that_are_not_over(desk: Inside) -> None:
    """What a run was given that is over does not matter any more."""
    waits(desk, "prod", "--policy", "desk:strict")
    desk("run", "app:pay", "17", "--run-id", "dev", *ALLOW)
    desk("resume", "prod", env=REFUNDS)
    waits(desk, "dev2", *ALLOW)

    worker = desk.begin("worker")
    line = until(worker, "serving")[-1]
    worker.terminate()
    rest(worker)

    assert "policy: allow-declared (development)" in line


def test_a_worker_of_an_app_does_not_loosen_what_a_run_was_given(desk: Inside) -> None:
    """The Runtime's own policy is for runs that were given no other."""
    waits(desk, "prod", "--policy", "desk:strict")

    waits(desk, "own", "--app", "desk:loose", target="changes")

    done = desk("worker", "--app", "desk:loose", env=REFUNDS)

    assert done.returncode == 1
    assert "desk:strict (prod)" in done.stderr
    assert "E_POLICY_DIFFERS" in done.stderr


def test_explain_takes_the_policy_of_that_run(desk: Inside) -> None:
    """What would be decided is said by the rules that this run is under."""
    (desk.path / "one.toml").write_text('version = 1\nname = "one"\n')
    (desk.path / "two.toml").write_text('version = 1\nname = "two"\n')
    desk("run", "app:pay", "17", "--run-id", "r1", "--policy", "one.toml")
    desk("run", "app:pay", "17", "--run-id", "r2", "--policy", "two.toml")

    done = desk("policy", "explain", "r1#2")

    assert "policy\tone, the policy that decided" in done.stdout


class TestMemory:
    """The file beside the store."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/journal.db"

    def test_it_is_bounded_and_forgets_the_oldest(self, url: str, tmp_path: Path) -> None:
        """A store with many runs must not make each start slow."""
        remember(url, "first", {"pay": "app:pay"}, "pay", Remembered("app:pay", "/x"))
        file = tmp_path / "journal.db.apps.json"
        kept = json.loads(file.read_text())
        runs = kept["pay"]["runs"]
        kept["pay"]["runs"] = runs | {f"r{n}": runs["first"] for n in range(RUNS - 1)}
        file.write_text(json.dumps(kept))

        remember(url, "last", {"pay": "app:pay"}, "pay", Remembered("app:pay", "/x"))

        names = list(remembered_runs(recall(url), "pay"))
        assert (names[0], names[-1], len(names)) == ("r0", "last", RUNS)

    def test_what_is_not_text_counts_as_not_remembered(self, url: str, tmp_path: Path) -> None:
        """A file that was written over by hand chooses no policy."""
        remember(url, "a", {"pay": "app:pay"}, "pay", Remembered("app:pay", "/x", "allow-declared"))
        file = tmp_path / "journal.db.apps.json"
        kept = json.loads(file.read_text())
        kept["pay"]["runs"]["a"]["policy"] = 7
        kept["pay"]["runs"]["b"] = "allow-declared"
        file.write_text(json.dumps(kept))
        os.chmod(file, 0o600)

        assert remembered_runs(recall(url), "pay") == {}
