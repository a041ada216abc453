"""How the demo speaks."""

import pytest

from gatebook.demo.screen import labelled, say


@pytest.mark.parametrize(("columns", "widest"), [("70", 70), ("80", 80), ("200", 98)])
def test_paragraphs_fit_the_terminal(
    columns: str, widest: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that the terminal breaks once more is hard to read; so is one across a wide screen."""
    monkeypatch.setenv("COLUMNS", columns)

    say("word " * 100)
    labelled("why", "word " * 100)

    lines = capsys.readouterr().out.splitlines()
    assert widest - 5 < max(map(len, lines)) <= widest
