"""Runs whose next step raises what nobody foresees: they halt, and no outcome is lost."""

from typing import Any

import pytest
from tests.runtime.kit import RUN, Desk, flow, handle_of, run

from gatebook import Decision, ToolContext, Transient, tool
from gatebook.errors import CommitUnknown
from gatebook.kernel.append import Batch
from gatebook.kernel.events import ActionSucceeded
from gatebook.kernel.policies import AllowDeclared
from gatebook.ports import Appended, RunKey
from gatebook.runtime.runs.states import Finished, Waiting
from gatebook.testing.failpoints import FailpointJournal


class Shop:
    """Tools of each effect that count their calls, and a program that breaks after them."""

    def __init__(self, *names: str) -> None:
        self.calls: list[str] = []
        self.broken = True

        @tool(effect="at_most_once")
        async def pay() -> str:
            self.calls.append("pay")
            return "paid"

        @tool(effect="read")
        async def look() -> str:
            self.calls.append("look")
            return "seen"

        @tool(effect="idempotent", retries=1)
        async def put(ctx: ToolContext) -> str:
            self.calls.append("put")
            if self.broken:
                raise Transient("busy")
            return "there"

        self.tools = {"pay": pay, "look": look, "put": put}

        async def one(ctx: Any, name: str) -> Any:
            done = await ctx.call_tool(self.tools[name])
            if self.broken:
                raise MemoryError("too big")  # the one error that no program is blamed for
            return done

        async def body(ctx: Any) -> Any:
            return await ctx.gather(*(one(ctx, name) for name in names))

        self.program = flow(body, *self.tools.values())


async def halted(desk: Desk, shop: Shop) -> Waiting:
    """Where the broken program comes to rest."""
    state = await desk.ran(shop.program)
    assert isinstance(state, Waiting), state
    return state


@pytest.mark.parametrize("name", ["pay", "look"])
def test_a_run_whose_step_breaks_off_halts_with_its_outcome(name: str) -> None:
    """What is done is known, and another try would break off again."""

    async def scenario() -> None:
        desk, shop = Desk(), Shop(name)

        state = await halted(desk, shop)

        assert (state.parked_reason, state.wake_at) == ("halted", None)
        assert "E_RUN_STUCK" in state.on[0]
        assert "MemoryError" in state.on[0]
        assert await desk.kinds("r") == ["run_started", "action_requested", "action_succeeded"]

    run(scenario())


def test_a_run_that_has_halted_is_not_driven_again() -> None:
    """It would call what reads again, for as long as there are workers."""

    async def scenario() -> None:
        desk, shop = Desk(), Shop("look")
        await halted(desk, shop)
        desk.lapse()

        state = await desk.taken_up(shop.program)

        assert isinstance(state, Waiting)
        assert shop.calls == ["look"]
        assert (await desk.journal.row(RUN)).head.epoch == 1

    run(scenario())


@pytest.mark.parametrize("corrected", [True, False])
def test_a_person_lets_a_halted_run_go_on(corrected: bool) -> None:
    """From where it was, with nothing done twice; what is not corrected halts it again."""

    async def scenario() -> None:
        desk, shop = Desk(), Shop("pay")
        await halted(desk, shop)
        shop.broken = not corrected

        async with desk.open(shop.program) as runtime:
            await handle_of(runtime).resume(by="ada")
            state = await desk.settled(handle_of(runtime))

        if corrected:
            assert state == Finished(["paid"])
        else:
            assert isinstance(state, Waiting)
            assert state.parked_reason == "halted"
        assert shop.calls == ["pay"]

    run(scenario())


def test_an_outcome_that_the_plan_did_not_come_to_is_kept_as_well() -> None:
    """Of two that ended in one turn, the first breaks the plan off."""

    async def scenario() -> None:
        desk, shop = Desk(), Shop("look", "pay", "put")
        await halted(desk, shop)
        kinds = await desk.kinds("r")
        shop.broken = False

        async with desk.open(shop.program) as runtime:
            await handle_of(runtime).resume(by="ada")
            state = await desk.settled(handle_of(runtime))

        assert kinds[-3:] == ["action_succeeded", "action_succeeded", "attempt_failed"]
        assert state == Finished(["seen", "paid", "there"])
        assert shop.calls == ["look", "pay", "put", "put"]

    run(scenario())


@pytest.mark.parametrize("there", [True, False], ids=["it holds", "it does not hold"])
def test_an_outcome_of_a_broken_plan_survives_a_lost_answer(there: bool) -> None:
    """Whether its append holds, only the journal can say; it is told once."""

    class Losing(FailpointJournal):
        lost = 0

        async def append(self, run: RunKey, batch: Batch) -> Appended:
            if not isinstance(batch.events[0], ActionSucceeded) or self.lost:
                return await super().append(run, batch)
            self.lost += 1
            if there:
                await super().append(run, batch)
            raise CommitUnknown("E_COMMIT_UNKNOWN", detail="gone")

    async def scenario() -> None:
        desk, shop = Desk(), Shop("pay")
        state = await desk.ran(shop.program, journal=Losing(desk.journal, []))

        assert isinstance(state, Waiting)
        assert state.parked_reason == "halted"
        assert await desk.kinds("r") == ["run_started", "action_requested", "action_succeeded"]

    run(scenario())


@pytest.mark.parametrize("first", ["pay", "look"])
def test_what_a_policy_withholds_is_not_kept_either(first: str) -> None:
    """Whether the plan had come to it or not; and an interrupt stops the run as it would have."""

    class Secretive(AllowDeclared):
        def sees_results(self, action: Any) -> bool:
            return True

        def result(self, action: Any, *asked: Any, **more: Any) -> Decision:
            return Decision.allow() if action.tool == "look" else Decision.interrupt("look at it")

    async def scenario() -> None:
        desk = Desk(policy=Secretive())
        shop = Shop(first, "look" if first == "pay" else "pay")

        await halted(desk, shop)

        outputs = {bytes(each.output) for each in await desk.all("r", ActionSucceeded)}
        assert outputs == {b"null", b'"seen"'}
        assert (await desk.kinds("r")).count("interrupted") == 1
        assert b"paid" not in await desk.stored()

    run(scenario())


def test_a_program_that_cannot_even_begin_halts() -> None:
    """There is nothing to keep, and no reason to try again."""

    async def scenario() -> None:
        async def body(ctx: Any) -> Any:
            raise MemoryError("too big")

        desk = Desk()

        state = await desk.ran(flow(body))

        assert isinstance(state, Waiting)
        assert state.parked_reason == "halted"
        assert await desk.kinds("r") == ["run_started"]

    run(scenario())
