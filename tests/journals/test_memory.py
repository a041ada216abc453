"""The memory journal answers as the contract says."""

import pytest

from gatebook.journals.memory import MemoryJournal
from gatebook.testing.journal_contract import JournalContract


class TestMemoryJournal(JournalContract):
    @pytest.fixture
    def journal(self) -> MemoryJournal:
        return MemoryJournal()
