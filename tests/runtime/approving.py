"""What tests of approvals share: a policy that asks, a bank that pays, and ways to answer."""

from typing import Any

import pytest
from tests.runtime.kit import RUN, CutJournal, Desk, flow

from gatebook import ApprovalTerms, Client, tool
from gatebook.errors import ActionDenied, GatebookError
from gatebook.kernel.approvals.terms import Choice
from gatebook.kernel.policy import Decision, Policy
from gatebook.kernel.verify import verify_facts
from gatebook.runtime.replay import final_args, replay

ALL: tuple[Choice, ...] = ("approve", "edit", "deny")
ASK = ApprovalTerms(rule="big", message="Pay?", choices=ALL)


class Asks(Policy):
    """Asks about payments above 10, denies them above 100, allows the rest."""

    name = "asks"

    def __init__(self, *terms: ApprovalTerms) -> None:
        self.terms = terms or (ASK,)

    def authorize(self, action: Any, context: Any) -> Decision:
        amount = action.arguments.get("amount", 0) if hasattr(action, "arguments") else 0
        if amount > 100:
            return Decision.deny("nobody pays that much", rule="limit")
        if amount > 10:
            return Decision("ask", "it is much", "big", approvals=self.terms)
        return Decision.allow()


class Bank:
    """A tool that remembers what it was called with, and programs that call it."""

    def __init__(self) -> None:
        self.paid: list[int] = []

        @tool
        async def pay(amount: int) -> str:
            """Pay.

            Args:
                amount: how much
            """
            self.paid.append(amount)
            return f"paid {amount}"

        self.pay = pay

    def paying(self, *amounts: int) -> Any:
        """A workflow that pays all at once and answers what became of each."""

        async def body(ctx: Any) -> Any:
            async def one(amount: int) -> str:
                try:
                    return str(await ctx.call_tool(self.pay, amount=amount))
                except ActionDenied as exc:
                    return exc.code

            return await ctx.gather(*(one(amount) for amount in amounts))

        return flow(body, self.pay, name="paying")


async def asking(runtime: Any, desk: Desk, program: Any, **options: Any) -> Any:
    """Start a run and return it with what it waits for."""
    handle = await runtime.start(program, None, run_id="r", **options)
    state = await desk.settled(handle)
    return handle, state, [found async for found in runtime.approvals()]


def elsewhere(desk: Desk) -> Client:
    """A client in another process: it knows the store, and no program."""
    return Client(CutJournal(desk.journal), clock=desk.clock)


async def refused(answer: Any) -> str:
    with pytest.raises(GatebookError) as caught:
        await answer
    return caught.value.code


def checked(desk: Desk, bank: Bank, *amounts: int) -> Any:
    """Verify and replay the run: nothing is asked or done again."""

    async def check() -> None:
        key = RUN
        recorded, row = await desk.journal.read(key), await desk.journal.row(key)
        verify_facts("r", [each.event for each in recorded], row.head)
        started: Any = recorded[0].event
        program, before = bank.paying(*amounts), list(bank.paid)
        replay(program.begin(started), final_args(program.tools), recorded)
        assert bank.paid == before

    return check()
