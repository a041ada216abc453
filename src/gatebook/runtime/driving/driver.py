"""The driver: advance one claimed run until it is over or blocked.

plan -> append -> start what the append allowed -> wait -> plan. One append is in flight at a
time; effects start only after their request is committed; what cannot be appended is thrown
away and rebuilt from the journal.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import count, takewhile
from typing import TypeVar

from gatebook.errors import (
    CommitUnknown,
    Conflict,
    Fenced,
    GatebookError,
    IntegrityError,
    InvalidInput,
    StoreError,
)
from gatebook.kernel.actions import CALLS
from gatebook.kernel.append import Batch, BudgetShort
from gatebook.kernel.codec import Raw, canonical
from gatebook.kernel.events import (
    ENDS_OF_ATTEMPTS,
    AnyEvent,
    CancelRequested,
    DefinitionChanged,
    HookAnswered,
    Interrupted,
    Note,
    RunStarted,
)
from gatebook.kernel.hooks.declared import Hooks
from gatebook.kernel.state import RunState
from gatebook.kernel.status import TERMINAL
from gatebook.ports import Lease, Parked, Stretch
from gatebook.runtime.driving.breaking import halt_for, remains
from gatebook.runtime.driving.news import News, turn
from gatebook.runtime.driving.off_loop import off_the_loop
from gatebook.runtime.driving.parking import Parking
from gatebook.runtime.driving.planner import Planner
from gatebook.runtime.hooks.calling import Hooking
from gatebook.runtime.hooks.turns import HookTurns
from gatebook.runtime.performing.attempts import Attempts
from gatebook.runtime.replay import Replay, final_args
from gatebook.runtime.services import Services

LINGER_S = 2.0  # a wait this short is sat out in memory; a longer one frees the run
# May pass; nothing was written.
UNREACHABLE = ("E_STORE_FULL", "E_STORE_IO", "E_STORE_BUSY", "E_STORE_MOVED")
STORE_PAUSES_S = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)  # between tries while a store does not answer

T = TypeVar("T")
_log = logging.getLogger(__name__)
# What a plan begins with: what has happened, and no refusal of what follows may lose.
_HAPPENED = (*ENDS_OF_ATTEMPTS, HookAnswered, Interrupted, Note)


class Driver:
    """Drives one run under one lease."""

    def __init__(self, lease: Lease, services: Services) -> None:
        self._lease = lease
        self._services = services
        self._journal = services.journal
        self._event_loop = asyncio.get_running_loop()
        self._parking = Parking(lease, services)
        self._news = News(self._event_loop)
        self._touched = False
        self._stopping = False
        self._attempts = Attempts(lease, services, on_end=self._news.come)
        self._planner: Planner | None = None
        self._hooking = None if services.hooks is None else self._asking(services.hooks)
        self._append = count(int.from_bytes(os.urandom(8), "big") >> 1)
        self._short = False  # a ledger could not carry what was planned
        self._refused_at: int | None = None  # the seq after which a plan was refused last

    def _asking(self, hooks: Hooks) -> Hooking:
        return Hooking(hooks, self._lease, self._services, on_end=self._news.come)

    def poke(self) -> None:
        """Tell the driver that somebody appended to its run."""
        self._touched = True
        self._news.come()

    @property
    def touched(self) -> bool:
        """Whether somebody appended after the driver looked last."""
        return self._touched

    def stop(self) -> None:
        """Make the driver record what has happened, start nothing more, and let the run go."""
        self._stopping = True
        self._news.come()

    async def drive(self) -> Parked:
        """Advance the run; return what it is blocked on.

        Raises:
            StoreError: the store does not answer; the lease lapses and the run is taken up again.
            SystemExit, KeyboardInterrupt: a tool raised it; its end is recorded.
        """
        try:
            try:
                return await self._rounds()
            except IntegrityError as exc:
                with suppress(IntegrityError):  # nothing is added to what cannot be read
                    await self._keep_outcomes()
                return await self._parking.halt(exc)
        except Fenced:
            if self._hooking:
                self._hooking.acts.end()
            await self._note_late_outcomes()
            return Parked("busy")
        finally:
            await self._attempts.close()
            if self._hooking:
                self._hooking.close()
            self._let_go()
            self._services.hub.keep_only(self._lease.run, frozenset())

    def _let_go(self) -> None:
        if self._planner is not None:
            with off_the_loop(self._event_loop):
                self._planner.replay.close()

    async def _rounds(self) -> Parked:
        attempts, news = self._attempts, self._news
        planner = await self._load()
        while planner is not None:
            if attempts.fenced:
                run, epoch = self._lease.run.id, self._lease.epoch
                raise Fenced("E_FENCED", run=run, current="?", epoch=epoch)
            if self._touched:
                self._touched = False
                await self._catch_up(planner)
            news.came = False
            if self._plan(planner) and not await self._commit(planner.batch()):
                planner = await self._load()
                continue
            self._go_on(planner)
            if planner.state.end is not None:
                return Parked("over")
            if attempts.running and not (planner.more or news.came):
                await turn()  # an attempt that waits for nothing ends in it, and nobody waits
            if planner.more or news.came or (self._hooking and self._hooking.answers):
                continue
            parked = await self._next(planner)
            if parked is not None:
                return parked
        return Parked("waiting")

    async def _load(self) -> Planner | None:
        """Fold the journal and bring the program to where it stands; None when it may not go on."""
        run = self._lease.run
        past = await self._patiently(lambda: self._journal.stretch(run))
        started = past.events[0]
        assert isinstance(started, RunStarted)  # the fold allows no other first event
        program = self._services.programs[started.program]
        cancelled = any(type(event) is CancelRequested for event in past.events)
        change = None if cancelled else _changed(past.events, started, program.digest)
        if change and self._services.on_definition_change != "adopt":
            await self._parking.refuse_definition(program.name, change, past.seq)
            return None
        if started.guards and await self._parking.refuse_unguarded(started, past.seq):
            return None
        self._let_go()
        try:
            with off_the_loop(self._event_loop):
                clean = self._services.redactor.text
                stepper = None if cancelled else program.begin(started)  # it only has to end
                replay = Replay(stepper, final_args(program.tools), clean=clean)
        except BaseException as exc:
            halt_for(exc, run.id, self._services.redactor)
            raise
        planner = self._planner = Planner(
            RunState(),
            replay,
            services=self._services,
            program=program,
            lease=self._lease,
            started=started,
        )
        self._follow(planner, past)
        if self._hooking or replay.hooks.refuses:  # what a hook refused stays so without it
            self._hooking = self._hooking or self._asking(Hooks(()))
            planner.ending.turns = HookTurns(self._hooking, replay, program, past.events)
        if self._short:
            planner.balances = await self._patiently(lambda: self._journal.ledgers(run.tenant))
            self._short = False
        if change:
            append_id, epoch = self._new_append_id(), self._lease.epoch
            await self._commit(
                Batch(events=(change,), append_id=append_id, epoch=epoch, after=past.seq)
            )
            return await self._load()
        return planner

    async def _catch_up(self, planner: Planner) -> None:
        run, head = self._lease.run, planner.state.head
        seq, hash = head.seq, head.hash
        news = await self._patiently(lambda: self._journal.stretch(run, after=seq, hash=hash))
        self._follow(planner, news)

    def _follow(self, planner: Planner, stretch: Stretch) -> None:
        """Fold stored events; one of a later epoch says that the run is another worker's now."""
        run, epoch = self._lease.run.id, self._lease.epoch
        current = max([event.epoch for event in stretch.events], default=0)
        if current > epoch:
            raise Fenced("E_FENCED", run=run, current=current, epoch=epoch)
        try:
            planner.fold(stretch)
        except BaseException as exc:
            halt_for(exc, run, self._services.redactor)
            raise
        self._services.hub.keep_only(self._lease.run, planner.state.head.open.keys())

    def _plan(self, planner: Planner) -> list[AnyEvent]:
        now, last, attempts = self._journal.now(), planner.state.head.time, self._attempts
        try:
            return planner.plan(
                now if now > last else last,
                attempts.ended,
                attempts.running,
                quiet=self._stopping,
                append_id=self._new_append_id(),
            )
        except BaseException as exc:
            halt_for(exc, self._lease.run.id, self._services.redactor)
            raise

    def _go_on(self, planner: Planner) -> None:
        """Go on from a plan that is in the journal: forget what it says, start what it allows."""
        if self._attempts.ended:
            leave = self._attempts.forget_recorded(planner.state)
            if leave is not None:
                raise leave
        ending = planner.ending
        if ending.turns:
            ending.turns.stored()
        self._start(planner)
        if ending.begun:
            self._attempts.cancel()

    def _new_append_id(self) -> bytes:
        """Count from a random number: as good as one for each, at a tenth of its price."""
        return next(self._append).to_bytes(8, "big")

    async def _commit(self, batch: Batch) -> bool:
        """Append a batch; False when the state it was planned on is not the run's."""
        run, tried = self._lease.run, 0
        while True:
            try:
                appended = await self._journal.append(run, batch)
            except (Conflict, CommitUnknown):
                self._services.hub.changed(run)  # something is there, ours or not
                return False
            except (BudgetShort, InvalidInput) as exc:
                await self._give_way(exc, batch)
                return False
            except StoreError as exc:
                await self._outwait(exc, tried)
                tried += 1
                continue
            self._services.hub.grew(run, batch.events, over=appended.head.status in TERMINAL)
            return batch.time is None or appended.head.time == batch.time

    async def _give_way(self, refusal: BudgetShort | InvalidInput, batch: Batch) -> None:
        """Keep what has happened of a refused plan.

        The next is made where the run stands then. Another refused in the very same place was
        made by rules that are not the append's, and would be made for ever.
        """
        run = self._lease.run.id
        _log.info("append refused: %s", refusal, extra={"run": run})
        self._short = refusal.code == "E_LEDGER"  # other runs move a ledger
        if not self._short:
            if batch.after == self._refused_at:
                detail = f"what is planned after event {batch.after} is refused again: {refusal}"
                raise IntegrityError("E_INVARIANT", run=run, detail=detail) from refusal
            self._refused_at = batch.after
        await self._commit_outcomes(batch)

    async def _commit_outcomes(self, batch: Batch) -> None:
        """Append what happened alone: a guard on a request must never lose an outcome.

        It is what the plan begins with, stops and notes that come with it included. Where that is
        not appended either, it is known on: the next plan begins with it again.
        """
        happened = tuple(takewhile(lambda event: isinstance(event, _HAPPENED), batch.events))
        if 0 < len(happened) < len(batch.events):
            append_id = self._new_append_id()
            epoch, after = batch.epoch, batch.after
            await self._commit(
                Batch(events=happened, append_id=append_id, epoch=epoch, after=after)
            )

    async def _keep_outcomes(self) -> None:
        """Append what attempts have ended, each for itself, where no plan can be made."""
        planner, run, ends = self._planner, self._lease.run, self._attempts.ended
        if planner is None or not ends:
            return
        past = await self._patiently(lambda: self._journal.stretch(run))
        for events in remains(planner, past, ends, run.id):
            append_id = self._new_append_id()
            batch = Batch(events=events, append_id=append_id, epoch=self._lease.epoch)
            try:
                await self._patiently(partial(self._journal.append, run, batch))
            except CommitUnknown:
                await self._keep_outcomes()  # what is there by now is not open any more
                return
            except InvalidInput as exc:
                _log.warning("outcome not kept: %s", exc, extra={"run": run.id})

    def _start(self, planner: Planner) -> None:
        """Start every attempt that is committed under this lease and was not started yet."""
        attempts, epoch, state = self._attempts, self._lease.epoch, planner.state
        for address, entry in state.head.open.items():
            if entry.phase != "started" or entry.epoch != epoch:
                continue
            if address in attempts.running or address in attempts.ended:
                continue
            request = state.requests[address]
            if isinstance(request.action, CALLS):
                attempts.launch(request, entry, planner.replay.asked[address], planner)

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call the store, and again while it does not answer and the lease is good."""
        tried = 0
        while True:
            try:
                return await call()
            except StoreError as exc:
                await self._outwait(exc, tried)
            tried += 1

    async def _outwait(self, error: StoreError, tried: int) -> None:
        """Pause before the store is asked again; raises the error when that would be in vain.

        While an attempt has ended whose outcome only this process knows, it goes on asking.
        """
        known = bool(self._attempts.ended) and not self._stopping
        in_time = tried < len(STORE_PAUSES_S) and self._services.fresh(self._lease)
        if error.code not in UNREACHABLE or not (known or in_time):
            raise error
        _log.warning("%s", error, extra={"run": self._lease.run.id})
        await self._services.clock.sleep(STORE_PAUSES_S[min(tried, len(STORE_PAUSES_S) - 1)])

    def _next(self, planner: Planner) -> Awaitable[Parked | None]:
        """Return what waits for news, or parks when nothing but time or people can move the run."""
        due = planner.state.next_due if not self._stopping else None
        left_s = None if due is None else max(0.0, (due - self._journal.now()) / 1e6)
        busy = self._attempts.running or (self._hooking and self._hooking.busy)
        if self._stopping and not busy:
            return self._park(planner, wake_at=self._journal.now())
        if not busy and (left_s is None or left_s > LINGER_S):
            return self._park(planner, wake_at=due)
        return self._news.wait() if left_s is None else self._sleep(left_s)

    async def _sleep(self, seconds: float) -> None:
        timer = asyncio.ensure_future(self._services.clock.sleep(seconds))
        timer.add_done_callback(lambda done: None if done.cancelled() else self._news.come())
        try:
            await self._news.wait()
        finally:
            timer.cancel()

    async def _park(self, planner: Planner, *, wake_at: int | None) -> Parked | None:
        try:
            return await self._parking.park(planner.state, wake_at=wake_at)
        except Conflict:
            self._touched = True
            return None

    async def _note_late_outcomes(self) -> None:
        """Keep what a fenced worker learned as notes; only a person may make an outcome of it."""
        for address, attempt, ended in await self._attempts.finish():
            seen = ended if self._planner is None else self._planner.seen(address, ended)
            detail = seen.output or Raw(canonical(str(seen.error)))
            note = Note(text=f"late outcome of {address} attempt {attempt}", detail=detail)
            batch = Batch(events=(note,), append_id=self._new_append_id())
            try:
                await self._journal.append(self._lease.run, batch)
            except GatebookError as exc:
                _log.warning("late outcome not kept: %s", exc, extra={"run": self._lease.run.id})


def _changed(
    events: Sequence[AnyEvent], started: RunStarted, digest: str
) -> DefinitionChanged | None:
    """Return the change to a definition from the run's own or the one adopted last, if any."""
    changes = [event for event in events if type(event) is DefinitionChanged]
    before = changes[-1].after if changes else started.definition
    return None if before == digest else DefinitionChanged(before=before, after=digest)
