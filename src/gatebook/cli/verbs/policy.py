"""`gatebook policy`: looks at policy files and at what they decide; changes nothing."""

import difflib
from importlib import import_module

import click

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


class Parts(Verb, click.Group):
    """A verb of several, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return them in the order people need them."""
        return list(PARTS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one, or return None."""
        if cmd_name not in PARTS:
            return None
        command: click.Command = import_module(f"gatebook.cli.policies.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them from the table, so that --help imports none of them."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(PARTS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the one that is called, or say which was probably meant."""
        name = args[0]
        if name not in PARTS and not name.startswith("-"):
            near = difflib.get_close_matches(name, PARTS, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(PARTS)}"
            raise click.UsageError(f"policy has no verb {name[:40]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)


@click.command(
    cls=Parts,
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
