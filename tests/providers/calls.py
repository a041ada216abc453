"""What the provider tests share: a small request, and one attempt run to its end."""

from collections.abc import Callable, Coroutine
from typing import Any

from gatebook.errors import ProviderError
from gatebook.kernel.messages import (
    Call,
    ChatRequest,
    ChatResponse,
    Message,
    StreamEvent,
    TextDelta,
    Timeouts,
)
from gatebook.kernel.streams.machine import StreamMachine
from gatebook.providers.openai_compatible import OpenAICompatible
from gatebook.testing.fault_server import FaultServer

CALL = Call("gb1-0123456789")


def asking(text: str = "hi", **fields: Any) -> ChatRequest:
    """Return a request with one user message."""
    settings = {"provider": "openai", "model": "m", "messages": (Message.user(text),)}
    return ChatRequest(**{**settings, **fields})


async def attempt(
    provider: Any, request: ChatRequest, machine: StreamMachine | None = None
) -> tuple[ChatResponse, list[StreamEvent]]:
    """Run one streamed attempt as an executor does; return the answer and what a reader saw.

    Raises:
        ProviderError: the attempt failed, marked with whether output was shown.
    """
    machine = machine or StreamMachine(must_call=request.must_call)
    machine.open()
    shown: list[StreamEvent] = []
    try:
        async with provider.stream(request, CALL) as events:
            async for event in events:
                shown += machine.feed(event)
    except ProviderError as error:
        if not machine.complete:
            raise machine.fail(error) from None
    error_at_end = machine.eof()
    if error_at_end is not None:
        raise error_at_end
    return machine.response, shown


async def failing(provider: Any, request: ChatRequest) -> ProviderError:
    """Return the error of one streamed attempt."""
    try:
        answer, _ = await attempt(provider, request)
    except ProviderError as error:
        return error
    raise AssertionError(f"no error, but the answer {answer.text!r}")


async def failing_whole(provider: Any, request: ChatRequest) -> ProviderError:
    """Return the error of one blocking attempt."""
    try:
        answer = await provider.complete(request, CALL)
    except ProviderError as error:
        return error
    raise AssertionError(f"no error, but the answer {answer.text!r}")


async def against(
    server: FaultServer,
    scenario: Callable[[OpenAICompatible, FaultServer], Coroutine[Any, Any, Any]],
    **options: Any,
) -> Any:
    """Run a scenario with a provider that speaks to this server; both are closed afterwards."""
    async with server:
        provider = OpenAICompatible(server.url + "/v1", **options)
        try:
            return await scenario(provider, server)
        finally:
            await provider.aclose()


def quick(**milliseconds: int) -> Timeouts:
    """Return timeouts for a test that waits for one of them."""
    return Timeouts(**milliseconds)


def texts(shown: list[StreamEvent]) -> str:
    """Return the text a reader saw."""
    return "".join(event.text for event in shown if isinstance(event, TextDelta))
