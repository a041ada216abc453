"""Hooks that raise, hang, answer what they may not, or try to get round the gate."""

import asyncio
import threading
from typing import Any

import pytest
from tests.runtime.kit import Desk, Model, eventually, flow, run, said
from tests.runtime.test_hooks import LLM, Pay, answers, asked, only, ran

from gatebook import Change, Deny, hook, tool
from gatebook.errors import ActionError, IntegrityError
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import (
    ActionDenied,
    ActionFailed,
    ActionRequested,
    ActionSucceeded,
    RunFailed,
)
from gatebook.runtime.runs.states import Cancelled, Failed, Finished, Waiting

CANARY = "canary-0123456789"


async def hangs(view: Any) -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def raises(view: Any) -> None:
    """Break."""
    raise ZeroDivisionError(f"by {CANARY}\x1b[2J")


async def leaves(view: Any) -> None:
    """Try to end the process."""
    raise SystemExit(3)


async def gives_up(view: Any) -> None:
    """Look as if it had been cancelled."""
    raise asyncio.CancelledError


async def says_yes(view: Any) -> bool:
    """Answer what may mean either."""
    return True


async def takes_more(view: Any) -> Deny:
    """Answer what it has no right to."""
    return Deny("because I can")


def awaits_nothing(view: Any) -> Any:
    """Return a coroutine where an answer should be."""
    return says_yes(view)


def raises_stop(view: Any) -> None:
    """Raise what coroutines cannot hand on."""
    raise StopIteration(5)


class Vicious(dict[str, Any]):
    """Arguments that fight back."""

    def keys(self) -> Any:
        raise RuntimeError("no keys for you")

    def __iter__(self) -> Any:
        raise RuntimeError("no items for you")


async def fights(view: Any) -> Change:
    """Answer with what cannot be read."""
    return Change(Vicious(amount=1))


FAILURES = [
    (hangs, "E_HOOK_TIMEOUT"), (raises, "E_HOOK_FAILED"), (leaves, "E_HOOK_FAILED"),
    (gives_up, "E_HOOK_FAILED"), (says_yes, "E_HOOK_ANSWER"), (takes_more, "E_HOOK_RIGHTS"),
    (awaits_nothing, "E_HOOK_ANSWER"), (raises_stop, "E_HOOK_FAILED"),
]  # fmt: skip
POINTS = [
    "on_run_start", "before_model", "after_model", "before_tool", "after_tool", "on_run_end",
]  # fmt: skip


def failing(function: Any, point: Any, mode: Any, **options: Any) -> Any:
    """A hook that will fail, with the right to observe only."""
    timeout = 0.01 if function is hangs else 60
    given: dict[str, Any] = {"rights": ["observe"], "timeout": timeout} | options
    return hook(point, on_failure=mode, name="bad", **given)(function)


class Both:
    """A program that asks a model and calls a tool, and what was done of it."""

    def __init__(self) -> None:
        self.model = Model(said("hello"))
        self.calls: list[str] = []

        @tool
        async def act() -> str:
            self.calls.append("act")
            return "done"

        async def body(ctx: Any) -> Any:
            said = list[Any]()
            for first in (True, False):
                try:
                    asked = ctx.call_llm("fake:m", "hi") if first else ctx.call_tool(act)
                    answer = await asked
                    said.append(getattr(answer, "text", answer))
                except ActionError as exc:
                    said.append(exc.code)
            return said

        self.program = flow(body, act, models=["fake:m"])


async def ended(both: Both, bad: Any) -> tuple[Any, Any]:
    state, events = await ran(both.program, bad, providers={"fake": both.model})
    return state, events


@pytest.mark.parametrize(("function", "code"), FAILURES)
@pytest.mark.parametrize("point", POINTS)
def test_a_hook_that_fails_open_is_as_if_it_had_not_been_asked(
    point: str, function: Any, code: str
) -> None:
    """But the journal says that it failed, and how."""
    both = Both()

    state, events = run(ended(both, failing(function, point, "open")))

    (answer,) = answers(events)
    assert (state, both.calls) == (Finished(["hello", "done"]), ["act"])
    assert answer.error is not None
    assert (answer.verdict, answer.error.code, answer.stops) == ("failed", code, False)


@pytest.mark.parametrize(("function", "code"), FAILURES)
@pytest.mark.parametrize("point", POINTS)
def test_a_hook_that_fails_closed_lets_nothing_through(
    point: str, function: Any, code: str
) -> None:
    """Whatever it was asked about is refused, withheld, or the run's end."""
    both = Both()

    state, events = run(ended(both, failing(function, point, "closed", security=True)))

    (answer,) = answers(events)
    assert answer.error is not None
    assert (answer.verdict, answer.error.code, answer.stops) == ("failed", code, True)
    match point:
        case "on_run_start" | "on_run_end":
            assert isinstance(state, Failed)
            assert (state.denied, state.error.code) == (True, code)
            assert bool(both.calls) is (point == "on_run_end")
        case "before_model":
            assert state == Finished([code, "done"])
            assert both.model.asked == []
        case "before_tool":
            assert (state, both.calls) == (Finished(["hello", code]), [])
        case "after_model":
            assert state == Finished(["E_HOOK_WITHHELD", "done"])
            assert "hello" not in str(events)
        case _:
            assert (state, both.calls) == (Finished(["hello", "E_HOOK_WITHHELD"]), ["act"])
            assert "'done'" not in str(events)


def test_an_answer_that_cannot_be_read_is_a_failure() -> None:
    """Whatever its own methods do."""
    pay = Pay()

    state, events = run(
        ran(pay.program, failing(fights, "before_tool", "closed", rights=["change"]))
    )

    assert isinstance(state, Finished)
    assert pay.calls == []
    assert only(events, ActionDenied).error.code in ("E_HOOK_FAILED", "E_HOOK_ANSWER")


def test_what_a_hook_raises_is_recorded_without_secrets() -> None:
    """Its text is user code's, and goes to the journal and to the program."""
    desk = Desk(secrets=[CANARY])

    state, events = run(ran(Pay().program, failing(raises, "before_tool", "closed"), desk=desk))

    assert "E_HOOK_FAILED" in str(state)
    for text in (str(events), str(state)):
        assert CANARY not in text
        assert "\x1b" not in text


@pytest.mark.parametrize("point", ["before_tool", "after_tool"])
def test_a_hook_cannot_put_a_secret_into_the_journal(point: str) -> None:
    """Neither as arguments, nor as a result, nor as a reason."""
    desk, value = Desk(secrets=[CANARY]), {"amount": 1, "key": CANARY}

    async def body(ctx: Any) -> Any:
        try:
            return await ctx.call_tool(take, amount=5)
        except ActionError as exc:
            return str(exc)

    @tool
    async def take(amount: int, key: str = "") -> Any:
        return 1

    changes = asked(point, Change(value), "change", "deny")
    denies = asked("on_run_end", Deny(f"it knows {CANARY}"), "deny")
    state, events = run(ran(flow(body, take), changes, denies, desk=desk))

    assert CANARY not in str(events)
    assert CANARY not in str(state)


# ---- cancelling ----


def test_a_cancel_reaches_a_hook_that_is_being_asked() -> None:
    """The run does not wait for it, and what it guards never starts."""

    async def scenario() -> None:
        desk, pay = Desk(), Pay()
        began, told = asyncio.Event(), asyncio.Event()

        @hook("before_tool", rights=["deny"], timeout=60, on_failure="closed")
        async def held(view: Any) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                assert view.cancelled()
                told.set()
                raise

        async with desk.open(pay.program, hooks=[held]) as runtime:
            handle = await runtime.start(pay.program, None, run_id="r")
            await began.wait()
            await handle.cancel()
            state = await handle.settled()
            await told.wait()

        assert isinstance(state, Cancelled)
        assert pay.calls == []
        await desk.journal.open()
        assert await desk.all("r", ActionRequested) == []

    run(scenario())


def test_a_cancel_reaches_a_hook_while_a_tool_still_ends() -> None:
    """It does not wait for the whole run to be let go."""

    async def scenario() -> None:
        desk = Desk()
        began, told, release = asyncio.Event(), asyncio.Event(), asyncio.Event()

        @tool
        async def stubborn() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await release.wait()

        @tool(effect="read")
        async def guarded() -> None:
            """Never reached."""

        async def body(ctx: Any) -> None:
            await ctx.gather(ctx.call_tool(stubborn), ctx.call_tool(guarded))

        @hook("before_tool", rights=["deny"], timeout=60, on_failure="closed", tools=[guarded])
        async def held(view: Any) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                told.set()

        program = flow(body, stubborn, guarded)
        async with desk.open(program, hooks=[held]) as runtime:
            handle = await runtime.start(program, None, run_id="r")
            await began.wait()
            await handle.cancel()
            await told.wait()
            meanwhile = (await handle.row()).head.status
            release.set()
            state = await handle.settled()

        assert isinstance(state, Cancelled)
        assert meanwhile == "cancelling"

    run(scenario())


def test_a_blocking_hook_is_told_that_nobody_waits() -> None:
    """A thread cannot be ended, but asked."""

    async def scenario() -> None:
        desk, pay = Desk(), Pay()
        began, told = threading.Event(), threading.Event()

        @hook("before_tool", rights=["deny"], timeout=60, on_failure="closed")
        def held(view: Any) -> None:
            began.set()
            while not view.cancelled():
                threading.Event().wait(0.001)
            told.set()

        async with desk.open(pay.program, hooks=[held]) as runtime:
            handle = await runtime.start(pay.program, None, run_id="r")
            await eventually(began.is_set, "the hook is asked")
            await handle.cancel()
            state = await handle.settled()
            await eventually(told.is_set, "the hook is told")

        assert isinstance(state, Cancelled)
        assert pay.calls == []

    run(scenario())


@pytest.mark.parametrize("mode", ["closed", "open"])
def test_a_cancel_while_a_result_is_looked_at_leaves_it_certain(mode: Any) -> None:
    """The tool has run: that is not unknown, whatever becomes of its result."""

    async def scenario() -> None:
        desk, pay, began = Desk(), Pay(), asyncio.Event()

        @hook("after_tool", rights=["deny"], timeout=60, on_failure=mode)
        async def held(view: Any) -> None:
            began.set()
            await asyncio.Event().wait()

        async with desk.open(pay.program, hooks=[held]) as runtime:
            handle = await runtime.start(pay.program, None, run_id="r")
            await began.wait()
            await handle.cancel()
            state = await handle.settled()
        await desk.journal.open()
        events = await desk.events("r")

        assert isinstance(state, Cancelled)
        assert state.unknown == ()
        (answer,) = answers(events)
        assert answer.error is not None
        assert answer.error.code == "E_HOOK_CANCELLED"
        if mode == "open":
            assert bytes(only(events, ActionSucceeded).output) == b"50"
        else:
            assert only(events, ActionFailed).error.code == "E_HOOK_WITHHELD"

    run(scenario())


def test_a_tools_deadline_does_not_end_the_hook_after_it() -> None:
    """The tool ended in time; its result is not unknown because somebody looks at it longer."""

    async def scenario() -> None:
        desk, go, began = Desk(), asyncio.Event(), asyncio.Event()

        @tool(timeout=0.05)
        async def act() -> int:
            return 1

        async def body(ctx: Any) -> int:
            return await ctx.call_tool(act)

        @hook("after_tool", rights=["observe"], timeout=60, on_failure="closed")
        async def held(view: Any) -> None:
            began.set()
            await go.wait()

        program = flow(body, act)
        async with desk.open(program, hooks=[held]) as runtime:
            handle = await runtime.start(program, None, run_id="r")
            await began.wait()
            asyncio.get_running_loop().call_later(0.1, go.set)  # past the tool's deadline
            state = await handle.settled()

        assert state == Finished(1)

    run(scenario())


# ---- getting round the gate ----


def test_arguments_swapped_in_place_are_not_the_calls() -> None:
    """A hook sees a copy; what it does to it does nothing, then or later."""

    async def scenario() -> None:
        desk, pay, views = Desk(), Pay(), list[Any]()

        @hook("before_tool", rights=["change"], timeout=60, on_failure="closed")
        async def swaps(view: Any) -> Change:
            made = {"amount": 1}
            view.args["amount"] = 99
            views.extend((view.args, made))
            asyncio.get_running_loop().call_soon(made.update, {"amount": 77})
            return Change(made)

        async with desk.open(pay.program, hooks=[swaps]) as runtime:
            state = await desk.settled(await runtime.start(pay.program, None, run_id="r"))

        assert (state, pay.calls) == (Finished(10), [1])
        assert views == [{"amount": 99}, {"amount": 77}]

    run(scenario())


def test_an_answer_after_its_time_changes_nothing() -> None:
    """The decision was taken without it, on other bytes."""

    async def scenario() -> None:
        desk, pay, late = Desk(), Pay(), asyncio.Event()

        @hook("before_tool", rights=["change"], timeout=0.01, on_failure="open")
        async def slow(view: Any) -> Change:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                late.set()  # and does not stop
            return Change({"amount": 99})

        async with desk.open(pay.program, hooks=[slow]) as runtime:
            state = await runtime.start(pay.program, None, run_id="r")
            end = await desk.settled(state)
            await late.wait()

        assert (end, pay.calls) == (Finished(50), [5])

    run(scenario())


def test_a_hook_has_no_permit() -> None:
    """The request it sees cannot be turned into an effect of its own."""

    async def scenario() -> None:
        desk, pay, codes = Desk(), Pay(), list[str]()
        (act,) = pay.program.tools.values()

        @hook("before_tool", rights=["observe"], timeout=60, on_failure="closed")
        async def acts(view: Any) -> None:
            from gatebook.runtime.performing.executor import Permit

            request = ActionRequested(address="0", action=_call(view))
            services = runtime._services
            assert services is not None
            stale = Permit(request, 0, _lease(), services.leases.fresh)
            try:
                stale.use(request.action)  # type: ignore[arg-type]
            except IntegrityError as exc:
                codes.append(exc.code)

        def _call(view: Any) -> Any:
            from gatebook.kernel.actions import CallTool

            return CallTool(view.tool, Raw(b'{"amount":1}'))

        def _lease() -> Any:
            from gatebook.ports import Lease, RunKey

            return Lease(RunKey("default", "r"), "somebody", 9)

        async with desk.open(pay.program, hooks=[acts]) as runtime:
            await desk.settled(await runtime.start(pay.program, None, run_id="r"))

        assert (codes, pay.calls) == (["E_PERMIT"], [5])
        assert act.spec.name == "pay"

    run(scenario())


def test_without_its_security_hooks_a_run_is_not_driven() -> None:
    """A worker that forgot them would be the way round them."""

    async def scenario() -> None:
        desk, pay = Desk(), Pay()
        guard = asked("before_tool", None, "deny", security=True, name="guard")

        async def body(ctx: Any) -> Any:
            await ctx.wait_signal("go")
            return await ctx.call_tool(act, amount=5)

        (act,) = pay.program.tools.values()
        program = flow(body, act)
        async with desk.open(program, hooks=[guard]) as runtime:
            await desk.settled(await runtime.start(program, None, run_id="r"))
        async with desk.open(program) as runtime:
            await runtime.handle("r").signal("go")
            bare = await desk.settled(runtime.handle("r"))
            unguarded = list(pay.calls)
            row = await runtime.journal.row(runtime.handle("r").key)
        async with desk.open(program, hooks=[guard]) as runtime:
            await runtime.handle("r").signal("look.again")
            state = await desk.settled(runtime.handle("r"))

        assert isinstance(bare, Waiting)
        assert (unguarded, row.parked_reason) == ([], "hooks")
        assert "guard" in row.waiting_on
        assert (state, pay.calls, len(guard.seen)) == (Finished(50), [5], 1)

    run(scenario())


def test_somebody_can_let_a_run_go_on_without_a_hook_that_is_gone() -> None:
    """By the word that lets changed definitions go on."""

    async def scenario() -> None:
        desk, pay = Desk(), Pay()
        guard = asked("before_tool", None, "deny", security=True, name="guard")

        async def body(ctx: Any) -> Any:
            await ctx.wait_signal("go")
            return await ctx.call_tool(act, amount=5)

        (act,) = pay.program.tools.values()
        program = flow(body, act)
        async with desk.open(program, hooks=[guard]) as runtime:
            await desk.settled(await runtime.start(program, None, run_id="r"))
        async with desk.open(program, on_definition_change="adopt") as runtime:
            await runtime.handle("r").signal("go")
            state = await desk.settled(runtime.handle("r"))

        assert (state, guard.seen) == (Finished(50), [])

    run(scenario())


def test_hooks_do_not_lift_what_policy_withholds_nor_a_budget() -> None:
    """They run ahead of it; nothing runs ahead of the append."""
    from gatebook import Budget

    async def scenario() -> None:
        desk, model = Desk(), Model(said("x"))
        before = asked("before_model", lambda view: Change([*view.messages] * 400), "change")
        async with desk.open(LLM, hooks=[before], providers={"fake": model}) as runtime:
            handle = await runtime.start(
                LLM, None, run_id="r", budget=Budget(llm_tokens=5_000, tool_calls=1)
            )
            state = await desk.settled(handle)

        assert isinstance(state, Failed | Finished)
        assert "E_BUDGET" in str(state)
        assert model.asked == []
        await desk.journal.open()
        assert [e for e in await desk.events("r") if isinstance(e, RunFailed | ActionDenied)]

    run(scenario())
