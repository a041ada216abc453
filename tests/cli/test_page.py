"""The page about the command line: complete, and every example on it runs as it is printed."""

import re
import subprocess
from pathlib import Path

import click
import pytest

from gatebook.cli.main import VERBS, gatebook
from gatebook.cli.options import Verb
from tests.cli.conftest import COMMAND, PATIENCE_S, Folder

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def command(name: str) -> Verb:
    found = gatebook.get_command(click.Context(gatebook), name)
    assert isinstance(found, Verb)
    return found


def examples() -> list[tuple[str, str]]:
    """Return (command, expected output) of the page's console blocks, in order."""
    found = []
    for language, text in BLOCK.findall(PAGE):
        if language == "console":
            for part in text.split("$ ")[1:]:
                line, _, output = part.partition("\n")
                found.append((line, output))
    return found


def as_pattern(text: str) -> str:
    """Return a pattern in which `…` is any text, on a line of its own any number of lines."""
    lines = []
    for line in text.splitlines():
        whole = "(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + "\n"
        lines.append(whole)
    return "".join(lines)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(verb: str) -> None:
    """--help is the page people have at hand."""
    found = command(verb)

    assert found.help
    assert len(found.help) > 60
    assert all(example.startswith(f"gatebook {verb}") for example in found.examples)
    assert found.examples


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_every_verb_has_help(verb: str) -> None:
    """An option whose name must say it all is guessed at."""
    silent = [
        parameter.name
        for parameter in command(verb).params
        if parameter.param_type_name == "option" and not getattr(parameter, "help", None)
    ]

    assert silent == []


@pytest.mark.parametrize("verb", VERBS)
def test_help_says_what_json_prints_and_what_may_be_left_out(verb: str) -> None:
    """One document or one object a line; an argument that an option replaces is not required."""
    found = command(verb)
    help = found.get_help(click.Context(found))
    objects = verb in ("tail", "worker")

    assert ("Print one JSON object a line" in help) == objects
    assert ("Print one JSON document" in help) == (not objects and "--json" in help)
    assert ("RUN|--all" in help) == any(param.name == "every" for param in found.params)


def test_the_help_of_list_names_the_columns_as_they_are_printed(kept: Folder) -> None:
    """Who cuts a column reads it there."""
    text = " ".join((command("list").help or "").split())
    first = kept("list").stdout.splitlines()[0].split("\t")

    columns = text.partition("values: ")[2].rstrip(".").split(", ")
    assert len(columns) == len(first)
    assert (columns[3], columns[-1]) == ("events", "what it waits for")
    assert first[3].isdecimal()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_on_the_page(verb: str) -> None:
    """A verb that is not documented does not exist for most."""
    assert f"\n## `gatebook {verb}`\n" in PAGE


@pytest.mark.timeout(300)  # some twenty processes, one after the other
def test_every_example_on_the_page_prints_what_the_page_says(tmp_path: Path) -> None:
    """An example that was never run is a guess about the program."""
    folder = Folder(tmp_path)
    (app,) = [text for language, text in BLOCK.findall(PAGE) if language == "python"]
    (tmp_path / "desk.py").write_text(app)
    environment = folder.env | {"PATH": f"{COMMAND.parent}:{folder.env['PATH']}"}

    different = []
    for line, expected in examples():
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, env=environment, timeout=PATIENCE_S,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False,
        )  # fmt: skip
        if not re.fullmatch(as_pattern(expected), done.stdout):
            different.append(f"$ {line}\n{done.stdout}")

    assert len(examples()) > 14
    assert different == []
