"""`gatebook policy` at a terminal: what it looks like, what it loads, what its help says."""

import re
import subprocess
import sys
from typing import Any

import click
import pytest

from gatebook.cli.main import gatebook as group
from gatebook.cli.verbs.policy import PARTS, command
from tests.cli.conftest import ALLOW, Inside
from tests.cli.policies import NO_REFUNDS, READS, WRONG, write
from tests.cli.test_terminal import COLOUR, on_a_terminal


@pytest.mark.parametrize(
    "args",
    [
        ("check", "wrong.toml", "--app", "app:pay"),
        ("test", "reads.toml"),
        ("diff", "reads.toml", "denies.toml"),
        ("backtest", "denies.toml"),
        ("explain", "refused#4", "--policy", "denies.toml"),
    ],
    ids=lambda args: args[0],
)
def test_nothing_is_cut_off_on_a_narrow_terminal(args: tuple[str, ...], governed: Inside) -> None:
    """80 columns is what a terminal opens with."""
    write(governed.path, wrong=WRONG)

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
    write(gatebook.path, loud=READS + NO_REFUNDS.replace("{args.amount}", "{args.order}"))
    gatebook("run", "app:pay", "\x1b[31mred", "--run-id", "one", *ALLOW)

    screen = on_a_terminal(gatebook, "policy", "backtest", "loud.toml")

    assert r"No refund of \x1b[31mred today." in screen


@pytest.mark.parametrize(
    "args",
    [("--help",), ("test", "reads.toml"), ("backtest", "reads.toml")],
    ids=lambda args: args[0],
)
def test_looking_at_policies_imports_no_http_client_and_no_rich(
    args: tuple[str, ...], governed: Inside
) -> None:
    """It is done in every commit hook, and must be quick."""
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
    for name in PARTS:
        part: Any = command.get_command(click.Context(group), name)
        assert len(part.help) > 60
        assert all("gatebook policy" in example for example in part.examples)
        assert part.examples
        assert all(p.help for p in part.params if p.param_type_name == "option")
