"""A folder for tools of files, and a file beside it that they must not reach."""

from pathlib import Path

import pytest
from tests.tools.folders import SECRET


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that no tool of the folder may read or change."""
    path = tmp_path / "outside"
    path.write_text(SECRET)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the tools."""
    path = tmp_path / "base"
    path.mkdir()
    return path
