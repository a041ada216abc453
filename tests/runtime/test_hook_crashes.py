"""Hooks across crashes, lost commits and replay: what is journaled is never asked again."""

from collections import Counter
from typing import Any

import msgspec
import pytest
from tests.runtime.kit import RUN, CutJournal, Desk, Model, eventually, flow, run, said

from gatebook import Change, Message, hook, tool
from gatebook.errors import Diverged
from gatebook.kernel.append import Batch
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import HookAnswered, RunStarted
from gatebook.kernel.verify import verify_facts
from gatebook.ports import RunKey
from gatebook.runtime.replay import final_args, replay
from gatebook.runtime.runs.handles import RunHandle
from gatebook.runtime.runs.states import Finished, Succeeded, Waiting
from gatebook.runtime.runtime import Runtime
from gatebook.testing.failpoints import Failpoint, FailpointJournal

APPENDS = 8  # of an undisturbed run of `World`


class World:
    """A program with every kind of call, hooks at every point, and a count of what was asked.

    Each answer of a hook differs from the last: one that is asked again is seen to be.
    """

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str, int]] = Counter()
        self.paid: list[int] = []
        self.looked: list[int] = []

        @tool
        async def pay(amount: int) -> int:
            self.paid.append(amount)
            return amount

        @tool(effect="read")
        async def look(amount: int) -> int:
            self.looked.append(amount)
            return amount

        async def body(ctx: Any) -> Any:
            said = (await ctx.call_llm("fake:m", "hi")).text
            return [said, await ctx.call_tool(look, amount=1), await ctx.call_tool(pay, amount=1)]

        self.program = flow(body, pay, look, models=["fake:m"])
        self.hooks = [
            self._hook("on_run_start", lambda v: None, "observe"),
            self._hook("before_model", lambda v: Change([*v.messages, self._new()]), "change"),
            self._hook("after_model", lambda v: Change(f"{v.text}!"), "change"),
            self._hook("before_tool", self._more, "change"),
            self._hook("before_tool", self._more, "change", name="second"),
            self._hook("after_tool", lambda v: Change(v.result + 1_000), "change"),
            self._hook("on_run_end", lambda v: None, "observe"),
        ]

    def _hook(self, point: Any, answer: Any, right: Any, *, name: str = "") -> Any:
        called = name or str(point)

        async def ask(view: Any) -> Any:
            self.asked[called, view.address, getattr(view, "attempt", 0)] += 1
            return answer(view)

        return hook(point, rights=[right], timeout=60, on_failure="closed", name=called)(ask)

    def _new(self) -> Message:
        return Message.user(f"note {self.asked.total()}")

    def _more(self, view: Any) -> Change:
        return Change({"amount": view.args["amount"] + self.asked.total()})

    def runtime(self, desk: Desk, journal: Any = None) -> Runtime:
        model = Model(*[said("hello")] * 3)
        return desk.runtime(
            self.program, journal=journal, hooks=self.hooks, providers={"fake": model}
        )


def key(event: HookAnswered) -> tuple[str, str, int]:
    return event.hook, event.address, event.attempt


async def answered(desk: Desk) -> list[HookAnswered]:
    return await desk.all("r", HookAnswered)


async def brought_to_its_end(desk: Desk, world: World) -> Any:
    """Let a new worker take the run up; a person settles what is unknown."""
    async with world.runtime(desk) as runtime:
        handle: RunHandle[Any] = runtime.handle("r")
        state = await desk.settled(handle)
        if isinstance(state, Waiting):
            (on,) = state.on
            await handle.resolve(on.removeprefix("resolve "), Succeeded(7))
            state = await desk.settled(handle)
    await desk.journal.open()
    events = await desk.events("r")
    verify_facts("r", events, (await desk.journal.row(RUN)).head)
    return state


def test_an_undisturbed_run_asks_each_hook_once() -> None:
    """And has the appends that the tests below cut."""

    async def scenario() -> None:
        desk, world = Desk(), World()
        journal = FailpointJournal(desk.journal, [])
        async with world.runtime(desk, journal) as runtime:
            state = await desk.settled(await runtime.start(world.program, None, run_id="r"))
        await desk.journal.open()

        assert isinstance(state, Finished)
        assert set(world.asked.values()) == {1}
        assert Counter(map(key, await answered(desk))) == world.asked
        assert journal.calls["append"] == APPENDS

    run(scenario())


@pytest.mark.parametrize("append", range(1, APPENDS + 1))
def test_a_crash_at_any_append_asks_no_hook_whose_answer_is_kept(append: int) -> None:
    """What was answered and recorded is used; only what was lost is asked again."""

    async def scenario() -> None:
        desk, world = Desk(), World()
        cut = CutJournal(desk.journal, append=append)
        runtime = world.runtime(desk, cut)
        await runtime.open()
        await runtime.start(world.program, None, run_id="r")
        await eventually(lambda: cut.dead, "the store is gone")
        await desk.crash(runtime)
        desk.lapse()
        await desk.journal.open()
        kept = {key(event): event for event in await answered(desk)}
        paid = list(world.paid)

        state = await brought_to_its_end(desk, world)

        events = await answered(desk)
        assert isinstance(state, Finished)
        assert len(world.paid) == 1
        assert world.paid[: len(paid)] == paid
        assert set(Counter(map(key, events)).values()) == {1}
        for event in events:
            if key(event) in kept:
                assert event == kept[key(event)]
                assert world.asked[key(event)] == 1
        assert max(world.asked.values()) <= 2

    run(scenario())


@pytest.mark.parametrize("append", range(1, APPENDS + 1))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_answer_of_the_store_asks_nobody_again(when: Any, append: int) -> None:
    """The worker that heard a hook keeps what it said until the journal has it."""

    async def scenario() -> None:
        desk, world = Desk(), World()
        point = Failpoint(when, "append", append, "unknown")
        async with world.runtime(desk, FailpointJournal(desk.journal, [point])) as runtime:
            state = await desk.settled(await runtime.start(world.program, None, run_id="r"))
        await desk.journal.open()

        assert isinstance(state, Finished)
        assert set(world.asked.values()) == {1}
        assert Counter(map(key, await answered(desk))) == world.asked
        assert (len(world.paid), len(world.looked)) == (1, 1)

    run(scenario())


def test_somebody_who_appends_in_between_asks_nobody_again() -> None:
    """A conflict throws the plan away, not what was heard."""

    async def scenario() -> None:
        desk, world = Desk(), World()

        class Busy(FailpointJournal):
            async def append(self, run: RunKey, batch: Batch) -> Any:
                mine = batch.epoch is not None
                if mine and self.calls.get("append", 0) % 3 == 0:
                    await runtime.handle("r").signal("noise")
                return await super().append(run, batch)

        runtime = world.runtime(desk, Busy(desk.journal, []))
        async with runtime:
            state = await desk.settled(await runtime.start(world.program, None, run_id="r"))

        assert isinstance(state, Finished)
        assert set(world.asked.values()) == {1}

    run(scenario())


def test_replay_asks_nobody() -> None:
    """The program comes to the same end by what is recorded alone."""

    async def scenario() -> None:
        desk, world = Desk(), World()
        async with world.runtime(desk) as runtime:
            await desk.settled(await runtime.start(world.program, None, run_id="r"))
        await desk.journal.open()
        recorded = await desk.journal.read(RUN)
        before, started = dict(world.asked), recorded[0].event
        assert isinstance(started, RunStarted)

        reports = [
            replay(world.program.begin(started), final_args(world.program.tools), recorded[:length])
            for length in range(1, len(recorded) + 1)
        ]

        assert reports[-1].ended
        assert dict(world.asked) == before

    run(scenario())


def test_a_changed_answer_in_the_journal_is_found_by_replay() -> None:
    """The request that follows was made of another."""

    async def scenario() -> None:
        desk, world = Desk(), World()
        async with world.runtime(desk) as runtime:
            await desk.settled(await runtime.start(world.program, None, run_id="r"))
        await desk.journal.open()
        recorded = await desk.journal.read(RUN)
        started: Any = recorded[0].event
        forged = []
        for each in recorded:
            event = each.event
            if isinstance(event, HookAnswered) and event.hook == "second":
                event = msgspec.structs.replace(event, change=Raw(b'{"amount":0}'))
            forged.append(msgspec.structs.replace(each, event=event))

        with pytest.raises(Diverged):
            replay(world.program.begin(started), final_args(world.program.tools), forged)

    run(scenario())


def test_an_answer_counts_where_its_hook_is_gone() -> None:
    """It was given; that nobody gives it any more does not take it back."""

    async def scenario() -> None:
        desk, world = Desk(), World()
        cut = CutJournal(desk.journal, append=3)
        runtime = world.runtime(desk, cut)
        await runtime.open()
        await runtime.start(world.program, None, run_id="r")
        await eventually(lambda: cut.dead, "the store is gone")
        await desk.crash(runtime)
        desk.lapse()
        await desk.journal.open()
        kept = await answered(desk)

        model = Model(said("hello"))
        await desk.taken_up(world.program, providers={"fake": model})

        assert [event.hook for event in kept] == ["on_run_start", "before_model"]
        assert len(model.asked[0].messages) == 2

    run(scenario())
