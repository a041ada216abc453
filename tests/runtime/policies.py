"""What tests of policies at work share: short rules, a shop of tools, a replay."""

from typing import Any

from tests.runtime.kit import RUN, Desk

from gatebook import tool
from gatebook.kernel.rules.policy import RulesPolicy, policy_from
from gatebook.runtime.replay import final_args, replay

MODELS = '[[rule]]\nid = "models"\nthen = "allow"\naction = "call_llm"\n'
TOOLS = '[[rule]]\nid = "tools"\nthen = "allow"\ntool = "*"\n'


def ruled(*parts: str, top: str = "") -> RulesPolicy:
    return policy_from(("p.toml", "\n".join(["version = 1", top, *parts])))


def rule(then: str, about: str, more: str = "") -> str:
    return f'[[rule]]\nid = "{then}-it"\nthen = "{then}"\n{about}\n{more}\n'


class Shop:
    """Tools that remember what they were called with."""

    def __init__(self) -> None:
        self.paid: list[int] = []

        @tool
        async def pay(amount: int) -> str:
            """Pay."""
            self.paid.append(amount)
            return f"paid {amount}"

        @tool(name="admin.wipe")
        async def wipe() -> str:
            """Wipe."""
            self.paid.append(-1)
            return "wiped"

        self.pay, self.wipe = pay, wipe


async def replayed(desk: Desk, program: Any) -> Any:
    """What a replay of the run says; it raises where program and journal part."""
    recorded = await desk.journal.read(RUN)
    started: Any = recorded[0].event
    return replay(program.begin(started), final_args(program.tools), recorded)
