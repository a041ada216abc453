"""`gatebook run`: start a run, show it, and leave it where it stands."""

import asyncio
from typing import Any

import click

from gatebook.cli.apps import FORM, App, beside, load_app, load_policy, note_run
from gatebook.cli.driving import runtime_for
from gatebook.cli.options import (
    Given,
    Verb,
    common,
    on_ask_option,
    read_json,
    read_labels,
    read_text,
)
from gatebook.cli.outcome import drive_and_report
from gatebook.errors import ConfigError, InvalidInput
from gatebook.journals import open_journal
from gatebook.kernel.codec import check_run_id
from gatebook.ports import Program, RunKey
from gatebook.runtime.ids import new_run_id


@click.command(
    cls=Verb,
    examples=(
        """gatebook run app:support "Refund order 17" --policy allow-declared""",
        """gatebook run app:nightly --input '{"folder": "in"}' --policy app:policy""",
        """gatebook run support "Refund order 17" --app app:runtime""",
    ),
)
@click.argument("target", metavar="MODULE:PROGRAM|NAME")
@click.argument("text", required=False, metavar="[TEXT|@FILE|-]")
@click.option("--input", "given_input", metavar="JSON|@FILE|-", help="The input, as JSON.")
@click.option("--run-id", metavar="ID", help="Your own id; the same id again is the same run.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="To find it by.")
@click.option("--context", metavar="JSON|@FILE|-", help="A JSON object for the tools.")
@on_ask_option
@common(driving=True)
def command(given: Given, target: str, text: str | None, **options: Any) -> int:
    """Start a run and show it until it ends or waits for somebody.

    The program is app:support (module and attribute, from the current folder), or a name when
    --app says where programs are. TEXT is its input as text; @file and - read it from a file and
    from standard input, and @@ begins a text with @ itself.
    The answer goes to standard output, everything else to standard error.

    Ctrl-C pauses the run, as do SIGTERM and a closed terminal; a second Ctrl-C, while it pauses,
    cancels it.
    """
    given_input, context = options["given_input"], options["context"]
    if text is not None and given_input is not None:
        raise click.UsageError("give TEXT or --input, not both")
    run_id = options["run_id"]
    app, program = find_program(target, given)
    value = read_json(given_input) if given_input is not None else _text(text, program)
    more = {
        "labels": read_labels(options["labels"]),
        "context": None if context is None else read_json(context),
        "run_id": new_run_id() if run_id is None else check_run_id(run_id),
    }
    return asyncio.run(_run(given, app, program, value, on_ask=options["on_ask"], **more))


def find_program(target: str, given: Given) -> tuple[App, Program[Any, Any]]:
    """Return the program a target names, and the app it came with.

    Raises:
        ConfigError: E_APP, E_PROGRAM_UNKNOWN.
    """
    whole = load_app(given.settings.app) if given.settings.app is not None else None
    if ":" not in target:
        if whole is None:
            detail = "it is not module:attribute, and there is no --app to find its name in"
            raise ConfigError("E_APP", value=target, detail=detail, fix=FORM)
        return whole, whole.program(target)
    app = load_app(target)
    if len(app.programs) > 1:
        names = ", ".join(app.programs)
        detail, fix = f"it holds several programs ({names})", f"name one and pass --app {target}"
        raise ConfigError("E_APP", value=target, detail=detail, fix=fix)
    (program,) = app.programs.values()
    if whole is not None and program.name in whole.programs:
        return whole, program
    return app, program


def _text(text: str | None, program: Program[Any, Any]) -> Any:
    if text is None:
        return _nothing_for(program)
    if text.startswith("@@"):
        return text[1:]
    try:
        return read_text(text)
    except click.BadParameter as exc:
        raise click.BadParameter(f"{exc.message}; @@ begins a text with @ itself") from exc


def _nothing_for(program: Program[Any, Any]) -> None:
    """Return the input of a program that takes none. Raises InvalidInput E_CONTENT."""
    if program.kind == "agent":
        raise InvalidInput("E_CONTENT")
    try:
        program.accept(None)
    except InvalidInput as exc:
        if exc.code != "E_INPUT":
            raise
        raise InvalidInput("E_CONTENT") from exc


async def _run(
    given: Given,
    app: App,
    program: Program[Any, Any],
    value: Any,
    *,
    on_ask: Any,
    **more: Any,
) -> int:
    given = beside(given, app)
    journal = open_journal(given.settings.store)
    mine: set[RunKey] = set()
    runtime = runtime_for(app, journal, policy=load_policy(given, app), only=mine)

    async def start() -> Any:
        mine.add(RunKey(runtime.tenant, more["run_id"]))
        run = await runtime.start(program, value, **more)
        note_run(given, journal.url, app, program=program.name, run=run.id)
        return run

    return await drive_and_report(runtime, journal, start, given, on_ask=on_ask)
