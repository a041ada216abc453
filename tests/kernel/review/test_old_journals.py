"""Journals that earlier versions wrote are decided again like any other."""

from pathlib import Path

import pytest

from gatebook.kernel.events import AnyEvent
from gatebook.kernel.review.again import answer
from gatebook.kernel.review.decisions import Told, decisions
from gatebook.kernel.rules.match import Rulebook
from gatebook.kernel.stored import decode
from tests.kernel.review.kit import policy

RUNS = sorted((Path(__file__).parents[2] / "corpus").glob("v*/*.jsonl"))
ALL = 'id = "all"\nthen = "allow"\naction = ["call_tool", "call_llm"]'


def events(path: Path) -> list[AnyEvent]:
    lines = path.read_bytes().splitlines()
    return [decode(body, run=path.stem, seq=seq) for seq, body in enumerate(lines, 1)]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_what_was_let_through_would_be_and_what_is_denied_to_all_would_not(path: Path) -> None:
    """The runs of last year are what a new policy is tried on."""
    recorded = events(path)

    let_through = [
        each for each in decisions(recorded, Told(run_id="r"))
        if each.was == "allow" and each.kind in ("tool", "llm")
    ]  # fmt: skip

    assert let_through
    for document, verdict in ((policy(ALL), "allow"), (policy(), "deny")):
        book = Rulebook(document)
        assert {answer(book, each).verdict for each in let_through} == {verdict}


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_request_and_denial_is_found(path: Path) -> None:
    """A decision that is left out would be one that no backtest shows."""
    recorded = events(path)
    kinds = ("action_requested", "action_denied", "run_started")
    want = [
        seq for seq, event in enumerate(recorded, 1)
        if type(event).__struct_config__.tag in kinds
    ]  # fmt: skip

    assert [each.seq for each in decisions(recorded, Told(run_id="r"))] == want
