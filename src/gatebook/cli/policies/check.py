"""`gatebook policy check`: what is written but cannot mean anything."""

import click

from gatebook.cli.main import ERROR, OK
from gatebook.cli.options import Given, Verb, said
from gatebook.cli.output import document, say
from gatebook.cli.policies.files import (
    as_json,
    counted,
    files_argument,
    is_warning,
    problem_fields,
    read_files,
    settings_app,
    show_problems,
    specs_of,
)
from gatebook.kernel.rules.check import check


@click.command(
    cls=Verb,
    examples=(
        "gatebook policy check policy.toml --app app:support",
        "gatebook policy check base.toml team.toml --json",
    ),
)
@files_argument
@click.option(
    "--app",
    metavar="MODULE:ATTR",
    callback=said,
    help="Whose tools and arguments the rules name.",
)
@as_json
def command(files: tuple[str, ...], app: str | None, as_json: bool) -> int:
    """Check policy files: what cannot be read, and what can never decide anything.

    Several files are checked as the one policy they make. With an app, the names of tools and
    arguments are checked too. Every error has its line; exits with 1 when there is one.
    """
    found, problems = read_files(files)
    declared = settings_app(Given(app=app))
    if not problems:
        problems = check(found, None if declared is None else specs_of(declared))
    wrong = [problem for problem in problems if not is_warning(problem)]
    if as_json:
        document(
            ok=not wrong, files=list(files), name=found.name, digest=found.digest,
            rules=len(found.rules), tests=len(found.trials), tools_checked=declared is not None,
            problems=[problem_fields(problem) for problem in problems],
        )  # fmt: skip
        return ERROR if wrong else OK
    show_problems(problems)
    if not wrong:
        sizes = counted(len(found.rules), "rule"), counted(len(found.trials), "test")
        say(f"{', '.join(files)}: {', '.join(sizes)}, nothing is wrong")
    if declared is None:
        say("tools and arguments were not checked: --app MODULE:ATTR says what there is")
    return ERROR if wrong else OK
