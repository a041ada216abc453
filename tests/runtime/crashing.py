"""What tests of lost attempts share: a bank whose tool hangs, and the death of its worker."""

import asyncio
from typing import Any

from tests.runtime.kit import Desk, eventually, flow

from gatebook import ToolContext, tool
from gatebook.errors import ActionError


class Bank:
    """Tools of each effect class that hang once and then work, and what was done with them."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.attempts: list[int] = []
        self.expected = 1
        self.hang = True
        self.error: Exception | None = None

    async def _act(self, ctx: ToolContext[Any]) -> str:
        self.keys.append(ctx.idempotency_key)
        self.attempts.append(ctx.attempt)
        if self.hang:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return f"done {ctx.attempt}"

    def tool(self, effect: Any) -> Any:
        @tool(effect=effect, name="act")
        async def act(ctx: ToolContext[Any]) -> str:
            return await self._act(ctx)

        return act

    def program(self, effect: Any) -> Any:
        act = self.tool(effect)

        async def body(ctx: Any) -> str:
            try:
                return str(await ctx.call_tool(act))
            except ActionError as exc:
                return f"{type(exc).__name__} {exc}"

        return flow(body, act)


async def crash_during_the_tool(desk: Desk, bank: Bank, program: Any) -> None:
    """Start a run, wait until its tool hangs, and let the worker die."""
    runtime = desk.runtime(program)
    await runtime.open()
    await runtime.start(program, None, run_id="r")
    await eventually(lambda: bank.keys, "the tool was called")
    await desk.crash(runtime)
    bank.hang = False
