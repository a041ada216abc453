"""What tests of hooks share: hooks that note what they saw, small programs, runs of both."""

from typing import Any

from tests.runtime.kit import RUN, Desk, flow

from gatebook import ToolContext, hook, tool
from gatebook.errors import ActionError
from gatebook.kernel.events import AnyEvent, HookAnswered
from gatebook.kernel.policies import AllowDeclared, RetryWithBackoffPolicy
from gatebook.kernel.verify import verify_facts

QUICK = RetryWithBackoffPolicy(AllowDeclared(), 3, 0)


def asked(point: Any, answer: Any = None, *rights: Any, **options: Any) -> Any:
    """An async hook that answers (or calls) this, with a list of what it saw as `seen`."""
    given: dict[str, Any] = {"timeout": 60, "on_failure": "closed", "name": point} | options
    given["rights"] = rights or ["observe"]
    seen: list[Any] = []

    async def ask(view: Any) -> Any:
        seen.append(view)
        return answer(view) if callable(answer) else answer

    made: Any = hook(point, **given)(ask)
    made.seen = seen
    return made


class Pay:
    """A tool that notes what it was called with, and a program that calls it once."""

    def __init__(self, effect: Any = "at_most_once", raises: list[Exception] | None = None) -> None:
        self.calls: list[int] = []
        raising = list(raises or [])

        @tool(effect=effect)
        async def pay(ctx: ToolContext[Any], amount: int) -> int:
            self.calls.append(amount)
            if raising:
                raise raising.pop(0)
            return amount * 10

        async def body(ctx: Any) -> Any:
            try:
                return await ctx.call_tool(pay, amount=5)
            except ActionError as exc:
                return [exc.code, str(exc)]

        self.program = flow(body, pay)


async def ran(program: Any, *hooks: Any, desk: Desk | None = None, **options: Any) -> Any:
    """How a run of a program under these hooks comes to rest, and its desk."""
    desk = desk or Desk()
    state = await desk.ran(program, hooks=hooks, **options)
    events = await desk.events("r")
    row = await desk.journal.row(RUN)
    verify_facts("r", events, row.head)
    return state, events


def answers(events: list[AnyEvent]) -> list[HookAnswered]:
    return [event for event in events if isinstance(event, HookAnswered)]


def only(events: list[AnyEvent], kind: Any) -> Any:
    (event,) = [event for event in events if isinstance(event, kind)]
    return event


async def asking(ctx: Any) -> Any:
    try:
        return (await ctx.call_llm("fake:m", "hi")).text
    except ActionError as exc:
        return [exc.code, exc.fields.get("partial")]


LLM = flow(asking, models=["fake:m"])
