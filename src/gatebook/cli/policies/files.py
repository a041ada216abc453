"""Policy files as commands see them: read together, with every error and not only the first."""

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click

from gatebook.cli.apps import App, load_app
from gatebook.cli.main import sentences
from gatebook.cli.options import Given, said
from gatebook.cli.output import on_terminal, safe, table
from gatebook.errors import ConfigError
from gatebook.kernel.rules.check import check
from gatebook.kernel.rules.document import Document, merge
from gatebook.kernel.rules.reading import read
from gatebook.kernel.tools import ToolSpec

STDIN = "-"

files_argument = click.argument("files", metavar="FILE...", nargs=-1, required=True)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")


def looking(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a command that looks at runs, and hand them over as `given`."""

    @wraps(function)
    def command(app: str | None, store: str | None, as_json: bool, **values: Any) -> Any:
        return function(given=Given(app=app, store=store, as_json=as_json), **values)

    where = "Where the programs are; else where `run` found them."
    decorated = as_json(command)
    store = click.option(
        "--store", metavar="URL", callback=said, help="The journal: sqlite:///path or a path."
    )
    app = click.option("--app", metavar="MODULE:ATTR", callback=said, help=where)
    return app(store(decorated))


def read_files(files: Sequence[str]) -> tuple[Document, list[ConfigError]]:
    """Return what files say together, and every error in them; `-` is standard input.

    Raises:
        ConfigError: E_POLICY_FILE, a file cannot be read.
    """
    documents, errors = [], []
    for file in files:
        document, wrong = read(_text(file), file)
        documents.append(document)
        errors += wrong
    try:
        return merge(documents), errors
    except ConfigError as exc:
        return documents[0], [*errors, exc]


def _text(file: str) -> str:
    if file == STDIN:
        return sys.stdin.read()
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as exc:
        why = exc.strerror or type(exc).__name__
    except UnicodeDecodeError:
        why = "it is not UTF-8 text"
    raise ConfigError("E_POLICY_FILE", path=file, detail=why)


def sound(files: Sequence[str]) -> Document:
    """Return what files say together. Raises the first error in them."""
    document, errors = read_files(files)
    if errors:
        raise errors[0]
    return document


def usable(files: Sequence[str]) -> Document:
    """Return what files say together, as a runtime would take it.

    Raises the first error in them, rules that can never decide included.
    """
    document = sound(files)
    for problem in check(document):
        if not is_warning(problem):
            raise problem
    return document


def show_problems(problems: Sequence[ConfigError]) -> None:
    """Write errors and warnings to standard output, by place."""
    rows = [problem_fields(problem) for problem in problems]
    if not on_terminal(sys.stdout):
        keys = ("place", "severity", "code", "message", "hint")
        table((), [tuple(row[key] for key in keys) for row in rows])
        return
    for row in rows:
        print(f"{safe(row['place'])}: {safe(row['severity'])}: {safe(row['message'])}")
        print(f"    {safe(row['hint'])} [{row['code']}]")


def problem_fields(problem: ConfigError) -> dict[str, Any]:
    """Return an error of a policy as JSON documents show it."""
    message, hint = sentences(problem)
    place = str(problem.fields.get("path", ""))
    return {
        "place": place,
        "severity": "warning" if problem.code.startswith("W_") else "error",
        "code": problem.code,
        "message": message.removeprefix(f"{place}: "),
        "hint": hint,
    }


def settings_app(given: Given) -> App | None:
    """Return the app that --app or the settings name, None when neither does."""
    target = given.settings.app
    return None if target is None else load_app(target)


def specs_of(app: App) -> dict[str, ToolSpec]:
    """Return what the tools of an app declare, by name."""
    programs = app.programs.values()
    return {name: tool.spec for program in programs for name, tool in program.tools.items()}


def is_warning(problem: ConfigError) -> bool:
    """Whether it is only worth a look."""
    return problem.code.startswith("W_")


def counted(number: int, word: str) -> str:
    """Return a number and its word: "1 rule", "2 rules"."""
    return f"{number} {word}{'' if number == 1 else 's'}"
