"""`gatebook approve`: let what was asked about start."""

import asyncio

import click

from gatebook.cli.answering import answer, author_of, by_option, group_option, ids_argument
from gatebook.cli.options import Given, Verb, common, read_json


@click.command(
    cls=Verb,
    examples=(
        "gatebook approve ticket-17#7",
        "gatebook approve ticket-17#7 ticket-18#9 --group team:finance",
        """gatebook approve @last#7 --edit '{"order": "17", "amount": 20}'""",
    ),
)
@ids_argument
@click.option("--edit", metavar="JSON|@FILE|-", help="All arguments to use instead.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@by_option
@group_option
@common()
def command(
    given: Given,
    ids: tuple[str, ...],
    edit: str | None,
    reason: str,
    by: str | None,
    groups: tuple[str, ...],
) -> int:
    """Let actions start, each once, with exactly the arguments that were shown.

    Edited arguments are validated and decided about again: an edit opens nothing that policy
    denies. Who answers may not be the one for whom the run acts.
    """
    if edit is not None and len(ids) != 1:
        raise click.UsageError("edit one approval at a time")
    edited = None if edit is None else read_json(edit)
    if edit is not None and not isinstance(edited, dict):
        raise click.BadParameter("the arguments are a JSON object", param_hint="--edit")
    author = author_of(by, groups, reason)
    return asyncio.run(answer(given, ids, "approve", author, edit=edited))
