"""What tests of outcomes and retries share: tools that fail as told, and how that ends."""

import asyncio
from typing import Any, Literal

from tests.programs.play import Echo
from tests.runtime.kit import Desk, flow

from gatebook import ToolContext, tool
from gatebook.errors import ActionError
from gatebook.kernel.actions import CallTool
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import ActionFailed, ActionRequested, ActionSucceeded, ActionUnknown
from gatebook.kernel.opened import Open
from gatebook.kernel.policies import AllowDeclared
from gatebook.kernel.policy import Policy
from gatebook.runtime.driving.outcomes import failed
from gatebook.runtime.performing.ended import Ended

Effect = Literal["read", "idempotent", "at_most_once"]
Final = ActionSucceeded | ActionFailed | ActionUnknown


async def ending(error: Any, effect: Effect = "at_most_once", **options: Any) -> Any:
    """The final event of a tool that raises `error`, or that never ends."""
    desk = Desk()

    @tool(effect=effect, retries=0, **options)
    async def act(ctx: ToolContext[Any]) -> str:
        if error is None:
            await asyncio.Event().wait()
        raise error

    async def body(ctx: Any) -> str:
        try:
            return await ctx.call_tool(act)
        except ActionError as exc:
            return exc.code

    await desk.ran(flow(body, act))
    (event,) = [e for e in await desk.events("r") if isinstance(e, Final)]
    return event


def request(effect: Effect) -> ActionRequested:
    return ActionRequested(address="a", action=CallTool("t", Raw(b"{}")), effect=effect)


def outcome(effect: Effect, ended: Ended, *, doubted: bool, policy: Policy | None = None) -> Any:
    decide = (policy or AllowDeclared(), Echo("t", effect, retries=0).spec)
    return failed("r", request(effect), Open(), ended, decide=decide, doubted=doubted)
