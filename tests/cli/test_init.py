"""`gatebook init`: a first policy that works as it is written."""

import json
import stat

from gatebook.kernel.rules.reading import load
from tests.cli.conftest import Inside


def test_a_first_policy_checks_and_passes_its_tests(gatebook: Inside) -> None:
    """The second step of a newcomer must not fail."""
    done = gatebook("init", "app:support")

    assert done.returncode == 0
    assert done.stdout == "allow\tscripted:answers.json\nallow\tlook_up\n"
    assert gatebook("policy", "check", "policy.toml", "--app", "app:support").returncode == 0
    assert gatebook("policy", "test", "policy.toml").returncode == 0


def test_a_program_runs_under_its_first_policy(gatebook: Inside) -> None:
    """What it needs and only reads is allowed at once."""
    gatebook("init", "app:support")

    done = gatebook("run", "app:support", "What does order 17 cost?", "--policy", "policy.toml")

    assert done.returncode == 0
    assert "It costs 20 euros." in done.stdout


def test_a_tool_that_does_something_is_not_done_unasked(gatebook: Inside) -> None:
    """The first policy is one that nobody regrets."""
    gatebook("init", "app:pay")

    gatebook("run", "app:pay", "17", "--run-id", "one", "--policy", "policy.toml")

    told = gatebook.json("policy", "explain", "one#4")
    assert not (gatebook.path / "refunds").exists()
    assert (told["recorded"]["verdict"], told["recorded"]["rules"]) == ("ask", ["ask-refund"])


def test_the_first_policy_would_decide_its_own_runs_the_same(gatebook: Inside) -> None:
    """What waits for a person is decided, and nothing about it would be otherwise."""
    gatebook("init", "app:pay")
    gatebook("run", "app:pay", "17", "--run-id", "one", "--policy", "policy.toml")

    document = gatebook.json("policy", "backtest", "policy.toml")
    suggested = gatebook("policy", "suggest", "one")

    assert (document["decisions"], document["changed"]) == (3, 0)
    assert (suggested.stdout, suggested.stderr) == ("", "run one was denied nothing\n")


def test_a_file_that_is_there_is_never_written_over(gatebook: Inside) -> None:
    """Somebody may have worked on it for a month."""
    (gatebook.path / "policy.toml").write_text("mine")

    done = gatebook("init", "app:support", "--json")

    assert (done.returncode, json.loads(done.stderr)["error"]["code"]) == (1, "E_POLICY_EXISTS")
    assert (gatebook.path / "policy.toml").read_text() == "mine"


def test_it_goes_where_it_is_told(gatebook: Inside) -> None:
    """A link that leads nowhere, or a missing folder, is an error and not a surprise."""
    (gatebook.path / "policies").mkdir()

    there = gatebook("init", "app:support", "--out", "policies/support.toml")
    nowhere = gatebook("init", "app:support", "--out", "missing/support.toml")

    mode = (gatebook.path / "policies" / "support.toml").stat().st_mode
    assert (there.returncode, stat.S_IMODE(mode) & 0o022) == (0, 0)
    assert nowhere.returncode == 1
    assert "[E_POLICY_FILE]" in nowhere.stderr


def test_it_can_be_printed_instead(gatebook: Inside) -> None:
    """To look at it, or to compare it with the one that is there."""
    done = gatebook("init", "app:support", "--out", "-")

    assert load(done.stdout).name == "support"
    assert not (gatebook.path / "policy.toml").exists()


def test_an_app_of_several_programs_gets_one_policy(gatebook: Inside) -> None:
    """They run in one process, under one policy."""
    document = gatebook.json("init", "app:runtime")

    assert document["verdicts"] == [
        {"verdict": "allow", "what": "look_up"},
        {"verdict": "ask", "what": "refund"},
        {"verdict": "ask", "what": "slow"},
    ]
    assert document["path"] == "policy.toml"


def test_a_model_without_a_known_price_gets_no_limit_in_dollars(gatebook: Inside) -> None:
    """Such a limit would refuse every call of it."""
    text = (gatebook.path / "app.py").read_text()
    changed = text.replace("scripted:answers.json", "nobody:unheard-of")
    (gatebook.path / "app.py").write_text(changed)

    gatebook("init", "app:support")

    written = (gatebook.path / "policy.toml").read_text()
    assert load(written).budgets.cost_usd is None
    assert "no price is known of nobody:unheard-of" in written


def test_an_app_that_is_not_there_writes_nothing(gatebook: Inside) -> None:
    """A misspelt name must not leave an empty policy."""
    done = gatebook("init", "app:nobody")

    assert done.returncode == 1
    assert "[E_APP]" in done.stderr
    assert not (gatebook.path / "policy.toml").exists()
