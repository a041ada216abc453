"""Proof that a stored run holds: its chain of hashes, and every promise its events make.

Pure. The sums are made again here, without the fold's help, so that one checks the other.
"""

from collections.abc import Iterable, Sequence

import msgspec

from gatebook.errors import IntegrityError, InvalidInput, JournalCorrupt
from gatebook.kernel.actions import CallLLM
from gatebook.kernel.approvals.standing import NOBODY_ASKED, check_request
from gatebook.kernel.budget import NOTHING, Amount, Limits, charged, shortfall
from gatebook.kernel.events import (
    ActionDenied,
    ActionFailed,
    ActionRequested,
    ActionResolved,
    ActionSucceeded,
    ActionUnknown,
    AnyEvent,
    AttemptFailed,
    AttemptStarted,
    BudgetRaised,
    HookAnswered,
    LedgersDeclared,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
)
from gatebook.kernel.head import Head
from gatebook.kernel.hooks.facts import HookFacts
from gatebook.kernel.stored import GENESIS, chain


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found: counts of what was read, and the first violation if any."""

    run: str
    events: int
    actions: int
    status: str
    hash: str
    violation: IntegrityError | None = None

    @property
    def ok(self) -> bool:
        """Whether everything held."""
        return self.violation is None


StoredRow = tuple[int, bytes, bytes, bytes]


def verify_chain(run: str, rows: Sequence[StoredRow], anchor: Head) -> None:
    """Check the stored bytes of a run: seq without gap or repeat, every hash, and the anchor.

    `rows` are (seq, prev_hash, hash, body); `anchor` is the head that the run row keeps.

    Raises:
        JournalCorrupt: E_JOURNAL_GAP, E_JOURNAL_DUPLICATE, E_JOURNAL_CORRUPT or
            E_JOURNAL_TRUNCATED: the first that does not hold.
    """
    previous = GENESIS
    for expected, (seq, prev_hash, stored, body) in enumerate(rows, start=1):
        if seq > expected:
            raise JournalCorrupt("E_JOURNAL_GAP", run=run, seq=expected)
        if seq < expected:
            raise JournalCorrupt("E_JOURNAL_DUPLICATE", run=run, seq=seq)
        if prev_hash != previous:
            raise _changed(run, seq, prev_hash, previous)
        found = chain(previous, seq, body)
        if found != stored:
            raise _changed(run, seq, found, stored)
        previous = stored
    if len(rows) != anchor.seq:
        raise JournalCorrupt("E_JOURNAL_TRUNCATED", run=run, got=len(rows), want=anchor.seq)
    if previous != anchor.hash:
        raise _changed(run, anchor.seq, previous, anchor.hash)


def _changed(run: str, seq: int, got: bytes, want: bytes) -> JournalCorrupt:
    return JournalCorrupt("E_JOURNAL_CORRUPT", run=run, seq=seq, got=got.hex(), want=want.hex())


def verify_facts(run: str, events: Iterable[AnyEvent], anchor: Head) -> None:
    """Check what the events say: each may follow, nothing ran too often, the sums are right.

    Raises:
        IntegrityError: E_TRANSITION, E_ACTION_NOT_OPEN or E_INVARIANT, with the first event
            that breaks a promise, or the field where the fold and the stored head differ.
    """
    head = Head()
    facts = _Facts(run)
    for event in events:
        facts.check(head.seq + 1, event)
        if isinstance(event, ActionRequested):
            facts.approved(head, event)
        try:
            head.apply(event)
        except IntegrityError as exc:
            raise IntegrityError(exc.code, **exc.fields | {"run": run}) from exc
    facts.agree(head)
    for name in ("seq", "time", "status", "limits", "reserved", "spent", "open", "kept_signals",
                 "cancel_seq", "approvals", "ledgers"):  # fmt: skip
        if getattr(head, name) != getattr(anchor, name):
            raise _broken(run, f"the stored head and the events differ in {name}")
    if facts.epoch > anchor.epoch:
        raise _broken(run, f"an event carries epoch {facts.epoch}, the head {anchor.epoch}")


class _Facts:
    """The promises of a run, checked without the fold's help: its sums are made again here."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.epoch = 0
        self.time = 0
        self.limits = Limits()
        self.in_dollars = False  # a ledger has a limit in dollars
        self.spent = NOTHING
        self.held: dict[str, Amount] = {}
        self.calls: dict[str, CallLLM] = {}
        self.effects: dict[str, str] = {}
        self.lost: set[str] = set()
        self.unknown: set[str] = set()
        self.done: set[str] = set()
        self.over = False
        self.hooks: HookFacts | None = None

    def check(self, seq: int, event: AnyEvent) -> None:
        if event.time < self.time:
            raise self._broken(seq, "its time is before that of the event it follows")
        if event.epoch and event.epoch < self.epoch:
            raise self._broken(seq, f"epoch {event.epoch} wrote after epoch {self.epoch}")
        self.time, self.epoch = event.time, max(self.epoch, event.epoch)
        if self.hooks is not None or type(event) is HookAnswered:
            self._hooked(seq, event)
        match event:
            case ActionRequested():
                self._request(seq, event)
            case ActionDenied():
                self._once(seq, event.address)
                self.done.add(event.address)
            case AttemptStarted():
                self._again(seq, event)
            case AttemptFailed():
                self._cost(seq, event)
                self._settle(event.address, event.spent)
                self.lost.discard(event.address)
            case ActionSucceeded() | ActionFailed():
                self._outcome(seq, event.address)
                self._cost(seq, event)
                self._settle(event.address, event.spent)
            case ActionUnknown():
                self.unknown.add(event.address)
            case ActionResolved():
                self._resolve(seq, event)
            case RunCompleted() | RunFailed() | RunCancelled():
                self._end(seq, event)
            case RunStarted():
                self.limits = event.limits
            case BudgetRaised():
                self.limits = self.limits.raised(event.limits).grown(event.more)
            case LedgersDeclared():
                self.in_dollars = any(
                    each.usd_micros is not None for each in event.ledgers.values()
                )
            case _:
                pass

    def approved(self, head: Head, event: ActionRequested) -> None:
        """Check that a request that needed somebody's word had one that was good for it."""
        if event.decision.verdict == "allow" and head.approvals is NOBODY_ASKED:
            return
        try:
            check_request(head, event, self.run)
        except InvalidInput as exc:
            raise self._broken(head.seq + 1, str(exc)) from exc

    def agree(self, head: Head) -> None:
        held = sum(self.held.values(), NOTHING)
        if self.spent != head.spent or held != head.reserved:
            raise _broken(self.run, "what was spent and reserved does not add up")

    def _hooked(self, seq: int, event: AnyEvent) -> None:
        self.hooks = self.hooks or HookFacts()
        address = getattr(event, "address", "")
        over = address in self.done
        requested, running = over or address in self.effects, not over and address in self.lost
        problem = self.hooks.problem(event, requested=requested, running=running)
        if problem:
            raise self._broken(seq, problem)

    def _request(self, seq: int, event: ActionRequested) -> None:
        self._once(seq, event.address)
        if isinstance(event.action, CallLLM):
            self.calls[event.address] = event.action
        self._fits(seq, event.reserve)
        self._priced(seq, event)
        self.effects[event.address] = event.effect
        self.held[event.address] = event.reserve
        self.lost.add(event.address)

    def _again(self, seq: int, event: AttemptStarted) -> None:
        address = event.address
        if self.effects.get(address) == "at_most_once" and address in self.lost:
            raise self._broken(seq, f"{address} may start once and was started again unresolved")
        self._settle(address, None)
        self._fits(seq, event.reserve)
        self._priced(seq, event)
        self.held[address] = event.reserve
        self.lost.add(address)

    def _resolve(self, seq: int, event: ActionResolved) -> None:
        self._settle(event.address, None)
        self.lost.discard(event.address)
        self.unknown.discard(event.address)
        if event.resolution != "retry" and not self.over:
            self._outcome(seq, event.address)

    def _outcome(self, seq: int, address: str) -> None:
        if address in self.done:
            raise self._broken(seq, f"{address} has a second outcome")
        self.done.add(address)

    def _once(self, seq: int, address: str) -> None:
        if address in self.effects or address in self.done:
            raise self._broken(seq, f"{address} was requested twice")

    def _fits(self, seq: int, want: Amount) -> None:
        used = sum(self.held.values(), self.spent)
        short = shortfall(self.limits, used, want)
        if short is not None:
            text = f"{short.used} + {short.want} is above the limit of {short.limit} {short.meter}"
            raise self._broken(seq, text)

    def _priced(self, seq: int, event: ActionRequested | AttemptStarted) -> None:
        """Under a limit in dollars no model is called whose price is unknown."""
        tokens, priced = event.reserve.llm_tokens, event.reserve.priced_tokens
        in_dollars = self.limits.usd_micros is not None or self.in_dollars
        if in_dollars and priced != tokens:
            raise self._broken(seq, f"{event.address} reserved tokens of unknown price")

    def _cost(self, seq: int, event: ActionSucceeded | ActionFailed | AttemptFailed) -> None:
        """The money of an outcome is its tokens at its unit price, or what was reserved."""
        spent, call = event.spent, self.calls.get(event.address)
        if call is None or spent is None or spent == NOTHING:
            return
        held = self.held.get(event.address, NOTHING)
        want, known = held.usd_micros, held.priced_tokens > 0
        if event.price is not None:
            usage = None if isinstance(event, AttemptFailed) else event.usage
            want, known = charged(call, event.price, usage), True
        if (spent.usd_micros, spent.priced_tokens) != (want, spent.llm_tokens if known else 0):
            text = f"{event.address} was charged {spent.usd_micros} micro-USD, not {want}"
            raise self._broken(seq, text)

    def _settle(self, address: str, spent: Amount | None) -> None:
        held = self.held.pop(address, NOTHING)
        self.spent += held if spent is None else spent

    def _end(self, seq: int, event: RunCompleted | RunFailed | RunCancelled) -> None:
        without = sorted(set(self.effects) - self.done)
        named: list[str] = []
        if isinstance(event, RunCancelled):
            named = sorted(event.unknown)
        elif isinstance(event, RunFailed) and event.error.code == "E_RUN_TOO_LONG":
            named = sorted(self.unknown)  # a run that is full cannot wait for a person
        if without != named:
            names = ", ".join(without) or "none"
            raise self._broken(seq, f"the run ended, and without an outcome are: {names}")
        for address in list(self.held):
            self._settle(address, None)
        self.over = True

    def _broken(self, seq: int, text: str) -> IntegrityError:
        return _broken(self.run, f"seq {seq}: {text}")


def _broken(run: str, detail: str) -> IntegrityError:
    return IntegrityError("E_INVARIANT", run=run, detail=detail)
