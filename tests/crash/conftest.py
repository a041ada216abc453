"""One fleet of worker processes for each test module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.evidence import new_place
from tests.crash.fleet import Fleet
from tests.crash.place import Place


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Worker processes; those that are left are killed at the end."""
    with Fleet() as fleet:
        yield fleet


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An outside world of its own for one test."""
    return new_place(tmp_path, "place")
