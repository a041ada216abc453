"""The gate at the runtime: what is denied is recorded, never run, and seen by the program."""

import asyncio
from typing import Any

import pytest
from tests.runtime.kit import Desk, Model, flow, run, said

from gatebook import tool
from gatebook.errors import ActionDenied
from gatebook.kernel.events import ActionDenied as ActionDeniedEvent
from gatebook.kernel.events import ActionRequested
from gatebook.kernel.policies import AllowListPolicy
from gatebook.kernel.policy import Decision, Policy
from gatebook.runtime.runs.states import Failed, Finished


class Says(Policy):
    """Answers every action with the same thing, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def authorize(self, action: Any, context: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def calling(policy: Policy, *, caught: bool = True) -> tuple[Any, list[Any], list[Any]]:
    """The end of a run that calls one tool, what the tool saw, and the denials."""
    desk, calls = Desk(policy=policy), list[Any]()

    @tool
    async def pay(amount: int) -> int:
        calls.append(amount)
        return amount

    async def body(ctx: Any) -> Any:
        try:
            return await ctx.call_tool(pay, amount=5)
        except ActionDenied as exc:
            if caught:
                return exc.code
            raise

    state = await desk.ran(flow(body, pay))
    return state, calls, await desk.all("r", ActionDeniedEvent)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (None, "E_POLICY_DECISION"), (True, "E_POLICY_DECISION"), ("yes", "E_POLICY_DECISION"),
        (ZeroDivisionError(), "E_POLICY_ERROR"), (Decision.deny("no"), "E_POLICY_DENIED"),
        (Decision.modify({"amount": 5}), "E_MODIFY_LOOP"),
        (Decision.modify({"amount": "x"}), "E_ARGS_SCHEMA"),
    ],
)  # fmt: skip
def test_whatever_is_no_clear_allow_starts_nothing(answer: Any, code: str) -> None:
    """Recorded with its code; the tool is never called; the program sees a denial."""
    state, calls, denials = run(calling(Says(answer)))

    assert (state, calls) == (Finished(code), [])
    assert [event.error.code for event in denials] == [code]


def test_a_denial_nobody_catches_ends_the_run_as_denied() -> None:
    """Not as a bug of the program."""
    state, _, _ = run(calling(Says(Decision.deny("no")), caught=False))

    assert isinstance(state, Failed)
    assert (state.denied, state.error.code) == (True, "E_POLICY_DENIED")


def test_a_tool_gets_what_policy_made_of_its_arguments() -> None:
    """And the journal shows both verdict and bytes."""

    class Capped(Policy):
        def authorize(self, action: Any, context: Any) -> Decision:
            if action.arguments["amount"] > 3:
                return Decision.modify({"amount": 3}, rule="cap")
            return Decision.allow()

    state, calls, _ = run(calling(Capped()))

    assert (state, calls) == (Finished(3), [3])


@pytest.mark.parametrize(
    ("policy", "seen"),
    [
        (AllowListPolicy.tools_only("pay"), [5, "E_NOT_ALLOWED"]),
        (AllowListPolicy.providers_only("fake"), ["E_NOT_ALLOWED", "hello"]),
        (AllowListPolicy.providers_only("fake:m"), ["E_NOT_ALLOWED", "hello"]),
        (AllowListPolicy(["pay"], ["fake"]), [5, "hello"]),
        (AllowListPolicy(), ["E_NOT_ALLOWED", "E_NOT_ALLOWED"]),
    ],
)
def test_an_allow_list_opens_what_it_lists(policy: Policy, seen: list[Any]) -> None:
    """Tools and models apart."""

    async def scenario() -> None:
        desk = Desk(policy=policy)

        @tool
        async def pay(amount: int) -> int:
            return amount

        async def body(ctx: Any) -> list[Any]:
            got: list[Any] = []
            try:
                got.append(await ctx.call_tool(pay, amount=5))
            except ActionDenied as exc:
                got.append(exc.code)
            try:
                got.append((await ctx.call_llm("fake:m", "hi")).text)
            except ActionDenied as exc:
                got.append(exc.code)
            return got

        async with desk.open(providers={"fake": Model(said("hello"))}) as runtime:
            program = flow(body, pay, models=["fake:m"])
            assert await desk.settled(await runtime.start(program, None)) == Finished(seen)

    run(scenario())


def test_a_policy_that_changed_decides_from_the_next_decision_on() -> None:
    """It strands nobody, and the journal says where it began."""

    async def scenario() -> None:
        desk = Desk(policy=AllowListPolicy(["pay"]))

        @tool
        async def pay(amount: int) -> int:
            return amount

        async def body(ctx: Any) -> Any:
            await ctx.call_tool(pay, amount=1)
            await ctx.sleep(3600)
            try:
                return await ctx.call_tool(pay, amount=2)
            except ActionDenied as exc:
                return exc.code

        program = flow(body, pay)
        await desk.ran(program)
        desk.clock.advance(3600)
        closed = AllowListPolicy()
        state = await desk.taken_up(program, policy=closed)

        assert state == Finished("E_NOT_ALLOWED")
        assert (await desk.only("r", ActionDeniedEvent)).decision.policy == closed.digest
        assert {event.decision.policy for event in await desk.all("r", ActionRequested)} == {""}

    run(scenario())


def test_reads_of_one_gather_overlap() -> None:
    """Two searches take as long as one."""

    async def scenario() -> None:
        desk = Desk()
        both = asyncio.Barrier(2)

        @tool(effect="read")
        async def meet() -> bool:
            await both.wait()
            return True

        async def body(ctx: Any) -> Any:
            return await ctx.gather(ctx.call_tool(meet), ctx.call_tool(meet))

        async with desk.open() as runtime:
            state = await desk.settled(await runtime.start(flow(body, meet), None))

        assert state == Finished([True, True])

    run(scenario())
