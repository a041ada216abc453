"""Memory and SQLite answer alike: random calls to both, the file by two journals in turn."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gatebook.errors import GatebookError
from gatebook.journals import MemoryJournal
from gatebook.journals.sqlite import SqliteJournal
from gatebook.kernel.append import Batch
from gatebook.kernel.budget import Amount, Limits
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import (
    ActionFailed,
    ActionResolved,
    AnyEvent,
    BudgetRaised,
    CancelRequested,
    DefinitionChanged,
    ErrorRecord,
    Interrupted,
    LedgersDeclared,
    Resumed,
    RunCompleted,
)
from gatebook.ports import Appended, Journal, Lease, Piece, Recorded, RunKey, RunQuery
from gatebook.runtime.runs.audit import audit, audit_ledgers
from gatebook.testing.clock import VirtualClock
from gatebook.testing.journal_facts.kit import note, requested, signal, started, succeeded, unknown

Call = Callable[[Journal], Awaitable[Any]]
CALLS = 150
OWNERS = ("w0", "w1")  # each of one of the two journals on the file
NO_SUCH = Lease(RunKey("default", "absent"), "w0", 1)


def plain(answer: Any) -> Any:
    """Return an answer without what two stores may say differently: append ids, marks of pieces."""
    if isinstance(answer, GatebookError):
        fields = {name: plain(value) for name, value in answer.fields.items()}
        return type(answer).__name__, answer.code, fields
    if isinstance(answer, Appended):
        return plain(answer.head), plain(answer.events)
    if isinstance(answer, Recorded):
        return answer.run, answer.seq, answer.position, answer.hash, plain(answer.event)
    if isinstance(answer, Piece):
        return msgspec.structs.replace(answer, mark=0)
    if isinstance(answer, msgspec.Struct):
        return _full(msgspec.json.decode(msgspec.json.encode(answer)))
    if type(answer) in (list, tuple):
        return [plain(each) for each in answer]
    return answer


def _full(found: Any) -> Any:
    """Leave out what is empty: a head that was read and one that was kept name it differently."""
    if not isinstance(found, dict):
        return found
    return {name: _full(value) for name, value in found.items() if _full(value) not in ({}, None)}


class Caller:
    """Draws calls that often succeed, by what the memory journal knows."""

    def __init__(self, seed: int, clock: VirtualClock) -> None:
        self.random = random.Random(seed)
        self.clock = clock
        self.addresses = 0
        self.leases = [NO_SUCH]
        self.sent = NO_SUCH, self.batch((note(),))

    def events(self, open_now: list[str]) -> tuple[AnyEvent, ...]:
        return tuple(self._event(open_now) for _ in range(self.random.choice((1, 1, 2, 3))))

    def _event(self, open_now: list[str]) -> AnyEvent:
        draw, amount = self.random, Amount(self.random.choice((0, 1, 1)))
        self.addresses += 1
        at = draw.choice(open_now or ["0"])
        ends = RunCompleted(output=Raw(b"1")) if draw.random() < 0.2 and not open_now else note()
        choices: list[AnyEvent] = [
            requested(str(self.addresses), reserve=amount),
            requested(str(self.addresses), reserve=amount),
            succeeded(at, b'"' + b"y" * draw.choice((1, 70_000)) + b'"', spent=amount),
            ActionFailed(address=at, error=ErrorRecord("E", "e")),
            unknown(at), ends, DefinitionChanged(before="d1", after="d2"),
            LedgersDeclared(ledgers={"tenant": Limits(tool_calls=6), "day": Limits(tool_calls=4)}),
            Interrupted(error=ErrorRecord("E", "e")), self.external(at),
        ]  # fmt: skip
        return draw.choice(choices)

    def external(self, at: str = "1") -> AnyEvent:
        choices: list[AnyEvent] = [
            signal(), note(), Resumed(by="a"), BudgetRaised(more=Limits(tool_calls=2), by="a"),
            ActionResolved(address=at, resolution=self.random.choice(("failed", "retry")), by="a"),
            CancelRequested() if self.random.random() < 0.3 else signal("other"),
        ]  # fmt: skip
        return self.random.choice(choices)

    def batch(self, events: tuple[AnyEvent, ...], **fields: Any) -> Batch:
        return Batch(events=events, append_id=self.random.randbytes(16), **fields)

    async def draw(self, memory: MemoryJournal) -> tuple[str, str, Call]:
        """Return a call's name, the owner whose journal is asked, and the call."""
        draw, now = self.random, self.clock.now()
        tenant = draw.choice(("default",) * 9 + ("other",))
        run = RunKey(tenant, draw.choice(("r1", "r%", "é")))
        owner, after = draw.choice(OWNERS), draw.randint(0, 9)
        lease = draw.choice(self.leases[-5:])
        head, held, ttl_ms = None, False, draw.choice((1_000, 90_000))
        for row in await memory.runs(run.tenant, RunQuery()):
            if row.run == run:
                head = row.head
                held = bool(row.owner)
                if held:
                    owner = row.owner  # who else may claim it is a matter of locks
                    lease = draw.choice(
                        (Lease(run, owner, head.epoch), Lease(run, owner, head.epoch), lease)
                    )
        seq = draw.choice((head.seq, head.seq, head.seq, 1, None)) if head else 1
        within = self.batch(
            self.events(list(head.open) if head else []), epoch=lease.epoch, after=seq,
            time=draw.choice((None, now, now - 5, now + 5)),
        )  # fmt: skip
        outside = self.batch((self.external(),), after=draw.choice((None, None, after)))
        first = started(
            program=draw.choice("pq"), labels=draw.choice(({}, {"a": "b"})),
            limits=draw.choice((Limits(), Limits(tool_calls=2))),
        )  # fmt: skip
        query = RunQuery(
            statuses=draw.choice(((), ("running",), ("n'o",))), program=draw.choice(("", "p")),
            id_prefix=draw.choice(("", "r", "r%", "_")), labels=draw.choice(({}, {"a": "b"})),
            since=draw.choice((None, now - 1_000)), limit=draw.choice((100, 1)),
        )  # fmt: skip
        pieces = [Piece(str(after), 0, first, 1, b"[]") for first in range(draw.randint(0, 2))]
        wake_at, waits = draw.choice((None, now, now + 1_000)), draw.choice(("", "signal go"))
        reason: Any = draw.choice(("", "", "diverged"))
        calls: dict[str, Call] = {
            "create": lambda j: j.create(run, first, input_hash="h"),
            "append": lambda j: j.append(lease.run, within),
            "append again": lambda j: j.append(again[0].run, again[1]),
            "append from outside": lambda j: j.append(run, outside),
            "claim": lambda j: j.claim(run, owner=owner, ttl_ms=ttl_ms),
            "renew": lambda j: j.renew(lease.owner, [*self.leases[-3:], lease], ttl_ms=ttl_ms),
            "park": lambda j: j.park(
                lease, after=seq or after, wake_at=wake_at, waiting_on=waits, reason=reason
            ),
            "due": lambda j: j.due(run.tenant, programs=["p"], limit=after),
            "runs": lambda j: j.runs(run.tenant, query),
            "keys": lambda j: j.keys(run.tenant),
            "row": lambda j: j.row(run),
            "read": lambda j: j.read(run, after=after, limit=draw_limit),
            "raw": lambda j: j.raw(run),
            "tail": lambda j: j.tail(run.tenant, after=after, limit=draw_limit or 100),
            "ledgers": lambda j: j.ledgers(run.tenant),
            "put pieces": lambda j: j.put_pieces(lease, pieces),
            "pieces": lambda j: j.pieces(run),
        }
        draw_limit = draw.choice((None, 1, 3))
        name = draw.choice([*calls, "append", "append", "append", "append", "create", "claim"])
        if name in ("append", "park") and not held and draw.random() < 0.9:
            name = "claim" if head else "create"
        again = self.sent
        if name == "append":
            self.sent = lease, within
        if name in ("append", "renew", "park", "put pieces"):
            owner = lease.owner
        return name, again[0].owner if name == "append again" else owner, calls[name]


async def answered(call: Call, journal: Journal) -> Any:
    try:
        return await call(journal)
    except GatebookError as exc:
        return exc


async def alike(store: Path, seed: int, seen: Counter[str]) -> None:
    """Make the same calls of both; compare each answer, and verify everything at the end."""
    clock = VirtualClock()
    caller, memory = Caller(seed, clock), MemoryJournal(clock=clock)
    files = {owner: SqliteJournal(store, clock=clock) for owner in OWNERS}
    for journal in (memory, *files.values()):
        await journal.open()
    try:
        for number in range(CALLS):
            name, owner, call = await caller.draw(memory)
            want = await answered(call, memory)
            got = await answered(call, files[owner])
            assert plain(got) == plain(want), f"call {number} of seed {seed}, {name}"
            seen[f"{name} {want.code}" if isinstance(want, GatebookError) else name] += 1
            caller.leases += [want] if isinstance(want, Lease) else []
            clock.advance(caller.random.choice((0, 0, 0.001, 5)))
        for tenant in ("default", "other"):
            for journal in (memory, files["w0"]):
                for run in await journal.keys(tenant):
                    assert (await audit(journal, run)).violation is None
                for ledger in await audit_ledgers(journal, tenant):
                    assert ledger.violation is None
        await files["w0"].check_whole()
    finally:
        for journal in (memory, *files.values()):
            await journal.close()


@pytest.mark.timeout(180)
def test_both_answer_the_same_calls_alike(tmp_path: Path) -> None:
    """What was tried in memory must hold in the file; and these calls reach what can happen."""
    seen: Counter[str] = Counter()

    for seed in range(40):
        asyncio.run(alike(tmp_path / f"{seed}.db", seed, seen))

    for reached in (
        "append", "claim", "park", "renew", "put pieces", "append E_CONFLICT", "append E_FENCED",
        "append E_BUDGET", "append E_RUN_TERMINAL", "append E_NOT_STARTING", "park E_CONFLICT",
        "append from outside", "append from outside E_BUDGET_RAISE", "row E_RUN_NOT_FOUND",
    ):  # fmt: skip
        assert seen[reached], f"{reached} was never reached"
