"""Which mode a cassette is in, and which modes and files are refused."""

from pathlib import Path

import pytest
from tests.providers.calls import asking
from tests.testing.tapes import answered, echo, failed, stored

from gatebook.errors import ConfigError
from gatebook.testing.cassette import VARIABLE, Cassette


def test_the_variable_chooses_the_mode(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recording anew should not need an edit of every test."""
    monkeypatch.setenv(VARIABLE, "record")

    answered(Cassette(path, provider=echo()), asking())

    assert len(stored(path)) == 1


def test_recording_is_refused_on_a_build_server(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that calls real models is neither repeatable nor free."""
    monkeypatch.setenv("CI", "true")

    with pytest.raises(ConfigError, match="nothing is recorded where CI is set"):
        Cassette(path, provider=echo(), mode="record")


def test_auto_replays_only_on_a_build_server(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing there must fail, not be paid for."""
    monkeypatch.setenv("CI", "1")

    error = failed(Cassette(path, provider=echo(), mode="auto"), asking())

    assert "holds no recording" in error.message


def test_an_unknown_mode_is_refused(path: Path) -> None:
    """A typing error must not record."""
    with pytest.raises(ConfigError, match="there is no mode 'reply'"):
        Cassette(path, mode="reply")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "[]", '{"cassette": 2, "recordings": []}', '{"a": 1}'])
def test_a_file_that_is_no_cassette_is_refused(path: Path, text: str) -> None:
    """Playing nothing from it would look like a test that asks nothing."""
    path.parent.mkdir()
    path.write_text(text)

    with pytest.raises(ConfigError, match="E_CONFIG"):
        Cassette(path)
