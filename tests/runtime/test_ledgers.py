"""Ledgers at work: refused inside the append, recorded as denials, settled whatever happens."""

import asyncio
from typing import Any

import pytest
from tests.runtime.kit import CutJournal, Desk, Model, RefusingJournal, flow, run, said

from gatebook import Agent, Budget, Soft, ToolContext, tool
from gatebook.errors import ActionDenied, ActionError, CommitUnknown, InvalidInput, Transient
from gatebook.kernel.append import BudgetShort
from gatebook.kernel.budget import OUTPUT_TOKENS, Amount, Limits
from gatebook.kernel.events import ActionDenied as DeniedEvent
from gatebook.kernel.events import ActionRequested, LedgersDeclared
from gatebook.kernel.messages import Usage
from gatebook.kernel.policies import AllowDeclared, RetryWithBackoffPolicy
from gatebook.kernel.policy import Policy
from gatebook.kernel.spending.ledgers import Balance
from gatebook.providers.script import Reply, ToolUse
from gatebook.providers.scripted import Scripted
from gatebook.runtime.runs.audit import audit, audit_ledgers
from gatebook.runtime.runs.states import Failed, Finished, Waiting
from gatebook.testing.failpoints import FailpointJournal

TODAY = "day:2023-11-14"  # where virtual time begins


@tool(effect="read")
async def look(n: int = 0) -> int:
    return n


async def looking(ctx: Any, count: int) -> list[int | str]:
    """Look so many times at once; a refused look is its code."""

    async def one(n: int) -> int | str:
        try:
            return int(await ctx.call_tool(look, n=n))
        except ActionDenied as error:
            return error.code

    return list(await ctx.gather(*(one(n) for n in range(count))))


async def balance(desk: Desk, key: str = "tenant") -> Balance:
    """What is stored of a ledger, after a check that the events add up to it."""
    await desk.journal.open()
    reports = {each.ledger: each for each in await audit_ledgers(desk.journal, "default")}
    assert all(each.ok for each in reports.values()), [each.violation for each in reports.values()]
    return reports[key].balance


def test_what_a_ledger_cannot_carry_is_denied_and_the_rest_goes_on() -> None:
    """The refusal is an outcome the program sees, like any denial."""

    async def scenario() -> None:
        desk = Desk(ledgers={"tenant": Budget(tool_calls=3), "day": Budget(tool_calls=4)})
        state = await desk.ran(flow(looking, look), 5)
        denied = await desk.all("r", DeniedEvent)

        assert state == Finished([0, 1, 2, "E_LEDGER", "E_LEDGER"])
        assert {event.decision.code for event in denied} == {"E_LEDGER"}
        assert "the tenant ledger has 0 of 3 'tool_calls' left" in denied[0].error.message
        assert await balance(desk) == await balance(desk, TODAY)
        assert (await balance(desk)).spent.tool_calls == 3

    run(scenario())


def test_the_next_run_finds_what_the_last_has_left() -> None:
    """A ledger outlives its runs, and its runtime."""

    async def scenario() -> None:
        desk = Desk(ledgers={"day": Budget(tool_calls=3)})
        for run_id, want in (("a", [0, 1]), ("b", [0, "E_LEDGER"])):
            async with desk.open() as runtime:
                handle = await runtime.start(flow(looking, look), 2, run_id=run_id)
                assert await desk.settled(handle) == Finished(want)

        desk.clock.advance(86_400)
        async with desk.open() as runtime:
            handle = await runtime.start(flow(looking, look), 2, run_id="c")
            assert await desk.settled(handle) == Finished([0, 1])

    run(scenario())


def test_a_ledger_costs_an_allowed_step_no_append() -> None:
    """Reserving is part of the request's own append, settling of the outcome's."""

    async def scenario(**options: Any) -> int:
        desk = Desk(**options)
        journal = FailpointJournal(desk.journal, [])
        async with desk.open(journal=journal) as runtime:
            handle = await runtime.start(flow(looking, look), 3, run_id="r")
            assert await desk.settled(handle) == Finished([0, 1, 2])
        return journal.calls["append"]

    without = run(scenario())

    assert run(scenario(ledgers={"day": Budget(tool_calls=9)})) == without


def test_one_refusal_is_enough_for_a_whole_step() -> None:
    """A hundred calls that do not fit must not be planned anew a hundred times."""

    async def scenario() -> None:
        desk = Desk(ledgers={"day": Budget(tool_calls=1)})
        journal = FailpointJournal(desk.journal, [])
        state = await desk.ran(flow(looking, look), 90, journal=journal)

        assert state == Finished([0, *["E_LEDGER"] * 89])
        assert journal.calls["append"] <= 4

    run(scenario())


def test_what_a_plan_settles_is_left_for_what_it_requests() -> None:
    """Balances that are read after a refusal still hold what the plan itself begins by settling."""

    async def scenario() -> None:
        ledgers = {"tenant": Budget(llm_tokens=OUTPUT_TOKENS + 100)}
        desk, usage = Desk(ledgers=ledgers), Usage(input_tokens=3, output_tokens=4)
        model = Model(said("one", usage=usage), said("two", usage=usage))
        another = BudgetShort("E_LEDGER", tool="x", ledger="tenant", renews="it does not renew",
                              meter="llm_tokens", limit=1, used=1, want=1, left=0)  # fmt: skip
        journal = RefusingJournal(
            desk.journal,
            ({"action_succeeded", "action_requested"}, another),
            ({"action_succeeded"}, CommitUnknown("E_COMMIT_UNKNOWN", detail="gone")),
        )

        async def body(ctx: Any) -> list[Any]:
            return [await asking(ctx), await asking(ctx)]

        program = flow(body, models=["fake:m"])
        state = await desk.ran(program, journal=journal, providers={"fake": model})

        assert (journal.refusals, state) == ([], Finished(["one", "two"]))
        assert (await balance(desk)).spent.llm_tokens == 14

    run(scenario())


def test_an_agent_ends_as_denied() -> None:
    """No other call gets round a ledger that is used up."""

    async def scenario() -> None:
        desk = Desk(ledgers={"day": Budget(tool_calls=0)})
        agent = Agent(name="a", model="fake:m", tools=[look])
        script = Scripted(lambda _: Reply(call=(ToolUse("look", {"n": 1}),)))
        state = await desk.ran(agent, "hi", providers={"fake": script})

        assert isinstance(state, Failed)
        assert (state.error.code, state.denied) == ("E_LEDGER", True)

    run(scenario())


def test_retries_are_charged_to_the_ledger() -> None:
    """The second attempt calls the tool a second time, whoever pays."""

    async def scenario() -> None:
        desk = Desk(
            RetryWithBackoffPolicy(AllowDeclared(), 9, 0), ledgers={"tenant": Budget(tool_calls=3)}
        )

        @tool(effect="read")
        async def flaky(ctx: ToolContext[Any]) -> None:
            raise Transient("busy")

        async def body(ctx: Any) -> str:
            try:
                await ctx.call_tool(flaky)
            except ActionError as exc:
                return exc.code
            return ""

        state = await desk.ran(flow(body, flaky))

        assert state == Finished("E_LEDGER")
        assert (await balance(desk)).spent.tool_calls == 3

    run(scenario())


def test_retries_that_are_due_together_share_what_is_left() -> None:
    """Each finds what the others of its plan have reserved, or it would be refused for ever."""

    async def scenario() -> None:
        desk = Desk(
            RetryWithBackoffPolicy(AllowDeclared(), 1, 0), ledgers={"tenant": Budget(tool_calls=3)}
        )
        tries = 0

        @tool(effect="read")
        async def flaky() -> int:
            nonlocal tries
            tries += 1
            if tries <= 2:
                raise Transient("busy")
            return tries

        async def body(ctx: Any) -> list[int | str]:
            async def one() -> int | str:
                try:
                    return int(await ctx.call_tool(flaky))
                except ActionError as exc:
                    return exc.code

            return list(await ctx.gather(one(), one()))

        journal = CutJournal(desk.journal, append=12)  # which ends a loop of refused appends
        state = await desk.ran(flow(body, flaky), journal=journal)

        assert state == Finished([3, "E_LEDGER"])
        assert (await balance(desk)).spent.tool_calls == 3

    run(scenario())


def test_an_attempt_that_died_with_its_worker_is_charged() -> None:
    """And its reservation does not stay behind."""

    async def scenario() -> None:
        desk = Desk(ledgers={"tenant": Budget(tool_calls=5)})
        stuck = asyncio.Event()

        @tool(effect="read")
        async def hang(ctx: ToolContext[Any]) -> int:
            if ctx.attempt == 0:
                stuck.set()
                await asyncio.Event().wait()
            return ctx.attempt

        async def body(ctx: Any) -> int:
            return int(await ctx.call_tool(hang))

        program = flow(body, hang)
        dying = desk.runtime(program)
        await dying.open()
        await dying.start(program, None, run_id="r")
        await stuck.wait()
        held = await balance(desk)
        await desk.crash(dying)
        desk.lapse()
        state = await desk.taken_up(program)

        assert held == Balance(reserved=Amount(tool_calls=1))
        assert state == Finished(1)
        after = await balance(desk)
        assert (after.reserved, after.spent.tool_calls) == (Amount(), 2)

    run(scenario())


def test_a_model_call_reserves_its_estimate_and_settles_its_usage() -> None:
    """In tokens and in dollars, also where the run itself has no limit."""

    async def scenario() -> None:
        desk = Desk(
            ledgers={"tenant": Budget(llm_tokens=OUTPUT_TOKENS + 100, usd="1")},
            prices={"fake:m": {"input": "1", "output": "2"}},
        )
        program = flow(asking, models=["fake:m"])
        model = Model(said("yes", usage=Usage(input_tokens=3, output_tokens=4)))
        async with desk.open(providers={"fake": model}) as runtime:
            handle = await runtime.start(program, None, run_id="r")
            assert await desk.settled(handle) == Finished("yes")
        await desk.journal.open()
        request = await desk.only("r", ActionRequested)
        report = await audit(desk.journal, handle.key)

        assert request.reserve.usd_micros > 0
        spent = (await balance(desk)).spent
        assert (spent.llm_tokens, spent.usd_micros) == (7, 11)
        assert report.ok, report.violation

    run(scenario())


def test_a_ledger_in_dollars_refuses_a_model_of_unknown_price() -> None:
    """An unknown cost is not nothing."""

    async def scenario() -> None:
        desk = Desk(ledgers={"tenant": Budget(usd="1")})
        program = flow(asking, models=["fake:m"])
        async with desk.open(providers={"fake": Model()}) as runtime:
            handle = await runtime.start(program, None, run_id="r")
            assert await desk.settled(handle) == Finished("E_PRICE_UNKNOWN")

    run(scenario())


async def asking(ctx: Any) -> Any:
    try:
        return (await ctx.call_llm("fake:m", "hi")).text
    except ActionError as exc:
        return exc.code


def test_an_approval_opens_no_ledger() -> None:
    """What was there when a person was asked may be spent when they answer."""

    async def scenario() -> None:
        desk = Desk(ledgers={"tenant": Budget(tool_calls=1)})
        async with desk.open() as runtime:
            asks = Budget(soft=Soft(tool_calls=0))
            handle = await runtime.start(flow(looking, look), 1, run_id="r", budget=asks)
            assert isinstance(await desk.settled(handle), Waiting)
            other = await runtime.start(flow(looking, look, name="other"), 1, run_id="o")
            assert await desk.settled(other) == Finished([0])
            (pending,) = [each async for each in runtime.approvals()]
            await pending.approve(by="ann")

            assert await desk.settled(handle) == Finished(["E_LEDGER"])
            assert [each async for each in runtime.approvals()] == []
            report = await audit(desk.journal, handle.key)
            assert report.ok, report.violation
        assert (await balance(desk)).spent.tool_calls == 1

    run(scenario())


class Sharing(AllowDeclared):
    """Declares a ledger, as a policy file does."""

    def ledgers(self) -> dict[str, Budget]:
        return {"day": Budget(tool_calls=9), "tenant": Budget(llm_tokens=5)}


def test_the_smallest_of_all_limits_counts() -> None:
    """The policy's and the runtime's; wrapped policies included."""

    async def scenario() -> None:
        desk = Desk(
            RetryWithBackoffPolicy(Sharing(), 1, 0),
            ledgers={"day": Budget(tool_calls=20, llm_tokens=7)},
        )
        await desk.ran(flow(looking, look), 1)
        declared = await desk.only("r", LedgersDeclared)

        assert declared.ledgers == {
            "day": Limits(tool_calls=9, llm_tokens=7), "tenant": Limits(llm_tokens=5)
        }  # fmt: skip

    run(scenario())


def test_changed_limits_count_from_the_next_request_and_are_recorded_once() -> None:
    """A run that waits while settings change is nobody's exception."""

    async def body(ctx: Any) -> list[int | str]:
        first = await looking(ctx, 2)
        await ctx.wait_signal("go")
        return [*first, *await looking(ctx, 3)]

    async def scenario() -> None:
        desk = Desk()
        program = flow(body, look)
        for limit in (9, 9):
            await desk.ran(program, ledgers={"tenant": Budget(tool_calls=limit)})
        async with desk.open(program, ledgers={"tenant": Budget(tool_calls=3)}) as runtime:
            handle = runtime.handle("r", program)
            await handle.signal("go")
            state = await desk.settled(handle)
            declared = await desk.all("r", LedgersDeclared)

        assert state == Finished([0, 1, 0, "E_LEDGER", "E_LEDGER"])
        assert [event.ledgers["tenant"].tool_calls for event in declared] == [9, 3]

    run(scenario())


@pytest.mark.parametrize(
    "bad",
    [
        {"week": Budget(tool_calls=1)},
        {"day": 5},
        {"day": Budget(wall_clock=5)},
        {"day": Budget(fan_out=5)},
        [("day", Budget())],
    ],
)
def test_what_is_no_ledger_is_refused(bad: Any) -> None:
    """Before anything runs that it should have held."""
    with pytest.raises(InvalidInput, match="E_LEDGER_CONFIG"):
        Desk().runtime(ledgers=bad)


class Wrong(Policy):
    """Declares what is no ledger."""

    def ledgers(self) -> Any:
        return {"day": {"tool_calls": 5}}


def test_a_policy_that_declares_nonsense_opens_no_runtime() -> None:
    """An open runtime without the limit that was meant would be worse than none."""

    async def scenario() -> None:
        with pytest.raises(InvalidInput, match="E_LEDGER_CONFIG"):
            async with Desk(Wrong()).open():
                pass

    run(scenario())
