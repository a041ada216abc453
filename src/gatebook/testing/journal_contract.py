"""The contract of journals as tests: inherit the class, give it a journal, and it runs.

    class TestMyJournal(JournalContract):
        @pytest.fixture
        def journal(self, tmp_path):
            return MyJournal(tmp_path / "journal.db")

The fixture returns a journal that is not open yet; each fact opens and closes it.
"""

from gatebook.testing.journal_facts.appends import AppendFacts
from gatebook.testing.journal_facts.approvals import ApprovalFacts
from gatebook.testing.journal_facts.leases import LeaseFacts
from gatebook.testing.journal_facts.ledgers import LedgerFacts
from gatebook.testing.journal_facts.outsiders import OutsiderFacts
from gatebook.testing.journal_facts.pieces import PieceFacts
from gatebook.testing.journal_facts.readers import ReaderFacts


class JournalContract(
    AppendFacts, ApprovalFacts, LedgerFacts, OutsiderFacts, LeaseFacts, ReaderFacts, PieceFacts
):
    """Every fact a journal must show; needs a pytest fixture named `journal`."""
