"""What conformance tests share: an adapter before a fault server, and a runtime over both."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from gatebook.errors import ActionError
from gatebook.kernel.events import ActionFailed, AttemptFailed, AttemptStarted
from gatebook.kernel.messages import ChatResponse
from gatebook.kernel.policies import AllowDeclared, RetryWithBackoffPolicy
from gatebook.ports import Provider
from gatebook.runtime.runs.handles import RunHandle
from gatebook.runtime.runs.states import Settled
from gatebook.runtime.runtime import Runtime
from gatebook.testing.dialects import Story
from gatebook.testing.fault_server import Chooser, FaultServer, Play, fails, tells
from tests.conformance.adapters import Adapter
from tests.runtime.kit import Desk, flow

T = TypeVar("T")
PATIENCE_S = 50.0  # after this a scenario has failed; none depends on how fast it is
RETRIES = 3
CAP_MS = 60_000
POLICY = RetryWithBackoffPolicy(AllowDeclared(), RETRIES, 100, CAP_MS)
HELLO = Story.text("hel", "lo")
BUSY = "server"


def run(scenario: Coroutine[Any, Any, T], *, patience_s: float = PATIENCE_S) -> T:
    """Run an async scenario to its end."""

    async def bounded() -> T:
        async with asyncio.timeout(patience_s):
            return await scenario

    return asyncio.run(bounded())


class Served:
    """An adapter and the server it speaks to.

    Attributes:
        provider: the adapter's provider, for this server.
    """

    def __init__(self, adapter: Adapter, server: FaultServer, provider: Provider) -> None:
        self.adapter = adapter
        self.dialect = adapter.dialect
        self.server = server
        self.provider: Any = provider


@asynccontextmanager
async def served(adapter: Adapter, *plays: Play | Chooser, **options: Any) -> AsyncIterator[Served]:
    """Serve plays to a provider; both are closed afterwards."""
    async with FaultServer(*plays) as server:
        provider = adapter.make(server.url, **options)
        try:
            yield Served(adapter, server, provider)
        finally:
            await provider.aclose()


class Driven(Served):
    """The same, under a runtime whose clock moves only when told.

    Attributes:
        desk: the store and the clock.
    """

    def __init__(self, inner: Served, desk: Desk, runtime: Runtime) -> None:
        super().__init__(inner.adapter, inner.server, inner.provider)
        self.desk = desk
        self.clock = desk.clock
        self.runtime = runtime

    async def start(
        self, *, tools: Sequence[Any] = (), budget: Any = None, **options: Any
    ) -> RunHandle[Any]:
        """Start a run `r` of one model call; its output is the text, or the value's fields."""

        async def body(ctx: Any) -> Any:
            answer = await ctx.call_llm("it:m", "hi", tools=tools, **options)
            return answer.text if isinstance(answer, ChatResponse) else vars(answer)

        program = flow(body, *tools, models=["it:m"], name="asks")
        return await self.runtime.start(program, None, run_id="r", budget=budget)

    async def end(self, handle: RunHandle[Any]) -> Settled:
        """Return how a run ends, the clock moving through its back-offs and no further."""
        waited = 0
        while not (await handle.row()).head.terminal:
            await asyncio.sleep(0.001)
            ends = await self.attempts()
            if not ends or not isinstance(ends[-1], AttemptFailed):
                continue
            await self.clock.settle()
            step = self.clock.next_due
            if len(ends) > waited:
                waited, step = len(ends), ends[-1].delay_ms / 1000
            if step is not None:
                self.clock.advance(step)
        return await handle.settled()

    async def back_off(self) -> AttemptFailed:
        """Wait until an attempt has failed and return that; the clock stands."""
        while not (found := await self.failures()):  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.001)
        await self.clock.settle()
        return found[-1]

    async def attempts(self) -> list[AttemptFailed | AttemptStarted]:
        """What is journaled of the attempts, in order."""
        kinds = AttemptFailed | AttemptStarted
        return [event for event in await self.desk.events("r") if isinstance(event, kinds)]

    async def failures(self) -> list[AttemptFailed]:
        """The failed attempts that another one follows."""
        return await self.desk.all("r", AttemptFailed)

    async def failure(self) -> ActionFailed:
        """How the call failed for good."""
        return await self.desk.only("r", ActionFailed)


@asynccontextmanager
async def driven(
    adapter: Adapter, *plays: Play | Chooser, policy: Any = POLICY, **options: Any
) -> AsyncIterator[Driven]:
    """Serve plays to a provider of a runtime."""
    async with served(adapter, *plays, **options) as inner:
        desk = Desk(policy=policy)
        async with desk.open(providers={"it": inner.provider}) as runtime:
            yield Driven(inner, desk, runtime)


def answering(adapter: Adapter, story: Story = HELLO, **headers: str) -> Chooser:
    """Return the play of a story in the adapter's dialect."""
    return tells(adapter.dialect, story, **headers)


def failing_with(adapter: Adapter, trouble: Any = BUSY, **headers: str | int) -> Play:
    """Return the play of an error status in the adapter's dialect."""
    return fails(adapter.dialect, trouble, **headers)


def refuses(error: ActionError) -> tuple[str, Any]:
    """Return kind and category of an error."""
    return error.kind, error.fields.get("category")
