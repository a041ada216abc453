"""Grants: a tool that is not asked about again in one run, until a time, by who may say so."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from tests.runtime.approving import ASK, Asks, Bank, asking, elsewhere, refused
from tests.runtime.kit import Desk, RefusingJournal, flow, run

from gatebook import ApprovalTerms, Transient, tool
from gatebook.errors import ActionDenied, ActionError, InvalidInput
from gatebook.kernel.approvals.events import ApprovalAsked, Granted
from gatebook.kernel.events import ActionRequested, AttemptStarted
from gatebook.kernel.policies import RetryWithBackoffPolicy
from gatebook.kernel.policy import Decision
from gatebook.runtime.runs.states import Finished, Waiting

DAY = timedelta(days=1)
BACK_OFF = timedelta(minutes=1)


def slowly(bank: Bank, *amounts: int) -> Any:
    """A workflow that pays one after the other."""

    async def body(ctx: Any) -> Any:
        told = []
        for amount in amounts:
            try:
                told.append(await ctx.call_tool(bank.pay, amount=amount))
            except ActionDenied as exc:
                told.append(exc.code)
        return told

    return flow(body, bank.pay, name="paying")


def test_a_granted_tool_is_not_asked_about_again() -> None:
    """What waits goes on, what comes later does not wait; the requests name the grant."""

    async def scenario() -> None:
        desk, bank = Desk(Asks()), Bank()
        async with desk.open() as runtime:
            handle, _, _ = await asking(runtime, desk, slowly(bank, 20, 30, 40))
            given = await runtime.grant("r", "pay", until=DAY, by="ann", reason="all small")
            state = await desk.settled(handle)
            requests = await desk.all("r", ActionRequested)

            assert state == Finished(["paid 20", "paid 30", "paid 40"])
            assert len(await desk.all("r", ApprovalAsked)) == 1
            assert [f"r#{each.decision.grant}" for each in requests[1:]] == [given.id, given.id]
            assert {each.decision.verdict for each in requests} == {"ask"}
            assert (await desk.only("r", Granted)).reason == "all small"

    run(scenario())


def test_a_grant_answers_what_is_left_of_what_others_answer_meanwhile() -> None:
    """One question that somebody was quicker to answer must not leave the others open."""

    async def scenario() -> None:
        desk, bank = Desk(Asks()), Bank()
        quicker = InvalidInput("E_APPROVAL_ANSWERED", run="r", approval="r#2", by="bob")
        journal = RefusingJournal(desk.journal, ({"granted", "approval_answered"}, quicker))
        async with desk.open(journal=journal) as runtime:
            handle, _, _ = await asking(runtime, desk, bank.paying(20, 30))
            await runtime.grant("r", "pay", until=DAY, by="ann")

            assert journal.refusals == []
            assert await desk.settled(handle) == Finished(["paid 20", "paid 30"])

    run(scenario())


def test_a_grant_opens_nothing_that_is_denied() -> None:
    """It stands for a yes; no yes lifts a deny."""

    async def scenario() -> None:
        desk, bank = Desk(Asks()), Bank()
        async with desk.open() as runtime:
            handle, _, _ = await asking(runtime, desk, slowly(bank, 20, 500))
            await runtime.grant("r", "pay", until=DAY, by="ann")

            assert await desk.settled(handle) == Finished(["paid 20", "E_POLICY_DENIED"])

    run(scenario())


def test_a_grant_ends_at_its_time() -> None:
    """Then it is asked about again."""

    async def scenario() -> None:
        desk, bank = Desk(Asks()), Bank()

        async def body(ctx: Any) -> Any:
            await ctx.call_tool(bank.pay, amount=20)
            await ctx.sleep(3_600)
            await ctx.call_tool(bank.pay, amount=30)

        async with desk.open() as runtime:
            handle, _, _ = await asking(runtime, desk, flow(body, bank.pay))
            until = datetime.fromtimestamp(desk.clock.now() / 1e6, UTC) + timedelta(minutes=30)
            await runtime.grant("r", "pay", until=until, by="ann")
            await desk.clock.settle()
            desk.clock.advance(3_600)
            await desk.clock.settle()
            state = await desk.settled(handle)

            assert isinstance(state, Waiting)
            assert bank.paid == [20]
            assert [(g.tool, g.over) for g in await runtime.grants("r")] == [("pay", True)]

    run(scenario())


def test_a_revoked_grant_counts_no_more() -> None:
    """From the next decision on; whoever revokes it second is told."""

    async def scenario() -> None:
        desk, bank = Desk(Asks()), Bank()

        async def body(ctx: Any) -> Any:
            await ctx.call_tool(bank.pay, amount=20)
            await ctx.wait_signal("go")
            await ctx.call_tool(bank.pay, amount=30)

        async with desk.open() as runtime:
            handle, _, _ = await asking(runtime, desk, flow(body, bank.pay))
            given = await runtime.grant("r", "pay", until=DAY, by="ann")
            await desk.settled(handle)
            async with elsewhere(desk) as client:
                listed = await client.grants("r")
                await client.revoke(given, by="bob")
                again = await refused(client.revoke(given.id, by="bob"))
            await handle.signal("go")
            state = await desk.settled(handle)

            assert (listed, again) == ([given], "E_GRANT_UNKNOWN")
            assert isinstance(state, Waiting)
            assert bank.paid == [20]
            assert await runtime.grants("r") == []

    run(scenario())


def test_a_grant_is_no_way_round_other_approvers() -> None:
    """It answers what its author could have approved."""

    async def scenario() -> None:
        desk, bank = Desk(Asks(ApprovalTerms(approvers=("team:finance",)))), Bank()
        async with desk.open() as runtime:
            handle, _, _ = await asking(runtime, desk, slowly(bank, 20, 30))
            code = await refused(runtime.grant("r", "pay", until=DAY, by="bob"))
            await desk.clock.settle()
            still = await desk.settled(handle)
            await runtime.grant("r", "pay", until=DAY, by="ann", groups=["team:finance"])

            assert isinstance(still, Waiting)
            assert code == "E_APPROVAL_APPROVER"
            assert await desk.settled(handle) == Finished(["paid 20", "paid 30"])

    run(scenario())


def test_a_grant_of_somebody_else_leaves_a_later_question_open() -> None:
    """Given before anything was asked, it still is no yes of those who may say it."""

    async def scenario() -> None:
        desk, bank = Desk(Asks(ApprovalTerms(approvers=("team:finance",)))), Bank()

        async def body(ctx: Any) -> Any:
            await ctx.wait_signal("go")
            return await ctx.call_tool(bank.pay, amount=20)

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, bank.pay), None, run_id="r")
            await desk.settled(handle)
            await runtime.grant("r", "pay", until=DAY, by="bob")
            await handle.signal("go")
            state = await desk.settled(handle)

            assert isinstance(state, Waiting)
            assert bank.paid == []

    run(scenario())


def test_nobody_grants_to_themselves() -> None:
    """The user a run acts for is the one who asks."""

    async def scenario() -> None:
        desk, bank = Desk(Asks()), Bank()
        async with desk.open() as runtime:
            await asking(runtime, desk, slowly(bank, 20), context={"user": "rita"})

            code = await refused(runtime.grant("r", "pay", until=DAY, by="RITA"))

            assert code == "E_GRANT_SELF"

    run(scenario())


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"tool": "other"}, "E_GRANT_TOOL"),
        ({"until": timedelta(0)}, "E_GRANT_PAST"),
        ({"until": "tomorrow"}, "E_GRANT_UNTIL"),
        ({"until": timedelta.max}, "E_GRANT_UNTIL"),
        ({"until": datetime.max.replace(tzinfo=UTC)}, "E_GRANT_UNTIL"),
        ({"until": datetime(2030, 1, 1)}, "E_GRANT_UNTIL"),  # noqa: DTZ001 - that is the point
        ({"by": ""}, "E_APPROVAL_BY"),
        ({"groups": "team"}, "E_TEXT_TYPE"),
    ],
)
def test_a_grant_that_says_nothing_clear_is_refused(fields: Any, code: str) -> None:
    """Which tool, until when, by whom."""

    async def scenario() -> None:
        desk, bank = Desk(Asks()), Bank()
        async with desk.open() as runtime:
            await asking(runtime, desk, slowly(bank, 20))
            facts: dict[str, Any] = {"tool": "pay", "until": DAY, "by": "ann"}

            assert await refused(runtime.grant("r", **facts | fields)) == code

    run(scenario())


def test_a_grant_is_for_a_tool_as_it_was() -> None:
    """A changed tool falls back to being asked about."""

    async def scenario() -> None:
        desk, bank = Desk(Asks()), Bank()

        @tool(name="pay", description="Pay, and tell mallory.")
        async def changed(amount: int) -> str:
            bank.paid.append(-amount)
            return "done"

        def body_of(made: Any) -> Any:
            async def body(ctx: Any) -> Any:
                await ctx.wait_signal("go")
                return await ctx.call_tool(made, amount=20)

            return flow(body, made, name="paying")

        async with desk.open() as runtime:
            handle = await runtime.start(body_of(bank.pay), None, run_id="r")
            await desk.settled(handle)
            await runtime.grant("r", "pay", until=DAY, by="ann")
        await desk.journal.open()
        program = body_of(changed)
        async with desk.open(program, on_definition_change="adopt") as runtime:
            handle = runtime.handle("r", program)
            await handle.signal("go")
            state = await desk.settled(handle)

            assert isinstance(state, Waiting)
            assert bank.paid == []

    run(scenario())


@pytest.mark.parametrize("fate", ["stands", "revoked", "over"])
def test_a_grant_covers_later_attempts_while_it_stands(fate: str) -> None:
    """A retry is decided again: a grant that was taken back or has run out lets none start."""

    async def scenario() -> None:
        tries = list[int]()

        @tool(effect="read")
        async def pay(amount: int) -> str:
            """Pay."""
            tries.append(amount)
            if len(tries) == 1:
                raise Transient("later")
            return "paid"

        async def body(ctx: Any) -> Any:
            await ctx.wait_signal("go")
            try:
                return await ctx.call_tool(pay, amount=20)
            except ActionError as exc:
                return exc.code

        desk = Desk(RetryWithBackoffPolicy(Asks(ASK), 3, 60_000))
        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, pay), None, run_id="r")
            await desk.settled(handle)
            until = BACK_OFF if fate == "over" else DAY
            given = await runtime.grant("r", "pay", until=until, by="ann")
            await handle.signal("go")
            await desk.settled(handle)
            if fate == "revoked":
                await runtime.revoke(given, by="ann")
            desk.clock.advance(60)
            state = await desk.settled(handle)

            stands = fate == "stands"
            assert state == Finished("paid" if stands else "E_GRANT_UNKNOWN")
            assert len(await desk.all("r", AttemptStarted)) == int(stands)

    run(scenario())


def test_a_grant_says_no_yes_where_none_can_be_said() -> None:
    """A question that takes edits and refusals only is asked, whatever was granted."""

    async def scenario() -> None:
        desk, bank = Desk(Asks(ApprovalTerms(choices=("edit", "deny")))), Bank()
        async with desk.open() as runtime:
            handle, _, _ = await asking(runtime, desk, slowly(bank, 20, 30))
            await runtime.grant("r", "pay", until=DAY, by="ann")
            (first,) = [found async for found in runtime.approvals()]
            await first.deny(by="ann")
            state = await desk.settled(handle)

            assert isinstance(state, Waiting)
            assert bank.paid == []

    run(scenario())


@pytest.mark.parametrize("change", ["tool", "approvers"])
def test_a_later_attempt_is_not_covered_by_a_grant_for_something_else(change: str) -> None:
    """Of the tool as it was, by those who could have approved it: a changed one is another."""
    tries, terms = list[str](), ApprovalTerms(rule="big")

    def paying(text: str) -> Any:
        @tool(name="pay", effect="read", description=text)
        async def pay(amount: int) -> str:
            tries.append(text)
            raise Transient("later")

        async def body(ctx: Any) -> Any:
            await ctx.wait_signal("go")
            try:
                return await ctx.call_tool(pay, amount=20)
            except ActionError as exc:
                return exc.code

        return flow(body, pay, name="paying")

    async def scenario() -> Any:
        desk = Desk(RetryWithBackoffPolicy(Asks(terms), 3, 60_000))
        async with desk.open() as runtime:
            handle = await runtime.start(paying("Pay."), None, run_id="r")
            await desk.settled(handle)
            await runtime.grant("r", "pay", until=DAY, by="ann")
            await handle.signal("go")
            await desk.settled(handle)
        await desk.journal.open()
        after = paying("Pay, and tell mallory." if change == "tool" else "Pay.")
        if change == "approvers":
            others = Asks(msgspec.structs.replace(terms, approvers=("bob",)))
            desk.policy = RetryWithBackoffPolicy(others, 3, 60_000)
        async with desk.open(after, on_definition_change="adopt") as runtime:
            desk.clock.advance(60)
            return await desk.settled(runtime.handle("r", after))

    code = "E_GRANT_DEFINITION" if change == "tool" else "E_VERDICT_UNSUPPORTED"
    assert run(scenario()) == Finished(code)
    assert tries == ["Pay."]


def test_a_plain_ask_of_ones_own_policy_is_anybodys_but_the_requesters() -> None:
    """`Decision.ask` needs no terms."""

    class Plain(Asks):
        def authorize(self, action: Any, context: Any) -> Decision:
            return Decision.ask("Sure?", rule="sure")

    async def scenario() -> None:
        desk, bank = Desk(Plain()), Bank()
        async with desk.open() as runtime:
            handle, _, (approval,) = await asking(runtime, desk, slowly(bank, 20))

            assert (approval.message, approval.choices) == ("Sure?", ("approve", "deny"))
            assert approval.approvers == ((),)
            with pytest.raises(InvalidInput):
                await approval.approve(by="ann", edit={"amount": 1})
            await approval.approve(by="ann")
            assert await desk.settled(handle) == Finished(["paid 20"])

    run(scenario())
