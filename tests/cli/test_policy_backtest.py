"""`gatebook policy backtest`: what a policy would have decided about the runs there are."""

import sqlite3
from pathlib import Path

import pytest

from tests.cli.conftest import ALLOW, Inside
from tests.cli.policies import READS, SMALL, rows, write


def test_the_policies_that_decided_would_decide_the_same(governed: Inside) -> None:
    """Otherwise every difference that is shown would be in doubt."""
    for run, policy in (("small", "small"), ("denied", "reads"), ("refused", "denies"),
                        ("spent", "tight"), ("agent", "reads")):  # fmt: skip
        done = governed("policy", "backtest", f"{policy}.toml", "--run", run)

        assert (run, done.returncode, done.stdout) == (run, 0, "")


def test_a_stricter_policy_shows_what_it_would_have_stopped(governed: Inside) -> None:
    """Was, would be, and by which rule: before anybody turns it on."""
    done = governed("policy", "backtest", "denies.toml")

    assert done.returncode == 1
    assert rows(done.stdout) == [
        ["paid#4", "refund", "allow", "deny", "no-refunds: No refund of 20 today."],
        ["small#4", "refund", "allow", "deny", "no-refunds: No refund of 20 today."],
    ]  # fmt: skip
    assert "2 would differ (2 allow -> deny)" in done.stderr


def test_a_wider_policy_shows_what_it_would_have_let_through(governed: Inside) -> None:
    """The other direction is the dangerous one."""
    document = governed.json("policy", "backtest", "small.toml")

    changes = {each["link"]: (each["was"], each["would_be"]) for each in document["changes"]}
    assert changes == {"denied#4": ("deny", "allow"), "refused#4": ("deny", "allow")}
    assert document["summary"] == [{"was": "deny", "would_be": "allow", "count": 2}]


def test_a_limit_that_a_file_does_not_set_stays_as_the_run_had_it(governed: Inside) -> None:
    """It may have been the run's own, which no file lifts; only a file that says more does."""
    write(governed.path, wide=READS + SMALL + "[budgets]\ntool_calls = 2\n")

    silent = governed("policy", "backtest", "small.toml", "--run", "spent")
    wide = governed("policy", "backtest", "wide.toml", "--run", "spent")

    assert silent.stdout == ""
    assert rows(wide.stdout) == [["spent#4", "refund", "deny", "allow", "small-refunds"]]


def test_a_smaller_budget_counts(governed: Inside) -> None:
    """Limits are part of the file."""
    document = governed.json("policy", "backtest", "tight.toml", "--run", "small")

    assert [(each["link"], each["code"]) for each in document["changes"]] == [
        ("small#4", "E_BUDGET"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "runs"),
    [
        (("--since", "1d"), 6),
        (("--since", "999999w"), 6),
        (("--since", "2999-01-01"), 0),
        (("--since", "2020-01-01T00:00:00+02:00"), 6),
        (("--run", "paid", "--run", "small", "--run", "@last"), 3),
        (("--program", "support"), 1),
    ],
)
def test_a_backtest_can_be_narrowed(options: tuple[str, ...], runs: int, governed: Inside) -> None:
    """A year of runs is more than a question about yesterday."""
    assert governed.json("policy", "backtest", "reads.toml", *options)["runs"] == runs


def test_a_moment_that_is_none_is_a_usage_error(governed: Inside) -> None:
    """A misread date would leave out what matters."""
    done = governed("policy", "backtest", "reads.toml", "--since", "yesterday")

    assert done.returncode == 2
    assert "30d" in done.stderr


def test_a_backtest_prints_the_same_bytes_every_time(governed: Inside) -> None:
    """Two people must be able to compare what they see, whatever the hash seed."""
    seen = {
        governed.outside(
            "policy", "backtest", "denies.toml", "--json", env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }

    assert len(seen) == 1


def test_a_backtest_writes_nothing(governed: Inside) -> None:
    """It is run against the journal of production."""
    store = str(governed.json("list")["store"]).removeprefix("sqlite:///")
    before = dump(store)

    governed("policy", "backtest", "denies.toml")
    governed("policy", "suggest", "denied", "--policy", "reads.toml")
    governed("policy", "explain", "denied#4", "--policy", "reads.toml")

    assert dump(store) == before


def dump(store: str) -> list[str]:
    with sqlite3.connect(store) as connection:
        found = list(connection.iterdump())
    connection.close()
    return found


def test_a_run_that_cannot_be_read_is_named_and_the_others_are_decided(gatebook: Inside) -> None:
    """One damaged run must neither hide nor stop the rest."""
    write(gatebook.path, reads=READS)
    for run in ("one", "two"):
        gatebook("run", "app:pay", "17", "--run-id", run, "--store", "runs.db", *ALLOW)
    with sqlite3.connect(gatebook.path / "runs.db") as store:
        store.execute("UPDATE events SET body = X'7b7d' WHERE seq = 3 AND run = 1")
    store.close()

    done = gatebook("policy", "backtest", "reads.toml", "--store", "runs.db")

    assert done.returncode == 1
    assert [row[0] for row in rows(done.stdout)] == ["two#4"]
    assert "run one was left out" in done.stderr


def test_without_the_app_it_says_whose_declarations_are_unknown(governed: Inside) -> None:
    """What is unknown is decided strictly, and a reader must know why."""
    store = str(governed.json("list")["store"])
    alone = governed.path / "alone"
    alone.mkdir()
    (alone / "copy.db").write_bytes(Path(store.removeprefix("sqlite:///")).read_bytes())

    done = governed("policy", "backtest", "small.toml", "--store", str(alone / "copy.db"))

    assert "what tools declare is not known of pay, support: --app MODULE:ATTR" in done.stderr
