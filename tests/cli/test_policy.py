"""`gatebook policy`: files checked and compared, decisions explained, taken again, and mended."""

import json
import re
import sqlite3
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import ALLOW, Inside
from tests.cli.test_terminal import COLOUR, on_a_terminal

READS = """version = 1
name = "reads"

[[rule]]
id = "reads"
then = "allow"
tool = "look_up"

[[rule]]
id = "models"
then = "allow"
action = "call_llm"

[[test]]
call = { tool = "look_up" }
expect = "allow"

[[test]]
call = { tool = "refund" }
expect = "deny"
"""
SMALL = """
[[rule]]
id = "small-refunds"
then = "allow"
tool = "refund"
where = { "args.amount" = { le = 20 } }
"""
NO_REFUNDS = """
[[rule]]
id = "no-refunds"
then = "deny"
tool = "refund"
where = { "args.amount" = { gt = 15 } }
message = "No refund of {args.amount} today."
"""
MAIL = """
[[rule]]
id = "refunds-by-others"
then = "allow"
tool = "refund"
agent = "others"
"""
WRONG = """version = 1
[[rule]]
id = "one"
then = "allow"
tool = ["look_up", "look_upp"]
where = { "args.ordr" = { eq = "17" } }
"""


def write(folder: Inside, **files: str) -> None:
    for name, text in files.items():
        (folder.path / f"{name}.toml").write_text(text)


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


@pytest.fixture(scope="module")
def governed(tmp_path_factory: pytest.TempPathFactory) -> Inside:
    """The command, in a folder with policies and runs under some of them; tests only read it."""
    folder = Inside(tmp_path_factory.mktemp("governed"))
    write(
        folder, reads=READS, small=READS + SMALL, denies=READS + SMALL + NO_REFUNDS,
        tight=READS + SMALL + "[budgets]\ntool_calls = 1\n",
    )  # fmt: skip
    for target, run, policy in (
        ("app:pay", "paid", ALLOW),
        ("app:pay", "small", ("--policy", "small.toml")),
        ("app:pay", "denied", ("--policy", "reads.toml")),
        ("app:pay", "refused", ("--policy", "denies.toml")),
        ("app:pay", "spent", ("--policy", "tight.toml")),
        ("app:support", "agent", ("--policy", "reads.toml")),
    ):
        folder("run", target, "17", "--run-id", run, *policy)
    return folder


# ---- check, test, diff, schema ----


def test_a_sound_policy_checks_and_its_tests_pass(governed: Inside) -> None:
    """Nothing on standard output means nothing to do."""
    checked = governed("policy", "check", "reads.toml", "--app", "app:pay")
    tested = governed("policy", "test", "reads.toml")

    assert (checked.returncode, checked.stdout) == (0, "")
    assert checked.stderr == "reads.toml: 2 rules, 2 tests, nothing is wrong\n"
    assert (tested.returncode, [row[0] for row in rows(tested.stdout)]) == (0, ["ok", "ok"])


def test_every_error_has_its_line(gatebook: Inside) -> None:
    """An editor jumps to file:line."""
    write(gatebook, wrong=WRONG)

    done = gatebook("policy", "check", "wrong.toml", "--app", "app:pay")

    assert done.returncode == 1
    assert [row[:3] for row in rows(done.stdout)] == [
        ["wrong.toml:2", "error", "E_POLICY_TOOL"], ["wrong.toml:6", "error", "E_POLICY_PATH"],
    ]  # fmt: skip


def test_all_errors_of_a_file_are_told_at_once(gatebook: Inside) -> None:
    """Ten errors should not take ten attempts."""
    write(gatebook, wrong='version = 2\nmod = "x"\n[[rule]]\nid = "a"\nthen = "alow"\ntool = "t"\n')

    problems = gatebook.json("policy", "check", "wrong.toml")["problems"]

    assert [(each["place"], each["code"]) for each in problems] == [
        ("wrong.toml:1", "E_POLICY_VALUE"), ("wrong.toml:2", "E_POLICY_KEY"),
        ("wrong.toml:5", "E_POLICY_VALUE"),
    ]  # fmt: skip


def test_files_are_checked_as_the_one_policy_they_make(governed: Inside) -> None:
    """Two files with one id are wrong only together."""
    done = governed("policy", "check", "reads.toml", "small.toml")

    assert done.returncode == 1
    assert "E_POLICY_DUPLICATE" in done.stdout


def test_a_warning_is_no_failure(gatebook: Inside) -> None:
    """A pattern may be for tools that come later."""
    write(gatebook, later=READS.replace('"look_up"\n', '["look_up", "crm.*"]\n', 1))

    document = gatebook.json("policy", "check", "later.toml", "--app", "app:pay")

    assert document["ok"] is True
    assert [each["severity"] for each in document["problems"]] == ["warning"]


def test_without_an_app_it_says_what_was_not_checked(governed: Inside) -> None:
    """A check that looked at half must not look like a whole one."""
    done = governed("policy", "check", "reads.toml")

    assert "tools and arguments were not checked: --app MODULE:ATTR" in done.stderr


def test_a_failing_test_exits_with_1_and_says_why(gatebook: Inside) -> None:
    """It is a check for a pipeline."""
    write(gatebook, bad=READS.replace('expect = "deny"', 'expect = "allow"'))

    done = gatebook("policy", "test", "bad.toml")

    assert done.returncode == 1
    assert rows(done.stdout)[1] == [
        "failed", "bad.toml:18", "refund", "allow", "deny", "", "no rule allows it",
    ]  # fmt: skip


def test_a_file_that_cannot_be_read_is_an_error_with_its_path(gatebook: Inside) -> None:
    """Nothing was checked, so nothing may look checked."""
    done = gatebook("policy", "test", "nothing.toml", "--json")

    assert (done.returncode, done.stdout) == (1, "")
    assert json.loads(done.stderr)["error"]["code"] == "E_POLICY_FILE"
    assert "nothing.toml" in done.stderr


def test_files_come_from_standard_input_too(governed: Inside) -> None:
    """`git show HEAD:policy.toml` writes there."""
    text = (governed.path / "reads.toml").read_text()

    same = governed("policy", "diff", "-", "reads.toml", stdin=text)
    other = governed("policy", "diff", "-", "small.toml", stdin=text)

    assert (same.returncode, same.stdout) == (0, "")
    assert other.returncode == 1
    assert rows(other.stdout) == [
        ["added", "rule", "small-refunds", "more", "allow refund where args.amount le 20",
         "small.toml:22"],
    ]  # fmt: skip


def test_the_schema_is_one_json_document(gatebook: Inside) -> None:
    """Editors are given its path."""
    plain, wrapped = gatebook("policy", "schema"), gatebook.json("policy", "schema")

    assert json.loads(plain.stdout)["title"] == "Gatebook policy"
    assert wrapped["json_schema"] == json.loads(plain.stdout)


# ---- backtest ----


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
    write(governed, wide=READS + SMALL + "[budgets]\ntool_calls = 2\n")

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
    write(gatebook, reads=READS)
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


# ---- explain ----


def test_a_recorded_denial_is_explained_from_record_and_rules(governed: Inside) -> None:
    """What was said then, and what the rules say now, side by side."""
    document = governed.json("policy", "explain", "refused#4", "--policy", "denies.toml")

    assert document["recorded"]["rules"] == ["no-refunds"]
    assert (document["verdict"], document["rules"]) == ("deny", ["no-refunds"])
    assert document["remedies"] == [
        "rule 'no-refunds' must not deny it: make it surely false that args.amount gt 15"
    ]
    assert [(each["rule"], each["fired"]) for each in document["looked"]] == [
        ("no-refunds", True), ("small-refunds", True),
    ]  # fmt: skip


def test_a_recorded_decision_can_be_explained_by_another_policy(governed: Inside) -> None:
    """That is the second question after a backtest."""
    document = governed.json("policy", "explain", "paid#4", "--policy", "denies.toml")

    assert document["recorded"]["verdict"] == "allow"
    assert document["verdict"] == "deny"


def test_the_policy_of_the_run_is_remembered(gatebook: Inside) -> None:
    """`policy explain RUN#SEQ` is what a denial suggests; it must work as it stands."""
    write(gatebook, reads=READS)
    gatebook("run", "app:pay", "17", "--run-id", "one", "--policy", "reads.toml")

    shown = rows(gatebook("policy", "explain", "one#4").stdout)

    assert shown[0] == ["decision", "one#4  refund, for pay"]
    assert ["policy", "reads, the policy that decided"] in shown
    assert shown[-1][0] == "remedy"


def test_a_denied_run_says_which_command_explains_it(gatebook: Inside) -> None:
    """Nobody should have to look up the number of an event."""
    write(gatebook, reads=READS)

    done = gatebook("run", "app:pay", "17", "--run-id", "one", "--policy", "reads.toml")

    assert done.returncode == 3
    assert done.stderr.endswith("\n  gatebook policy explain 'one#4'\n")
    assert gatebook("policy", "explain", "one#4").returncode == 0


def test_a_spent_budget_is_explained_as_one(governed: Inside) -> None:
    """No rule would help, so none is suggested."""
    document = governed.json("policy", "explain", "spent#4", "--policy", "tight.toml")

    assert (document["verdict"], document["code"]) == ("deny", "E_BUDGET")
    assert document["remedies"][0].startswith("raise the limit in [budgets]")


def test_what_is_no_decision_names_those_that_are(governed: Inside) -> None:
    """A seq is easily one off."""
    done = governed("policy", "explain", "paid#6", "--policy", "reads.toml", "--json")

    error = json.loads(done.stderr)["error"]
    assert (done.returncode, error["code"]) == (1, "E_POLICY_NO_DECISION")
    assert error["hint"] == "decisions of that run: 1, 2, 4"


@pytest.mark.parametrize(
    ("args", "verdict"),
    [('{"order": "17", "amount": 20}', "allow"), ('{"order": "17", "amount": 21}', "deny")],
)
def test_an_action_that_somebody_thinks_of_is_explained(
    args: str, verdict: str, governed: Inside
) -> None:
    """Before anything ran: may it?"""
    document = governed.json(
        "policy", "explain", "refund", "--args", args, "--agent", "pay",
        "--policy", "small.toml", "--app", "app:pay",
    )  # fmt: skip

    assert document["verdict"] == verdict


def test_arguments_are_validated_as_the_tool_would(governed: Inside) -> None:
    """An answer about a call that cannot be made would mislead."""
    done = governed(
        "policy", "explain", "refund", "--args", '{"order": 17}', "--policy", "small.toml",
        "--app", "app:pay",
    )  # fmt: skip

    assert done.returncode == 1
    assert "[E_ARGS_SCHEMA]" in done.stderr


def test_what_nobody_said_is_unknown(governed: Inside) -> None:
    """Unknown never allows, here as in a run."""
    document = governed.json("policy", "explain", "refund", "--policy", "small.toml")

    assert document["verdict"] == "deny"
    assert document["looked"][0]["asked"][0]["truth"] is None


def test_a_model_call_is_explained_by_its_route(governed: Inside) -> None:
    """The other kind of action that needs an allow."""
    document = governed.json("policy", "explain", "openai:mini", "--policy", "reads.toml")

    assert (document["what"], document["verdict"]) == ("openai:mini", "allow")


def test_an_imagined_action_needs_a_policy(gatebook: Inside) -> None:
    """Which rules should look?"""
    done = gatebook("policy", "explain", "refund")

    assert done.returncode == 2
    assert "--policy FILE" in done.stderr


def test_a_policy_that_is_code_explains_nothing_but_the_record_stays(governed: Inside) -> None:
    """What was recorded is a fact without any file."""
    document = governed.json("policy", "explain", "paid#4", *ALLOW)

    assert document["recorded"]["verdict"] == "allow"
    assert "looked" not in document


# ---- suggest ----


def test_a_suggestion_allows_what_was_denied(governed: Inside) -> None:
    """It must parse, check, and do what it says when it is added."""
    text = governed("policy", "suggest", "denied", "--policy", "reads.toml").stdout
    (governed.path / "more.toml").write_text(text)

    checked = governed("policy", "check", "reads.toml", "more.toml", "--app", "app:pay")
    told = governed.json("policy", "explain", "denied#4", "--policy", "reads.toml,more.toml")
    other = governed.json(
        "policy", "explain", "refund", "--args", '{"order": "18", "amount": 20}', "--agent", "pay",
        "--policy", "reads.toml,more.toml", "--app", "app:pay",
    )  # fmt: skip

    assert checked.returncode == 0
    assert (told["verdict"], told["rules"]) == ("allow", ["allow-refund"])
    assert other["verdict"] == "deny"


def test_what_no_added_rule_lifts_comes_as_a_comment(governed: Inside) -> None:
    """A rule that does not help would be added, and trusted."""
    text = governed("policy", "suggest", "refused", "--policy", "denies.toml").stdout

    assert tomllib.loads(text) == {"version": 1}
    assert "# no rule that is added helps: deny (rule no-refunds)" in text
    assert "make it surely false that args.amount gt 15" in text


def test_a_rule_that_only_lets_a_person_be_asked_says_so(gatebook: Inside) -> None:
    """Nobody should add it and wonder."""
    write(gatebook, asks=READS + NO_REFUNDS.replace('"deny"', '"ask"') + MAIL)
    gatebook("run", "app:pay", "17", "--run-id", "one", "--policy", "asks.toml")

    text = gatebook("policy", "suggest", "one").stdout

    assert [rule["id"] for rule in tomllib.loads(text)["rule"]] == ["allow-refund"]
    assert "# with the rule below, it is still ask (rule no-refunds)" in text


def test_suggestions_are_data_too(governed: Inside) -> None:
    """A page may offer them."""
    document = governed.json("policy", "suggest", "denied", "--policy", "reads.toml")

    (found,) = document["suggestions"]
    assert (found["seq"], found["code"], found["rule"]["id"]) == (
        4,
        "E_POLICY_NO_RULE",
        "allow-refund",
    )
    assert tomllib.loads(document["toml"])["rule"][0]["tool"] == "refund"


def test_a_run_that_was_denied_nothing_gets_nothing(governed: Inside) -> None:
    """An empty answer, and a word that says so."""
    done = governed("policy", "suggest", "paid")

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "run paid was denied nothing\n"


# ---- how it looks ----


@pytest.mark.parametrize(
    "args",
    [
        ("check", "wrong.toml", "--app", "app:pay"),
        ("test", "reads.toml"),
        ("diff", "reads.toml", "denies.toml"),
        ("backtest", "denies.toml"),
        ("explain", "refused#4", "--policy", "denies.toml"),
    ],
)
def test_nothing_is_cut_off_on_a_narrow_terminal(args: tuple[str, ...], governed: Inside) -> None:
    """80 columns is what a terminal opens with."""
    write(governed, wrong=WRONG)

    screen = on_a_terminal(governed, "policy", *args, COLUMNS="80", NO_COLOR="1")

    assert "…" not in screen
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", screen)


def test_a_screen_says_what_would_allow_it(governed: Inside) -> None:
    """The last lines are what the reader came for."""
    screen = on_a_terminal(governed, "policy", "explain", "denied#4", "--policy", "reads.toml")

    assert COLOUR.sub("", screen).endswith(
        "to be allowed\n  add a rule with then = \"allow\" that is about 'refund'\n"
    )


def test_a_message_of_a_rule_cannot_write_to_the_terminal(gatebook: Inside) -> None:
    """Its text holds what a model gave as arguments."""
    write(gatebook, loud=READS + NO_REFUNDS.replace("{args.amount}", "{args.order}"))
    gatebook("run", "app:pay", "\x1b[31mred", "--run-id", "one", *ALLOW)

    screen = on_a_terminal(gatebook, "policy", "backtest", "loud.toml")

    assert r"No refund of \x1b[31mred today." in screen


@pytest.mark.parametrize("args", [("--help",), ("test", "reads.toml"), ("backtest", "reads.toml")])
def test_looking_at_policies_imports_no_http_client_and_no_rich(
    args: tuple[str, ...], governed: Inside
) -> None:
    """It is done in every commit hook, and must be quick."""
    import subprocess
    import sys

    code = (
        f"import sys; from gatebook.cli.main import run; run(['policy', *{args!r}]); "
        "print(*sys.modules, file=sys.stderr)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=governed.path, env=governed.env, capture_output=True,
        text=True, check=True,
    )  # fmt: skip

    loaded = set(done.stderr.split())
    assert "gatebook.cli.verbs.policy" in loaded
    assert not loaded & {"httpx2", "rich", "mcp"}


def test_help_names_every_part_with_examples() -> None:
    """--help is the page people have at hand."""
    import click

    from gatebook.cli.main import gatebook as group
    from gatebook.cli.verbs.policy import PARTS, command

    for name in PARTS:
        part: Any = command.get_command(click.Context(group), name)
        assert len(part.help) > 60
        assert all("gatebook policy" in example for example in part.examples)
        assert part.examples
        assert all(p.help for p in part.params if p.param_type_name == "option")
