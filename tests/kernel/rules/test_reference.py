"""The language reference, against the language: its tables name what there is, and no more."""

import re
from pathlib import Path

import pytest

from gatebook.kernel.rules.conditions import OPS
from gatebook.kernel.rules.document import MEANINGS, STRICTNESS
from gatebook.kernel.rules.facts import FACTS, FAMILIES
from gatebook.kernel.rules.reading import RULE_KEYS, THEN_KEYS
from gatebook.kernel.rules.trials import CALL_KEYS

PAGE = (Path(__file__).parents[3] / "docs" / "policy.md").read_text(encoding="utf-8")


def table(header: str) -> list[list[str]]:
    """The rows of the table that opens with this header."""
    _, found, rest = PAGE.partition(f"| {header} |")
    assert found
    rows = rest.split("\n\n")[0].split("\n")[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_verdict_is_explained_at_every_point() -> None:
    """The table in the reference is the one the code has."""
    points = ["start", "model call", "tool call", "result"]

    found = {
        (point, names(row[0])[0]): text
        for row in table("then | run start | model call | tool call | result")
        for point, text in zip(points, row[1:], strict=True)
    }

    assert found == MEANINGS


@pytest.mark.parametrize(
    ("header", "known"),
    [
        ("operator | operand | true when", set(OPS)),
        ("key | of | meaning", {*RULE_KEYS, *(key for keys in THEN_KEYS.values() for key in keys)}),
        ("fact | known at | what it is",
         {*FACTS, "args.PATH", "result.PATH", "input.PATH", "label.NAME", "count.PATTERN"}),
    ],
)  # fmt: skip
def test_a_table_lists_what_there_is(header: str, known: set[str]) -> None:
    """A key that is not written down cannot be found; one that is gone misleads."""
    assert {name for row in table(header) for name in names(row[0])} == known


def test_every_family_of_facts_is_listed() -> None:
    """Families go on with a path, a name or a pattern."""
    listed = {name.partition(".")[0] for name in re.findall(r"`(\w+\.[A-Z]+)`", PAGE)}

    assert listed == set(FAMILIES)


def test_every_key_of_a_test_is_listed() -> None:
    """The last section is all there is to know about `call`."""
    sentence = PAGE.rpartition("what is decided about: ")[2].partition(". What")[0]

    assert names(sentence) == list(CALL_KEYS)


def test_the_six_verdicts_are_ordered_as_the_page_says() -> None:
    """The strictest first, in the sentence that people remember."""
    sentence = PAGE.partition("The strictest that fires wins: ")[2].partition(".")[0]

    assert (*names(sentence), "allow") == STRICTNESS[::-1]
