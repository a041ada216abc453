"""`gatebook deny`: refuse what was asked about."""

import asyncio

import click

from gatebook.cli.answering import answer, author_of, by_option, group_option, ids_argument
from gatebook.cli.options import Given, Verb, common


@click.command(
    cls=Verb,
    examples=(
        """gatebook deny ticket-17#7 --reason "refund it by hand\"""",
        "gatebook deny @last#7 @last#9",
    ),
)
@ids_argument
@click.option("--reason", default="", metavar="TEXT", help="Why: the model reads it.")
@by_option
@group_option
@common()
def command(
    given: Given, ids: tuple[str, ...], reason: str, by: str | None, groups: tuple[str, ...]
) -> int:
    """Refuse actions: none of them starts, and their programs go on and see why."""
    return asyncio.run(answer(given, ids, "deny", author_of(by, groups, reason)))
