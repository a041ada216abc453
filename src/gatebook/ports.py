"""The contracts between the rooms: what a journal, program, provider, tool, engine and clock offer.

Abstract classes where Gatebook owns the implementations and a missing method should fail at
construction; protocols where users pass something in.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import msgspec

from gatebook.kernel.actions import Action
from gatebook.kernel.append import Batch
from gatebook.kernel.codec import NULL, Raw
from gatebook.kernel.events import AnyEvent, ErrorRecord, RunStarted
from gatebook.kernel.messages import (
    Call,
    Capabilities,
    ChatRequest,
    ChatResponse,
    Message,
    StreamEvent,
    ToolDefinition,
)
from gatebook.kernel.state import Head
from gatebook.kernel.tools import ToolSpec

In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)

DEFAULT_TENANT = "default"


class RunKey(NamedTuple):
    """A run's full name. Another tenant's run is not found, never forbidden."""

    tenant: str
    id: str

    def __str__(self) -> str:
        return self.id


# ---- journal ----


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """One stored event. `position` orders all events of a store; readers follow it."""

    run: RunKey
    seq: int
    position: int
    append_id: bytes
    hash: bytes
    event: AnyEvent


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """One run at a glance, without reading its events. Times are microseconds UTC.

    Attributes:
        head: what the next append will be checked against.
        input_hash: tells whether a second start means the same run.
        owner: the worker that holds the run, "" for none.
        lease_until: when that hold lapses unless renewed.
        wake_at: when the run should be looked at next; None = not before somebody acts.
        waiting_on: why it is parked, for people ("signal go", "resolve t1.0", ...).
        parked_reason: "" or why no worker may drive it ("diverged", "definition").
    """

    run: RunKey
    program: str
    program_kind: str
    definition: str
    input_hash: str
    head: Head
    owner: str = ""
    lease_until: int = 0
    wake_at: int | None = None
    waiting_on: str = ""
    parked_reason: str = ""
    labels: dict[str, str] = {}
    created: int = 0
    updated: int = 0


class Lease(msgspec.Struct, frozen=True, gc=False):
    """A worker's right to append to one run: valid while the run's epoch is this one."""

    run: RunKey
    owner: str
    epoch: int


class Appended(msgspec.Struct, frozen=True):
    """Where a batch landed: the run's new head and the events as they were stored."""

    events: tuple[Recorded, ...]
    head: Head


class Piece(msgspec.Struct, frozen=True, gc=False):
    """Part of a model's answer that is being written: events `first` to `first + count` of one
    attempt, coalesced by `kernel.pieces`.

    Attributes:
        mark: the store's number for it, growing; 0 before it is stored.
    """

    address: str
    attempt: int
    first: int
    count: int
    body: bytes
    mark: int = 0


class RunQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs to list, newest first; only bound parameters reach the store."""

    statuses: tuple[str, ...] = ()
    program: str = ""
    id_prefix: str = ""
    labels: dict[str, str] = {}
    since: int | None = None
    limit: int = 100


class Journal(ABC):
    """Where events live. Every method may be called from many tasks at once.

    A store method that has begun always ends: a cancelled caller abandons the answer, not the
    work. All methods raise StoreError when the store does not answer.
    """

    url: str

    @abstractmethod
    async def open(self) -> None:
        """Make the store ready: create or check its schema. Safe to call twice.

        Raises:
            ConfigError: E_STORE_* when the location is wrong, unsafe or of another version.
        """

    @abstractmethod
    async def close(self) -> None:
        """End all work in flight, release every lease of this process's workers, and close."""

    @abstractmethod
    async def create(self, run: RunKey, started: RunStarted, *, input_hash: str) -> RunRow | None:
        """Append a run's first event and return its row, or None when the id is taken.

        Of many concurrent calls exactly one gets a row. The new run is due at once.
        """

    @abstractmethod
    async def append(self, run: RunKey, batch: Batch) -> Appended:
        """Append a batch, all or none, under every guard of `kernel.append.admit`.

        An append without an epoch also makes the run due now.

        Raises:
            RunNotFound, Fenced, RunIsOver, InvalidInput: see `admit`.
            BudgetShort: a reservation does not fit; nothing was written.
            Conflict: the run is not at `batch.after`; carries the tail. A tail that holds this
                batch's own append id is success and returns.
            CommitUnknown: the commit failed and the store could not find out whether it holds.
        """

    @abstractmethod
    async def row(self, run: RunKey) -> RunRow:
        """Return a run's row. Raises RunNotFound."""

    @abstractmethod
    async def runs(self, tenant: str, query: RunQuery) -> list[RunRow]:
        """Return the matching runs, newest first."""

    @abstractmethod
    async def read(
        self, run: RunKey, *, after: int = 0, limit: int | None = None
    ) -> list[Recorded]:
        """Return a run's events with seq > `after`, in order.

        Raises:
            RunNotFound, JournalCorrupt: there is no such run, or it cannot be read.
        """

    @abstractmethod
    async def raw(self, run: RunKey) -> list[tuple[int, bytes, bytes, bytes]]:
        """Return (seq, prev_hash, hash, stored body) of a run's events, unchecked, for `verify`."""

    @abstractmethod
    async def tail(self, tenant: str, *, after: int, limit: int = 1_000) -> list[Recorded]:
        """Return events of all the tenant's runs with position > `after`, in order."""

    @abstractmethod
    async def wait(self, after: int) -> int:
        """Wait until an event with position > `after` is committed, by any process.

        Returns the last committed position (which may cover several events).
        """

    @abstractmethod
    async def touched(self) -> frozenset[RunKey]:
        """Wait for work that came from outside a claim, and return the runs it concerns.

        That is: runs created, and runs that got an event without an epoch, by any process,
        since the last call. The worker drives these. May name a run more often than needed.
        """

    @abstractmethod
    async def put_pieces(self, lease: Lease, pieces: Sequence[Piece]) -> None:
        """Keep pieces of answers that are being written, for readers in other processes.

        They are no events: never hashed, perhaps lost in a crash, and deleted with the append that
        ends their attempt or begins the next. Pieces of an attempt that is not the running one,
        or that are there already, are left out.

        Raises:
            RunNotFound, Fenced: there is no such run, or it is not ours any more.
        """

    @abstractmethod
    async def pieces(self, run: RunKey, *, after: int = 0) -> list[Piece]:
        """Return the run's pieces with a mark > `after`, as they were put. Raises RunNotFound."""

    @abstractmethod
    async def claim(self, run: RunKey, *, owner: str, ttl_ms: int) -> Lease | None:
        """Claim a run for a worker and bump its epoch; None when a live worker holds it.

        A holder whose process is provably dead (its operating-system lock is free) loses the
        run at once; otherwise the lease must have lapsed. Terminal or parked-for-good runs are
        not claimed.

        Raises:
            RunNotFound: there is no such run.
        """

    @abstractmethod
    async def renew(self, owner: str, leases: Sequence[Lease], *, ttl_ms: int) -> list[Lease]:
        """Extend the leases and return those that were lost. Callable from any thread's loop."""

    @abstractmethod
    async def park(
        self, lease: Lease, *, after: int, wake_at: int | None, waiting_on: str, reason: str = ""
    ) -> None:
        """Release a run until `wake_at` or until somebody appends to it.

        Check and release are one transaction: a signal that came meanwhile is a Conflict.

        Raises:
            Conflict: the run is not at seq `after`: fold and decide again. Fenced: not ours.
        """

    @abstractmethod
    async def due(self, tenant: str, *, programs: Sequence[str], limit: int = 100) -> list[RunKey]:
        """Return runs that somebody should drive now, oldest due first.

        Due: not over, of one of `programs`, not held by a live worker, and its `wake_at` has
        passed (or its holder died or let the lease lapse).
        """

    @abstractmethod
    def now(self) -> int:
        """Return the store's clock in microseconds UTC; what appends stamp."""


# ---- programs ----


class Want(msgspec.Struct, frozen=True, gc=False):
    """One action a program asks for, at its causal address.

    `messages` and `offered` carry what a CallLLM refers to: the whole conversation, whose digest
    is in the action, and the tools offered. Only the action is journaled.
    """

    address: str
    action: Action
    messages: tuple[Message, ...] = ()
    offered: tuple[ToolDefinition, ...] = ()


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of an action, as its program sees it. `time` is the event's stamp (us UTC)."""

    address: str
    status: Literal["succeeded", "failed", "denied"]
    seq: int
    time: int
    output: Raw = NULL
    error: ErrorRecord | None = None


class Complete(msgspec.Struct, frozen=True, gc=False):
    """The program is done; `output` is canonical JSON of its declared output type."""

    output: Raw


class Fail(msgspec.Struct, frozen=True, gc=False):
    """The program cannot go on. `denied` marks an end by policy or budget."""

    error: ErrorRecord
    denied: bool = False


class Step(msgspec.Struct, frozen=True, gc=False):
    """What a program wants next: new actions (possibly none yet), log lines, or its end."""

    wants: tuple[Want, ...] = ()
    end: Complete | Fail | None = None
    notes: tuple[str, ...] = ()


class Stepper(ABC):
    """One run of a program, as a pure fold over outcomes. Not shared between runs."""

    @abstractmethod
    def step(self, outcomes: Sequence[Outcome]) -> Step:
        """Take outcomes in journal order and return what is wanted now.

        The first call gets none. The same outcomes in the same order give the same steps, in
        any process. After a Step with an end it is not called again.
        """

    def close(self) -> None:
        """Let go of a parked computation; nothing it does on the way may act."""


class Program(Protocol[In_contra, Out_co]):
    """What decides a run's next step; immutable, pure, identified by name and digest."""

    @property
    def name(self) -> str:
        """Unique in a runtime; what the journal records."""

    @property
    def kind(self) -> Literal["agent", "workflow"]:
        """Which family of program this is."""

    @property
    def digest(self) -> str:
        """Digest of all that affects what it does; changes when the definition changes."""

    @property
    def tools(self) -> Mapping[str, "Tool"]:
        """The tools it declares, by name."""

    @property
    def models(self) -> Sequence[str]:
        """The model routes it declares, "provider:model"."""

    def accept(self, value: In_contra) -> bytes:
        """Return the canonical JSON of an input, or raise InvalidInput."""

    def decode(self, output: bytes) -> Out_co:
        """Return a run's output as the declared type."""

    def begin(self, started: RunStarted) -> Stepper:
        """Return a stepper for one run, at its beginning."""


# ---- tools and providers ----


class Invocation(msgspec.Struct, frozen=True, kw_only=True, gc=True):
    """What one attempt of a tool may know; a tool's context object is made from it.

    Attributes:
        deps: the live object of this runtime's `deps=` factory; never journaled.
        context: returns a copy of the JSON given to `start(context=)`.
        idempotency_key: returns the key, the same on every attempt of this action.
        attempt: from 0.
        deadline: on the clock `monotonic`, seconds.
        cancelled: becomes True when the attempt should stop; safe from any thread.
        monotonic: the clock of `deadline`; None for the machine's own.
        progress: call with (done, total, detail); safe from any thread.
    """

    deps: Any
    context: Callable[[], Any]
    idempotency_key: Callable[[], str]
    attempt: int
    deadline: float
    cancelled: Callable[[], bool]
    progress: Callable[[float | None, float | None, str], None]
    monotonic: Callable[[], float] | None = None


class Tool(Protocol):
    """Something an agent may do: a spec the kernel decides on, and a call the executor makes."""

    @property
    def spec(self) -> ToolSpec:
        """Name, schema, effect and limits."""

    def validate(self, args: bytes) -> bytes:
        """Return the final canonical arguments, defaults filled in; raises InvalidInput."""

    async def call(self, args: bytes, invocation: Invocation) -> bytes:
        """Run one attempt on decoded stored bytes; return canonical JSON of the result.

        Raises:
            ActionError: the tool states that nothing happened.
            InvalidInput: E_RESULT_TYPE or E_RESULT_TOO_LARGE: it ran, its result is unusable.
        """

    def decode(self, output: bytes) -> Any:
        """Return a stored result as the declared type."""


class Provider(Protocol):
    """Who answers model calls. Never retries, never sleeps, always closes its streams."""

    @property
    def name(self) -> str:
        """For errors and events."""

    @property
    def capabilities(self) -> Capabilities:
        """What its streams promise."""

    def stream(
        self, request: ChatRequest, call: Call
    ) -> AbstractAsyncContextManager[AsyncIterator[StreamEvent]]:
        """Open one streamed attempt. Raises ProviderError only."""

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Make one blocking attempt. Raises ProviderError only."""

    async def aclose(self) -> None:
        """Close connections."""


# ---- engine and clock ----


class Parked(msgspec.Struct, frozen=True):
    """What a run is blocked on after `drive`: over, waiting, or held by somebody else."""

    state: Literal["over", "waiting", "busy"]
    wake_at: int | None = None


Drive = Callable[[RunKey], Awaitable[Parked]]


class Engine(ABC):
    """Keeps runs moving: decides who calls `drive` and when. The journal stays the truth."""

    @abstractmethod
    async def serve(self, drive: Drive) -> None:
        """Call `drive` for due runs until cancelled."""

    @abstractmethod
    def wake(self, run: RunKey) -> None:
        """Look at this run now. Losing a wake-up is harmless: due runs are looked for anyway."""


class Clock(Protocol):
    """Time for everything above the kernel; tests pass a virtual one."""

    def now(self) -> int:
        """Wall clock, microseconds UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    async def sleep(self, seconds: float) -> None:
        """Wait; returns at once for zero or less."""
