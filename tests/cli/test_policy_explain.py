"""`gatebook policy explain`: why a decision was taken, or would be, and what would change it."""

import json

import pytest

from tests.cli.conftest import ALLOW, Inside
from tests.cli.policies import READS, rows, write


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
    write(gatebook.path, reads=READS)
    gatebook("run", "app:pay", "17", "--run-id", "one", "--policy", "reads.toml")

    shown = rows(gatebook("policy", "explain", "one#4").stdout)

    assert shown[0] == ["decision", "one#4  refund, for pay"]
    assert ["policy", "reads, the policy that decided"] in shown
    assert shown[-1][0] == "remedy"


def test_a_run_alone_is_no_decision(governed: Inside) -> None:
    """@last is a run to every other verb; here it wants an event of it."""
    done = governed("policy", "explain", "@last")

    assert done.returncode == 2
    assert "give the decision too, @last#SEQ" in done.stderr


def test_a_denied_run_says_which_command_explains_it(gatebook: Inside) -> None:
    """Nobody should have to look up the number of an event."""
    write(gatebook.path, reads=READS)

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
