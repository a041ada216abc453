"""Workflows: an `async def f(ctx, input)` stepped by our own scheduler.

Knows the function's signature and how its end becomes a run's end. Pure: the function reaches
outside through `ctx` only, and what is not an action cannot be awaited.
"""

import inspect
import typing
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cached_property, partial
from types import MappingProxyType, TracebackType
from typing import Any, Generic, Literal, Protocol, TypedDict, TypeVar, Unpack, overload

from gatebook.errors import ActionDenied, GatebookError, InvalidInput, described
from gatebook.kernel.codec import NULL, Raw, canonical, digest
from gatebook.kernel.events import ErrorRecord, RunStarted
from gatebook.kernel.stepping import stepping
from gatebook.ports import Complete, Fail, Outcome, Step, Stepper, Tool
from gatebook.programs.context import WorkflowContext
from gatebook.programs.contracts import Contract
from gatebook.programs.declared import program_name, routes, tool_map, undeclarable
from gatebook.programs.failures import record_of
from gatebook.programs.scheduler import Scheduler

In = TypeVar("In")
Out = TypeVar("Out")

LOOPLESS = (RuntimeError, AttributeError)  # asyncio.Queue and the like take the loop on trust
LOOPS = ("asyncio", "anyio", "trio", "sniffio")  # whose "no running event loop" means: not here


class WorkflowOptions(TypedDict, total=False):
    """Options of `@workflow(...)`.

    Attributes:
        version: change it when the function's steps change; part of the digest.
        name: instead of the function's name.
        tools: what it may call; the gate refuses anything else.
        models: the model routes it may ask.
        runs: programs it may start; none can be started in this version.
    """

    version: str
    name: str
    tools: Sequence[Any]
    models: Sequence[str]
    runs: Sequence[Any]


class Workflow(Generic[In, Out]):
    """A workflow: an async function with a name, a version and what it may use.

    Its digest covers these and the JSON schemas of input and output, not the source code:
    a replay that asks for something else is found out at its first different action.
    """

    kind: Literal["workflow"] = "workflow"

    def __init__(
        self, function: Callable[..., Coroutine[Any, Any, Out]], **options: Unpack[WorkflowOptions]
    ) -> None:
        self.name = program_name(options.get("name", getattr(function, "__name__", "")))
        self.function = function
        self._takes_input = _check_function(function, self.name)
        _check_options(options, self.name)
        self.version = options.get("version", "1")
        tools = tool_map(options.get("tools", ()), program=self.name)
        self.tools: Mapping[str, Tool] = MappingProxyType(tools)
        self.models: Sequence[str] = routes(options.get("models", ()), program=self.name)
        self.__doc__ = function.__doc__

    def __repr__(self) -> str:
        return f"<workflow {self.name} version {self.version}>"

    @cached_property
    def _types(self) -> tuple[Contract[In] | None, Contract[Out]]:
        """The declared types; read late, so that they may be defined below the function."""
        try:
            hints = typing.get_type_hints(self.function, include_extras=True)
        except (NameError, TypeError, SyntaxError, AttributeError) as exc:
            fix = "define its types at module level, outside `if TYPE_CHECKING`"
            raise undeclarable(self.name, f"its annotations cannot be read: {exc}", fix) from exc
        output: Contract[Out] = Contract(
            hints.get("return", Any), code="E_OUTPUT", program=self.name
        )
        if not self._takes_input:
            return None, output
        parameter = list(inspect.signature(self.function).parameters)[1]
        return Contract(hints.get(parameter, Any), code="E_INPUT", program=self.name), output

    @cached_property
    def digest(self) -> str:
        """Digest over name, version, tools, models and the schemas of input and output.

        Raises:
            ConfigError: E_PROGRAM_DECLARATION when a declared type cannot be JSON.
        """
        taken, given = self._types
        facts = {
            "kind": self.kind,
            "name": self.name,
            "version": self.version,
            "tools": {name: tool.spec.digest for name, tool in self.tools.items()},
            "models": list(self.models),
            "input": None if taken is None else taken.taken(),
            "output": given.schema("serialization"),
        }
        return digest(canonical(facts))

    def accept(self, value: In) -> bytes:
        """Return the canonical JSON of an input: strict, defaults filled in.

        Raises:
            InvalidInput: E_INPUT, E_JSON_*, E_TEXT_INVALID or E_PAYLOAD_TOO_LARGE.
        """
        taken, _ = self._types
        if taken is not None:
            return taken.accept(value)
        if value is None:
            return bytes(NULL)
        raise InvalidInput("E_INPUT", program=self.name, detail="it takes no input")

    def decode(self, output: bytes) -> Out:
        """Return a run's output as the declared type. Raises InvalidInput (E_OUTPUT)."""
        return self._types[1].decode(output)

    def begin(self, started: RunStarted) -> "WorkflowStepper":
        """Return a stepper for one run, at its beginning; nothing of the function runs yet."""
        return WorkflowStepper(self, started)

    def call(self, ctx: WorkflowContext, data: Raw) -> Coroutine[Any, Any, bytes]:
        """Return the coroutine of one run: stored input in, canonical output out."""
        return self._whole(ctx, bytes(data))

    async def _whole(self, ctx: WorkflowContext, data: bytes) -> bytes:
        taken, given = self._types
        args = () if taken is None else (taken.decode(data),)
        return given.encode(await self.function(ctx, *args))


class WorkflowStepper(Stepper):
    """One run of a workflow. The same outcomes give the same steps, however they are batched.

    A `note` is given once per position: a replayed step gives it again, and is not journaled.
    Context variables that the workflow sets are its own, from its first step to its last.
    """

    def __init__(self, program: Workflow[Any, Any], started: RunStarted) -> None:
        self._program = program
        self._input = started.input
        self._scheduler = Scheduler(program.name, time=started.time)
        self._notes: list[str] = []
        self._begun = False
        # Runs a part of the scheduler, and with it the workflow's code.
        self._run = partial(self._scheduler.generators.during, stepping(program.name).run)
        self._ctx = WorkflowContext(
            self._scheduler, started, tools=program.tools, notes=self._notes
        )

    def step(self, outcomes: Sequence[Outcome]) -> Step:
        """Hand outcomes to the branches that wait for them; see `ports.Stepper.step`.

        Raises:
            Diverged: E_NONDETERMINISM for an outcome of something that was not asked for.
        """
        scheduler = self._scheduler
        if not self._begun:
            self._begun = True
            self._run(scheduler.start, self._program.call(self._ctx, self._input))
        self._run(scheduler.resume, outcomes)
        wants = tuple(scheduler.wants)
        scheduler.wants.clear()
        if not self._notes and not scheduler.over:
            return Step(wants)
        notes = tuple(self._notes)
        self._notes.clear()
        return Step(wants, self._end() if scheduler.over else None, notes)

    def check(self, address: str, output: bytes) -> None:
        """Read an output as the await at an address will; see `ports.Stepper.check`."""
        self._run(self._scheduler.check, address, output)

    def close(self) -> None:
        """End the parked function: its `finally` blocks run, and cannot act."""
        self._run(self._scheduler.close)

    def _end(self) -> Complete | Fail:
        scheduler = self._scheduler
        if scheduler.error is not None:
            return Fail(*self._failure(scheduler.error))
        for forgotten in scheduler.unawaited:
            code, name = "E_WORKFLOW_UNAWAITED", self._program.name
            return Fail(record_of(GatebookError(code, program=name, value=forgotten.label)))
        return Complete(Raw(scheduler.result))

    def _failure(self, error: BaseException) -> tuple[ErrorRecord, bool]:
        if isinstance(error, GatebookError):
            return record_of(error), isinstance(error, ActionDenied)
        if isinstance(error, LOOPLESS) and _raised_in(error.__traceback__) in LOOPS:
            detail = f"something of an event loop ({error})"
            return record_of(self._scheduler.foreign(detail)), False
        detail = described(error)
        return record_of(
            GatebookError("E_WORKFLOW", program=self._program.name, detail=detail)
        ), False


def _raised_in(trace: TracebackType | None) -> str:
    """Return the top-level package of the code that raised."""
    package = ""
    while trace is not None:
        package = str(trace.tb_frame.f_globals.get("__name__", ""))
        trace = trace.tb_next
    return package.partition(".")[0]


def _check_function(function: Any, name: str) -> bool:
    """Return whether the function takes an input besides `ctx`, or refuse it."""
    if not inspect.iscoroutinefunction(function):
        raise undeclarable(name, "it is not an async function", "write async def f(ctx, input)")
    parameters = list(inspect.signature(function).parameters.values())
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if not 1 <= len(parameters) <= 2 or any(p.kind not in positional for p in parameters):
        fix = "write async def f(ctx) or async def f(ctx, input); several inputs are one model"
        raise undeclarable(name, "it does not take ctx and at most one input", fix)
    if any(p.default is not inspect.Parameter.empty for p in parameters):
        fix = "drop it: give the fields of an input model their defaults instead"
        raise undeclarable(name, "its input has a default, and every run states its input", fix)
    return len(parameters) == 2


def _check_options(options: Mapping[str, Any], name: str) -> None:
    unknown = [key for key in options if key not in WorkflowOptions.__annotations__]
    if unknown:
        fix = "give " + ", ".join(WorkflowOptions.__annotations__)
        raise undeclarable(name, f"there is no option {unknown[0]}", fix)
    version = options.get("version", "1")
    if not isinstance(version, str) or not version:
        raise undeclarable(name, "its version is not text", 'write version="1"')
    if options.get("runs"):
        fix = "leave runs= out: child runs are not available in this version"
        raise undeclarable(name, "it declares child runs", fix)


class Decorator(Protocol):
    """What `@workflow(...)` returns: the function's input and output types survive it."""

    @overload
    def __call__(
        self, function: Callable[[WorkflowContext], Coroutine[Any, Any, Out]], /
    ) -> Workflow[None, Out]: ...
    @overload
    def __call__(
        self, function: Callable[[WorkflowContext, In], Coroutine[Any, Any, Out]], /
    ) -> Workflow[In, Out]: ...


@overload
def workflow(
    function: Callable[[WorkflowContext], Coroutine[Any, Any, Out]], /
) -> Workflow[None, Out]: ...
@overload
def workflow(
    function: Callable[[WorkflowContext, In], Coroutine[Any, Any, Out]], /
) -> Workflow[In, Out]: ...
@overload
def workflow(**options: Unpack[WorkflowOptions]) -> Decorator: ...
def workflow(function: Any = None, /, **options: Any) -> Any:
    """Make a workflow from `async def f(ctx, input)` or `async def f(ctx)`.

    Use it bare, or as `@workflow(version="2", tools=[...], models=[...])`. The input and output
    are JSON of the declared types; without annotations, plain JSON.

    Raises:
        InvalidInput: E_PROGRAM_NAME, E_NAME_*, E_ROUTE.
        ConfigError: E_PROGRAM_DECLARATION, E_TOOL_DECLARATION, E_TOOL_DUPLICATE.
    """
    if function is None:
        return lambda function: Workflow(function, **options)
    return Workflow(function, **options)
