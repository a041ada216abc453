"""`gatebook policy`: looks at policy files and at what they decide; changes nothing."""

import click

from gatebook.cli.main import Verbs
from gatebook.cli.options import Verb

PARTS = {
    "check": "Say what is wrong in policy files.",
    "test": "Run the tests that live in policy files.",
    "explain": "Say why one action is decided as it is.",
    "backtest": "Decide all recorded actions again, by another policy.",
    "suggest": "Draft the narrowest rule for each denial of a run.",
    "diff": "Compare two policy files, in words.",
    "schema": "Print the JSON Schema of a policy file.",
}


class PolicyVerbs(Verb, Verbs):
    """Verbs of a verb, which has examples too."""


@click.command(
    cls=PolicyVerbs,
    verbs=PARTS,
    package="gatebook.cli.policies",
    examples=(
        "gatebook policy check policy.toml --app app:support",
        "gatebook policy backtest stricter.toml --since 30d",
        "gatebook policy explain @last#5",
    ),
)
def command() -> None:
    """Look at policy files, and at what they decide. Nothing here changes a file or a run.

    A policy is a TOML file of rules, with its tests: docs/policy.md. `gatebook init` writes a
    first one.
    """
