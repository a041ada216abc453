"""An answer of a model as a story, and what a dialect must know to tell it. No wire format here."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Finish = Literal["stop", "tool_calls", "length", "content_filter", "refusal", "pause"]
Trouble = Literal[
    "overloaded", "server", "rate_limited", "quota", "auth", "not_found", "invalid", "context"
]


@dataclass(frozen=True)
class Say:
    """Text, streamed in these pieces."""

    pieces: tuple[str, ...]

    def __init__(self, *pieces: str) -> None:
        object.__setattr__(self, "pieces", pieces)


@dataclass(frozen=True)
class Think:
    """Thinking, with the signature that must go back with it."""

    text: str
    signature: str = ""


@dataclass(frozen=True)
class Refuse:
    """The model's words for not answering."""

    text: str


@dataclass(frozen=True)
class Use:
    """A tool call; its arguments are streamed in these pieces where a dialect can."""

    id: str
    name: str
    pieces: tuple[str, ...] = ("{}",)
    signature: str = ""

    @property
    def arguments(self) -> str:
        """The whole arguments, JSON text unless the test wants otherwise."""
        return "".join(self.pieces)


@dataclass(frozen=True)
class Cost:
    """Tokens, inclusive: input holds what was cached, output holds the reasoning."""

    input: int = 3
    output: int = 2
    cached: int = 0
    reasoning: int = 0


USUAL = Cost()
Part = Say | Think | Refuse | Use


@dataclass(frozen=True)
class Story:
    """One answer.

    Attributes:
        cost: None leaves the usage out.
        model: as the provider names it.
    """

    parts: tuple[Part, ...]
    finish: Finish = "stop"
    cost: Cost | None = USUAL
    id: str = "answer-1"
    model: str = "m"

    @classmethod
    def text(cls, *pieces: str, cost: Cost | None = USUAL) -> "Story":
        """Return an answer in words."""
        return cls((Say(*pieces),), cost=cost)

    @classmethod
    def calls(cls, *uses: Use) -> "Story":
        """Return an answer that calls tools."""
        return cls(uses, finish="tool_calls")


class Failure(NamedTuple):
    """An answer with an error status."""

    status: int
    body: dict[str, Any]


class Dialect(ABC):
    """One provider's way of telling a story. Everything is bytes of events or JSON to encode.

    A streamed answer is `opening` (the provider has accepted; nothing to show), `output`, and
    `ending` (the terminal marker, usage and whatever follows).
    """

    name: str

    @abstractmethod
    def streams(self, path: str, body: bytes) -> bool:
        """Whether a request asks for a streamed answer."""

    @abstractmethod
    def opening(self, story: Story) -> list[bytes]:
        """Return the events before anything that a reader would see."""

    @abstractmethod
    def output(self, story: Story) -> list[bytes]:
        """Return the events that carry the answer."""

    @abstractmethod
    def ending(self, story: Story) -> list[bytes]:
        """Return the events that end the answer."""

    @abstractmethod
    def whole(self, story: Story) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""

    @abstractmethod
    def failure(self, trouble: Trouble) -> Failure:
        """Return the answer with an error status."""

    @abstractmethod
    def error_event(self, trouble: Trouble) -> bytes:
        """Return the event that tells of an error inside a stream."""

    def noise(self) -> bytes:
        """Return what keeps a silent stream open and means nothing."""
        return b": keep-alive\n\n"

    def events(self, story: Story) -> list[bytes]:
        """Return a whole streamed answer."""
        return [*self.opening(story), *self.output(story), *self.ending(story)]


def event(data: dict[str, Any] | str, name: str = "") -> bytes:
    """Return one server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def asks_to_stream(body: bytes) -> bool:
    """Whether a request's JSON body says `"stream": true`."""
    try:
        said = json.loads(body)
    except ValueError:
        return False
    return isinstance(said, dict) and said.get("stream") is True


def of(parts: Sequence[Part], kind: type[Say] | type[Refuse]) -> str:
    """Return the joined text of the parts of a kind."""
    texts = []
    for part in parts:
        if isinstance(part, kind):
            texts.append("".join(part.pieces) if isinstance(part, Say) else part.text)
    return "".join(texts)
