"""Steps coroutines that await actions: no event loop, only outcomes in journal order.

Knows branches, addresses and what is awaited; must not know clocks, loops or how actions are
performed. An address is a causal position: `2.b0.s4` is the fifth thing awaited by the first
branch of what the workflow awaited third; it does not depend on which outcome came first.
"""

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import suppress
from types import CoroutineType
from typing import Any, Generic, TypeVar

import msgspec

from gatebook.errors import ConfigError, Diverged, GatebookError
from gatebook.ports import Outcome, Want
from gatebook.programs.generators import Generators

T = TypeVar("T")

Steps = Coroutine[Any, Any, Any] | Generator[Any, Any, Any]
MAX_REFUSALS = 10_000  # of one step: far more than a workflow that goes on to something else needs
MAX_CLOSING = 100  # awaits of a branch that is being ended, each of which should have ended it
NOT_OURS = (KeyboardInterrupt, MemoryError)  # the process's trouble, never the program's


class Awaited(msgspec.Struct, Generic[T], eq=False):
    """Something a workflow may await, once. Nothing happens until it is awaited."""

    scheduler: "Scheduler"

    def __post_init__(self) -> None:
        self.scheduler.unawaited[self] = None

    def __repr__(self) -> str:
        return f"<{self.label}>"

    @abstractmethod
    def __await__(self) -> Generator[Any, Any, T]: ...

    @property
    @abstractmethod
    def label(self) -> str:
        """The few words an error message needs."""


class Act(Awaited[T], eq=False):
    """One awaited action; it yields itself to the scheduler and is sent the outcome."""

    @abstractmethod
    def want(self, address: str) -> Want:
        """Return the action, at the address it is awaited at; asked once more, below that."""

    def check(self, output: bytes) -> None:
        """Raise what reading this output would raise, where one can tell before."""


class Gather(Awaited[list[Any]], eq=False):
    """Several branches awaited together; goes on when all of them have ended."""

    parts: Sequence[Steps]
    results: list[Any] = []
    errors: list[BaseException | None] = []
    left: int = 0
    parent: "Branch | None" = None

    @property
    def label(self) -> str:
        """The few words an error message needs."""
        return "ctx.gather(...)"

    def __await__(self) -> Generator[Any, Any, list[Any]]:
        self.scheduler.starting(self)
        yield self
        for error in self.errors:
            if error is not None:
                raise error
        return self.results


class Branch:
    """One line of execution. `prefix` + a count is the address of what it awaits next.

    `asked` is the act it awaits.
    """

    __slots__ = ("asked", "count", "draws", "index", "join", "prefix", "steps")

    def __init__(self, steps: Steps, prefix: str, join: Gather | None, index: int) -> None:
        self.steps = steps
        self.prefix = prefix
        self.join = join
        self.index = index
        self.count = 0
        self.draws = 0
        self.asked: Any = None


class Scheduler:
    """Runs one coroutine and its branches until each of them waits for an outcome.

    Attributes:
        time: stamp of the event that lets the current code run, microseconds UTC.
        current: the branch whose code runs now.
        unawaited: what was made and not awaited yet, in order.
        wants: what was asked for since the caller last emptied it.
        generators: the async generators begun in it; steps are made `during` them.
        result, error: how the coroutine ended, once `over`.
    """

    def __init__(self, program: str, *, time: int) -> None:
        self.program = program
        self.time = time
        self.unawaited: dict[Awaited[Any], None] = {}
        self.wants: list[Want] = []
        self.generators = Generators()
        self.over = False
        self.closed = False
        self._closing = 0  # awaits since a branch is being ended
        self.result: Any = None
        self.error: BaseException | None = None
        self.current = Branch(_nothing(), "", None, 0)
        self._waiting: dict[str, Branch] = {}
        self._ready: deque[Branch] = deque()
        self._alive: dict[Branch, None] = {}

    def start(self, steps: Steps) -> None:
        """Run a coroutine to where it waits."""
        branch = Branch(steps, "", None, 0)
        self._alive[branch] = None
        self._run(branch, None)

    def resume(self, outcomes: Sequence[Outcome]) -> None:
        """Hand each outcome to the branch that waits for it, and run to where all wait.

        Raises:
            Diverged: E_NONDETERMINISM when nothing was asked for at an outcome's address.
        """
        for outcome in outcomes:
            if self.over:
                return
            branch = self._waiting.pop(outcome.address, None)
            if branch is None:
                raise Diverged(
                    "E_NONDETERMINISM", seq=outcome.seq, got="nothing there", want=outcome.address
                )
            self.time = outcome.time
            self._run(branch, outcome)

    def check(self, address: str, output: bytes) -> None:
        """Read an output as what waits at an address will; nothing moves. Raises as that would."""
        branch = self._waiting.get(address)
        if branch is not None:
            branch.asked.check(output)

    def starting(self, awaited: Awaited[Any]) -> None:
        """Note that something is being awaited: once only, and not after the end."""
        if self.closed:
            self._closing += 1
            if self._closing > MAX_CLOSING:
                return  # it swallows that: what it yields now ends its closing
            raise GeneratorExit  # a `finally` block may not act; let it end
        if self.unawaited.pop(awaited, awaited) is awaited:
            raise self.foreign(f"{awaited.label} a second time")

    def foreign(self, value: str) -> ConfigError:
        """Return the error for awaiting what is not an action."""
        return ConfigError("E_WORKFLOW_AWAIT", program=self.program, value=value)

    def close(self) -> None:
        """End every parked coroutine; its `finally` blocks run, and cannot act."""
        self.closed = True
        self._ready.clear()
        for branch in reversed(list(self._alive)):
            self._let_go(branch.steps.close)
        self._alive.clear()
        self.generators.end(self._let_go)

    def _let_go(self, end: Callable[[], object]) -> None:
        """End something, whatever it does about that; while `closed`, so that it cannot act."""
        self._closing = 0
        try:
            end()
        except NOT_OURS:
            raise
        except BaseException:  # noqa: BLE001
            pass  # what a `finally` raises or awaits has no place to go: the run is let go of

    def _run(self, branch: Branch, outcome: Outcome | None) -> None:
        """Run a branch, and then those that it made ready, each to where it waits."""
        while True:
            self.current = branch
            try:
                self._park(branch, branch.steps.send(outcome))
            except StopIteration as stop:
                self._ended(branch, stop.value, None)
            except NOT_OURS:
                raise
            except BaseException as exc:  # noqa: BLE001  whatever the workflow raised is its failure
                self._ended(branch, None, exc)
            if not self._ready:
                return
            branch, outcome = self._ready.popleft(), None

    def _park(self, branch: Branch, asked: Any) -> None:
        """Wait for what a branch asks; what is not an action is thrown back into it.

        Raises:
            GatebookError: it asked for what it cannot have over and over; it is ended.
        """
        refused = 0
        while True:
            error: GatebookError
            if getattr(asked, "scheduler", None) is not self:
                _hear(asked)
                error = self.foreign(_kind(asked))
            elif type(asked) is Gather:
                self._fork(branch, asked)
                return
            else:
                address = branch.prefix + str(branch.count)
                try:
                    want = asked.want(address)
                    if want.address == address:  # a step counts once, however often it asks
                        branch.count += 1
                    self._waiting[want.address] = branch
                    branch.asked = asked
                    self.wants.append(want)
                    return
                except GatebookError as exc:
                    error = exc
            refused += 1
            if refused > MAX_REFUSALS:
                self.closed = True
                self._let_go(branch.steps.close)
                self.closed = False
                raise error
            asked = branch.steps.throw(error)

    def _fork(self, branch: Branch, gather: Gather) -> None:
        address = branch.prefix + str(branch.count)
        branch.count += 1
        gather.parent = branch
        gather.left = len(gather.parts)
        gather.results = [None] * gather.left
        gather.errors = [None] * gather.left
        if not gather.parts:
            self._ready.append(branch)
        for index, steps in enumerate(gather.parts):
            part = Branch(steps, f"{address}.b{index}.s", gather, index)
            self._alive[part] = None
            self._ready.append(part)

    def _ended(self, branch: Branch, result: Any, error: BaseException | None) -> None:
        del self._alive[branch]
        join = branch.join
        if join is None:
            self.over, self.result, self.error = True, result, error
            return
        join.results[branch.index] = result
        join.errors[branch.index] = error
        join.left -= 1
        if not join.left and join.parent is not None:
            self._ready.append(join.parent)


def steps_of(part: Any) -> Steps | None:
    """Return the resumable form of something awaitable, or None when it has none."""
    if isinstance(part, CoroutineType):
        return part
    make = getattr(type(part), "__await__", None)
    steps = make(part) if make is not None else None
    return steps if isinstance(steps, Generator | Coroutine) else None


def _kind(value: Any) -> str:
    """Name what a foreign awaitable yielded; asyncio.sleep(0) and the like yield None."""
    if isinstance(value, Awaited):
        return f"{value.label} of another run"
    if value is None:
        return "something of an event loop"
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _hear(asked: Any) -> None:
    """Learn how an event loop's future ends, or that loop would complain that nobody does."""
    if getattr(type(asked), "_asyncio_future_blocking", None) is not None:
        with suppress(Exception):  # its loop may be closed, or belong to another thread
            asked.add_done_callback(lambda done: done.cancelled() or done.exception())


def _nothing() -> Generator[Any, Any, None]:
    yield None
