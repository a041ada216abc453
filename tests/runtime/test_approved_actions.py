"""What is approved: decided again, unchanged, once, whatever crashes."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from tests.runtime.approving import ASK, Asks, Bank, asking, checked, elsewhere
from tests.runtime.kit import CutJournal, Desk, flow, run

from gatebook import AllowDeclared, ApprovalTerms, DeferTerms, Transient, tool
from gatebook.errors import ActionDenied, ActionError, GatebookError
from gatebook.kernel.approvals.events import ActionDeferred
from gatebook.kernel.events import ActionDenied as ActionDeniedEvent
from gatebook.kernel.events import Interrupted
from gatebook.kernel.policies import RetryWithBackoffPolicy
from gatebook.kernel.policy import Decision
from gatebook.runtime.runs.states import Finished, Waiting


class Changing(Asks):
    """A policy that tests change while a run waits; its digest says so."""

    def __init__(self, *verdicts: str) -> None:
        super().__init__()
        self.verdicts = list(verdicts)

    @property
    def digest(self) -> str:
        return f"policy-{len(self.verdicts)}"

    def authorize(self, action: Any, context: Any) -> Decision:
        return Decision(self.verdicts[0], "so it is", approvals=(ASK,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("after", "end"),
    [
        ("deny", Finished(["E_POLICY_DENIED"])),
        ("allow", Finished(["paid 50"])),
        ("ask", Waiting),
        ("interrupt", Waiting),
        ("defer", Waiting),
    ],
)
def test_the_stricter_of_then_and_now_counts(after: str, end: Any) -> None:
    """An approval is for the policy that asked; another one may say no, or ask anew."""

    async def scenario() -> None:
        policy = Changing("ask", after)
        desk, bank = Desk(policy), Bank()
        async with desk.open() as runtime:
            _, _, (approval,) = await asking(runtime, desk, bank.paying(50))
        await desk.journal.open()
        async with elsewhere(desk) as client:
            await client.approval(approval.id).approve(by="ann")
        await desk.journal.open()
        policy.verdicts.pop(0)
        program = bank.paying(50)
        state = await desk.taken_up(program)

        assert state == end if isinstance(end, Finished) else isinstance(state, end)
        assert bank.paid == ([50] if after == "allow" else [])

    run(scenario())


@pytest.mark.parametrize(
    "later",
    [Decision.defer("not before noon"), Decision("ask", approvals=(ASK,), defers=(DeferTerms(),))],
    ids=["defer", "ask and defer"],
)
def test_a_yes_is_no_word_about_when(later: Decision) -> None:
    """The same policy that asked may want to be asked again later: that comes first."""

    class Moody(Asks):
        def authorize(self, action: Any, context: Any) -> Decision:
            return later if asked else super().authorize(action, context)

    async def scenario() -> None:
        desk, bank = Desk(Moody()), Bank()
        async with desk.open() as runtime:
            handle, _, (approval,) = await asking(runtime, desk, bank.paying(50))
            asked.append(approval.id)
            await approval.approve(by="ann")

            assert isinstance(await desk.settled(handle), Waiting)
            assert bank.paid == []
            assert len(await desk.all("r", ActionDeferred)) == 1

    asked = list[str]()
    run(scenario())


def test_who_asks_only_by_now_is_asked_too() -> None:
    """Each who asks must be answered: a yes to one is none to another, under the same policy."""

    class Growing(Asks):
        def authorize(self, action: Any, context: Any) -> Decision:
            late = (ApprovalTerms(rule="late", approvers=("bob",)),) if tainted else ()
            return Decision("ask", approvals=(ASK, *late))

    async def scenario() -> None:
        desk, bank = Desk(Growing()), Bank()
        async with desk.open() as runtime:
            handle, _, (approval,) = await asking(runtime, desk, bank.paying(50))
            tainted.append("by now")
            await approval.approve(by="ann")
            state = await desk.settled(handle)
            (again,) = [found async for found in runtime.approvals()]
            assert (isinstance(state, Waiting), bank.paid) == (True, [])
            assert again.approvers == ((), ("bob",))
            await again.approve(by="bob")

            assert await desk.settled(handle) == Finished(["paid 50"])
            await checked(desk, bank, 50)

    tainted = list[str]()
    run(scenario())


def test_an_open_question_is_answered_also_when_policy_would_allow_now() -> None:
    """The stricter of then and now: what was asked is not let through in silence."""

    async def scenario() -> None:
        policy = Changing("ask", "allow")
        desk, bank = Desk(policy), Bank()
        async with desk.open() as runtime:
            await asking(runtime, desk, bank.paying(50))
        await desk.journal.open()
        policy.verdicts.pop(0)
        program = bank.paying(50)
        state = await desk.taken_up(program)

        assert isinstance(state, Waiting)
        assert bank.paid == []

    run(scenario())


async def changed(before: Any, after: Any) -> tuple[Any, Desk]:
    """Approve what one program asks, and go on with another that is adopted."""
    desk = Desk(Asks())
    async with desk.open() as runtime:
        _, _, (approval,) = await asking(runtime, desk, before)
        await desk.journal.open()
    await desk.journal.open()
    async with elsewhere(desk) as client:
        await client.approval(approval.id).approve(by="ann")
    await desk.journal.open()
    state = await desk.taken_up(after, on_definition_change="adopt")
    return state, desk


def test_arguments_that_changed_after_the_approval_do_not_run() -> None:
    """What a person saw is what runs, or nothing."""
    bank = Bank()

    state, desk = run(changed(bank.paying(50), bank.paying(99)))

    assert (state, bank.paid) == (Finished(["E_APPROVAL_MISMATCH"]), [])
    assert run(desk.only("r", ActionDeniedEvent)).decision.code == "E_APPROVAL_MISMATCH"


@pytest.mark.parametrize(("name", "text"), [("pay", "Pay, and tell mallory."), ("pay2", "Pay.")])
def test_a_tool_that_changed_after_the_approval_does_not_run(name: str, text: str) -> None:
    """A renamed or redefined tool is another tool."""
    bank, ran = Bank(), list[int]()

    @tool(name=name, description=text)
    async def other(amount: int) -> str:
        ran.append(amount)
        return "done"

    async def body(ctx: Any) -> Any:
        try:
            return [await ctx.gather(ctx.call_tool(other, amount=50))]
        except ActionDenied as exc:
            return [exc.code]

    state, _ = run(changed(bank.paying(50), flow(body, other, name="paying")))

    assert (state, ran, bank.paid) == (Finished(["E_APPROVAL_TOOL"]), [], [])


def test_a_tool_that_changed_between_two_attempts_is_not_tried_again() -> None:
    """The approval was for the tool that failed, not for what stands under its name now."""
    tries = list[str]()

    def paying(text: str) -> Any:
        @tool(name="pay", effect="read", description=text)
        async def pay(amount: int) -> str:
            tries.append(text)
            raise Transient("later")

        async def body(ctx: Any) -> Any:
            try:
                return await ctx.call_tool(pay, amount=50)
            except ActionError as exc:
                return exc.code

        return flow(body, pay, name="paying")

    async def scenario() -> Any:
        desk = Desk(RetryWithBackoffPolicy(Asks(), 3, 60_000))
        async with desk.open() as runtime:
            handle, _, (approval,) = await asking(runtime, desk, paying("Pay."))
            await approval.approve(by="ann")
            await desk.settled(handle)
        await desk.journal.open()
        after = paying("Pay, and tell mallory.")
        async with desk.open(after, on_definition_change="adopt") as runtime:
            desk.clock.advance(60)
            return await desk.settled(runtime.handle("r", after))

    assert run(scenario()) == Finished("E_APPROVAL_TOOL")
    assert tries == ["Pay."]


@pytest.mark.parametrize("cut", range(1, 9))
@pytest.mark.parametrize("answer", ["approve", "edit", "deny"])
def test_no_crash_asks_twice_or_pays_twice(cut: int, answer: str) -> None:
    """Wherever the worker loses its store: one question, one answer, one payment at most."""

    async def scenario() -> None:
        desk, bank = Desk(Asks()), Bank()
        program = bank.paying(5, 50)
        await desk.journal.open()
        journal = CutJournal(desk.journal, append=cut)
        runtime = desk.runtime(program, journal=journal)
        await runtime.open()
        await _quietly(runtime.start(program, None, run_id="r"))
        await desk.clock.settle()
        await _quietly(_say(desk, answer))
        await desk.clock.settle()
        await desk.crash(runtime)
        desk.lapse()
        async with desk.open(program) as second:
            handle = await second.start(program, None, run_id="r")
            state = await desk.settled(handle)
            if isinstance(state, Waiting):
                await _quietly(_say(desk, answer))
                await desk.clock.settle()
                state = await desk.settled(handle)
            kinds = await desk.kinds("r")

            assert kinds.count("approval_answered") == 1
            assert kinds.count("approval_asked") == (2 if answer == "edit" else 1)
            assert bank.paid.count(50) <= 1
            assert bank.paid.count(20) <= 1
            assert bank.paid.count(5) <= 1
            assert isinstance(state, Finished | Waiting)

    run(scenario())


async def _quietly(work: Any) -> None:
    with suppress(GatebookError):
        await work


async def _say(desk: Desk, answer: str) -> None:
    async with elsewhere(desk) as client:
        async for approval in client.approvals():
            if answer == "deny":
                await approval.deny(by="ann")
            else:
                await approval.approve(by="ann", edit={"amount": 20} if answer == "edit" else None)


def test_an_approved_action_whose_worker_died_is_unknown() -> None:
    """An approval lets an at_most_once action start once, and no crash makes that twice."""

    async def scenario() -> None:
        desk, bank = Desk(Asks()), Bank()
        started = asyncio.Event()

        @tool
        async def pay(amount: int) -> str:
            """Pay."""
            bank.paid.append(amount)
            started.set()
            await asyncio.Event().wait()
            return "never"

        async def body(ctx: Any) -> Any:
            return await ctx.call_tool(pay, amount=50)

        program = flow(body, pay)
        runtime = desk.runtime(program)
        await runtime.open()
        _, _, (approval,) = await asking(runtime, desk, program)
        await approval.approve(by="ann")
        await started.wait()
        await desk.crash(runtime)
        desk.lapse()
        async with desk.open(program) as second:
            state = await desk.settled(second.handle("r", program))

            assert state == Waiting(("resolve 0",))
            assert bank.paid == [50]

    run(scenario())


def test_an_allowed_step_writes_nothing_more() -> None:
    """Approvals cost those who ask."""

    async def scenario() -> None:
        desk, bank = Desk(AllowDeclared()), Bank()
        async with desk.open() as runtime:
            await desk.settled(await runtime.start(bank.paying(1), None, run_id="r"))

            assert await desk.kinds("r") == [
                "run_started", "action_requested", "action_succeeded", "run_completed"
            ]  # fmt: skip

    run(scenario())


def test_a_stop_waits_for_an_answer() -> None:
    """Interrupt: the run stops, nothing else starts, and an answer lets it go on."""

    class Stops(Asks):
        def authorize(self, action: Any, context: Any) -> Decision:
            return Decision.interrupt("look at this", rule="stop")

    async def scenario() -> None:
        desk, bank = Desk(Stops()), Bank()
        async with desk.open() as runtime:
            handle, state, (approval,) = await asking(runtime, desk, bank.paying(50))
            row = await handle.row()
            await approval.approve(by="ann")

            assert state == Waiting((f"approval {approval.seq}", "resume"))
            assert str(row.head.status) == "interrupted"
            assert "look at this" in (await desk.only("r", Interrupted)).error.message
            assert await desk.settled(handle) == Finished(["paid 50"])
            await checked(desk, bank, 50)

    run(scenario())


@pytest.mark.parametrize("at_once", [False, True])
def test_a_stop_that_several_must_lift_waits_for_the_last_of_them(at_once: bool) -> None:
    """The first yes is kept, and the run does not go on with it; also when both come at once."""
    stop = Decision(
        "interrupt", "look", "stop",
        approvals=(ApprovalTerms(rule="a", approvers=("ann",)),
                   ApprovalTerms(rule="b", approvers=("bob",))),
    )  # fmt: skip

    class Stops(Asks):
        def authorize(self, action: Any, context: Any) -> Decision:
            return stop

    async def scenario() -> None:
        desk, bank = Desk(Stops()), Bank()
        async with desk.open() as runtime:
            handle, _, (approval,) = await asking(runtime, desk, bank.paying(50))
            if at_once:
                await asyncio.gather(*(approval.approve(by=name) for name in ("ann", "bob")))
            else:
                await approval.approve(by="ann")
                assert str((await handle.row()).head.status) == "interrupted"
                await approval.approve(by="bob")

            assert await desk.settled(handle) == Finished(["paid 50"])
            assert (await desk.kinds("r")).count("approval_asked") == 1
            await checked(desk, bank, 50)

    run(scenario())


def test_a_stop_that_is_resumed_is_decided_again() -> None:
    """Under the policy in force then: whoever changed it need not answer too."""

    async def scenario() -> None:
        policy = Changing("interrupt", "allow")
        desk, bank = Desk(policy), Bank()
        async with desk.open() as runtime:
            handle, _, _ = await asking(runtime, desk, bank.paying(50))
            policy.verdicts.pop(0)
            await handle.resume(by="ann")

            assert await desk.settled(handle) == Finished(["paid 50"])

    run(scenario())
