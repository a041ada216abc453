"""The SQLite journal answers as the contract says."""

from pathlib import Path

import pytest

from gatebook.journals.sqlite import SqliteJournal
from gatebook.testing.journal_contract import JournalContract


class TestSqliteJournal(JournalContract):
    @pytest.fixture
    def journal(self, tmp_path: Path) -> SqliteJournal:
        return SqliteJournal(tmp_path / "journal.db")
