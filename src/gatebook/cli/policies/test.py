"""`gatebook policy test`: runs the tests that live in policy files."""

import sys

import click
import msgspec

from gatebook.cli.main import ERROR, OK
from gatebook.cli.options import Verb
from gatebook.cli.output import document, on_terminal, say, table
from gatebook.cli.policies.files import (
    as_json,
    counted,
    files_argument,
    problem_fields,
    read_files,
    show_problems,
)
from gatebook.kernel.rules.trials import TrialResult, run_tests


@click.command(
    cls=Verb,
    examples=(
        "gatebook policy test policy.toml",
        "gatebook policy test policy.toml --json | jq '.tests[] | select(.passed | not)'",
    ),
)
@files_argument
@as_json
def command(files: tuple[str, ...], as_json: bool) -> int:
    """Run the tests in policy files: [[test]] says a call and the verdict it must get.

    Several files are tested as the one policy they make; a shadow policy as if it enforced.
    Exits with 1 when a test fails.
    """
    found, problems = read_files(files)
    results = () if problems else run_tests(found)
    failed = [result for result in results if not result.passed]
    bad = bool(problems or failed)
    if as_json:
        document(
            ok=not bad, files=list(files), passed=len(results) - len(failed), failed=len(failed),
            tests=[msgspec.to_builtins(result) for result in results],
            problems=[problem_fields(problem) for problem in problems],
        )  # fmt: skip
        return ERROR if bad else OK
    show_problems(problems)
    _show(results)
    if problems:
        return ERROR
    if not results:
        say(f"there is no [[test]] in {', '.join(files)}")
    else:
        say(f"{counted(len(results), 'test')}, {len(failed)} failed")
    return ERROR if bad else OK


def _show(results: tuple[TrialResult, ...]) -> None:
    rows = [
        (
            "ok" if result.passed else "failed", result.place, result.name, result.expect,
            result.got, ", ".join(result.rules), result.reason,
        )
        for result in results
    ]  # fmt: skip
    if not on_terminal(sys.stdout):
        table((), rows)
    elif rows:
        shown = [(*row[:5], _why(result)) for row, result in zip(rows, results, strict=True)]
        table(("", "TEST", "CALL", "EXPECT", "GOT", "WHY"), shown, styled=0)


def _why(result: TrialResult) -> str:
    by = ", ".join(result.rules)
    return by if result.passed or not result.reason else f"{by}: {result.reason}".lstrip(": ")
