"""What a program is to the runtime: wants in, outcomes back, one step at a time. Pure."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from gatebook.kernel.actions import Action
from gatebook.kernel.artifacts import Artifact
from gatebook.kernel.codec import NULL, Raw
from gatebook.kernel.events import ErrorRecord, RunStarted
from gatebook.kernel.messages import (
    Message,
    ToolDefinition,
)
from gatebook.ports.effects import Tool

In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)

MAX_FANOUT = 100  # actions one step may ask for at once; the others are refused


class Want(msgspec.Struct, frozen=True, gc=False):
    """One action a program asks for, at its causal address.

    `messages` and `offered` carry what a CallLLM refers to: the whole conversation, whose digest
    is in the action, and the tools offered. Only the action is journaled.
    """

    address: str
    action: Action
    messages: tuple[Message, ...] = ()
    offered: tuple[ToolDefinition, ...] = ()


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of an action, as its program sees it. `time` is the event's stamp (us UTC).

    `artifact` says that a conversation shows the beginning of the output only.
    """

    address: str
    status: Literal["succeeded", "failed", "denied"]
    seq: int
    time: int
    output: Raw = NULL
    error: ErrorRecord | None = None
    artifact: Artifact | None = None


class Complete(msgspec.Struct, frozen=True, gc=False):
    """The program is done; `output` is canonical JSON of its declared output type."""

    output: Raw


class Fail(msgspec.Struct, frozen=True, gc=False):
    """The program cannot go on. `denied` marks an end by policy or budget."""

    error: ErrorRecord
    denied: bool = False


class Step(msgspec.Struct, frozen=True, gc=False):
    """What a program wants next: new actions (possibly none yet), log lines, or its end."""

    wants: tuple[Want, ...] = ()
    end: Complete | Fail | None = None
    notes: tuple[str, ...] = ()


class Stepper(ABC):
    """One run of a program, as a pure fold over outcomes. Not shared between runs."""

    @abstractmethod
    def step(self, outcomes: Sequence[Outcome]) -> Step:
        """Take outcomes in journal order and return what is wanted now.

        The first call gets none. The same outcomes in the same order give the same steps, in
        any process. After a Step with an end it is not called again.
        """

    def check(self, address: str, output: bytes) -> None:
        """Read an output as what waits at an address would, where that can be known; no step.

        Raises:
            InvalidInput: the program could not read it.
        """

    def close(self) -> None:
        """Let go of a parked computation; nothing it does on the way may act."""


class Program(Protocol[In_contra, Out_co]):
    """What decides a run's next step; immutable, pure, identified by name and digest."""

    @property
    def name(self) -> str:
        """Unique in a runtime; what the journal records."""

    @property
    def kind(self) -> Literal["agent", "workflow"]:
        """Which family of program this is."""

    @property
    def digest(self) -> str:
        """Digest of all that affects what it does; changes when the definition changes."""

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The tools it declares, by name."""

    @property
    def models(self) -> Sequence[str]:
        """The model routes it declares, "provider:model"."""

    def accept(self, value: In_contra) -> bytes:
        """Return the canonical JSON of an input, or raise InvalidInput."""

    def decode(self, output: bytes) -> Out_co:
        """Return a run's output as the declared type."""

    def begin(self, started: RunStarted) -> Stepper:
        """Return a stepper for one run, at its beginning."""


def is_program(value: Any) -> bool:
    """Whether a value offers what `Program` asks for."""
    return not isinstance(value, type) and all(
        hasattr(value, name) for name in ("name", "kind", "begin", "accept")
    )
