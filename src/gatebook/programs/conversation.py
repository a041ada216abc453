"""Conversations by reference: how prompts stay linear, and how an outcome reads as a message.

The digest of a conversation is a chain over its messages, so it does not depend on how the
messages were cut into prompts: digest(n) = sha256(digest(n-1), JSON of message n).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from gatebook.errors import IntegrityError, InvalidInput
from gatebook.kernel.actions import Action, CallLLM, CallTool, Prompt, PromptPart
from gatebook.kernel.artifacts import beginning
from gatebook.kernel.codec import Raw, digest, plain
from gatebook.kernel.messages import ChatResponse, Message, ToolDefinition
from gatebook.kernel.tools import ToolSpec
from gatebook.ports import Outcome

_encoder = msgspec.json.Encoder(order="deterministic")
_response = msgspec.json.Decoder(ChatResponse).decode
_SPEAKERS: dict[str, Callable[[str], Message]] = {
    "system": Message.system,
    "user": Message.user,
    "assistant": Message.assistant,
}


def _encode(value: Message | ToolDefinition) -> bytes:
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError as exc:
        raise InvalidInput("E_TEXT_INVALID", path="messages") from exc


def chain(parent: str, messages: Iterable[Message]) -> str:
    """Return the digest of the conversation `parent` stands for, extended by messages."""
    for message in messages:
        parent = digest(parent, _encode(message))
    return parent


def answer_of(outcome: Outcome) -> ChatResponse:
    """Return the answer that a succeeded model call recorded.

    Raises:
        InvalidInput: E_ANSWER_UNREADABLE when somebody resolved it with other JSON.
    """
    try:
        return _response(outcome.output)
    except msgspec.DecodeError as exc:
        raise InvalidInput("E_ANSWER_UNREADABLE", address=outcome.address, detail=str(exc)) from exc


def render(action: Action, outcome: Outcome) -> Message:
    """Return the message that an outcome is in a conversation; what references stand for.

    A model call reads as its answer's message, a tool call as a tool result: JSON text as it is
    stored, a string without its quotes, the beginning of an artifact, an error as its text.
    """
    if isinstance(action, CallLLM):
        return answer_of(outcome).message
    call_id = action.call_id if isinstance(action, CallTool) else None
    return tool_message(call_id or outcome.address, outcome)


def tool_message(call_id: str, outcome: Outcome) -> Message:
    """Return the message that the outcome of a tool call is."""
    if outcome.status == "succeeded":
        if outcome.artifact is not None:
            return Message.tool_result(call_id, beginning(bytes(outcome.output), outcome.artifact))
        return Message.tool_result(call_id, result_text(outcome.output))
    text = outcome.error.message if outcome.error else "the action failed"
    return Message.tool_result(call_id, text, is_error=True)


def result_text(output: Raw) -> str:
    """Return a stored result as a model reads it."""
    data = bytes(output)
    return str(plain(data)) if data[:1] == b'"' else data.decode()


def definitions(specs: Iterable[ToolSpec]) -> tuple[ToolDefinition, ...]:
    """Return tools as a model sees them."""
    return tuple(ToolDefinition(spec.name, spec.description, spec.schema) for spec in specs)


def tools_digest(offered: Sequence[ToolDefinition]) -> str:
    """Return the digest over the names, descriptions and schemas of offered tools, "" for none."""
    return digest(*(_encode(tool) for tool in offered)) if offered else ""


class Conversation:
    """One growing conversation. Appending costs what is new, never what is there already."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._digest = ""
        self._size = 0
        self._asked = ""
        self._new: list[PromptPart] = []

    def say(self, message: Message) -> None:
        """Append a message that is written out in the next prompt."""
        self._append(message, PromptPart(message=message))

    def refer(self, address: str, message: Message) -> None:
        """Append a message that is the rendering of the outcome at `address`."""
        self._append(message, PromptPart(outcome=address))

    def _append(self, message: Message, part: PromptPart) -> None:
        data = _encode(message)
        self._digest = digest(self._digest, data)
        self._size += len(data)
        self._messages.append(message)
        self._new.append(part)

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages, in order."""
        return tuple(self._messages)

    def prompt(self) -> Prompt:
        """Return the conversation as it stands, extending the one of the last prompt."""
        found = Prompt(self._digest, self._asked, tuple(self._new), self._size)
        self._asked = self._digest
        self._new = []
        return found


class Threads:
    """The conversations of a workflow: finds what a list of messages extends.

    Depends on the prompts asked so far, hence on the order of outcomes, which replay repeats.
    """

    def __init__(self) -> None:
        self._asked: set[str] = set()
        self._answers: dict[bytes, str] = {}

    def prompt(self, messages: Sequence[Message]) -> Prompt:
        """Return the messages as a prompt that extends the longest conversation asked before."""
        encoded = [_encode(message) for message in messages]
        reached, start, parent = "", 0, ""
        for index, data in enumerate(encoded):
            if reached in self._asked:
                start, parent = index, reached
            reached = digest(reached, data)
        self._asked.add(reached)
        new = tuple(
            self._part(message, data)
            for message, data in zip(messages[start:], encoded[start:], strict=True)
        )
        return Prompt(reached, parent, new, sum(map(len, encoded)))

    def _part(self, message: Message, data: bytes) -> PromptPart:
        address = self._answers.get(data)
        return PromptPart(message=message) if address is None else PromptPart(outcome=address)

    def heard(self, address: str, message: Message) -> None:
        """Remember an answer, so that later prompts refer to it."""
        self._answers.setdefault(_encode(message), address)


def resolve(
    prompt: Prompt, earlier: Mapping[str, Prompt], rendered: Callable[[str], Message]
) -> tuple[Message, ...]:
    """Return the messages a journaled prompt stands for, from the journal alone.

    `earlier` holds prompts by digest; `rendered` gives the message of the outcome at an address.

    Raises:
        IntegrityError: E_INVARIANT when a parent is missing or the digest does not match.
    """
    links = [prompt]
    while links[-1].parent:
        parent = earlier.get(links[-1].parent)
        if parent is None or len(links) > len(earlier):
            raise IntegrityError("E_INVARIANT", run="", detail="a prompt has no parent")
        links.append(parent)
    messages = tuple(
        part.message if part.message is not None else rendered(part.outcome or "")
        for link in reversed(links)
        for part in link.new
    )
    if chain("", messages) != prompt.digest:
        raise IntegrityError("E_INVARIANT", run="", detail="a prompt does not match its digest")
    return messages


def as_messages(value: Any) -> tuple[Message, ...]:
    """Return what a workflow passes as `messages=`: text, or messages as objects or dicts.

    Raises:
        InvalidInput: E_CONTENT for nothing or blank text, E_JSON_TYPE for anything else.
    """
    if isinstance(value, str):
        value = [Message.user(value)] if value.strip() else []
    if not isinstance(value, list | tuple):
        raise InvalidInput("E_JSON_TYPE", path="messages", value=value)
    if not value:
        raise InvalidInput("E_CONTENT")
    return tuple(_as_message(item, f"messages[{index}]") for index, item in enumerate(value))


def _as_message(item: Any, path: str) -> Message:
    if isinstance(item, Message):
        return item
    if isinstance(item, dict) and item.keys() == {"role", "content"}:
        speaker = _SPEAKERS.get(str(item["role"]))
        if speaker is not None and isinstance(item["content"], str):
            return speaker(item["content"])
    raise InvalidInput("E_JSON_TYPE", path=path, value=item)
