"""What tests of the runtime share: a store and a clock, runtimes that can crash, small programs."""

import asyncio
import selectors
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, TypeVar

from gatebook import tool
from gatebook.errors import GatebookError, StoreError
from gatebook.journals import MemoryJournal
from gatebook.kernel.append import Batch
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import AnyEvent, RunStarted, kind_of
from gatebook.kernel.messages import (
    Call,
    Capabilities,
    ChatRequest,
    ChatResponse,
    MessageEnd,
    MessageStart,
    StreamEvent,
    TextDelta,
    Usage,
)
from gatebook.kernel.policies import AllowDeclared
from gatebook.kernel.policy import Policy
from gatebook.ports import Appended, Journal, RunKey
from gatebook.programs import Workflow
from gatebook.runtime.client import Client
from gatebook.runtime.runs.handles import RunHandle
from gatebook.runtime.runs.states import Settled
from gatebook.runtime.runtime import Runtime
from gatebook.testing.clock import EPOCH_US, VirtualClock
from gatebook.testing.failpoints import FailpointJournal

T = TypeVar("T")

PATIENCE_S = 20.0  # after this a scenario has failed; none depends on how fast it is
TTL_S = 30.0
RUN = RunKey("default", "r")  # what `Desk` starts
STARTED = RunStarted(  # for what needs a beginning, and no program
    program="p", program_kind="workflow", definition="d", nonce="00", input=Raw(b"null")
)


def run(scenario: Coroutine[Any, Any, T]) -> T:
    """Run an async scenario to its end."""

    async def bounded() -> T:
        async with asyncio.timeout(PATIENCE_S):
            return await scenario

    return asyncio.run(bounded())


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer whenever nothing else is to be done.

    Until it shuts down: then threads are waited for, and Python 3.12 sets a timer for that.
    """

    def __init__(self) -> None:
        self.ahead = 0.0
        self.jumps = True
        super().__init__(JumpingSelector(self))

    def time(self) -> float:
        return super().time() + self.ahead

    async def shutdown_default_executor(self, *args: Any) -> None:
        self.jumps = False
        await super().shutdown_default_executor(*args)


class JumpingSelector(selectors.DefaultSelector):
    """Does not wait for time to pass, only for sockets and threads when there is no timer."""

    def __init__(self, loop: JumpingLoop) -> None:
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if not self.loop.jumps:
            return super().select(timeout)
        ready = super().select(0 if timeout else timeout)
        if timeout and not ready:
            self.loop.ahead += timeout
        return ready


class LoopClock:
    """The time of the running loop, for scenarios on a `JumpingLoop`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def now(self) -> int:
        return EPOCH_US + round(self._loop.time() * 1e6)

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run_jumping(scenario: Coroutine[Any, Any, T]) -> T:
    """Run an async scenario in which no timer takes real time."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(scenario)


def flow(
    function: Callable[..., Coroutine[Any, Any, Any]], *tools: Any, **options: Any
) -> Workflow[Any, Any]:
    """A workflow with declared tools."""
    return Workflow(function, tools=list(tools), **options)


def acting(calls: list[Any]) -> Any:
    """A tool that notes what it did."""

    @tool
    async def act(n: int = 0) -> int:
        calls.append(n)
        return n

    return act


class Desk:
    """One store, one clock, and the runtimes that live and die over them."""

    def __init__(self, policy: Policy | None = None, *, clock: Any = None, **options: Any) -> None:
        self.clock: Any = clock or VirtualClock()
        self.journal: Journal = MemoryJournal(clock=self.clock)
        self.policy = policy or AllowDeclared()
        self.options = options

    def runtime(self, *programs: Any, journal: Journal | None = None, **options: Any) -> Runtime:
        """A runtime over the store; with a journal, over that view of the store."""
        settings: dict[str, Any] = {"policy": self.policy, "clock": self.clock}
        return Runtime(
            journal or self.journal, programs=programs, **settings | self.options | options
        )

    @asynccontextmanager
    async def open(self, *programs: Any, **options: Any) -> AsyncIterator[Runtime]:
        """An open runtime that closes in good order."""
        async with self.runtime(*programs, **options) as runtime:
            yield runtime

    async def crash(self, runtime: Runtime) -> None:
        """Let a runtime die as its process would: nothing more is recorded, no lease given back."""
        worker = runtime._worker
        assert worker is not None
        worker._serving.cancel()
        await asyncio.wait({worker._serving})
        await runtime._stack.aclose()

    def lapse(self) -> None:
        """Let every lease of the dead lapse."""
        self.clock.advance(TTL_S + 1)

    async def settled(self, handle: RunHandle[Any]) -> Settled:
        """Where a run comes to rest, time moving as needed."""
        return await self.clock.until(handle.settled())

    async def ran(self, program: Any, value: Any = None, **options: Any) -> Settled:
        """Where one run of a program comes to rest, under a runtime of its own that then closes."""
        async with self.open(**options) as runtime:
            state = await self.settled(await runtime.start(program, value, run_id="r"))
        await self.journal.open()
        return state

    async def taken_up(self, *programs: Any, **options: Any) -> Settled:
        """Where the run comes to rest under one more runtime, which has its program and closes."""
        async with self.open(*programs, **options) as runtime:
            state = await self.settled(handle_of(runtime))
        await self.journal.open()
        return state

    async def events(self, run_id: str) -> list[AnyEvent]:
        """A run's events, in order."""
        return [each.event for each in await self.journal.read(RunKey("default", run_id))]

    async def kinds(self, run_id: str) -> list[str]:
        """The kinds of a run's events, in order."""
        return [kind_of(event) for event in await self.events(run_id)]

    async def only(self, run_id: str, kind: type[T]) -> T:
        """The one event of a kind."""
        (event,) = await self.all(run_id, kind)
        return event

    async def all(self, run_id: str, kind: type[T]) -> list[T]:
        """The events of a kind, in order."""
        return [event for event in await self.events(run_id) if isinstance(event, kind)]

    async def stored(self, run_id: str = "r") -> bytes:
        """Every byte that is stored of a run."""
        key = RunKey("default", run_id)
        rows = await self.journal.raw(key)
        recorded, head = await self.journal.read(key), await self.journal.row(key)
        return b"".join(row[3] for row in rows) + repr((recorded, head)).encode()


class CutJournal(FailpointJournal):
    """A journal whose process loses its store for good at a chosen append."""

    def __init__(self, inner: Journal, *, append: int = 0) -> None:
        super().__init__(inner, [])
        self.cut_at = append
        self.dead = False

    def _count(self, method: str) -> int:
        n = super()._count(method)
        if method == "append" and n == self.cut_at:
            self.dead = True
        if self.dead:
            raise StoreError("E_STORE_CLOSED", store=self.url)
        return n

    async def close(self) -> None:
        """Leave the store open: it is shared with the workers that come after."""


class RefusingJournal(FailpointJournal):
    """A journal that refuses some appends, one after another, by the kinds of their events.

    Attributes:
        refusals: those to come: what the append must hold, and what is raised in its stead.
    """

    def __init__(self, inner: Journal, *refusals: tuple[set[str], GatebookError]) -> None:
        super().__init__(inner, [])
        self.refusals = list(refusals)

    async def append(self, run: RunKey, batch: Batch) -> Appended:
        """Refuse, or append to the inner journal."""
        kinds = {kind_of(event) for event in batch.events}
        if not self.refusals or not self.refusals[0][0] <= kinds:
            return await super().append(run, batch)
        raise self.refusals.pop(0)[1]


def handle_of(client: Client, run_id: str = "r") -> RunHandle[Any]:
    """A handle on a run started elsewhere, its output as plain JSON."""
    return client.handle(run_id)


async def eventually(holds: Callable[[], Any], what: str) -> None:
    """Wait until something holds; the scenario's own limit ends the wait."""
    del what  # shown in the traceback of the scenario that waited
    while not holds():  # noqa: ASYNC110 - what is waited for knows no event
        await asyncio.sleep(0.001)


Said = Sequence[StreamEvent | BaseException | Callable[[], Awaitable[Any]]]


USAGE = Usage(input_tokens=3, output_tokens=4)


def said(text: str, *, usage: Usage | None = USAGE) -> Said:
    """A whole streamed answer."""
    return [MessageStart("m"), TextDelta(0, text), MessageEnd("stop", "stop", usage)]


class Model:
    """A provider that plays one list of events, errors and waits per attempt."""

    name = "fake"
    capabilities = Capabilities()

    def __init__(self, *attempts: Said) -> None:
        self.attempts = list(attempts)
        self.asked: list[ChatRequest] = []
        self.calls: list[Call] = []
        self.open = 0

    def stream(self, request: ChatRequest, call: Call) -> "Attempt":
        self.asked.append(request)
        self.calls.append(call)
        return Attempt(self, self.attempts.pop(0))

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        raise NotImplementedError

    async def aclose(self) -> None:
        """Nothing is open."""


class Attempt:
    """One streamed attempt of a `Model`."""

    def __init__(self, model: Model, said: Said) -> None:
        self.model = model
        self.said = said

    async def __aenter__(self) -> AsyncIterator[StreamEvent]:
        self.model.open += 1
        return self._events()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.model.open -= 1

    async def _events(self) -> AsyncIterator[StreamEvent]:
        for item in self.said:
            if isinstance(item, BaseException):
                raise item
            if callable(item):
                await item()
            else:
                yield item
