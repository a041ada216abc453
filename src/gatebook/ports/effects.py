"""What a tool and a model provider offer. Protocols: users pass their own in."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from gatebook.kernel.messages import (
    Call,
    Capabilities,
    ChatRequest,
    ChatResponse,
    StreamEvent,
)
from gatebook.kernel.secrets import Secret
from gatebook.kernel.tools import ToolSpec


class Invocation(Protocol):
    """What one attempt of a tool may know; a tool's context object is made from it."""

    @property
    def deps(self) -> Any:
        """The live object of this runtime's `deps=` factory; never journaled."""

    @property
    def attempt(self) -> int:
        """Which try this is, from 0."""

    @property
    def deadline(self) -> float:
        """When the attempt is given up, in seconds on the clock `monotonic`."""

    @property
    def secrets(self) -> Mapping[str, Secret[str]]:
        """Those that the arguments refer to, by name; arguments hold only references."""

    def context(self) -> Any:
        """Return a copy of the JSON given to `start(context=)`."""

    def idempotency_key(self) -> str:
        """Return the key, the same on every attempt of this action."""

    def cancelled(self) -> bool:
        """Whether the attempt should stop; safe from any thread."""

    def monotonic(self) -> float:
        """Return the time of the clock of `deadline`."""

    def progress(self, done: float | None, total: float | None, detail: str, /) -> None:
        """Tell readers how far the attempt is; safe from any thread."""


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
