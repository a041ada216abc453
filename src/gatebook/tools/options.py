"""What `@tool(...)` may say besides the function, checked when it is said. Imports no pydantic."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypedDict, get_args

from gatebook.errors import ConfigError, shown
from gatebook.kernel.codec import MAX_PAYLOAD
from gatebook.kernel.tools import MAX_OUTPUT, TOOL_TIMEOUT_MS, Effect, OnError

MAX_TIMEOUT_S = 7 * 86_400.0  # a week; longer work is a child run, a sleep or a signal
MAX_RETRIES = 100
LABEL = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class CallOptions(TypedDict, total=False):
    """Options that do not change what the tool is, so one call may choose others.

    Attributes:
        timeout: seconds or a timedelta for one attempt.
        retries: how often an attempt may be repeated; None leaves it to the policy.
        on_error: what an exception other than ActionError means: `failed` or `unknown`.
        max_output: bytes of a result that a model reads; all of it is kept, up to 8 MiB.
    """

    timeout: float | timedelta
    retries: int | None
    on_error: OnError
    max_output: int


class ToolOptions(CallOptions, total=False):
    """Options of `@tool(...)`: those of a call, and what model, policy and journal see.

    Attributes:
        name: instead of the function's name.
        description: text for the model instead of the docstring.
        effect: what a second start would do; undeclared means `at_most_once`.
        returns: labels of what its results bring into a run: {"untrusted"}, {"private"}.
        sends: whether it carries something outside, if only in the address it asks.
    """

    name: str
    description: str
    effect: Effect
    returns: Iterable[str]
    sends: bool


@dataclass(frozen=True)
class Limits:
    """How one attempt is run: checked, in the units of the kernel."""

    timeout_ms: int = TOOL_TIMEOUT_MS
    retries: int | None = None
    on_error: OnError = "failed"
    max_output: int = MAX_OUTPUT

    def changed(self, tool: str, options: Mapping[str, Any]) -> "Limits":
        """Return these limits with some options of a call in their place.

        Raises:
            ConfigError: E_TOOL_DECLARATION or E_RETRY_CONFIG, naming the option.
        """
        _check_keys(tool, options, CallOptions.__annotations__)
        checked: dict[str, Any] = {}
        if "timeout" in options:
            checked["timeout_ms"] = _timeout_ms(tool, options["timeout"])
        if "retries" in options:
            checked["retries"] = _retries(options["retries"])
        if "on_error" in options:
            checked["on_error"] = _one_of(tool, "on_error", options["on_error"], get_args(OnError))
        if "max_output" in options:
            checked["max_output"] = _max_output(tool, options["max_output"])
        return replace(self, **checked)


def split(tool: str, options: Mapping[str, Any]) -> tuple[Effect, str | None, Limits]:
    """Return the effect, the description (None: the docstring's) and the limits of a tool.

    Raises:
        ConfigError: E_TOOL_DECLARATION or E_RETRY_CONFIG, naming the option.
    """
    _check_keys(tool, options, ToolOptions.__annotations__)
    effect: Effect = _one_of(
        tool, "effect", options.get("effect", "at_most_once"), get_args(Effect)
    )
    description = options.get("description")
    if description is not None and not isinstance(description, str):
        raise _unfit(tool, "description", description, "text")
    of_call = {name: options[name] for name in CallOptions.__annotations__ if name in options}
    return effect, description, Limits().changed(tool, of_call)


def flow(tool: str, options: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
    """Return the labels of a tool's results, sorted, and whether it sends something outside.

    Raises:
        ConfigError: E_TOOL_DECLARATION, naming the option.
    """
    returns, sends = options.get("returns", ()), options.get("sends", False)
    sound = isinstance(returns, set | frozenset | list | tuple)
    if not sound or not all(isinstance(x, str) and LABEL.fullmatch(x) for x in returns):
        want = "a set of labels of letters, digits, '_', '-' or '.', such as {'untrusted'}"
        raise _unfit(tool, "returns", returns, want)
    if type(sends) is not bool:
        raise _unfit(tool, "sends", sends, "True or False")
    return tuple(sorted(set(returns))), sends


def refused(tool: str, detail: str, fix: str) -> ConfigError:
    """Return the error for a declaration that cannot become a tool."""
    return ConfigError("E_TOOL_DECLARATION", tool=tool, detail=detail, fix=fix)


def _unfit(tool: str, option: str, value: object, want: str) -> ConfigError:
    return refused(tool, f"{option}={shown(value)} is not allowed", f"give {want}")


def _check_keys(tool: str, options: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in options:
        if name not in known:
            raise refused(tool, f"there is no option {name} here", f"give {', '.join(known)}")


def _one_of(tool: str, option: str, value: object, choices: tuple[Any, ...]) -> Any:
    if value not in choices:
        raise _unfit(tool, option, value, "one of " + ", ".join(map(repr, choices)))
    return value


def _timeout_ms(tool: str, value: object) -> int:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    good = type(seconds) in (int, float) and math.isfinite(seconds)  # type: ignore[arg-type]
    if not good or not 0 < seconds <= MAX_TIMEOUT_S:  # type: ignore[operator]
        raise _unfit(tool, "timeout", value, f"seconds above 0, at most {MAX_TIMEOUT_S:.0f}")
    return max(1, round(seconds * 1000))  # type: ignore[operator]


def _retries(value: object) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= MAX_RETRIES:
        want = f"a whole number from 0 to {MAX_RETRIES}, or None for the policy's"
        raise ConfigError("E_RETRY_CONFIG", name="retries", value=value, want=want)
    return value


def _max_output(tool: str, value: object) -> int:
    if type(value) is not int or not 1 <= value <= MAX_PAYLOAD:
        raise _unfit(tool, "max_output", value, f"bytes from 1 to {MAX_PAYLOAD}")
    return value
