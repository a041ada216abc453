"""Hooks as they are declared: where they are asked, what they may answer, how they fail.

Pure. Knows no run: what a hook is shown is in `hooks.views`, what its answer means in
`hooks.answers`.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Generic, Literal, TypeVar, get_args

import msgspec

from gatebook.errors import ConfigError, InvalidInput, shown
from gatebook.kernel.actions import sleep_ms
from gatebook.kernel.codec import check_name
from gatebook.kernel.events import HookPoint

Right = Literal["observe", "change", "deny", "act"]
OnFailure = Literal["open", "closed"]
F = TypeVar("F", bound=Callable[..., Any])

MAX_HOOK_TIMEOUT_MS = 600_000  # a hook may ask a model of its own; the bound of a model attempt
POINTS: tuple[HookPoint, ...] = get_args(HookPoint)
POSSIBLE: dict[HookPoint, frozenset[Right]] = {
    "on_run_start": frozenset({"observe", "deny"}),
    "before_model": frozenset({"observe", "change", "deny", "act"}),
    "after_model": frozenset({"observe", "change", "deny", "act"}),
    "before_tool": frozenset({"observe", "change", "deny", "act"}),
    "after_tool": frozenset({"observe", "change", "deny", "act"}),
    "on_run_end": frozenset({"observe", "deny"}),
}
OF_TOOLS: frozenset[HookPoint] = frozenset({"before_tool", "after_tool"})
AFTER: frozenset[HookPoint] = frozenset({"after_model", "after_tool"})
BEFORE: frozenset[HookPoint] = frozenset({"before_model", "before_tool"})


class Change(msgspec.Struct, frozen=True):
    """A hook's answer: go on with this instead.

    Attributes:
        value: at before_tool all arguments as a dict, at before_model all messages as a list; at
            after_tool the result as plain JSON, at after_model the text or the whole Message; of
            an attempt that failed, the text of its error.
    """

    value: Any


class Deny(msgspec.Struct, frozen=True):
    """A hook's answer: refuse the action or the run, or withhold the result; and why."""

    reason: str


class HookSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What is declared of a hook.

    Attributes:
        tools: the tools it is asked about, None for all.
        security: it cannot fail open, and no worker goes on with a run without it.
    """

    name: str
    point: HookPoint
    rights: frozenset[Right]
    timeout_ms: int
    on_failure: OnFailure
    security: bool = False
    tools: tuple[str, ...] | None = None

    def sees(self, tool: str) -> bool:
        """Whether it is asked about a tool ("" for what is no tool call)."""
        return self.tools is None or tool in self.tools


class Hook(Generic[F]):
    """A declared hook: `spec`, and the function behind it. Calling it calls the function."""

    def __init__(self, spec: HookSpec, function: F) -> None:
        self.spec = spec
        self.function = function
        self.is_async = _is_async(function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, outside any run: for unit tests."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<hook {self.spec.name} {self.spec.point}>"


def hook(  # noqa: PLR0913 - a declaration; everything but the point is by name
    point: HookPoint,
    *,
    rights: Collection[Right],
    timeout: float | timedelta,
    on_failure: OnFailure,
    security: bool = False,
    tools: Sequence[Any] | None = None,
    name: str | None = None,
) -> Callable[[F], Hook[F]]:
    """Declare a function, sync or async, as a hook of a `Runtime(hooks=[...])`.

    It is called with one argument, a picture of what it is asked about (`BeforeTool` and the
    like), and answers None (go on), `Change(value)` or `Deny(reason)`.

    Args:
        point: "on_run_start", "before_model", "after_model", "before_tool", "after_tool" or
            "on_run_end".
        rights: what it may answer: "observe" (nothing), "change", "deny"; and "act": an async
            one may call the program's tools, `await call.call_tool(tool, ...)`. They pass the
            gate like any call, and no hook is asked about them.
        timeout: seconds or a timedelta, 10 minutes at most.
        on_failure: "closed" refuses what it was asked about when it raises, hangs or answers
            what it may not; "open" goes on as if it had not been asked.
        security: it guards something: it cannot fail open, and a run that was started under it
            is not driven without it.
        tools: tools (or their names) it is asked about; None for all.
        name: as the journal names it; the function's name unless given.

    Raises:
        ConfigError: E_HOOK_DECLARATION, E_HOOK_OPEN. InvalidInput: E_HOOK_NAME.
    """

    def declare(function: F) -> Hook[F]:
        called = name if name is not None else getattr(function, "__name__", None)
        own = check_name(called, code="E_HOOK_NAME")
        spec = HookSpec(
            name=own,
            point=_point(own, point),
            rights=_rights(own, point, rights),
            timeout_ms=_timeout_ms(own, timeout),
            on_failure=_on_failure(own, on_failure, security=security),
            security=security,
            tools=_tools(own, point, tools),
        )
        _check_function(own, function)
        if "act" in spec.rights and not _is_async(function):
            raise _refused(own, "it blocks, so it cannot act", "write it as async def")
        return Hook(spec, function)

    return declare


def _refused(hook_name: str, detail: str, fix: str) -> ConfigError:
    return ConfigError("E_HOOK_DECLARATION", hook=hook_name, detail=detail, fix=fix)


def _point(name: str, point: Any) -> HookPoint:
    if point not in POINTS:
        raise _refused(name, f"there is no point {shown(point)}", f"use {', '.join(POINTS)}")
    found: HookPoint = point
    return found


def _rights(name: str, point: HookPoint, rights: Any) -> frozenset[Right]:
    possible = POSSIBLE[point]
    words = ", ".join(sorted(possible))
    if isinstance(rights, str) or not isinstance(rights, Collection) or not rights:
        raise _refused(name, f"rights={shown(rights)} names no rights", f"give some of {words}")
    for right in rights:
        if right not in possible:
            raise _refused(name, f"{point} knows no right {shown(right)}", f"give some of {words}")
    return frozenset(rights)


def _timeout_ms(name: str, timeout: Any) -> int:
    try:
        found = sleep_ms(timeout)
    except InvalidInput as exc:
        raise _refused(name, f"timeout={shown(timeout)} is no time", "give seconds") from exc
    if not 1 <= found <= MAX_HOOK_TIMEOUT_MS:
        limit = MAX_HOOK_TIMEOUT_MS // 1000
        fix = f"give seconds above 0 and up to {limit}"
        raise _refused(name, f"timeout={shown(timeout)} is out of range", fix)
    return found


def _on_failure(name: str, on_failure: Any, *, security: Any) -> OnFailure:
    if on_failure not in get_args(OnFailure):
        detail = f"on_failure={shown(on_failure)} says nothing"
        raise _refused(name, detail, 'give "open" or "closed"')
    if type(security) is not bool:
        raise _refused(name, f"security={shown(security)} is no bool", "give True or False")
    if security and on_failure == "open":
        raise ConfigError("E_HOOK_OPEN", hook=name)
    found: OnFailure = on_failure
    return found


def _tools(name: str, point: HookPoint, tools: Any) -> tuple[str, ...] | None:
    if tools is None:
        return None
    if point not in OF_TOOLS:
        raise _refused(name, f"tools= says nothing at {point}", "leave it out")
    if isinstance(tools, str) or not isinstance(tools, Sequence) or not tools:
        raise _refused(name, f"tools={shown(tools)} names no tools", "give a list of tools")
    found = tuple(tool if isinstance(tool, str) else getattr(tool, "name", "") for tool in tools)
    for named, given in zip(found, tools, strict=True):
        if not isinstance(named, str) or not named:
            raise _refused(name, f"{shown(given)} is no tool", "give tools or their names")
    return found


def _check_function(name: str, function: Any) -> None:
    fix = "write it as def or async def of one argument"
    if not callable(function):
        raise _refused(name, f"{shown(function)} cannot be called", fix)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise _refused(name, "it yields", fix)
    try:
        inspect.signature(function).bind(None)
    except (TypeError, ValueError) as exc:
        raise _refused(name, "it does not take one argument", fix) from exc


def _is_async(function: Any) -> bool:
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(function.__call__)


class Hooks:
    """The hooks of a worker, by point; asked in the order they were given in.

    Raises:
        ConfigError: E_HOOK_DECLARATION for what is no hook, E_HOOK_DUPLICATE.

    Attributes:
        guards: names of the security hooks, sorted.
        named: every tool that some hook names, and the hook.
        reworks_answers: an after_model hook may change or withhold what a model said.
    """

    def __init__(self, hooks: Sequence[Hook[Any]]) -> None:
        self._at: dict[HookPoint, list[Hook[Any]]] = {point: [] for point in POINTS}
        names: set[str] = set()
        for each in hooks:
            if not isinstance(each, Hook):
                raise _refused(shown(each), "it is no hook", "declare it with @hook(...)")
            if each.spec.name in names:
                raise ConfigError("E_HOOK_DUPLICATE", hook=each.spec.name)
            names.add(each.spec.name)
            self._at[each.spec.point].append(each)
        self.guards = tuple(sorted(each.spec.name for each in hooks if each.spec.security))
        self.named = {tool: each.spec.name for each in hooks for tool in each.spec.tools or ()}
        self.reworks_answers = any(
            each.spec.rights != {"observe"} or each.spec.on_failure == "closed"
            for each in self._at["after_model"]
        )

    def __iter__(self) -> Iterator[Hook[Any]]:
        return (each for point in POINTS for each in self._at[point])

    def at(self, point: HookPoint, tool: str = "") -> tuple[Hook[Any], ...]:
        """Return the hooks to ask at a point, about a tool or what is none, in order."""
        return tuple(each for each in self._at[point] if each.spec.sees(tool))
