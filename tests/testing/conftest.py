"""A folder for the cassette of a test, and no surroundings that change what it does."""

from pathlib import Path

import pytest

from gatebook.testing.cassette import VARIABLE


@pytest.fixture(autouse=True)
def _nowhere_special(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the suite may do so on a build server, or while recording."""
    for name in ("CI", VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the cassette of a test lies; its folder is not there yet."""
    return tmp_path / "cassettes" / "one.json"
