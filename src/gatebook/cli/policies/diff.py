"""`gatebook policy diff`: what a changed policy allows otherwise, in words."""

import sys

import click
import msgspec

from gatebook.cli.main import ERROR, OK
from gatebook.cli.options import Verb
from gatebook.cli.output import document, on_terminal, say, table
from gatebook.cli.policies.files import as_json, sound
from gatebook.kernel.review.differences import differences


@click.command(
    cls=Verb,
    examples=(
        "gatebook policy diff policy.toml stricter.toml",
        "git show HEAD:policy.toml | gatebook policy diff - policy.toml",
    ),
)
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@as_json
def command(old: str, new: str, as_json: bool) -> int:
    """Compare two policy files: rules added, removed and changed, labels, budgets.

    ALLOWS says whether the new file allows more or less by that line alone. Order, comments and
    tests do not count. `-` is standard input. Exits with 1 when the two are different.
    """
    before, after = sound([old]), sound([new])
    found = differences(before, after)
    if as_json:
        document(
            same=not found, old={"file": old, "digest": before.digest},
            new={"file": new, "digest": after.digest},
            differences=[msgspec.to_builtins(each) for each in found],
        )  # fmt: skip
        return ERROR if found else OK
    rows = [
        (each.change, each.what, each.name, each.allows, each.detail, each.place) for each in found
    ]
    if not on_terminal(sys.stdout):
        table((), rows)
    elif rows:
        table(("", "WHAT", "NAME", "ALLOWS", "DIFFERENCE"), [row[:5] for row in rows])
    if not found:
        say(f"{old} and {new} decide the same")
    return ERROR if found else OK
