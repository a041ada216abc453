"""The entry point: finds the verb, runs it, and turns errors into one line and an exit code.

Exit codes: 0 ok, 1 error, 2 usage, 3 the run ended badly, 4 the run waits, 129, 130 and 143
signals.
"""

import errno
import io
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

import click

OK, ERROR, USAGE, ENDED_BADLY, WAITS = 0, 1, 2, 3, 4
HUNG_UP, INTERRUPTED, TERMINATED = 129, 130, 143  # 128 and the signal

VERBS = {
    "init": "Write a first policy for an app.",
    "run": "Start a run and show it until it ends or waits.",
    "worker": "Drive the runs of an app until stopped.",
    "resume": "Let a run go on, and drive it until it ends or waits.",
    "list": "List runs, newest first.",
    "show": "Show one run: its timeline, events or cost.",
    "tail": "Follow the events of one run or of all.",
    "signal": "Send a signal to a run.",
    "cancel": "Cancel a run.",
    "budget": "Show what a run may still use; raise its limits.",
    "approvals": "List what waits for somebody's answer.",
    "approve": "Let actions that were asked about start.",
    "deny": "Refuse actions that were asked about.",
    "grants": "Allow a tool in a run without asking again; list, revoke.",
    "resolve": "Say what became of an action whose outcome is unknown.",
    "endorse": "Show a run's labels, or vouch for what brought one in.",
    "replay": "Step a program over a run's journal, without effects.",
    "verify": "Check a run's hashes, events and sums.",
    "policy": "Look at policy files and at what they decide.",
    "doctor": "Check the store, the settings and what needs a person.",
}

# What writing to a stream ends with when nobody and nothing takes it.
UNWRITTEN = (errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EPIPE)

HINTS = {
    "E_CONTENT": "give it as TEXT or @file, or as JSON: --input '{...}', --input @file",
    "E_INPUT": "TEXT is passed as text; give anything else as JSON: --input '{...}', --input @file",
    "E_POLICY_MISSING": (
        "choose one: --policy allow-declared allows what the program declares (development); "
        "--policy policy.toml, a policy file; --policy module:attribute; "
        "or policy = in gatebook.toml"
    ),
}


class Verbs(click.Group):
    """A group that imports a verb when it is called.

    Args:
        verbs: what each is about, by name, in the order people need them.
        package: where their modules are; each has a `command`.
    """

    def __init__(self, *args: Any, verbs: Mapping[str, str], package: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.subcommand_metavar = "VERB ..."
        self.verbs = verbs
        self.package = package

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs."""
        return list(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb's command, or return None."""
        if cmd_name not in self.verbs:
            return None
        command: click.Command = import_module(f"{self.package}.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs from the table, so that --help imports none of them."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(self.verbs.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, or say which one was probably meant."""
        name = args[0]
        if name not in self.verbs and not name.startswith("-"):
            import difflib

            near = difflib.get_close_matches(name, self.verbs, 1, 0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"there is no verb {name[:40]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=Verbs,
    verbs=VERBS,
    package="gatebook.cli.verbs",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "RUN is a run id, a unique beginning of one, or @last.\n\n"
        "Exit codes: 0 done, 1 error, 2 usage, 3 the run ended badly, 4 the run waits; "
        "129, 130, 143 paused by a closed terminal, Ctrl-C, SIGTERM."
    ),
)
@click.version_option(None, "--version", package_name="gatebook", message="gatebook %(version)s")
def gatebook() -> None:
    """Run agents and workflows whose every effect passes one gate and one journal."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        signal.signal(signal.SIGINT, _interrupt())
        _check_streams()
        code = run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OSError as exc:
        if exc.filename is not None or exc.errno not in UNWRITTEN:
            raise
        code = _unwritten(exc, as_json="--json" in args)
    sys.exit(code)


def _interrupt() -> Any:
    """Return what Ctrl-C does from here on: what it did, unless `gatebook.__main__` had it."""
    found = signal.getsignal(signal.SIGINT)
    return found if found in (signal.SIG_IGN, signal.SIG_DFL) else signal.default_int_handler


def _check_streams() -> None:
    """Make standard output take every character, and neither stream missing. Raises OSError."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    if sys.stdout is None:
        raise OSError(errno.EBADF, "it is closed")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _unwritten(error: OSError, *, as_json: bool) -> int:
    """Report that standard output takes no more; a reader that went away knows it."""
    from gatebook.errors import GatebookError

    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        told = GatebookError("E_STDOUT", detail=error.strerror)
        with suppress(OSError):
            report(told.code, *sentences(told), as_json=as_json)
    return ERROR


def run(args: list[str]) -> int:
    """Run one command line and return its exit code."""
    from gatebook.errors import GatebookError

    as_json = "--json" in args
    try:
        result: Any = gatebook.main(args, prog_name="gatebook", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as exc:
        click.echo(exc.format_message(), err=True)
        return USAGE
    except click.UsageError as exc:
        report_usage(exc, as_json=as_json)
        return USAGE
    except click.ClickException as exc:
        report("E_USAGE", exc.format_message(), "", as_json=as_json)
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except GatebookError as exc:
        return report_error(exc, as_json=as_json)
    return result if isinstance(result, int) else OK


def report_error(error: Any, *, run: str | None = None, as_json: bool) -> int:
    """Report one of our errors, of a run if it concerns one; return its exit code."""
    message, hint = sentences(error)
    report(error.code, message, hint, run=run or error.fields.get("run"), as_json=as_json)
    return code_of(error)


def code_of(error: Exception) -> int:
    """Return the exit code of an error."""
    from gatebook.errors import Diverged, RunStopped, RunWaiting

    if isinstance(error, RunWaiting):
        return WAITS
    return ENDED_BADLY if isinstance(error, RunStopped | Diverged) else ERROR


def sentences(error: Any) -> tuple[str, str]:
    """Return what happened and what to do about it, as two texts."""
    text, hint = str(error), error.hint
    text = text.removesuffix(f" [{error.code}]").removesuffix(f"; {hint}")
    return text, HINTS.get(error.code, hint)


def report_usage(error: click.UsageError, *, as_json: bool) -> None:
    """Report a command line that cannot be understood."""
    path = error.ctx.command_path if error.ctx else "gatebook"
    code, hint = getattr(error, "code", "E_USAGE"), getattr(error, "hint", f"{path} --help")
    report(code, error.format_message().rstrip("."), hint, as_json=as_json)


def report(
    code: str, message: str, hint: str, *, run: str | None = None, as_json: bool = False
) -> None:
    """Write an error to standard error: one line, a hint on a terminal, or one JSON document."""
    if as_json:
        error = {"code": code, "message": message, "hint": hint, "run": run}
        from gatebook.cli.output import written

        print(written({"error": error}), file=sys.stderr)
    elif sys.stderr.isatty():
        colour = None if _plain() else "red"
        click.echo(
            f"{click.style('error:', fg=colour, bold=colour is not None)} {message}", err=True
        )
        if hint:
            click.echo(f"hint:  {hint}", err=True)
    else:
        click.echo(f"error: {message}{f'; {hint}' if hint else ''} [{code}]", err=True)


def _plain() -> bool:
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
