"""`gatebook policy suggest`: rules that would allow what was denied."""

import tomllib

from tests.cli.conftest import Inside
from tests.cli.policies import NO_REFUNDS, READS, write

MAIL = """
[[rule]]
id = "refunds-by-others"
then = "allow"
tool = "refund"
agent = "others"
"""


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
    write(gatebook.path, asks=READS + NO_REFUNDS.replace('"deny"', '"ask"') + MAIL)
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
