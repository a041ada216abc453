"""A store that answers as told, people who speak in between, and runs played through both."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.runtime.interleaving import (
    AGENT,
    FAN_OUT,
    HOOKS,
    POLICY,
    PROGRAM,
    TOOLBOX,
    Halting,
    World,
    turns,
)
from tests.runtime.kit import TTL_S, CutJournal, Desk, handle_of

from gatebook import Budget, Client, Denied, Succeeded
from gatebook.errors import CommitUnknown, Conflict, GatebookError, StoreError
from gatebook.kernel.append import Batch, BudgetShort
from gatebook.kernel.events import Requests
from gatebook.ports import Appended, RunKey
from gatebook.runtime.runs.states import Cancelled, Failed, Finished, Settled, Waiting

MANY = 400  # appends of one small run: whoever needs more goes round in circles
DEEDS = (
    "conflict", "lost", "gone", "busy", "short", "die", "leave", "stolen",  # of an append
    "signal", "cancel", "raise", "answer",  # who comes before it
)  # fmt: skip


class Unruly(CutJournal):
    """A journal that does to each append of a worker what stands next in a list of deeds.

    Attributes:
        died: the process of the worker lost its store for good.
        leaves: the worker is to be closed.
        endless: there were so many appends that the run goes round in circles.
    """

    def __init__(self, desk: Desk, deeds: deque[str], people: "People") -> None:
        super().__init__(desk.journal)
        self._clock = desk.clock
        self.died, self.leaves = asyncio.Event(), asyncio.Event()
        self.endless = False
        self._deeds, self._people = deeds, people

    def die(self) -> None:
        self.dead = True
        self.died.set()

    async def append(self, run: RunKey, batch: Batch) -> Appended:
        """Append to the inner journal, or do otherwise."""
        if batch.epoch is None:
            return await super().append(run, batch)
        self.endless = self.calls.get("append", 0) > MANY
        deed = self._deeds.popleft() if self._deeds else "pass"
        if self.endless or deed == "die":
            self.die()
        elif deed == "leave":
            self.leaves.set()
        elif deed == "stolen":
            self._clock.advance(TTL_S + 1)
            await self.inner.claim(run, owner="thief", ttl_ms=1_000)
        elif deed == "conflict":
            raise Conflict(tail=(), run=run.id, seq=0, expected=0)
        elif deed == "gone":
            raise CommitUnknown("E_COMMIT_UNKNOWN", detail="gone")
        elif deed == "busy":
            raise StoreError("E_STORE_BUSY", store=self.url, detail="busy", limit=1, pid=1)
        elif deed == "short" and any(isinstance(event, Requests) for event in batch.events):
            raise BudgetShort("E_LEDGER", tool="t", ledger="tenant", left=0, meter="tool_calls",
                              limit=0, used=0, want=1, renews="never")  # fmt: skip
        else:
            await self._people.come(deed)
        done = await super().append(run, batch)
        if deed == "lost":
            raise CommitUnknown("E_COMMIT_UNKNOWN", detail="lost")
        return done


class People:
    """Who speaks to the run from elsewhere, and in which words, by turns."""

    def __init__(self, desk: Desk) -> None:
        self.client = Client(CutJournal(desk.journal), clock=desk.clock)
        self._turn = 0

    async def come(self, deed: str) -> None:
        """Say something; the run may have gone on."""
        handle = handle_of(self.client)
        say: dict[str, Callable[[], Any]] = {
            "signal": lambda: handle.signal("go", 1),
            "cancel": lambda: handle.cancel(by="ann"),
            "raise": lambda: handle.raise_budget(more=Budget(tool_calls=1), by="ann"),
            "answer": self.answer,
        }
        if deed in say:
            with suppress(GatebookError):  # it came too late
                await say[deed]()

    async def answer(self, *, about: str = "", follow: bool = False) -> None:
        """Answer what is asked about such actions, one way and then the other."""
        async for approval in self.client.approvals(follow=follow):
            if about not in (await approval).what:
                continue
            self._turn += 1
            try:
                if self._turn % 3:
                    await approval.approve(by="ann")
                else:
                    await approval.deny(by="ann", reason="no")
            except GatebookError:
                continue  # somebody was faster

    async def help(self, waiting: Waiting) -> bool:
        """Do what a run at rest waits for; return whether it waits for anything but time."""
        handle = handle_of(self.client)
        await self.answer()
        helped = False
        for on in waiting.on:
            what, _, name = on.partition(" ")
            helped = helped or what in ("approval", "resolve", "resume")
            if what == "resolve":
                self._turn += 1
                said: Any = (Denied("it did not"), "retry", Succeeded(5))[self._turn % 3]
                await handle.resolve(name, said, by="ann")
            elif what == "resume":
                await handle.resume(by="ann")
        return helped


class Play:
    """One run in a world of its own, driven by workers that die, until it is over.

    Args:
        left: tool calls that the ledger of all runs can carry, None for any number.
        agent: each branch is a turn of an agent, as far as it calls tools.
    """

    def __init__(
        self, branches: list[list[str]], deeds: list[str], *, left: int | None, agent: bool
    ) -> None:
        self.world, self._deeds = World(), deque(deeds)
        self.program: Any = AGENT if agent else PROGRAM
        if any("odd" in steps for steps in branches):  # a stopped run lets no hook act in its time
            branches = [[each for each in steps if each != "stow"] for steps in branches]
        if agent:
            branches = [[each for each in steps if each in TOOLBOX] for steps in branches]
        self.branches = [steps for steps in branches if steps]
        self._input = json.dumps(self.branches) if agent else self.branches
        ledgers = {} if left is None else {"tenant": Budget(tool_calls=left)}
        models = {"fake": Halting(turns)}
        self.desk = Desk(POLICY, hooks=HOOKS, ledgers=ledgers, providers=models, deps=self.world)
        self.people = People(self.desk)
        self.endless = False

    async def end(self) -> Settled:
        """Return how the run ended; of one that does not, where it rests for good."""
        async with self.people.client:
            at_once = asyncio.ensure_future(self.people.answer(about="score", follow=True))
            try:  # what a hook waits for must be answered in its time
                return await self._to_its_end()
            finally:
                at_once.cancel()

    async def _to_its_end(self) -> Settled:
        state = await self._driven(start=True)
        for _ in range(60):
            if isinstance(state, Finished | Failed | Cancelled) or self.endless:
                break
            if isinstance(state, Waiting):
                if state.parked_reason:
                    break
                if not await self.people.help(state) and state.wake_at is not None:
                    self.desk.clock.advance(max(0, (state.wake_at - self.desk.clock.now()) / 1e6))
            state = await self._driven()
        await self.desk.journal.open()
        assert state is not None
        return state

    async def _driven(self, *, start: bool = False) -> Settled | None:
        """Let one worker drive the run to where it rests, None for one that died before."""
        desk = self.desk
        journal = Unruly(desk, self._deeds, self.people)
        runtime = desk.runtime(self.program, journal=journal)
        await runtime.open()
        if start:
            budget = Budget(tool_calls=40, fan_out=FAN_OUT)
            await runtime.start(self.program, self._input, run_id="r", budget=budget)
        rests = asyncio.ensure_future(handle_of(runtime).settled())
        dies = asyncio.ensure_future(journal.died.wait())
        leaves = asyncio.ensure_future(journal.leaves.wait())
        await desk.clock.until(asyncio.wait({rests, dies, leaves}, return_when="FIRST_COMPLETED"))
        self.endless = self.endless or journal.endless
        state = rests.result() if rests.done() and not rests.exception() else None
        for task in (rests, dies, leaves):
            task.cancel()
        if journal.dead:
            await desk.crash(runtime)
            desk.lapse()
        else:
            await desk.clock.until(runtime.close())
        await desk.journal.open()
        return state
