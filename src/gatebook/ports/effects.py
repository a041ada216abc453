"""What a tool and a model provider offer. Protocols: users pass their own in."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec

from gatebook.kernel.messages import (
    Call,
    Capabilities,
    ChatRequest,
    ChatResponse,
    StreamEvent,
)
from gatebook.kernel.secrets import Secret
from gatebook.kernel.tools import ToolSpec


class Invocation(msgspec.Struct, frozen=True, kw_only=True, gc=True):
    """What one attempt of a tool may know; a tool's context object is made from it.

    Attributes:
        deps: the live object of this runtime's `deps=` factory; never journaled.
        context: returns a copy of the JSON given to `start(context=)`.
        idempotency_key: returns the key, the same on every attempt of this action.
        attempt: from 0.
        deadline: on the clock `monotonic`, seconds.
        cancelled: becomes True when the attempt should stop; safe from any thread.
        monotonic: the clock of `deadline`; None for the machine's own.
        progress: call with (done, total, detail); safe from any thread.
        secrets: those that the arguments refer to, by name; arguments hold only references.
    """

    deps: Any
    context: Callable[[], Any]
    idempotency_key: Callable[[], str]
    attempt: int
    deadline: float
    cancelled: Callable[[], bool]
    progress: Callable[[float | None, float | None, str], None]
    monotonic: Callable[[], float] | None = None
    secrets: Mapping[str, Secret[str]] = {}


class Tool(Protocol):
    """Something an agent may do: a spec the kernel decides on, and a call the executor makes."""

    @property
    def spec(self) -> ToolSpec:
        """Name, schema, effect and limits."""

    def validate(self, args: bytes) -> bytes:
        """Return the final canonical arguments, defaults filled in; raises InvalidInput."""

    async def call(self, args: bytes, invocation: Invocation) -> bytes:
        """Run one attempt on decoded stored bytes; return canonical JSON of the result.

        Raises:
            ActionError: the tool states that nothing happened.
            InvalidInput: E_RESULT_TYPE or E_RESULT_TOO_LARGE: it ran, its result is unusable.
        """

    def decode(self, output: bytes) -> Any:
        """Return a stored result as the declared type."""


class Provider(Protocol):
    """Who answers model calls. Never retries, never sleeps, always closes its streams."""

    @property
    def name(self) -> str:
        """For errors and events."""

    @property
    def capabilities(self) -> Capabilities:
        """What its streams promise."""

    def stream(
        self, request: ChatRequest, call: Call
    ) -> AbstractAsyncContextManager[AsyncIterator[StreamEvent]]:
        """Open one streamed attempt. Raises ProviderError only."""

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Make one blocking attempt. Raises ProviderError only."""

    async def aclose(self) -> None:
        """Close connections."""
