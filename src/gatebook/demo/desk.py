"""The desk's files: what customers wrote and bought (shipped), and what the tools write.

Knows nothing of models, agents or runs. Everything it writes is one JSON line, synced to disk
before the call returns, under a file lock, as a careful service would.
"""

import fcntl
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
HELD_S = 3_600.0  # a held call is over when its process is: far beyond the length of the demo


@dataclass(frozen=True)
class Letter:
    """One message of a customer. `received` is local time, as in "2026-03-02 07:42"."""

    id: str
    sender: str
    received: str
    subject: str
    body: str


@dataclass(frozen=True)
class Order:
    """One order; `refunded` is what the ledger says, the rest is what the shop says."""

    order: str
    customer: str
    email: str
    items: list[str]
    paid: Decimal
    currency: str
    status: str
    delivered: str | None
    refunded: Decimal


@dataclass(frozen=True)
class Article:
    """One article of the knowledge base."""

    name: str
    text: str


def letter_ids() -> list[str]:
    """Return the ids of all messages, oldest first."""
    return sorted(file.stem for file in (DATA / "messages").glob("M-*.txt"))


def read_letter(letter: str) -> Letter | None:
    """Return one message from its file, or None when there is none of that id."""
    if not re.fullmatch(r"M-\d{3}", letter):
        return None
    file = DATA / "messages" / f"{letter}.txt"
    if not file.is_file():
        return None
    head, _, body = file.read_text(encoding="utf-8").partition("\n\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    return Letter(letter, fields["From"], fields["Date"], fields["Subject"], body.strip())


def search_articles(query: str) -> list[Article]:
    """Return the two articles in which the words of the query occur most, if any do."""
    words = set(re.findall(r"\w{4,}", query.lower()))
    found = []
    for file in sorted((DATA / "kb").glob("*.md")):
        text = file.read_text(encoding="utf-8")
        hits = sum(text.lower().count(word) for word in words)
        found.append((hits, Article(file.stem, text)))
    best = sorted(found, key=lambda pair: -pair[0])[:2]
    return [article for hits, article in best if hits]


class JsonLines:
    """A file of JSON lines that several processes may append to; a line is on disk or absent."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """Return all lines, oldest first; a file that is not there has none."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]

    def append(self, line: dict[str, Any]) -> None:
        """Append one line, whatever the file holds."""
        self.append_if(lambda lines: line)

    def append_if(
        self, decide: Callable[[list[dict[str, Any]]], dict[str, Any] | None]
    ) -> dict[str, Any] | None:
        """Append what `decide` makes of the lines so far (None: nothing), under the lock."""
        with self.path.open("a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # let go when the file closes, or its process dies
            line = decide(self.read())
            if line is not None:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
            return line


class Desk:
    """The files of one demo folder.

    Args:
        folder: where the files are written; it exists.
        holds: moments at which a call stops for good, as "paid KK-20408": it reports the moment
            by a file in `held/` and never returns. This is how a kill can find it in flight.
        service_s: how long the bank and the mail server take.
    """

    def __init__(
        self, folder: Path, *, holds: frozenset[str] = frozenset(), service_s: float = 0.1
    ) -> None:
        self.folder = folder
        self.ledger = JsonLines(folder / "ledger.jsonl")
        self.outbox = JsonLines(folder / "outbox.jsonl")
        self.handovers = JsonLines(folder / "handovers.jsonl")
        self.closed_accounts = JsonLines(folder / "closed-accounts.jsonl")
        self.holds = holds
        self.service_s = service_s

    def moment(self, name: str) -> None:
        """Pass a moment of a call: take the time a service takes, or stay there for good."""
        if name not in self.holds:
            time.sleep(self.service_s)
            return
        held = self.folder / "held"
        held.mkdir(exist_ok=True)
        (held / name).touch()
        time.sleep(HELD_S)

    def held(self) -> frozenset[str]:
        """Return the moments at which a call has stopped."""
        held = self.folder / "held"
        return frozenset(file.name for file in held.iterdir()) if held.is_dir() else frozenset()

    def order(self, number: str) -> Order | None:
        """Return an order with what the ledger has paid back of it, or None."""
        orders = json.loads((DATA / "orders.json").read_text(encoding="utf-8"))
        for fields in orders:
            if fields["order"] == number:
                refunded = refunded_of(self.ledger.read(), number)
                return Order(**fields | {"paid": Decimal(fields["paid"]), "refunded": refunded})
        return None


def refunded_of(lines: list[dict[str, Any]], order: str) -> Decimal:
    """Return the sum of an order's ledger lines."""
    return sum((Decimal(x["amount"]) for x in lines if x["order"] == order), Decimal("0.00"))
