"""Hooks before a tool: what they see, what their answers do, and what the journal says of it."""

import asyncio
from typing import Any

import pytest
from tests.runtime.hooking import QUICK, Pay, answers, asked, only, ran
from tests.runtime.kit import Desk, eventually, flow, run

from gatebook import Change, Deny, hook, tool
from gatebook.errors import ConfigError, Transient
from gatebook.kernel.events import (
    ActionDenied,
    ActionRequested,
    ActionSucceeded,
    AttemptFailed,
    kind_of,
)
from gatebook.kernel.policies import AllowDeclared
from gatebook.kernel.policy import Decision
from gatebook.runtime.runs.states import Finished


def test_a_tool_gets_what_a_hook_made_of_its_arguments() -> None:
    """And the journal shows the answer ahead of the request, with both digests."""
    pay = Pay()
    cap = asked("before_tool", Change({"amount": 3}), "change")

    state, events = run(ran(pay.program, cap))

    assert (state, pay.calls) == (Finished(30), [3])
    assert [kind_of(event) for event in events] == [
        "run_started", "hook_answered", "action_requested", "action_succeeded", "run_completed",
    ]  # fmt: skip
    (answer,) = answers(events)
    assert (answer.hook, answer.point, answer.address) == ("before_tool", "before_tool", "0")
    assert (bytes(answer.change), answer.saw == answer.made) == (b'{"amount":3}', False)
    assert only(events, ActionRequested).action.arguments == {"amount": 3}


def test_what_a_hook_sees_is_the_call_and_its_run() -> None:
    """Nothing has been validated or decided yet."""
    pay, look = Pay(), asked("before_tool")

    run(ran(pay.program, look))

    (view,) = look.seen
    assert (view.run, view.program, view.address, view.tool) == ("r", "body", "0", "pay")
    assert (view.args, view.labels, view.context) == ({"amount": 5}, {}, None)


def test_a_refused_call_never_starts() -> None:
    """The program sees a denial with the hook's reason."""
    pay = Pay()

    state, events = run(ran(pay.program, asked("before_tool", Deny("not on Sundays"), "deny")))

    assert isinstance(state, Finished)
    assert (state.output[0], "not on Sundays" in state.output[1]) == ("E_HOOK_DENIED", True)
    assert pay.calls == []
    denied = only(events, ActionDenied)
    assert (denied.decision.rule, denied.decision.verdict) == ("hook before_tool", "deny")


class Under(AllowDeclared):
    """Allows amounts up to a limit, and keeps what it was asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def authorize(self, action: Any, context: Any) -> Decision:
        amount = action.arguments["amount"]
        self.asked.append(amount)
        return Decision.allow() if amount <= 10 else Decision.deny("above the limit")


def test_policy_decides_on_what_a_hook_made() -> None:
    """A hook that raises an amount does not get it past the policy."""
    pay, policy = Pay(), Under()
    raised = asked("before_tool", Change({"amount": 500}), "change")

    state, _ = run(ran(pay.program, raised, desk=Desk(policy=policy)))

    assert isinstance(state, Finished)
    assert (state.output[0], pay.calls, policy.asked) == ("E_POLICY_DENIED", [], [500])


def test_what_a_hook_made_is_validated() -> None:
    """Before-hooks run ahead of validation, so they cannot undo it."""
    pay = Pay()

    state, _ = run(ran(pay.program, asked("before_tool", Change({"amount": "x"}), "change")))

    assert isinstance(state, Finished)
    assert (state.output[0], pay.calls) == ("E_ARGS_SCHEMA", [])


def test_hooks_are_asked_in_order_each_about_what_the_one_before_made() -> None:
    """The same order in every process."""
    pay = Pay()
    hooks = [
        asked(
            "before_tool", lambda v: Change({"amount": v.args["amount"] + 1}), "change", name="z"
        ),
        asked(
            "before_tool", lambda v: Change({"amount": v.args["amount"] * 2}), "change", name="a"
        ),
    ]

    _, events = run(ran(pay.program, *hooks))

    assert pay.calls == [12]
    assert [event.hook for event in answers(events)] == ["z", "a"]


def test_after_a_refusal_nobody_else_is_asked() -> None:
    """There is nothing left to decide about."""
    pay, second = Pay(), asked("before_tool", name="second")

    run(ran(pay.program, asked("before_tool", Deny("no"), "deny"), second))

    assert second.seen == []


def test_a_hook_is_asked_about_the_tools_it_names() -> None:
    """A call of another costs nothing and says nothing."""
    pay, look = Pay(), asked("before_tool", tools=["look"])

    @tool
    async def peek() -> int:
        return 1

    async def body(ctx: Any) -> int:
        return await ctx.call_tool(peek)

    named = asked("before_tool", tools=[peek])
    state, events = run(ran(flow(body, peek), named))

    assert (state, len(named.seen)) == (Finished(1), 1)
    with pytest.raises(ConfigError) as refused:
        run(ran(pay.program, look))
    assert refused.value.code == "E_HOOK_TOOL"
    assert [event.hook for event in answers(events)] == ["before_tool"]


def test_calls_that_need_no_hook_do_not_wait_for_those_that_do() -> None:
    """Of a fan-out only the guarded call is held back."""

    async def scenario() -> None:
        desk, go, done = Desk(), asyncio.Event(), list[str]()

        @tool(effect="read")
        async def slow() -> None:
            done.append("slow")

        @tool(effect="read")
        async def fast() -> None:
            done.append("fast")

        async def body(ctx: Any) -> None:
            await ctx.gather(ctx.call_tool(slow), ctx.call_tool(fast))

        @hook("before_tool", rights=["observe"], timeout=60, on_failure="open", tools=[slow])
        async def held(view: Any) -> None:
            await go.wait()

        program = flow(body, slow, fast)
        async with desk.open(program, hooks=[held]) as runtime:
            handle = await runtime.start(program, None, run_id="r")
            await eventually(lambda: done == ["fast"], "the call without a hook ran")
            go.set()
            await desk.settled(handle)

        assert done == ["fast", "slow"]

    run(scenario())


def test_an_action_is_asked_about_once_and_its_attempts_are_not() -> None:
    """A retry sends the same bytes; what comes of each attempt is looked at."""
    pay = Pay("idempotent", [Transient("busy"), Transient("busy")])
    before = asked("before_tool", Change({"amount": 2}), "change")
    after = asked("after_tool")

    async def body(ctx: Any) -> Any:
        return await ctx.call_tool(only_tool, amount=5)

    (only_tool,) = pay.program.tools.values()
    state, events = run(ran(flow(body, only_tool), before, after, desk=Desk(policy=QUICK)))

    assert (state, pay.calls) == (Finished(20), [2, 2, 2])
    assert (len(before.seen), [view.attempt for view in after.seen]) == (1, [0, 1, 2])
    assert [view.error for view in after.seen] == ["busy", "busy", ""]
    assert len([e for e in events if isinstance(e, AttemptFailed)]) == 2


def test_a_decision_is_not_taken_on_what_a_hook_makes_afterwards() -> None:
    """The policy sees the bytes that are requested, of every attempt."""

    async def scenario() -> None:
        decided, amounts = list[int](), iter([3, 4, 5])

        class Watching(AllowDeclared):
            def authorize(self, action: Any, context: Any) -> Decision:
                decided.append(action.arguments["amount"])
                return Decision.allow()

        desk = Desk(policy=Watching())

        @tool(effect="read", retries=1)
        async def look(amount: int) -> int:
            if len(decided) == 1:
                raise ConnectionError
            return amount

        async def body(ctx: Any) -> int:
            return await ctx.call_tool(look, amount=1)

        @hook("before_tool", rights=["change"], timeout=60, on_failure="closed")
        async def cap(view: Any) -> Change | Deny:
            return Change({"amount": next(amounts)})

        state = await desk.ran(flow(body, look), hooks=[cap])

        assert (state, decided) == (Finished(3), [3, 3])
        request = await desk.only("r", ActionRequested)
        assert request.action.arguments == {"amount": 3}  # type: ignore[union-attr]
        assert (await desk.only("r", ActionSucceeded)).attempt == 1

    run(scenario())
