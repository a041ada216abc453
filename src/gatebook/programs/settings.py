"""The settings of model calls as programs declare them: checked names and types, as canonical JSON.

The JSON goes into the action as it is; its fields are those of a ChatRequest of the same names.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple, TypedDict

import msgspec

from gatebook.errors import ConfigError, InvalidInput
from gatebook.kernel.actions import sleep_ms
from gatebook.kernel.codec import Raw, canonical
from gatebook.kernel.messages import JsonSchemaFormat, ToolChoice


class ModelSettings(TypedDict, total=False):
    """What may be set of a model call; unset is left to the provider.

    Attributes:
        stop: texts at which the answer ends.
        tool_choice: "auto", "none", "required" or {"name": tool}.
        provider_options: fields of the provider's own; its adapter takes an allow-list.
    """

    temperature: float | None
    top_p: float | None
    stop: list[str]
    seed: int | None
    reasoning_effort: str | None
    parallel_tool_calls: bool | None
    tool_choice: str | dict[str, str]
    provider_options: dict[str, Any]


class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What settings are checked against."""

    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    reasoning_effort: str | None = None
    parallel_tool_calls: bool | None = None
    tool_choice: ToolChoice = "auto"
    response_format: JsonSchemaFormat | None = None
    provider_options: dict[str, Any] = {}


_read = msgspec.json.Decoder(_Settings).decode


def settings_bytes(settings: Mapping[str, Any], *, program: str) -> Raw:
    """Return settings as canonical JSON; those that are None are left out.

    Raises:
        ConfigError: E_CONFIG for an unknown name or a value of another type.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    try:
        data = canonical(given, what="settings")
        _read(data)
    except (msgspec.ValidationError, InvalidInput) as exc:
        raise _unfit("settings", str(exc), program) from exc
    return Raw(data)


class ModelLimits(NamedTuple):
    """How much and how long a model may answer; None leaves it to policy and runtime."""

    max_output_tokens: int | None
    timeout_ms: int | None


def model_limits(
    max_output_tokens: int | None, timeout: float | timedelta | None, *, program: str
) -> ModelLimits:
    """Return checked limits.

    Raises:
        ConfigError: E_CONFIG, naming the setting.
    """
    if max_output_tokens is not None:
        whole_number("max_output_tokens", max_output_tokens, program=program)
    if timeout is None:
        return ModelLimits(max_output_tokens, None)
    try:
        limit = sleep_ms(timeout)
    except InvalidInput:
        limit = 0
    if limit < 1:
        raise _unfit("timeout", "it is no duration above zero", program)
    return ModelLimits(max_output_tokens, limit)


def whole_number(name: str, value: Any, *, program: str) -> int:
    """Return a setting that counts something, or refuse it with E_CONFIG."""
    if type(value) is not int or value < 1:
        raise _unfit(name, "it is no whole number from 1", program)
    return value


def _unfit(name: str, detail: str, program: str) -> ConfigError:
    fix = "correct it; the settings are " + ", ".join(ModelSettings.__annotations__)
    if name != "settings":
        fix = f"give another {name}=, or leave it out"
    return ConfigError("E_CONFIG", name=name, path=f"program {program}", detail=detail, fix=fix)
