"""What hooks are shown: one frozen picture for each point, made afresh for each hook.

Lists and dicts in them are copies: to change what happens, a hook answers `Change`.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from gatebook.errors import InvalidInput
from gatebook.kernel.messages import ChatResponse, Message, ToolCallPart


async def _cannot_act(tool: Any, /, **args: Any) -> Any:
    raise InvalidInput("E_HOOK_RIGHTS", hook="", right="act")


class HookView(msgspec.Struct, frozen=True, kw_only=True):
    """What every hook is told.

    Attributes:
        address: of the action, "" at the run's own points.
        labels: the run's labels.
        context: the JSON given to `start(context=)`.
        cancelled: becomes True when nobody waits for the answer any more; safe from any thread.
        call_tool: calls a tool of the program, by itself or by name; for hooks with that right.
    """

    run: str
    tenant: str
    program: str
    labels: dict[str, str]
    context: Any
    cancelled: Callable[[], bool]
    call_tool: Callable[..., Awaitable[Any]] = _cannot_act
    address: str = ""


class OnRunStart(HookView, frozen=True, kw_only=True):
    """A run is about to begin. `input` is as it is stored."""

    input: Any


class BeforeModel(HookView, frozen=True, kw_only=True):
    """A model is about to be asked, policy and budget permitting."""

    route: str
    messages: tuple[Message, ...]
    tools: tuple[str, ...]


class AfterModel(HookView, frozen=True, kw_only=True):
    """An attempt of a model call ended: with an answer, or with the text of an error."""

    route: str
    attempt: int
    answer: ChatResponse | None
    error: str = ""

    @property
    def text(self) -> str:
        """The text of the answer, "" for none."""
        return "" if self.answer is None else self.answer.text

    @property
    def tool_calls(self) -> tuple[ToolCallPart, ...]:
        """The tools the answer calls."""
        return () if self.answer is None else self.answer.tool_calls


class BeforeTool(HookView, frozen=True, kw_only=True):
    """A tool is about to be called, if its arguments are valid and policy and budget permit."""

    tool: str
    args: dict[str, Any]


class AfterTool(HookView, frozen=True, kw_only=True):
    """An attempt of a tool ended: with a result, or (`failed`) with the text of an error."""

    tool: str
    args: dict[str, Any]
    attempt: int
    result: Any
    failed: bool
    error: str = ""


class OnRunEnd(HookView, frozen=True, kw_only=True):
    """A run is about to end so. Only a completed one can be denied its end."""

    status: Literal["completed", "failed", "cancelled"]
    output: Any
    error: str = ""
