"""What hooks are asked about, and what becomes of it when one changes it. Pure.

Knows actions, results and messages; not how a hook is called nor how its answer is recorded.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from gatebook.errors import InvalidInput, printable
from gatebook.kernel.actions import CallLLM, CallTool, action_digest
from gatebook.kernel.codec import NULL, Raw, bounded, canonical, digest, plain
from gatebook.kernel.events import HookPoint, RunStarted
from gatebook.kernel.hooks.views import (
    AfterModel,
    AfterTool,
    BeforeModel,
    BeforeTool,
    HookView,
    OnRunEnd,
    OnRunStart,
)
from gatebook.kernel.messages import ChatResponse, Message, TextPart
from gatebook.kernel.redact import Redactor
from gatebook.kernel.secrets import keep_references

MAX_ERROR_TEXT = 2_000  # characters of an error's changed text, as many as of its own

_encode = msgspec.json.Encoder(order="deterministic").encode
_response: msgspec.json.Decoder[ChatResponse] = msgspec.json.Decoder(ChatResponse)
_messages: msgspec.json.Decoder[tuple[Message, ...]] = msgspec.json.Decoder(tuple[Message, ...])

Self = TypeVar("Self", bound="Subject")
Told = Mapping[str, Any]  # what every view of a run says, see `HookView`


class Subject(Protocol):
    """What a hook is asked about."""

    @property
    def point(self) -> HookPoint:
        """Where it is asked."""

    @property
    def address(self) -> str:
        """Of the action, "" for the run."""

    @property
    def attempt(self) -> int:
        """Of an after point, else 0."""

    @property
    def what(self) -> str:
        """The words people see for it."""

    def digest(self) -> str:
        """Return the digest of what the hook is shown."""

    def view(self, told: Told) -> HookView:
        """Return a picture of it that is the hook's own."""

    def changed(self: Self, value: Any, redactor: Redactor) -> tuple[Self, Raw]:
        """Return it as a hook wants it, and what to record of that.

        Raises:
            InvalidInput: the value cannot stand there.
        """


class ToolWanted(msgspec.Struct, frozen=True):
    """A tool call that has not come to the gate yet."""

    address: str
    action: CallTool
    attempt: int = 0
    point: HookPoint = "before_tool"

    @property
    def what(self) -> str:
        return self.action.tool

    def digest(self) -> str:
        return action_digest(self.action)

    def view(self, told: Told) -> HookView:
        args = self.action.arguments
        return BeforeTool(**told, address=self.address, tool=self.action.tool, args=args)

    def changed(self, value: Any, redactor: Redactor) -> tuple["ToolWanted", Raw]:
        if not isinstance(value, Mapping):
            raise InvalidInput("E_JSON_TYPE", path="the changed arguments", value=value)
        args = Raw(canonical(dict(value), what="the changed arguments"))
        _check_secrets(args, self.action.tool, redactor)
        keep_references(self.action.arguments, value, tool=self.action.tool)
        action = msgspec.structs.replace(self.action, args=args)
        return msgspec.structs.replace(self, action=action), args


class ModelWanted(msgspec.Struct, frozen=True):
    """A model call that has not come to the gate yet, with the conversation it refers to."""

    address: str
    action: CallLLM
    messages: tuple[Message, ...]
    attempt: int = 0
    point: HookPoint = "before_model"

    @property
    def what(self) -> str:
        return self.action.route

    def digest(self) -> str:
        return action_digest(self.action)

    def view(self, told: Told) -> HookView:
        action = self.action
        return BeforeModel(
            **told, address=self.address, route=action.route, messages=self.messages,
            tools=action.tools,
        )  # fmt: skip

    def changed(self, value: Any, redactor: Redactor) -> tuple["ModelWanted", Raw]:
        if not isinstance(value, list | tuple) or not value:
            raise InvalidInput("E_JSON_TYPE", path="the changed messages", value=value)
        if not all(type(message) is Message for message in value):
            raise InvalidInput("E_JSON_TYPE", path="the changed messages", value=list(value))
        if tuple(value) == self.messages:
            return self, NULL
        change = _splice(self.messages, value)
        _check_secrets(change, self.action.route, redactor)
        return self.spliced(change), change

    def spliced(self, change: Raw) -> "ModelWanted":
        """Return it with the change that an event records."""
        edit = _edits.decode(change)
        last = len(self.messages) - edit.last
        messages = (*self.messages[: edit.keep], *edit.new, *self.messages[last:])
        sent, size = "", 0
        for message in messages:
            data = _encode(message)
            sent, size = digest(sent, data), size + len(data)
        prompt = msgspec.structs.replace(self.action.prompt, sent=sent, size=size)
        action = msgspec.structs.replace(self.action, prompt=prompt)
        return msgspec.structs.replace(self, action=action, messages=messages)


class _Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A changed conversation, by what is new: `keep` messages stay before it, `last` after it."""

    keep: int
    new: tuple[Message, ...]
    last: int


_edits: msgspec.json.Decoder[_Edit] = msgspec.json.Decoder(_Edit)


def _splice(before: Sequence[Message], after: Sequence[Message]) -> Raw:
    most = min(len(before), len(after))
    keep = 0
    while keep < most and before[keep] == after[keep]:
        keep += 1
    last = 0
    while last < most - keep and before[-1 - last] == after[-1 - last]:
        last += 1
    data = _json(_Edit(keep, tuple(after[keep : len(after) - last]), last))
    try:
        _edits.decode(data)
    except msgspec.ValidationError as exc:
        raise InvalidInput("E_JSON_SYNTAX", path="the messages", detail=str(exc)[:120]) from exc
    return Raw(data)


class ToolEnded(msgspec.Struct, frozen=True):
    """An attempt of a tool that ended, with a result or (`output` None) an error's text.

    `check` raises InvalidInput for a result that the tool's type does not allow.
    """

    address: str
    action: CallTool
    attempt: int
    output: Raw | None
    check: Callable[[bytes], Any]
    error: str = ""
    point: HookPoint = "after_tool"

    @property
    def what(self) -> str:
        return self.action.tool

    def digest(self) -> str:
        return digest(self.error) if self.output is None else digest(bytes(self.output))

    def view(self, told: Told) -> HookView:
        return AfterTool(
            **told, address=self.address, tool=self.action.tool, args=self.action.arguments,
            attempt=self.attempt, failed=self.output is None, error=self.error,
            result=None if self.output is None else plain(self.output),
        )  # fmt: skip

    def changed(self, value: Any, redactor: Redactor) -> tuple["ToolEnded", Raw]:
        if self.output is None:
            return msgspec.structs.replace(self, error=_error_text(value, redactor)), NULL
        data = redactor.json(canonical(value, what="the changed result"))
        self.check(data)
        return msgspec.structs.replace(self, output=Raw(data)), NULL


class ModelEnded(msgspec.Struct, frozen=True):
    """An attempt of a model call that ended, with an answer or (`output` None) an error's text."""

    address: str
    action: CallLLM
    attempt: int
    output: Raw | None
    error: str = ""
    point: HookPoint = "after_model"

    @property
    def what(self) -> str:
        return self.action.route

    def digest(self) -> str:
        return digest(self.error) if self.output is None else digest(bytes(self.output))

    def view(self, told: Told) -> HookView:
        return AfterModel(
            **told, address=self.address, route=self.action.route, attempt=self.attempt,
            answer=None if self.output is None else _response.decode(self.output),
            error=self.error,
        )  # fmt: skip

    def changed(self, value: Any, redactor: Redactor) -> tuple["ModelEnded", Raw]:
        if self.output is None:
            return msgspec.structs.replace(self, error=_error_text(value, redactor)), NULL
        answer = _response.decode(self.output)
        message = _as_answer(value, answer.message)
        reason = answer.finish_reason
        if message.tool_calls or reason == "tool_calls":
            reason = "tool_calls" if message.tool_calls else "stop"
        changed = msgspec.structs.replace(answer, message=message, finish_reason=reason)
        data = redactor.json(_json(changed))
        return msgspec.structs.replace(self, output=Raw(data)), NULL


def _as_answer(value: Any, said: Message) -> Message:
    """Return the message of a changed answer; given a text, all but the text stays."""
    if isinstance(value, str):
        others = tuple(part for part in said.content if type(part) is not TextPart)
        return Message("assistant", (TextPart(str.__str__(value)), *others))
    if type(value) is not Message or value.role != "assistant":
        raise InvalidInput("E_JSON_TYPE", path="the changed answer", value=value)
    try:
        (message,) = _messages.decode(_json((value,)))
    except msgspec.ValidationError as exc:
        raise InvalidInput("E_JSON_SYNTAX", path="the answer", detail=str(exc)[:120]) from exc
    ids = [call.id for call in message.tool_calls]
    if len(set(ids)) < len(ids) or not all(ids):
        raise InvalidInput("E_JSON_TYPE", path="the ids of its tool calls", value=ids)
    return message


class RunBegins(msgspec.Struct, frozen=True):
    """A run that has asked for nothing yet."""

    started: RunStarted
    address: str = ""
    attempt: int = 0
    point: HookPoint = "on_run_start"

    @property
    def what(self) -> str:
        return self.started.program

    def digest(self) -> str:
        return digest(bytes(self.started.input))

    def view(self, told: Told) -> HookView:
        return OnRunStart(**told, input=plain(self.started.input))

    def changed(self, value: Any, redactor: Redactor) -> tuple["RunBegins", Raw]:
        raise InvalidInput("E_JSON_TYPE", path="a run's start", value=value)


class RunEnds(msgspec.Struct, frozen=True):
    """A run that is about to end."""

    program: str
    status: Any
    output: Raw = NULL
    error: str = ""
    address: str = ""
    attempt: int = 0
    point: HookPoint = "on_run_end"

    @property
    def what(self) -> str:
        return self.program

    def digest(self) -> str:
        return digest(self.status, bytes(self.output), self.error)

    def view(self, told: Told) -> HookView:
        return OnRunEnd(**told, status=self.status, output=plain(self.output), error=self.error)

    def changed(self, value: Any, redactor: Redactor) -> tuple["RunEnds", Raw]:
        raise InvalidInput("E_JSON_TYPE", path="a run's end", value=value)


def _check_secrets(change: Raw, what: str, redactor: Redactor) -> None:
    if redactor.json(bytes(change)) != bytes(change):
        raise InvalidInput("E_ARGS_SECRET", tool=what, detail="a hook put it there")


def _error_text(value: Any, redactor: Redactor) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInput("E_JSON_TYPE", path="the changed error", value=value)
    return printable(redactor.text(value[:MAX_ERROR_TEXT]))


def _json(value: Any) -> bytes:
    try:
        return bounded(_encode(value), what="the changed messages")
    except (UnicodeEncodeError, msgspec.MsgspecError, TypeError, OverflowError) as exc:
        raise InvalidInput("E_JSON_SYNTAX", path="messages", detail=str(exc)[:120]) from exc
