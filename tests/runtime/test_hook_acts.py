"""Hooks that act: their tool calls pass the gate, trigger no hooks, and are done once."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from tests.runtime.hooking import answers, asked, only
from tests.runtime.kit import RUN, CutJournal, Desk, eventually, flow, run

from gatebook import Budget, Change, Deny, hook, tool
from gatebook.errors import ActionDenied, ActionError, ConfigError, GatebookError
from gatebook.kernel.events import ActionRequested, HookAnswered, Note, kind_of
from gatebook.kernel.policies import AllowDeclared
from gatebook.kernel.policy import Decision
from gatebook.kernel.verify import verify_facts
from gatebook.runtime.replay import final_args, replay
from gatebook.runtime.runs.states import Cancelled, Finished, Waiting


class Shop:
    """A payment whose hook looks the order up first, with a tool of the program."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.asked = 0

        @tool(effect="read")
        async def owed(order: str) -> int:
            self.done.append(f"owed {order}")
            return 30

        @tool
        async def pay(amount: int) -> int:
            self.done.append(f"pay {amount}")
            return amount

        async def body(ctx: Any) -> Any:
            try:
                return await ctx.call_tool(pay, amount=50)
            except ActionError as exc:
                return exc.code

        @hook("before_tool", rights=["change", "act"], timeout=60, on_failure="closed", tools=[pay])
        async def cap(call: Any) -> Change:
            self.asked += 1
            return Change(
                {"amount": min(call.args["amount"], await call.call_tool(owed, order="7"))}
            )

        self.owed, self.pay, self.cap = owed, pay, cap
        self.program = flow(body, pay, owed)


async def ended(desk: Desk, shop: Shop, *hooks: Any, **options: Any) -> Any:
    """The end of the shop's run, whose journal verifies and replays."""
    async with desk.open(shop.program, hooks=hooks or [shop.cap]) as runtime:
        handle = await runtime.start(shop.program, None, run_id="r", **options)
        state = await desk.settled(handle)
    await checked(desk, shop)
    return state


async def checked(desk: Desk, shop: Shop) -> None:
    await desk.journal.open()
    recorded, before = await desk.journal.read(RUN), list(shop.done)
    verify_facts("r", [each.event for each in recorded], (await desk.journal.row(RUN)).head)
    started: Any = recorded[0].event
    assert replay(shop.program.begin(started), final_args(shop.program.tools), recorded).ended
    assert shop.done == before


def test_what_a_hook_does_is_an_action_of_the_run() -> None:
    """Requested and recorded before its answer, below the address of what it was asked about."""

    async def scenario() -> None:
        desk, shop = Desk(), Shop()

        state = await ended(desk, shop)

        assert (state, shop.done) == (Finished(30), ["owed 7", "pay 30"])
        assert [(kind_of(e), getattr(e, "address", "")) for e in await desk.events("r")][1:-1] == [
            ("action_requested", "0~cap.0.0"), ("action_succeeded", "0~cap.0.0"),
            ("hook_answered", "0"), ("action_requested", "0"), ("action_succeeded", "0"),
        ]  # fmt: skip

    run(scenario())


def test_no_hook_is_asked_about_what_a_hook_does() -> None:
    """Else each would be asked about the other for ever."""

    async def scenario() -> None:
        desk, shop = Desk(), Shop()
        before, after = asked("before_tool"), asked("after_tool")

        await ended(desk, shop, shop.cap, before, after)

        assert [view.tool for view in before.seen + after.seen] == ["pay", "pay"]

    run(scenario())


def test_policy_decides_about_what_a_hook_does() -> None:
    """A hook has no way round the gate; it is told, and fails as it declared."""

    class NoLooking(AllowDeclared):
        def authorize(self, action: Any, context: Any) -> Decision:
            return Decision.deny("no") if action.tool == "owed" else Decision.allow()

    async def scenario() -> None:
        desk, shop = Desk(NoLooking()), Shop()

        state = await ended(desk, shop)

        assert (state, shop.done) == (Finished("E_HOOK_FAILED"), [])
        (answer,) = answers(await desk.events("r"))
        assert answer.stops

    run(scenario())


def test_a_hook_may_catch_a_denial() -> None:
    """It sees what any program sees."""

    async def scenario() -> None:
        desk, shop = Desk(), Shop()

        @hook("before_tool", rights=["deny", "act"], timeout=60, on_failure="closed", name="cap")
        async def careful(call: Any) -> Deny | None:
            try:
                await call.call_tool("nothing", n=1)
            except ActionDenied as exc:
                return Deny(exc.code)
            return None

        state = await ended(desk, shop, careful)

        assert (state, shop.done) == (Finished("E_HOOK_DENIED"), [])

    run(scenario())


def test_a_budget_counts_what_hooks_do() -> None:
    """A limit that hooks could pass would limit nothing."""

    async def scenario() -> None:
        desk, shop = Desk(), Shop()

        state = await ended(desk, shop, budget=Budget(tool_calls=1))

        assert (state, shop.done) == (Finished("E_BUDGET"), ["owed 7"])

    run(scenario())


@pytest.mark.parametrize("rights", [["change"], ["observe"]])
def test_without_the_right_nothing_is_done(rights: Any) -> None:
    """The hook fails."""

    async def scenario() -> None:
        desk, shop = Desk(), Shop()
        plain = hook("before_tool", rights=rights, timeout=60, on_failure="closed", name="cap")

        state = await ended(desk, shop, plain(shop.cap.function))

        assert (state, shop.done) == (Finished("E_HOOK_FAILED"), [])

    run(scenario())


def test_a_blocking_hook_cannot_act() -> None:
    """Its thread could not wait for the run's loop."""
    with pytest.raises(ConfigError) as refused:
        hook("before_tool", rights=["act"], timeout=1, on_failure="open", name="h")(lambda c: None)

    assert refused.value.code == "E_HOOK_DECLARATION"


def test_a_hook_may_act_on_a_result() -> None:
    """While its attempt is still being looked at."""

    async def scenario() -> None:
        desk, shop = Desk(), Shop()

        @hook("after_tool", rights=["change", "act"], timeout=60, on_failure="closed", name="add")
        async def add(done: Any) -> Change:
            first, second = await asyncio.gather(
                done.call_tool("owed", order="1"), done.call_tool("owed", order="2")
            )
            return Change(done.result + first + second)

        state = await ended(desk, shop, add)

        assert state == Finished(110)
        assert sorted(shop.done) == ["owed 1", "owed 2", "pay 50"]

    run(scenario())


def test_a_worker_that_stops_lets_a_hook_act_on_a_result() -> None:
    """The payment is made, and what came of it is known once its hook has looked at it."""

    async def scenario() -> None:
        desk, shop, go = Desk(), Shop(), asyncio.Event()

        @hook(
            "after_tool",
            rights=["change", "act"],
            timeout=60,
            on_failure="closed",
            tools=[shop.pay],
        )
        async def add(done: Any) -> Change:
            await go.wait()
            return Change(done.result + await done.call_tool(shop.owed, order="1"))

        runtime = desk.runtime(shop.program, hooks=[add])
        await runtime.open()
        await runtime.start(shop.program, None, run_id="r")
        await eventually(lambda: shop.done, "the payment")
        closing = asyncio.ensure_future(runtime.close())
        await desk.clock.settle()
        go.set()
        await desk.clock.until(closing)
        end = await desk.taken_up(shop.program, hooks=[add])

        assert (end, shop.done) == (Finished(80), ["pay 50", "owed 1"])
        await checked(desk, shop)

    run(scenario())


def test_a_fenced_worker_does_not_wait_for_what_may_not_start() -> None:
    """Its hook would hold up the note of what it learned, and the run with it."""

    async def scenario() -> None:
        desk, shop, go = Desk(), Shop(), asyncio.Event()

        @hook("after_tool", rights=["act"], timeout=60, on_failure="open", tools=[shop.pay],
              security=False)  # fmt: skip
        async def look(done: Any) -> None:
            await go.wait()
            for order in "12":
                with suppress(GatebookError):
                    await done.call_tool(shop.owed, order=order)

        async with desk.open(shop.program, hooks=[look]) as runtime:
            await runtime.start(shop.program, None, run_id="r")
            await eventually(lambda: shop.done, "the payment")
            desk.lapse()
            await desk.journal.claim(RUN, owner="another", ttl_ms=60_000)
            go.set()
            await desk.clock.settle()
            notes = await desk.all("r", Note)

        assert [note.text for note in notes] == ["late outcome of 0 attempt 0"]
        assert shop.done == ["pay 50"]

    run(scenario())


def test_a_hook_that_may_not_act_is_asked_again_when_the_run_goes_on() -> None:
    """A run that stopped for a person starts nothing: its hook would wait until its time is up."""

    class StopsAtALook(AllowDeclared):
        def sees_results(self, action: Any) -> bool:
            return bool(action.tool == "look")

        def result(self, *_: Any, **__: Any) -> Decision:
            return Decision("interrupt", "look at it")

    async def scenario() -> None:
        desk, shop, go = Desk(StopsAtALook()), Shop(), asyncio.Event()

        @tool(effect="read")
        async def look() -> int:
            return 1

        async def body(ctx: Any) -> Any:
            async def looks() -> str:
                try:
                    return str(await ctx.call_tool(look))
                except ActionDenied as exc:
                    return exc.code

            return await ctx.gather(ctx.call_tool(shop.pay, amount=50), looks())

        @hook(
            "before_tool", rights=["change", "act"], timeout=60, on_failure="closed",
            tools=[shop.pay],
        )  # fmt: skip
        async def cap(call: Any) -> Change:
            await go.wait()
            return Change({"amount": await call.call_tool(shop.owed, order="7")})

        program = flow(body, shop.pay, shop.owed, look)
        async with desk.open(hooks=[cap]) as runtime:
            handle = await runtime.start(program, None, run_id="r")
            await desk.clock.settle()
            go.set()
            state = await desk.settled(handle)
            await handle.resume(by="ann")
            end = await desk.settled(handle)

        assert state == Waiting(on=("resume",))
        assert end == Finished([30, "E_RESULT_WITHHELD"])
        assert shop.done == ["owed 7", "pay 30"]

    run(scenario())


@pytest.mark.parametrize("append", range(1, 5))
def test_what_a_hook_did_is_not_done_again_after_a_crash(append: int) -> None:
    """It is asked again, and gets the result that is recorded."""

    async def scenario() -> None:
        desk, shop = Desk(), Shop()
        cut = CutJournal(desk.journal, append=append)
        runtime = desk.runtime(shop.program, journal=cut, hooks=[shop.cap])
        await runtime.open()
        await runtime.start(shop.program, None, run_id="r")
        await eventually(lambda: cut.dead, "the store is gone")
        await desk.crash(runtime)
        desk.lapse()
        await desk.journal.open()
        before = await desk.kinds("r")

        await desk.taken_up(shop.program, hooks=[shop.cap])

        looked = shop.done.count("owed 7")
        assert looked == (2 if before[-1] == "action_requested" and append == 2 else 1)
        assert shop.done.count("pay 30") <= 1
        assert len(await desk.all("r", HookAnswered)) == 1
        assert shop.asked == (1 if "hook_answered" in before else 2)

    run(scenario())


def test_a_hook_that_acts_otherwise_the_second_time_fails() -> None:
    """What is recorded is not the answer to another question."""

    async def scenario() -> None:
        desk, shop, orders = Desk(), Shop(), iter(["1", "2"])

        @hook(
            "before_tool",
            rights=["act"],
            timeout=60,
            on_failure="closed",
            name="cap",
            tools=[shop.pay],
        )
        async def fickle(call: Any) -> None:
            await call.call_tool(shop.owed, order=next(orders))

        cut = CutJournal(desk.journal, append=3)
        runtime = desk.runtime(shop.program, journal=cut, hooks=[fickle])
        await runtime.open()
        await runtime.start(shop.program, None, run_id="r")
        await eventually(lambda: cut.dead, "the store is gone")
        await desk.crash(runtime)
        desk.lapse()
        state = await desk.taken_up(shop.program, hooks=[fickle])

        assert (state, shop.done) == (Finished("E_HOOK_FAILED"), ["owed 1"])

    run(scenario())


def test_a_cancel_ends_what_a_hook_does() -> None:
    """Like any other action in flight."""

    async def scenario() -> None:
        desk, began = Desk(), asyncio.Event()

        @tool(effect="read")
        async def slow() -> None:
            began.set()
            await asyncio.Event().wait()

        async def body(ctx: Any) -> None:
            await ctx.call_tool(slow)

        @hook("before_tool", rights=["act"], timeout=60, on_failure="closed")
        async def acts(call: Any) -> None:
            await call.call_tool(slow)

        async with desk.open(hooks=[acts]) as runtime:
            handle = await runtime.start(flow(body, slow), None, run_id="r")
            await began.wait()
            await handle.cancel()
            state = await handle.settled()
        await desk.journal.open()

        assert isinstance(state, Cancelled)
        assert only(await desk.events("r"), ActionRequested).address == "0~acts.0.0"

    run(scenario())
