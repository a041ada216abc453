"""What tests of rules on results share: people to find, rules on what is found, a run of both."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.runtime import policies
from tests.runtime.kit import Desk, run
from tests.runtime.policies import MODELS, TOOLS, replayed

from gatebook import ActionDenied, Permanent, tool
from gatebook.kernel.events import ActionSucceeded
from gatebook.kernel.rules.policy import RulesPolicy
from gatebook.runtime.runs.handles import RunHandle

PHONE = "+49 30 1"
T = TypeVar("T")


def ruled(*parts: str, top: str = "") -> RulesPolicy:
    """A policy that allows every call and has these rules on results."""
    return policies.ruled(TOOLS, MODELS, *parts, top=top)


def on_result(then: str, tool: str = "find", more: str = "") -> str:
    return f'[[rule]]\nid = "{then}"\non = "result"\nthen = "{then}"\ntool = "{tool}"\n{more}\n'


@tool(effect="read")
async def find(name: str) -> list[dict[str, str]]:
    """Find people."""
    if name == "nobody":
        raise Permanent(f"no one with {PHONE}")
    return [{"name": name, "phone": PHONE}]


@tool
async def send(text: str) -> str:
    """Send a text outside."""
    return f"sent {text}"


async def finds(ctx: Any, name: str) -> Any:
    try:
        return await ctx.call_tool(find, name=name)
    except (ActionDenied, Permanent) as exc:
        return [type(exc).__name__, exc.code, str(exc)]


@dataclass
class Played:
    """How one run came to rest under a policy, and what it left behind."""

    desk: Desk
    state: Any
    stored: bytes

    def all(self, kind: type[T]) -> list[T]:
        """The events of a kind, in order."""
        return run(self.desk.all("r", kind))

    def succeeded(self) -> ActionSucceeded:
        """The one success of an action."""
        (event,) = self.all(ActionSucceeded)
        return event


Before = Callable[[RunHandle[Any]], Awaitable[Any]]


async def playing(
    policy: Any, program: Any, value: Any = None, *, before: Before | None = None, **options: Any
) -> Played:
    """Run a program under a policy; the journal of the run replays."""
    desk = Desk(policy=policy, **options)
    async with desk.open(program) as runtime:
        handle = await runtime.start(program, value, run_id="r")
        if before is not None:
            await before(handle)
        state = await desk.settled(handle)
    await desk.journal.open()
    await replayed(desk, program)
    return Played(desk, state, await desk.stored())


def play(policy: Any, program: Any, value: Any = None, **options: Any) -> Played:
    """The same, in a loop of its own."""
    return run(playing(policy, program, value, **options))
