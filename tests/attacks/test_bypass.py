"""No way round the gate: an effect has a committed request for its very bytes, on every road."""

import asyncio
from typing import Any

import pytest

from gatebook import RETRY, AllowDeclared, Change, Transient, hook, tool
from gatebook.kernel.policies import RetryWithBackoffPolicy
from gatebook.kernel.policy import Decision, Policy
from gatebook.runtime.runs.states import Failed, Finished
from tests.attacks.witness import Witness, asking
from tests.runtime.kit import Desk, eventually, flow, run


def test_a_foreign_tool_is_called_for_a_committed_request() -> None:
    """It is no function of ours, and passes the same gate."""

    async def scenario() -> None:
        desk = Desk()
        witness = Witness(desk)
        state = await desk.ran(asking(witness, "a", {"b": [1]}))

        assert state == Finished(["found", "found"])
        assert (len(witness.seen), witness.wrong) == (2, [])

    run(scenario())


def test_a_foreign_tool_that_no_rule_allows_is_not_called() -> None:
    """To be an object of the right shape is no permission."""

    async def scenario() -> None:
        desk = Desk(Policy())
        witness = Witness(desk)
        await desk.ran(asking(witness, "a"))

        assert witness.seen == []

    run(scenario())


def test_many_at_once_have_each_a_request() -> None:
    """One append for all of them, and before any."""

    async def scenario() -> None:
        desk = Desk()
        witness = Witness(desk)

        async def body(ctx: Any) -> Any:
            return await ctx.gather(*(ctx.call_tool(witness, query=n) for n in range(50)))

        await desk.ran(flow(body, witness))

        assert (len(set(witness.seen)), witness.wrong) == (50, [])

    run(scenario())


def test_what_a_policy_changed_is_what_was_requested() -> None:
    """Not what the program asked for."""

    class Lower(Policy):
        def authorize(self, action: Any, context: Any) -> Decision:
            if action.arguments["query"] == "low":
                return Decision.allow()
            return Decision.modify({"query": "low"})

    async def scenario() -> None:
        desk = Desk(Lower())
        witness = Witness(desk)
        await desk.ran(asking(witness, "HIGH"))

        assert (witness.seen, witness.wrong) == ([b'{"query":"low"}'], [])

    run(scenario())


def test_what_a_hook_changed_is_decided_and_requested() -> None:
    """A hook hands over arguments, and no permission."""

    class NoHigh(Policy):
        def authorize(self, action: Any, context: Any) -> Decision:
            if action.arguments["query"] == "HIGH":
                return Decision.deny("not that")
            return Decision.allow()

    def changing(to: str) -> Any:
        @hook("before_tool", rights=["change"], timeout=5, on_failure="closed", name="changing")
        async def change(view: Any) -> Any:
            return Change({"query": to})

        return change

    async def scenario(to: str) -> tuple[Any, Witness]:
        desk = Desk(NoHigh())
        witness = Witness(desk)
        state = await desk.ran(asking(witness, "a"), hooks=[changing(to)])
        return state, witness

    lower, allowed = asyncio.run(scenario("low"))
    higher, denied = asyncio.run(scenario("HIGH"))

    assert (lower, allowed.seen, allowed.wrong) == (Finished(["found"]), [b'{"query":"low"}'], [])
    assert (higher, denied.seen) == (Finished(["E_POLICY_DENIED"]), [])


def test_each_retry_has_an_attempt_of_its_own_in_the_journal() -> None:
    """Before it starts, not after."""

    async def scenario() -> None:
        desk = Desk(RetryWithBackoffPolicy(AllowDeclared(), 3, 1))
        witness = Witness(desk, ends=[Transient("busy"), Transient("busy"), None])
        state = await desk.ran(asking(witness, "a"))

        assert state == Finished(["found"])
        assert (len(witness.seen), witness.wrong) == (3, [])

    run(scenario())


def test_a_retry_that_policy_does_not_allow_any_more_does_not_start() -> None:
    """It is decided again each time."""

    class Once(Policy):
        def authorize(self, action: Any, context: Any) -> Decision:
            return Decision.allow() if context.attempt == 0 else Decision.deny("once is enough")

    async def scenario() -> None:
        desk = Desk(RetryWithBackoffPolicy(Once(), 3, 1))
        witness = Witness(desk, ends=[Transient("busy")])
        await desk.ran(asking(witness, "a"))

        assert (len(witness.seen), witness.wrong) == (1, [])

    run(scenario())


@pytest.mark.parametrize(
    ("effect", "called"), [("idempotent", 2), ("read", 2), ("at_most_once", 1)]
)
def test_recovery_starts_nothing_the_journal_does_not_know(effect: Any, called: int) -> None:
    """The worker died in the middle of the call; the next one asks the gate again, or a person."""

    async def scenario() -> None:
        desk = Desk()
        never = asyncio.Event()
        witness = Witness(desk, effect=effect, ends=[never])
        program = asking(witness, "a")
        runtime = desk.runtime(program)
        await runtime.open()
        await runtime.start(program, None, run_id="r")
        await eventually(lambda: witness.seen, "the call began")
        await desk.crash(runtime)
        desk.lapse()
        await desk.taken_up(program)

        assert (len(witness.seen), witness.wrong) == (called, [])

    run(scenario())


def test_a_start_that_a_person_orders_is_an_attempt_in_the_journal() -> None:
    """Also of what may run only once."""

    async def scenario() -> None:
        desk = Desk()
        witness = Witness(desk, effect="at_most_once", ends=[OSError("reset"), None])
        async with desk.open() as runtime:
            handle = await runtime.start(asking(witness, "a"), None, run_id="r")
            await desk.settled(handle)
            await handle.resolve("0", RETRY, by="ann")
            state = await desk.settled(handle)

        assert state == Finished(["found"])
        assert (len(witness.seen), witness.wrong) == (2, [])

    run(scenario())


def test_a_run_that_goes_on_elsewhere_calls_nothing_again() -> None:
    """Its past is read, not done."""

    async def scenario() -> None:
        desk = Desk()
        witness = Witness(desk)

        async def body(ctx: Any) -> Any:
            await ctx.call_tool(witness, query="a")
            await ctx.wait_signal("go")
            return await ctx.call_tool(witness, query="b")

        program = flow(body, witness, name="asking")
        await desk.ran(program)
        async with desk.open(program) as runtime:
            await runtime.handle("r").signal("go")
            await desk.settled(runtime.handle("r"))

        assert witness.seen == [b'{"query":"a"}', b'{"query":"b"}']
        assert witness.wrong == []

    run(scenario())


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_workflow_that_calls_a_tool_itself_is_stopped(kind: str) -> None:
    """The nearest way round the gate, and easily taken by mistake."""

    async def scenario() -> None:
        desk, ran = Desk(), list[int]()

        @tool
        async def slow(n: int) -> None:
            ran.append(n)

        @tool
        def quick(n: int) -> None:
            ran.append(n)

        async def body(ctx: Any) -> None:
            if kind == "async":
                await slow(n=1)
            else:
                quick(n=1)

        state = await desk.ran(flow(body, slow, quick))

        assert isinstance(state, Failed)
        assert (state.error.code, ran) == ("E_WORKFLOW_TOOL", [])

    run(scenario())


def test_a_tool_may_call_another_tools_function() -> None:
    """Its own call has passed the gate; and a test calls it outside any run."""

    async def scenario() -> None:
        desk = Desk()

        @tool(effect="read")
        async def inner(n: int) -> int:
            return n + 1

        @tool(effect="read")
        async def outer(n: int) -> int:
            return await inner(n=n) + await inner(n)

        async def body(ctx: Any) -> Any:
            return await ctx.call_tool(outer, n=1)

        state = await desk.ran(flow(body, outer))

        assert state == Finished(4)

    run(scenario())
