"""One run as a journal works on it: the head plus the columns of its row, and how they change.

Pure. Every journal loads an entry under its lock, calls one method and stores what has changed,
so all journals answer alike. A refused call leaves the entry as it was.
"""

from collections.abc import Iterable, Sequence

from gatebook.errors import Fenced
from gatebook.journals.book import Book
from gatebook.kernel.append import Batch, Row, SeqMismatch, admit
from gatebook.kernel.events import (
    ENDS_OF_ATTEMPTS,
    AnyEvent,
    AttemptStarted,
    DefinitionChanged,
    RunStarted,
)
from gatebook.kernel.head import Head
from gatebook.kernel.status import NEW, TERMINAL
from gatebook.ports import Lease, Piece, RunKey, RunRow


class RunEntry:
    """A run's row while a journal works on it; fields as in `ports.RunRow`.

    `id` is the store's own integer for the run, 0 before it has one.
    """

    __slots__ = (
        "created", "definition", "head", "id", "input_hash", "labels", "lease_until", "owner",
        "parked_reason", "program", "program_kind", "run", "updated", "waiting_on", "wake_at",
    )  # fmt: skip

    def __init__(self, run: RunKey, started: RunStarted, input_hash: str) -> None:
        self.run = run
        self.id = 0
        self.program = started.program
        self.program_kind = started.program_kind
        self.definition = started.definition
        self.input_hash = input_hash
        self.labels = started.labels
        self.head = Head()
        self.owner = ""
        self.lease_until = 0
        self.wake_at: int | None = None
        self.waiting_on = ""
        self.parked_reason = ""
        self.created = 0
        self.updated = 0

    @classmethod
    def of(cls, row: RunRow, id: int) -> "RunEntry":
        """Return the entry of a stored row."""
        entry = cls.__new__(cls)
        entry.id = id
        for name in RunRow.__struct_fields__:
            setattr(entry, name, getattr(row, name))
        return entry

    def row(self) -> RunRow:
        """Return the row as readers see it, with a head of its own."""
        return RunRow(
            run=self.run,
            program=self.program,
            program_kind=self.program_kind,
            definition=self.definition,
            input_hash=self.input_hash,
            head=self.head.copy(),
            owner=self.owner,
            lease_until=self.lease_until,
            wake_at=self.wake_at,
            waiting_on=self.waiting_on,
            parked_reason=self.parked_reason,
            labels=self.labels,
            created=self.created,
            updated=self.updated,
        )

    def append(self, batch: Batch, *, now: int, book: Book | None = None) -> list[Row]:
        """Admit a batch and return the rows to store; see `kernel.append.admit` for refusals.

        What the rows move on ledgers goes to `book`.

        An append without an epoch makes the run due, whatever it was parked for; the end of a
        run frees it.
        """
        first, draft = self.head.status is NEW, batch.draft
        if draft is not None and draft.fits(self.head, now):
            head, rows = draft.head, draft.rows
        else:
            head = self.head.copy()
            rows = admit(head, batch, now=now, run=self.run.id)
        if head.ledgers is not None and book is not None:
            book.take(self.run.tenant, rows)
        self.head = head
        self.updated = head.time
        if first:
            self.created = head.time
        if batch.epoch is not None:
            for event in batch.events:
                if type(event) is DefinitionChanged:
                    self.definition = event.after
        if head.status in TERMINAL:
            self.owner, self.lease_until = "", 0
            self.wake_at, self.waiting_on, self.parked_reason = None, "", ""
        elif batch.epoch is None:
            self.wake_at, self.parked_reason = head.time, ""
        return rows

    def claim(self, owner: str, *, until: int) -> Lease | None:
        """Give the run to `owner` under a new epoch, or return None when nobody may have it.

        The caller has made sure that no live worker holds it.
        """
        if self.head.terminal or self.parked_reason:
            return None
        head = self.head.copy()
        head.epoch += 1
        self.head = head
        self.owner, self.lease_until, self.waiting_on = owner, until, ""
        return Lease(self.run, owner, head.epoch)

    def park(
        self, lease: Lease, *, after: int, wake_at: int | None, waiting_on: str, reason: str
    ) -> None:
        """Release the run until `wake_at`. Raises Fenced or SeqMismatch."""
        if self.head.epoch != lease.epoch or self.owner != lease.owner:
            raise Fenced("E_FENCED", run=self.run.id, current=self.head.epoch, epoch=lease.epoch)
        if self.head.seq != after:
            raise SeqMismatch
        self.owner, self.lease_until = "", 0
        self.wake_at, self.waiting_on, self.parked_reason = wake_at, waiting_on, reason

    def takes(self, lease: Lease, pieces: Sequence[Piece]) -> list[Piece]:
        """Return the pieces that belong to attempts which run under `lease`. Raises Fenced."""
        if self.head.epoch != lease.epoch:
            raise Fenced("E_FENCED", run=self.run.id, current=self.head.epoch, epoch=lease.epoch)
        return [piece for piece in pieces if self._runs(piece.address, piece.attempt)]

    def _runs(self, address: str, attempt: int) -> bool:
        entry = self.head.open.get(address)
        return entry is not None and entry.phase == "started" and entry.attempt == attempt

    def release(self, *, now: int) -> None:
        """Let go of a held run without having looked at it; it is due at once."""
        self.owner, self.lease_until, self.wake_at = "", 0, now

    def keeps(self, lease: Lease) -> bool:
        """Whether a lease still stands; that of a run which has ended was not lost."""
        if self.head.epoch != lease.epoch:
            return False
        return self.owner == lease.owner or self.head.terminal


def superseded(events: Iterable[AnyEvent]) -> list[tuple[str, int]]:
    """Return (address, attempt): pieces of these actions before that attempt are of no use now."""
    found = []
    for event in events:
        if isinstance(event, AttemptStarted):
            found.append((event.address, event.attempt))
        elif isinstance(event, ENDS_OF_ATTEMPTS):
            found.append((event.address, event.attempt + 1))
    return found
