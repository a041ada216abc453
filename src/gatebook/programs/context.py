"""What a workflow function is given: `ctx`, through which it acts, waits and reads the clock.

Everything it returns comes from the journal: results, time, randomness. Awaiting its methods is
the only way for a workflow to reach outside.
"""

from collections.abc import Awaitable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import CoroutineType
from typing import Any, Protocol, TypeVar, Unpack, overload

from gatebook.errors import ConfigError, InvalidInput, writable
from gatebook.kernel.actions import (
    CallLLM,
    CallTool,
    Prompt,
    Sleep,
    WaitSignal,
    sleep_ms,
    split_route,
)
from gatebook.kernel.codec import Raw, canonical, check_signal_name, digest, plain
from gatebook.kernel.events import RunStarted
from gatebook.kernel.messages import ChatResponse
from gatebook.kernel.tools import ToolSpec
from gatebook.ports import Tool
from gatebook.programs.acts import LLMAct, PlainAct
from gatebook.programs.contracts import Contract, rich_arguments
from gatebook.programs.conversation import (
    Threads,
    as_messages,
    definitions,
    tools_digest,
)
from gatebook.programs.declared import route_list
from gatebook.programs.outputs import Output, output_of
from gatebook.programs.scheduler import Gather, Scheduler, Steps, steps_of
from gatebook.programs.settings import (
    ModelSettings,
    model_limits,
    settings_bytes,
)

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
R_co = TypeVar("R_co", covariant=True)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNASKED = Prompt("")  # stands in an action until it is awaited


class Returns(Protocol[R_co]):
    """A tool, as far as a workflow needs it: what it is, and how its result is read."""

    @property
    def spec(self) -> ToolSpec:
        """Name, schema, effect and limits."""

    def decode(self, output: bytes) -> R_co:
        """Return a stored result as the declared type."""


class LLMOptions(ModelSettings, total=False):
    """Options of one `ctx.call_llm`: the settings of a model call, and its limits.

    Attributes:
        max_output_tokens: the most the answer may have.
        timeout: seconds or a timedelta for one attempt.
    """

    max_output_tokens: int | None
    timeout: float | timedelta | None


class WorkflowContext:
    """What a workflow acts through: it is passed as its first argument."""

    def __init__(
        self,
        scheduler: Scheduler,
        started: RunStarted,
        *,
        tools: Mapping[str, Tool],
        notes: list[str],
    ) -> None:
        self._scheduler = scheduler
        self._nonce = started.nonce
        self._context = started.context
        self._tools = tools
        self._threads = Threads()
        self.log = WorkflowLog(scheduler, notes)

    @property
    def context(self) -> Any:
        """The JSON given to `start(context=)`; a fresh copy."""
        return plain(self._context)

    def now(self) -> datetime:
        """Return the time of the event that let this code run: UTC, the same on every replay."""
        return EPOCH + timedelta(microseconds=self._scheduler.time)

    def random(self) -> float:
        """Return the next number in [0, 1) of this branch, the same on every replay."""
        return int(self._draw("random")[:13], 16) / 2**52

    def uuid(self) -> str:
        """Return the next UUID (version 8) of this branch, the same on every replay."""
        bits = self._draw("uuid")
        variant = "89ab"[int(bits[16], 16) % 4]
        return f"{bits[:8]}-{bits[8:12]}-8{bits[13:16]}-{variant}{bits[17:20]}-{bits[20:32]}"

    def _draw(self, use: str) -> str:
        branch = self._scheduler.current
        branch.draws += 1
        return digest(self._nonce, use, branch.prefix, str(branch.draws))

    def call_tool(self, tool: Returns[T], /, **args: Any) -> Awaitable[T]:
        """Call a declared tool; the result is read from the journal by its declared type.

        `tool.options(timeout=, retries=)` changes this call only.

        Raises:
            InvalidInput: E_JSON_* when an argument cannot be JSON.
            ConfigError: E_PROGRAM_DECLARATION for what is no tool, or another tool of that name.
            ActionError: when awaited: the tool failed, or (ActionDenied) may not run.
        """
        spec = getattr(tool, "spec", None)
        if not isinstance(spec, ToolSpec):
            raise self._wrong_tool(tool, "it is not a tool", "decorate it with @tool")
        name = spec.name
        declared = self._tools.get(name)
        timeout = retries = None
        if declared is not None and declared is not tool:
            timeout, retries = self._changed(declared.spec, spec)
        try:
            data = canonical(args, what="arguments")
        except InvalidInput as exc:
            data = rich_arguments(args, exc)
        action = CallTool(name, Raw(data), None, timeout, retries)
        return PlainAct(self._scheduler, action, tool.decode)

    def _changed(self, declared: ToolSpec, given: ToolSpec) -> tuple[int | None, int | None]:
        """Return the limits (timeout_ms, retries) in which a copy of a tool is not the declared."""
        if declared.digest != given.digest:
            what = "it has the name of a declared tool and is another one"
            raise self._wrong_tool(given.name, what, "pass the declared tool, or rename one")
        timeout = None if given.timeout_ms == declared.timeout_ms else given.timeout_ms
        retries = None if given.retries == declared.retries else given.retries
        return timeout, retries

    def _wrong_tool(self, tool: Any, what: str, fix: str) -> ConfigError:
        name = tool if isinstance(tool, str) else type(tool).__name__
        return ConfigError(
            "E_PROGRAM_DECLARATION",
            program=self._scheduler.program,
            detail=f"ctx.call_tool was given {name}: {what}",
            fix=fix,
        )

    @overload
    def call_llm(
        self, route: str | Sequence[str], messages: Any, *, tools: Sequence[Tool] = (),
        output: None = None, **options: Unpack[LLMOptions],
    ) -> Awaitable[ChatResponse]: ...  # fmt: skip
    @overload
    def call_llm(
        self, route: str | Sequence[str], messages: Any, *, tools: Sequence[Tool] = (),
        output: type[T], **options: Unpack[LLMOptions],
    ) -> Awaitable[T]: ...  # fmt: skip
    @overload
    def call_llm(
        self, route: str | Sequence[str], messages: Any, *, tools: Sequence[Tool] = (),
        output: Any, **options: Unpack[LLMOptions],
    ) -> Awaitable[Any]: ...  # fmt: skip
    def call_llm(
        self, route: str | Sequence[str], messages: Any, *, tools: Sequence[Tool] = (),
        output: Any = None, **options: Unpack[LLMOptions],
    ) -> Awaitable[Any]:  # fmt: skip
        """Ask a declared model; return its answer, or the value it wrote of what `output` declares.

        `output` is a type, or a JSON Schema as a dict. An answer that does not fit is asked for
        again, twice at most; each time is a model call of its own.

        `route` is one, or a list: a call that its route cannot answer goes on with the next.

        `messages` is the user's text, or a list of `Message` objects and
        {"role": ..., "content": text} dicts. To go on with a conversation, pass the earlier
        messages, `answer.message` and the new ones: only what is new is stored.

        Raises:
            InvalidInput: E_ROUTE, E_CONTENT, E_JSON_TYPE.
            ConfigError: E_OUTPUT_SCHEMA*, E_PROGRAM_DECLARATION: `output` cannot be asked for.
            ActionError: when awaited: the call failed, was denied (ActionDenied), or the answer
                is cut, filtered or refused (E_ANSWER_*; `fields["partial"]` has its text), or
                does not fit `output` (E_ANSWER_UNFIT; `fields["problems"]` says where).
        """
        program = self._scheduler.program
        routes = route_list(route, program=program)
        provider, model = split_route(routes[0])
        rest: dict[str, Any] = dict(options)
        limits = model_limits(
            rest.pop("max_output_tokens", None), rest.pop("timeout", None), program=program
        )
        asked: Output[Any] | None = None
        if output is not None:
            asked = output_of(output, program=program)
            rest["response_format"] = asked.format
        offered = definitions(tool.spec for tool in tools)
        action = CallLLM(
            provider,
            model,
            UNASKED,
            tools=tuple(tool.name for tool in offered),
            tools_digest=tools_digest(offered),
            settings=settings_bytes(rest, program=program),
            max_output_tokens=limits.max_output_tokens,
            timeout_ms=limits.timeout_ms,
            fallbacks=routes[1:],
        )
        said = as_messages(messages)
        return LLMAct(self._scheduler, self._threads, action, said, offered, asked)

    @overload
    def gather(self, a: Awaitable[T1], b: Awaitable[T2], /) -> Awaitable[tuple[T1, T2]]: ...
    @overload
    def gather(
        self, a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], /
    ) -> Awaitable[tuple[T1, T2, T3]]: ...
    @overload
    def gather(
        self, a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], d: Awaitable[T4], /
    ) -> Awaitable[tuple[T1, T2, T3, T4]]: ...
    @overload
    def gather(self, *parts: Awaitable[T]) -> Awaitable[list[T]]: ...
    def gather(self, *parts: Awaitable[Any]) -> Any:
        """Await several things at once; returns a list of their results, in order.

        Parts are ctx awaitables or coroutines that use them. All parts run to their end; then
        the first error, by the order of the parts, is raised. (Typed as asyncio.gather is.)

        Raises:
            ConfigError: E_WORKFLOW_AWAIT for a part that cannot be awaited here, or twice.
        """
        steps: dict[Steps, None] = {}
        for part in parts:
            found = steps_of(part)
            if found is None or found in steps:
                _close(parts)
                what = type(part).__qualname__ if found is None else "a coroutine a second time"
                raise self._scheduler.foreign(what)
            steps[found] = None
        return Gather(self._scheduler, list(steps))

    def sleep(self, duration: float | timedelta) -> Awaitable[None]:
        """Go on after `duration` (seconds or a timedelta), in whatever process lives then.

        Raises:
            InvalidInput: E_SLEEP_TYPE, E_SLEEP_NEGATIVE, E_SLEEP_TOO_LONG.
        """
        return PlainAct(self._scheduler, Sleep(sleep_ms(duration)), _nothing)

    @overload
    def wait_signal(
        self, name: str, type: None = None, *, timeout: float | timedelta | None = None
    ) -> Awaitable[Any]: ...
    @overload
    def wait_signal(
        self, name: str, type: type[T], *, timeout: float | timedelta | None = None
    ) -> Awaitable[T]: ...
    def wait_signal(
        self, name: str, type: Any = None, *, timeout: float | timedelta | None = None
    ) -> Awaitable[Any]:
        """Wait for the signal `name` and return its payload, as `type` when one is given.

        A signal that came earlier counts; of several waits on one name the first gets the first.

        Raises:
            InvalidInput: E_SIGNAL_NAME, E_SLEEP_*. When awaited: E_SIGNAL_TYPE.
            SignalTimeout: when awaited: nobody sent it within `timeout`.
        """
        check_signal_name(name)
        limit = None if timeout is None else sleep_ms(timeout)
        contract: Contract[Any] = Contract(
            Any if type is None else type,
            code="E_SIGNAL_TYPE",
            name=name,
            program=self._scheduler.program,
        )
        return PlainAct(self._scheduler, WaitSignal(name, limit), contract.decode)


class WorkflowLog:
    """`ctx.log`: lines that belong to the run. Each is journaled once, when its step is."""

    def __init__(self, scheduler: Scheduler, notes: list[str]) -> None:
        self._scheduler = scheduler
        self._notes = notes

    def info(self, text: str) -> None:
        """Add a line of at most 4,000 characters to the run's journal."""
        if not self._scheduler.closed:
            self._notes.append(writable(str(text)))


def _nothing(_: bytes) -> None:
    """Return what a sleep returns."""


def _close(parts: Sequence[Any]) -> None:
    """Close coroutines that will not run, so that Python does not warn of them."""
    for part in parts:
        if isinstance(part, CoroutineType):
            part.close()
