"""Deferrals: decided again at a time or at a signal, as often as the policy says."""

from typing import Any

import pytest
from tests.runtime.approving import Asks, Bank, checked
from tests.runtime.kit import Desk, flow, run

from gatebook import DeferTerms
from gatebook.kernel.approvals.events import ActionDeferred, DeferralEnded
from gatebook.kernel.policy import Decision
from gatebook.kernel.rules.policy import policy_from
from gatebook.runtime.runs.states import Finished, Waiting


class Later(Asks):
    """Defers so many times, then allows."""

    def __init__(self, times: int, terms: DeferTerms | None) -> None:
        super().__init__()
        self.left, self.defers = times, terms

    def authorize(self, action: Any, context: Any) -> Decision:
        self.left -= 1
        if self.left >= 0:
            return Decision.defer("not yet", rule="later", terms=self.defers)
        return Decision.allow()


def test_a_deferred_action_is_decided_again_in_time() -> None:
    """No process waits for it, and nothing is asked of anybody."""

    async def scenario() -> None:
        desk, bank = Desk(Later(1, DeferTerms(after_ms=3_600_000))), Bank()
        async with desk.open() as runtime:
            handle = await runtime.start(bank.paying(5), None, run_id="r")
            state = await desk.settled(handle)
            owner = (await handle.row()).owner
            desk.clock.advance(3_599)
            await desk.clock.settle()
            early = list(bank.paid)
            desk.clock.advance(1)

            assert await desk.settled(handle) == Finished(["paid 5"])
            assert isinstance(state, Waiting)
            assert (state.on, owner, early) == (("deferred 0.b0.s0",), "", [])
            await checked(desk, bank, 5)

    run(scenario())


def test_a_deferred_action_is_decided_again_at_a_signal() -> None:
    """Each decision takes one; one that came before is kept for it."""

    async def scenario() -> None:
        desk, bank = Desk(Later(2, DeferTerms(signal="open"))), Bank()
        async with desk.open() as runtime:
            handle = await runtime.start(bank.paying(5), None, run_id="r")
            await handle.signal("open")
            await desk.clock.settle()
            state = await desk.settled(handle)
            await handle.signal("open")

            assert isinstance(state, Waiting)
            assert state.on == ("signal open",)
            assert await desk.settled(handle) == Finished(["paid 5"])
            ended = await desk.all("r", DeferralEnded)
            assert [each.consumed is not None for each in ended] == [True, True]
            assert (await handle.row()).head.kept_signals == 0
            await checked(desk, bank, 5)

    run(scenario())


def test_the_first_of_time_and_signal_counts() -> None:
    """Whichever comes."""

    async def scenario() -> None:
        desk, bank = Desk(Later(2, DeferTerms(after_ms=60_000, signal="open"))), Bank()
        async with desk.open() as runtime:
            handle = await runtime.start(bank.paying(5), None, run_id="r")
            await desk.settled(handle)
            await handle.signal("open")
            await desk.clock.settle()
            await desk.settled(handle)
            desk.clock.advance(60)

            assert await desk.settled(handle) == Finished(["paid 5"])
            ended = await desk.all("r", DeferralEnded)
            assert [each.consumed is not None for each in ended] == [True, False]

    run(scenario())


@pytest.mark.parametrize(
    ("terms", "after_ms"),
    [(None, 60_000), (DeferTerms(after_ms=1), 1_000), (DeferTerms(after_ms=-5), 1_000)],
)
def test_a_deferral_waits_at_least_a_second(terms: Any, after_ms: int) -> None:
    """A policy that always defers must not fill its journal in a minute."""

    async def scenario() -> None:
        desk, bank = Desk(Later(1, terms)), Bank()
        async with desk.open() as runtime:
            handle = await runtime.start(bank.paying(5), None, run_id="r")
            await desk.clock.until(handle.result())

            assert (await desk.only("r", ActionDeferred)).after_ms == after_ms

    run(scenario())


def test_rules_know_how_often_an_action_was_deferred() -> None:
    """So that waiting has an end."""
    text = """
version = 1
[[rule]]
id = "tools"
then = "allow"
tool = "*"
[[rule]]
id = "later"
then = "defer"
tool = "pay"
after = "10m"
where = { deferred = { lt = 3 } }
"""

    async def scenario() -> None:
        desk, bank = Desk(policy_from(("p", text))), Bank()
        async with desk.open() as runtime:
            handle = await runtime.start(bank.paying(5), None, run_id="r")
            result = await desk.clock.until(handle.result())

            assert result.output == ["paid 5"]
            assert len(await desk.all("r", ActionDeferred)) == 3

    run(scenario())


def test_a_deferral_outlives_its_worker() -> None:
    """Another one decides again when it is time."""

    async def scenario() -> None:
        desk, bank = Desk(Later(1, DeferTerms(after_ms=3_600_000))), Bank()
        program = bank.paying(5)
        runtime = desk.runtime(program)
        await runtime.open()
        await desk.settled(await runtime.start(program, None, run_id="r"))
        await desk.crash(runtime)
        desk.clock.advance(3_600)
        async with desk.open(program) as second:
            state = await desk.settled(second.handle("r", program))

            assert state == Finished(["paid 5"])
            assert len(await desk.all("r", ActionDeferred)) == 1

    run(scenario())


def test_a_cancelled_run_decides_nothing_more() -> None:
    """What was deferred is over with it."""

    async def scenario() -> None:
        desk, bank = Desk(Later(1, DeferTerms(after_ms=60_000))), Bank()

        async def body(ctx: Any) -> Any:
            return await ctx.call_tool(bank.pay, amount=5)

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, bank.pay), None, run_id="r")
            await desk.settled(handle)
            await handle.cancel()
            await desk.settled(handle)
            desk.clock.advance(3_600)
            await desk.clock.settle()

            assert bank.paid == []

    run(scenario())
