"""What all verbs share: their common options, and the command lines they suggest.

Knows click; must not know what any verb does.
"""

import functools
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from gatebook.cli.main import sentences
from gatebook.cli.output import quiet_logs
from gatebook.errors import GatebookError, InvalidInput, shown

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Given:
    """The common options of one command.

    Attributes:
        store, app, policy: as given as flags; None leaves them to the settings.
        as_json: print one JSON document.
        no_input: never ask.
    """

    store: str | None = None
    app: str | None = None
    policy: str | None = None
    as_json: bool = False
    no_input: bool = False

    @functools.cached_property
    def settings(self) -> Any:
        """The settings in force, a `runtime.settings.Settings`."""
        from gatebook.runtime.settings import load_settings

        return load_settings(flags={"store": self.store, "app": self.app, "policy": self.policy})

    def line(self, *words: str) -> str:
        """Return a command line that finds the same store as this one did."""
        flags = ("--store", self.store) if self.store else ()
        return shlex.join(("gatebook", *words, *flags))

    def driving_line(self, *words: str) -> str:
        """Return a command line that drives runs with the same store, app and policy."""
        flags = [
            part
            for name in ("app", "policy")
            if (value := getattr(self, name))
            for part in (f"--{name}", value)
        ]
        return self.line(*words, *flags)


class Verb(click.Command):
    """A command with examples, which are shown as they are written."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"  {example}\n")


def said(_: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Return an option's value; an empty one, as of a variable that is not set, is refused.

    Raises:
        click.BadParameter: it is empty.
    """
    if value == "":
        raise click.BadParameter("it is empty; give a value, or leave the option out")
    return value


_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "no_input": click.option("--no-input", is_flag=True, help="Never ask anything."),
    "as_json": click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document instead."
    ),
    "policy": click.option(
        "--policy",
        metavar="FILE|POLICY",
        callback=said,
        help="A policy file (several: a.toml,b.toml), module:attribute, or allow-declared.",
    ),
    "app": click.option(
        "--app",
        metavar="MODULE:ATTR",
        callback=said,
        help="Where the programs are: a program or a Runtime.",
    ),
    "store": click.option(
        "--store", metavar="URL", callback=said, help="The journal: sqlite:///path, or a path.db."
    ),
}


_JSON_LINES = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a line instead."
)


def common(*, driving: bool = False, following: bool = False) -> Callable[[F], F]:
    """Add the common options to a command and hand them over as `given`.

    `driving` adds those that only verbs with a program need: --app and --policy. A verb that is
    `following` what happens prints many JSON objects, and no document.
    """
    options = _OPTIONS | ({"as_json": _JSON_LINES} if following else {})
    names = [name for name in options if driving or name not in ("app", "policy")]

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def command(**values: Any) -> Any:
            given = Given(**{name: values.pop(name) for name in names})
            if given.as_json:
                quiet_logs()
            return function(given=given, **values)

        decorated: Any = command
        for name in names:
            decorated = options[name](decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate


on_ask_option = click.option(
    "--on-ask",
    type=click.Choice(("prompt", "wait", "deny")),
    help="What to do when somebody is asked: prompt (on a terminal), leave the run waiting, deny.",
)
run_argument = click.argument("run", metavar="RUN")


def read_text(value: str) -> str:
    """Return what `-` (standard input) or `@file` stand for, or the value itself.

    Raises:
        click.BadParameter: the file cannot be read.
    """
    if value == "-":
        return sys.stdin.read()
    if value.startswith("@"):
        try:
            with open(value[1:], encoding="utf-8") as file:
                return file.read()
        except (OSError, UnicodeDecodeError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
            raise click.BadParameter(f"cannot read {value[1:]}: {why}") from exc
    return value


def read_labels(texts: Iterable[str]) -> dict[str, str]:
    """Return labels given as KEY=VALUE.

    Raises:
        click.BadParameter: one is not.
    """
    labels = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"a label is KEY=VALUE, got {text!r}")
        labels[name] = value
    return labels


class WrongJson(click.BadParameter):
    """A value that is no strict JSON, with the code and the hint of what is wrong with it."""

    def __init__(self, value: str, error: GatebookError) -> None:
        message, self.hint = sentences(error)
        super().__init__(f"{message}, in {shown(value)}")
        self.code = error.code
        if self.code == "E_JSON_SYNTAX":
            self.hint += "; text must be quoted: '\"like this\"'"

    def format_message(self) -> str:
        """Return what is wrong, without a prefix."""
        return self.message


def read_json(value: str) -> Any:
    """Return strict JSON given as text, `@file` or `-`.

    Raises:
        click.BadParameter: it is not JSON, or the file cannot be read.
    """
    from gatebook.kernel.codec import parse

    try:
        return parse(read_text(value), what="$")
    except InvalidInput as exc:
        raise WrongJson(value, exc) from exc
