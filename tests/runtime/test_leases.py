"""Leases: how long a worker may act, and what one that lost its run may still say."""

import asyncio
import math
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from tests.catalogue.kit import told
from tests.runtime.kit import RUN, STARTED, TTL_S, Desk, eventually, flow, run

from gatebook import ToolContext, tool
from gatebook.errors import ConfigError, StoreError
from gatebook.journals import MemoryJournal
from gatebook.kernel.events import ActionRequested, ActionSucceeded, Note
from gatebook.ports import Lease, RunKey
from gatebook.runtime.clock import SystemClock
from gatebook.runtime.leases import LeaseKeeper
from gatebook.runtime.runs.states import Finished, Waiting
from gatebook.testing.clock import VirtualClock
from gatebook.testing.failpoints import FailpointJournal


async def keeper(journal: Any, clock: VirtualClock) -> LeaseKeeper:
    """A keeper over a store with one claimed run."""
    await journal.open()
    await journal.create(RUN, STARTED, input_hash="h")
    return LeaseKeeper(journal, "w", clock=clock, ttl_s=TTL_S)


@pytest.mark.parametrize(("seconds", "fresh"), [(14.9, True), (15.0, False)])
def test_a_lease_is_fresh_for_half_its_life(seconds: float, fresh: bool) -> None:
    """The other half is for the effect that starts last, and for clocks."""

    async def scenario() -> None:
        clock = VirtualClock()
        leases = await keeper(MemoryJournal(clock=clock), clock)
        lease = await leases.claim(RUN)
        assert lease is not None
        clock.advance(seconds)

        assert leases.held(lease).fresh() is fresh

    run(scenario())


def test_a_renewal_makes_a_lease_fresh_again() -> None:
    """Counted from when it was asked for, not from when it was answered."""

    async def scenario() -> None:
        clock = VirtualClock()
        leases = await keeper(MemoryJournal(clock=clock), clock)
        lease = await leases.claim(RUN)
        assert lease is not None
        clock.advance(20)

        assert await leases.renew_now(lease)
        assert leases.held(lease).fresh()

    run(scenario())


def test_a_lost_lease_is_never_fresh_again() -> None:
    """Another worker claimed the run meanwhile."""

    async def scenario() -> None:
        clock = VirtualClock()
        journal = MemoryJournal(clock=clock)
        leases = await keeper(journal, clock)
        lease = await leases.claim(RUN)
        assert lease is not None
        clock.advance(TTL_S + 1)
        await journal.claim(RUN, owner="other", ttl_ms=30_000)

        assert not await leases.renew_now(lease)
        assert not leases.held(lease).fresh()

    run(scenario())


def test_a_lease_given_back_is_not_fresh() -> None:
    """After parking, nothing may start."""

    async def scenario() -> None:
        clock = VirtualClock()
        leases = await keeper(MemoryJournal(clock=clock), clock)
        lease = await leases.claim(RUN)
        assert lease is not None
        leases.forget(lease)

        assert not leases.held(lease).fresh()

    run(scenario())


def test_a_lease_is_not_fresh_once_its_run_is_claimed_anew() -> None:
    """What still holds the older one acts for a driver that is gone."""

    async def scenario() -> None:
        clock = VirtualClock()
        leases = await keeper(MemoryJournal(clock=clock), clock)
        first = await leases.claim(RUN)
        assert first is not None
        held = leases.held(first)

        await leases.claim(RUN)

        assert not held.fresh()

    run(scenario())


class Beating(FailpointJournal):
    """A journal that tells when leases are renewed."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner, [])
        self.beaten = threading.Event()

    async def renew(self, owner: str, leases: Sequence[Lease], *, ttl_ms: int) -> list[Lease]:
        lost = await super().renew(owner, leases, ttl_ms=ttl_ms)
        self.beaten.set()
        return lost


def test_leases_are_renewed_while_the_loop_is_blocked() -> None:
    """A tool that computes for a minute must not cost the run."""

    async def scenario() -> bool:
        journal = Beating(MemoryJournal())
        await keeper(journal, VirtualClock())
        leases = LeaseKeeper(journal, "w", clock=SystemClock(), ttl_s=0.06)
        leases.start()
        await leases.claim(RUN)
        beaten = journal.beaten.wait(10)
        await leases.close()
        return beaten

    assert run(scenario())


def test_a_loop_that_hangs_beyond_its_word_lets_its_leases_lapse() -> None:
    """A dead loop with a living thread would keep its runs for ever."""

    async def scenario() -> None:
        clock = VirtualClock()
        journal = Beating(MemoryJournal(clock=clock))
        await keeper(journal, clock)
        leases = LeaseKeeper(journal, "w", clock=clock, ttl_s=0.06)
        leases.start()
        await leases.claim(RUN)
        assert journal.beaten.wait(10)
        clock.advance(1)
        journal.beaten.clear()

        beaten = journal.beaten.wait(0.1)  # blocks the loop on purpose
        await leases.close()

        assert not beaten

    run(scenario())


def test_only_what_still_runs_excuses_a_silent_loop() -> None:
    """An hour that a tool was given and did not need is no reason to believe a hung loop."""

    async def scenario() -> list[bool]:
        clock = VirtualClock()
        journal = Beating(MemoryJournal(clock=clock))
        await keeper(journal, clock)
        leases = LeaseKeeper(journal, "w", clock=clock, ttl_s=0.06)
        lease = await leases.claim(RUN)
        assert lease is not None
        left_s = [3_600.0]
        leases.held(lease).left_s = lambda: left_s[-1]
        leases.start()
        assert journal.beaten.wait(10)
        clock.advance(1)
        seen = []
        for seconds, patience_s in ((3_600.0, 10), (-0.05, 10), (-0.07, 0.1)):
            left_s.append(seconds)
            journal.beaten.wait(0.1)  # what had begun before
            journal.beaten.clear()
            seen.append(journal.beaten.wait(patience_s))  # blocks the loop on purpose
        await leases.close()
        return seen

    assert run(scenario()) == [True, True, False]


class Taken(FailpointJournal):
    """A journal in which another worker takes the run as soon as a tool runs."""

    async def take(self) -> None:
        lease = await self.inner.claim(RUN, owner="other", ttl_ms=3_600_000)
        assert lease is not None


def test_what_a_fenced_worker_learned_becomes_a_note() -> None:
    """Its refund went through; only a person may make an outcome of that."""

    async def scenario() -> None:
        desk = Desk()
        go = asyncio.Event()
        calls: list[int] = []

        @tool
        async def pay() -> str:
            calls.append(1)
            await go.wait()
            return "receipt 7"

        async def body(ctx: Any) -> str:
            return str(await ctx.call_tool(pay))

        journal = Taken(desk.journal, [])
        program = flow(body, pay)
        async with desk.open(program, journal=journal) as runtime:
            await runtime.start(program, None, run_id="r")
            await eventually(lambda: calls, "the tool runs")
            desk.lapse()
            await journal.take()
            go.set()
            await desk.clock.settle()
        await desk.journal.open()

        note = await desk.only("r", Note)
        assert note.text == "late outcome of 0 attempt 0"
        assert bytes(note.detail) == b'"receipt 7"'
        assert await desk.all("r", ActionSucceeded) == []

    run(scenario())


def test_a_fenced_worker_starts_nothing_more() -> None:
    """One request was committed, the lease was lost before its effect."""

    async def scenario() -> None:
        desk = Desk()
        calls: list[int] = []

        @tool
        async def pay() -> None:
            calls.append(1)

        async def body(ctx: Any) -> None:
            await ctx.call_tool(pay)

        class Stolen(FailpointJournal):
            """Another worker takes the run right after the request is stored."""

            async def append(self, run: RunKey, batch: Any) -> Any:
                done = await super().append(run, batch)
                if isinstance(batch.events[0], ActionRequested):
                    desk.lapse()
                    await self.inner.claim(run, owner="other", ttl_ms=3_600_000)
                return done

        program = flow(body, pay)
        async with desk.open(program, journal=Stolen(desk.journal, [])) as runtime:
            await runtime.start(program, None, run_id="r")
            await desk.clock.settle()

        assert calls == []

    run(scenario())


def test_a_store_that_does_not_answer_about_the_lease_stops_the_effect() -> None:
    """What is not certainly ours is not touched; the next worker asks a person."""

    async def scenario() -> None:
        desk = Desk()
        calls: list[int] = []

        @tool
        async def pay() -> None:
            calls.append(1)

        async def body(ctx: Any) -> None:
            await ctx.call_tool(pay)

        class Deaf(FailpointJournal):
            """Time passes with the request, and no renewal is answered after it."""

            async def append(self, run: RunKey, batch: Any) -> Any:
                done = await super().append(run, batch)
                desk.clock.advance(20)
                return done

            async def renew(self, *_: Any, **__: Any) -> list[Lease]:
                raise StoreError("E_STORE_IO", store="x", detail="x")

        program = flow(body, pay)
        async with desk.open(program, journal=Deaf(desk.journal, [])) as runtime:
            await runtime.start(program, None, run_id="r")
            await desk.clock.settle()
        await desk.journal.open()
        desk.lapse()
        state = await desk.taken_up(program)

        assert (state, calls) == (Waiting(("resolve 0",)), [])

    run(scenario())


def test_a_stale_lease_is_renewed_before_an_effect() -> None:
    """After a long pause the worker asks whether the run is still its own."""

    async def scenario() -> None:
        desk = Desk()
        keys: list[str] = []

        @tool
        async def pay(ctx: ToolContext[Any]) -> None:
            keys.append(ctx.idempotency_key)

        async def body(ctx: Any) -> None:
            await ctx.call_tool(pay)

        class Slow(FailpointJournal):
            """Every append takes sixteen seconds."""

            async def append(self, run: RunKey, batch: Any) -> Any:
                desk.clock.advance(16)
                return await super().append(run, batch)

        journal = Slow(desk.journal, [])
        program = flow(body, pay)
        state = await desk.ran(program, journal=journal)

        assert state == Finished(None)
        assert journal.calls["renew"] == 1
        assert len(keys) == 1

    run(scenario())


@pytest.mark.parametrize("ttl_s", [0, -1, 0.01, math.nan, math.inf, 1e300, True, "5", None])
def test_a_lease_that_cannot_be_held_is_refused_at_once(ttl_s: Any) -> None:
    """With one that is always stale no effect could ever start."""
    with pytest.raises(ConfigError) as refused:
        Desk().runtime(lease_ttl_s=ttl_s)

    told(refused.value, "E_CONFIG", "lease_ttl_s", "up to a day", "lease_ttl_s=30")


@pytest.mark.parametrize("ttl_s", [0.1, 5, 86_400])
def test_a_lease_that_can_be_held_is_taken(ttl_s: float) -> None:
    """Whole seconds are numbers too."""
    Desk().runtime(lease_ttl_s=ttl_s)


def test_the_heartbeat_is_not_told_off_in_asyncios_debug_mode(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its loop is a thread's own and blocks between beats; `python -X dev` warned at each."""
    monkeypatch.setattr(asyncio.coroutines, "_is_debug_mode", lambda: True)

    async def scenario() -> None:
        clock = VirtualClock()
        leases = LeaseKeeper(MemoryJournal(clock=clock), "w", clock=clock, ttl_s=1.2)
        leases.start()
        await asyncio.sleep(0.3)
        await leases.close()

    with caplog.at_level("WARNING", "asyncio"):
        run(scenario())

    assert "_beat_for_ever" not in caplog.text
