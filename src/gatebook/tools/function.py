"""Functions as tools: `@tool`, and calling one with stored arguments and a context.

Reads nothing of the function until its `spec` is first asked for, so that decorating is cheap.
"""

import functools
import inspect
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import cached_property
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    Unpack,
    cast,
    overload,
)

import msgspec

from gatebook.errors import ConfigError
from gatebook.kernel.codec import MAX_PAYLOAD, check_name
from gatebook.kernel.stepping import refuse_calls
from gatebook.kernel.tools import Effect, ToolSpec, WritesCanonical, tool_digest
from gatebook.ports import Invocation
from gatebook.tools.context import ToolContext
from gatebook.tools.options import CallOptions, Limits, ToolOptions, flow, refused, split
from gatebook.tools.threads import run_in_thread

if TYPE_CHECKING:
    from gatebook.tools.definition import Definition

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(eq=False)
class _Declared:
    """One decorated function, shared by the tool and its copies with other options."""

    function: Callable[..., Any]
    name: str
    effect: Effect
    description: str | None
    returns: tuple[str, ...] = ()
    sends: bool = False
    running: set[threading.Thread] = field(default_factory=set)

    @cached_property
    def definition(self) -> "Definition":
        from gatebook.tools.definition import define

        return define(self.function, tool=self.name)

    def spec(self, limits: Limits) -> ToolSpec:
        found = self.definition
        if self.effect == "idempotent" and not found.takes_context:
            raise ConfigError("E_IDEMPOTENCY_DECL", tool=self.name)
        text = found.description if self.description is None else self.description
        schema = found.arguments.schema
        annotations: dict[str, Any] = {"returns": self.returns, "sends": self.sends}
        annotations["secrets"] = found.secrets
        return ToolSpec(
            name=self.name,
            description=text,
            schema=msgspec.Raw(schema),
            effect=self.effect,
            timeout_ms=limits.timeout_ms,
            retries=limits.retries,
            on_error=limits.on_error,
            max_output=limits.max_output,
            returns=self.returns,
            sends=self.sends,
            secrets=found.secrets,
            digest=tool_digest(
                name=self.name, description=text, schema=schema, effect=self.effect, **annotations
            ),
        )


class FunctionTool(WritesCanonical, ABC, Generic[P, R]):
    """A function an agent or workflow may call: what it is (`spec`) and how it is called.

    `P` are the parameters of the function, `R` what it returns (for `async def`: once awaited).
    Calling the tool object calls the function itself, outside any run: for unit tests.
    """

    def __init__(self, declared: _Declared, limits: Limits) -> None:
        self._declared = declared
        self._limits = limits
        wrapper: Any = self
        functools.update_wrapper(wrapper, declared.function, updated=())

    def __repr__(self) -> str:
        return f"<tool {self.name}>"

    @property
    def name(self) -> str:
        """The name that model, policy and journal see."""
        return self._declared.name

    @cached_property
    def spec(self) -> ToolSpec:
        """What may be decided about the tool without running it; reads the function once.

        Raises:
            ConfigError: E_TOOL_DECLARATION or E_IDEMPOTENCY_DECL.
        """
        return self._declared.spec(self._limits)

    def options(self, **options: Unpack[CallOptions]) -> Self:
        """Return this tool with other limits; it stays the same tool, with the same digest.

        Raises:
            ConfigError: E_TOOL_DECLARATION or E_RETRY_CONFIG, naming the option.
        """
        return type(self)(self._declared, self._limits.changed(self.name, options))

    def validate(self, args: bytes) -> bytes:
        """Return the final arguments as canonical bytes: checked strictly, defaults filled in.

        Raises:
            InvalidInput: E_ARGS_SCHEMA, E_ARGS_EXTRA or E_JSON_*.
        """
        return self._declared.definition.arguments.validate(args)

    @abstractmethod
    async def call(self, args: bytes, invocation: Invocation) -> bytes:
        """Call the function with stored arguments and return its result as canonical bytes.

        Raises what the function raises. A sync function runs on a daemon thread; cancelling this
        call makes its `ctx.cancelled` true and leaves it in `running_threads()` until it ends.

        Raises:
            InvalidInput: E_RESULT_TYPE, or E_RESULT_TOO_LARGE above 8 MiB: the function has run.
        """

    def decode(self, output: bytes) -> R:
        """Return a recorded result as the declared type; plain JSON when none is declared.

        Raises:
            InvalidInput: E_RESULT_TYPE.
        """
        value: R = self._declared.definition.result.decode(output)
        return value

    def running_threads(self) -> tuple[threading.Thread, ...]:
        """Return the threads this function runs on now, abandoned ones included."""
        return tuple(self._declared.running)


class AsyncTool(FunctionTool[P, R]):
    """A tool made from `async def`; it runs on the loop and must not block it."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Call the function itself. Raises ConfigError E_WORKFLOW_TOOL within a workflow."""
        refuse_calls(self.name)
        return cast(Coroutine[Any, Any, R], self._declared.function(*args, **kwargs))

    async def call(self, args: bytes, invocation: Invocation) -> bytes:
        """See FunctionTool."""
        declared = self._declared
        found = declared.definition
        values = found.given(args, invocation.secrets)
        if found.takes_context:
            context = ToolContext.of(invocation, invocation.cancelled)
            result = await declared.function(context, **values)
        else:
            result = await declared.function(**values)
        return found.result.encode(result, limit=MAX_PAYLOAD)


class SyncTool(FunctionTool[P, R]):
    """A tool made from `def`; every call has a daemon thread of its own."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself. Raises ConfigError E_WORKFLOW_TOOL within a workflow."""
        refuse_calls(self.name)
        return cast(R, self._declared.function(*args, **kwargs))

    async def call(self, args: bytes, invocation: Invocation) -> bytes:
        """See FunctionTool."""
        stop = threading.Event()
        declared = self._declared
        found = declared.definition
        function, values = declared.function, found.given(args, invocation.secrets)
        if found.takes_context:
            context = ToolContext.of(invocation, lambda: stop.is_set() or invocation.cancelled())
            function = functools.partial(function, context)

        def work() -> bytes:
            return found.result.encode(function(**values), limit=MAX_PAYLOAD)

        return await run_in_thread(
            work,
            name=f"gatebook-tool-{self.name}",
            running=declared.running,
            stop=stop,
        )


class Decorator(Protocol):
    """What `@tool(...)` with options returns: the function's types survive it."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a coroutine function is never a SyncTool
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTool[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncTool[P, R]: ...


@overload
def tool(  # type: ignore[overload-overlap]  # as above
    function: Callable[P, Coroutine[Any, Any, R]], /
) -> AsyncTool[P, R]: ...
@overload
def tool(function: Callable[P, R], /) -> SyncTool[P, R]: ...
@overload
def tool(**options: Unpack[ToolOptions]) -> Decorator: ...
def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a tool from a function: `@tool`, or `@tool(effect="read", timeout=30)`.

    The schema comes from the type hints, the texts from the docstring. A first parameter
    `ctx: ToolContext` is given the context and hidden from the model. The name, the options and
    the kind of function are checked here; its parameters when `spec` is first read.

    Raises:
        InvalidInput: E_TOOL_NAME, E_NAME_RESERVED or E_NAME_CONFUSABLE.
        ConfigError: E_TOOL_DECLARATION or E_RETRY_CONFIG, naming the option.
    """
    if function is None:
        return lambda function: _make(function, options)
    return _make(function, options)


def _make(function: Any, options: dict[str, Any]) -> FunctionTool[Any, Any]:
    name: str = options.get("name", getattr(function, "__name__", type(function).__name__))
    if not inspect.isfunction(function) and not inspect.ismethod(function):
        fix = "decorate a def or async def: wrap classes and callable objects in a function"
        raise refused(name, "it is not a function", fix)
    check_name(name, code="E_TOOL_NAME")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        fix = "return one value, and report on the way with ctx.progress(...)"
        raise refused(name, "it is a generator", fix)
    effect, description, limits = split(name, options)
    declared = _Declared(function, name, effect, description, *flow(name, options))
    kind = AsyncTool if inspect.iscoroutinefunction(function) else SyncTool
    return kind(declared, limits)
