"""The language reference, against the language: its tables name what there is, and no more."""

import re
from pathlib import Path

import pytest

from gatebook.kernel.events import Verdict
from gatebook.kernel.records import STRICTNESS
from gatebook.kernel.rules.conditions import OPS
from gatebook.kernel.rules.facts import FACTS, FAMILIES
from gatebook.kernel.rules.reading import RULE_KEYS, THEN_KEYS
from gatebook.kernel.rules.trials import CALL_KEYS

PAGE = (Path(__file__).parents[3] / "docs" / "policy.md").read_text(encoding="utf-8")

MEANINGS: dict[tuple[str, Verdict], str] = {
    ("start", "allow"): "the run starts; nothing needs to say so",
    ("start", "deny"): "the run is refused before anything is written",
    ("start", "ask"): "the run is refused: whoever starts it has to ask",
    ("start", "defer"): "the run is refused: whoever starts it may do so later",
    ("start", "modify"): "the run starts with the changed input",
    ("start", "interrupt"): "the run begins interrupted: a person resumes or cancels it",
    ("model call", "allow"): "the model is called, budget permitting",
    ("model call", "deny"): "the model is not called; the program sees why",
    ("model call", "ask"): "the call waits for a person",
    ("model call", "defer"): "the call waits, then this is decided again",
    ("model call", "modify"): "another route or a smaller answer; decided again",
    ("model call", "interrupt"): "the model is not called and the run stops for a person",
    ("tool call", "allow"): "the tool is called, budget permitting",
    ("tool call", "deny"): "the tool is not called; the model reads why",
    ("tool call", "ask"): "the call waits for a person who sees its final arguments",
    ("tool call", "defer"): "the call waits, then this is decided again",
    ("tool call", "modify"): "other arguments; validated and decided again",
    ("tool call", "interrupt"): "the tool is not called and the run stops for a person",
    ("result", "allow"): "the result is seen as it is; nothing needs to say so",
    ("result", "deny"): "the result is not kept: the program is told why",
    ("result", "ask"): "the result is not kept: what came back cannot wait",
    ("result", "defer"): "the result is not kept: what came back cannot wait",
    ("result", "modify"): "the result is changed before anything sees it",
    ("result", "interrupt"): "the result is not kept and the run stops for a person",
}


def table(header: str) -> list[list[str]]:
    """The rows of the table that opens with this header."""
    _, found, rest = PAGE.partition(f"| {header} |")
    assert found
    rows = rest.split("\n\n")[0].split("\n")[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_verdict_is_explained_at_every_point() -> None:
    """What a verdict does at a point is said once, for all of them, and pinned here."""
    points = ["start", "model call", "tool call", "result"]

    found = {
        (point, names(row[0])[0]): text
        for row in table("then | run start | model call | tool call | result")
        for point, text in zip(points, row[1:], strict=True)
    }

    assert found == MEANINGS
    assert set(MEANINGS) == {(point, then) for point in points for then in STRICTNESS}


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
    sentence = PAGE.rpartition("what is decided about: ")[2].partition(". ")[0]

    assert names(sentence) == list(CALL_KEYS)


def test_the_six_verdicts_are_ordered_as_the_page_says() -> None:
    """The strictest first, in the sentence that people remember."""
    sentence = PAGE.partition("The strictest that fires wins: ")[2].partition(".")[0]

    assert (*names(sentence), "allow") == STRICTNESS[::-1]
