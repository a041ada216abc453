"""What readers are shown where the store takes no pieces, or says too little of a commit."""

import asyncio
from collections.abc import Sequence
from typing import Any

from tests.runtime.kit import RUN, CutJournal, Desk, LoopClock, Model, flow, run_jumping, said
from tests.runtime.reading import ASKS, WORDS, begun, elsewhere, rest, spoken, written

from gatebook import tool
from gatebook.errors import StoreError
from gatebook.ports import Journal, Lease, Piece
from gatebook.testing.failpoints import Failpoint, FailpointJournal


class DeafJournal(CutJournal):
    """A journal that does not take pieces, a few times or for ever."""

    def __init__(self, inner: Journal, *, times: int) -> None:
        super().__init__(inner)
        self.times = times

    async def put_pieces(self, lease: Lease, pieces: Sequence[Piece]) -> None:
        """Refuse, or put."""
        self.times -= 1
        if self.times >= 0:
            raise StoreError("E_STORE_BUSY", store=self.url)
        await super().put_pieces(lease, pieces)


def test_pieces_that_were_not_kept_are_kept_with_the_next() -> None:
    """A store that is busy for a moment leaves no hole."""

    async def scenario() -> None:
        desk, hold = Desk(clock=LoopClock()), asyncio.Event()
        journal = DeafJournal(desk.journal, times=3)
        model = Model(spoken(*WORDS, hold=hold, at=2))
        async with desk.open(journal=journal, providers={"fake": model}) as runtime:
            await runtime.start(ASKS, None, run_id="r")

            items, _ = await begun(elsewhere(desk), upto="one two ")
            hold.set()

        assert written(items) == "one two "

    run_jumping(scenario())


def test_a_store_that_takes_no_pieces_costs_the_run_nothing() -> None:
    """They are for reading along only: the outcome has the whole answer."""

    async def scenario() -> None:
        desk, hold = Desk(clock=LoopClock()), asyncio.Event()
        journal = DeafJournal(desk.journal, times=10**9)
        model = Model(spoken(*WORDS, hold=hold, at=2))
        async with desk.open(journal=journal, providers={"fake": model}) as runtime:
            handle = await runtime.start(ASKS, None, run_id="r")
            await asyncio.sleep(3)
            hold.set()
            await handle.result()

            assert written(await rest(elsewhere(desk))) == "".join(WORDS)

    run_jumping(scenario())


def test_a_commit_whose_answer_was_lost_leaves_nothing_behind() -> None:
    """The journal has the outcome; a reader that comes now must not be shown it as live."""

    async def scenario() -> None:
        desk, running, hold = Desk(clock=LoopClock()), asyncio.Event(), asyncio.Event()

        @tool(effect="read")
        async def wait() -> None:
            running.set()
            await hold.wait()

        async def body(ctx: Any) -> str:
            text = (await ctx.call_llm("fake:m", "hi")).text
            await ctx.call_tool(wait)
            return str(text)

        plan = [Failpoint("after", "append", 2, "unknown")]  # the answer, and the tool's request
        journal = FailpointJournal(desk.journal, plan)
        async with desk.open(journal=journal, providers={"fake": Model(said("hello"))}) as runtime:
            program = flow(body, wait, models=["fake:m"])
            handle = await runtime.start(program, None, run_id="r")
            await running.wait()
            left = dict(runtime.hub.current(RUN))
            hold.set()

            assert written(await rest(handle)) == "hello"
        assert left == {}

    run_jumping(scenario())
