"""The attempts in flight of one run: their tasks, deadlines and ends.

An attempt that outlives its deadline is told to stop; one that does not stop is given up after a
grace and its end is what a timeout means for its effect class. Its task is left alone: Python
cannot kill it.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Set
from typing import TYPE_CHECKING, Any

from gatebook.errors import GatebookError, Permanent, ProviderError
from gatebook.kernel.actions import CallLLM, CallTool, describe
from gatebook.kernel.budget import Amount, most_output
from gatebook.kernel.events import ActionRequested
from gatebook.kernel.opened import Open
from gatebook.kernel.state import RunState
from gatebook.ports import Lease, Want
from gatebook.runtime.logs import traced
from gatebook.runtime.performing.ended import Ended, outlived
from gatebook.runtime.performing.permits import Permit
from gatebook.runtime.services import Services

if TYPE_CHECKING:
    from gatebook.runtime.driving.planner import Planner

GRACE_S = 5.0  # for an attempt that was told to stop

_log = logging.getLogger(__name__)


class _Flight(Permit, eq=False):
    """The permit of an attempt that is in flight.

    Attributes:
        until: the loop's time at which it is told to stop, and once told, given up; None: never.
    """

    task: asyncio.Task[Any] | None = None
    until: float | None = None


class Attempts:
    """What a driver has started.

    Attributes:
        ended: ends that are not recorded yet: address -> (attempt, how).
        running: addresses with an attempt in flight, as a view.
        fenced: the lease was found lost before an effect; nothing more may start.
    """

    def __init__(self, lease: Lease, services: Services, *, on_end: Callable[[], None]) -> None:
        self._lease = lease
        self._services = services
        self._held = services.leases.held(lease)
        self._executor = services.executor
        self._on_end = on_end
        self._prefix = f"{lease.run.id}/"  # of tasks' names
        self._loop = asyncio.get_running_loop()
        self._flights: dict[str, _Flight] = {}
        self._held.left_s = self._left_s
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf  # the loop's time
        self._landed = asyncio.Event()
        self._finishing = False
        self.ended: dict[str, tuple[int, Ended]] = {}
        self.running: Set[str] = self._flights.keys()
        self.fenced = False

    def launch(self, request: ActionRequested, entry: Open, want: Want, planner: "Planner") -> None:
        """Start an attempt whose request is committed; `entry` says which, on which route."""
        address = request.address
        flight = _Flight(request, entry.attempt, self._held, entry.route)
        self._flights[address] = flight
        if type(request.action) is CallLLM:
            head = planner.state.head
            shared = (head.ledgers or {}).values()
            flight.most_output = most_output(request.action, head.limits, *shared)
            work = self._ask(flight, want, planner)
        else:
            self._set_deadline(flight)
            work = self._perform(flight, want, planner)
        flight.task = self._loop.create_task(work, name=self._prefix + address)

    def _set_deadline(self, flight: _Flight) -> None:
        timeout_ms = flight.request.timeout_ms
        if timeout_ms is not None:
            flight.until = until = self._loop.time() + timeout_ms / 1000
            if until < self._alarm_at:
                self._set_alarm(until)

    def _left_s(self) -> float:
        """Return how long it is to the latest deadline in flight; called from any thread."""
        deadlines = [f.until for f in list(self._flights.values()) if f.until is not None]
        return max(deadlines, default=-math.inf) - self._loop.time()

    async def _ask(self, flight: _Flight, want: Want, planner: "Planner") -> Ended | None:
        """Ask a model when its route may be called; its deadline counts from then."""
        admission, ended = self._services.admission, None
        action = flight.request.action
        assert type(action) is CallLLM
        try:
            admitted = await admission.enter(action.on(flight.route))
        except Exception as exc:  # noqa: BLE001 - as in `_perform`
            error = exc if isinstance(exc, ProviderError) else self._broke(exc)
            ended = Ended(error=error, spent=Amount())
            self._end(flight, ended)
            return ended
        try:
            if not flight.asked_to_stop():
                self._set_deadline(flight)
            ended = await self._perform(flight, want, planner)
        finally:
            admission.leave(admitted, ended)
        return ended

    async def _perform(self, flight: _Flight, want: Want, planner: "Planner") -> Ended | None:
        """Make the attempt; return how it ended, None when it was not made."""
        action = flight.request.action
        try:
            if not self._held.fresh() and not await self._renewed():
                self.fenced = True
                self._end(flight, None)
                return None
            tool = planner.program.tools.get(action.tool) if type(action) is CallTool else None
            ended = await self._executor.perform(flight, want, tool, planner.started)
        except BaseException as exc:  # no bug, and nothing odd, must leave the action open
            if not isinstance(exc, Exception) and self._is_told(flight, exc):
                raise
            ended = Ended(error=self._broke(exc), doubtful=flight.used)
        if planner.ending.turns is None:
            self._end(flight, ended)
        else:
            flight.until = None  # what it was given is over; each hook has a timeout of its own
            self._end(flight, await planner.ending.turns.after(flight, ended))
        return ended

    def _is_told(self, flight: _Flight, exc: BaseException) -> bool:
        """Whether somebody ends the attempt from outside; else what it called raised that."""
        current = asyncio.current_task(self._loop)
        if isinstance(exc, asyncio.CancelledError):
            return current is None or current.cancelling() > 0
        if isinstance(exc, GeneratorExit):  # also of a task that is dropped with its loop
            return flight.task is not None and flight.task is not current
        return isinstance(exc, KeyboardInterrupt | SystemExit)

    def _broke(self, exc: BaseException) -> Permanent:
        told = traced(exc, self._services.redactor)
        _log.error("an attempt broke\n%s", told, extra={"run": self._lease.run.id})
        return Permanent(f"the attempt broke: {type(exc).__name__}", code="E_ACTION_FAILED")

    async def _renewed(self) -> bool:
        """Renew the lease; a store that does not answer makes it uncertain, so it is not ours."""
        try:
            return await self._services.leases.renew_now(self._lease)
        except GatebookError as exc:
            _log.warning("lease not renewed: %s", exc, extra={"run": self._lease.run.id})
            return False

    def _end(self, flight: _Flight, ended: Ended | None) -> None:
        """Note how an attempt ended, None when it was not made, unless it was given up before."""
        address = flight.request.address
        if self._flights.get(address) is not flight:
            return
        del self._flights[address]
        if ended is not None:
            self.ended[address] = (flight.attempt, ended)
        if self._finishing:
            self._landed.set()
        self._on_end()

    def _set_alarm(self, at: float) -> None:
        """Look at the deadlines at that time, if not before.

        One timer for all attempts, left standing when they end in time: a timer for each would
        cost a step more than its tool call does.
        """
        if at < self._alarm_at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_at = at
            self._alarm = self._loop.call_at(at, self._check_deadlines)

    def _check_deadlines(self) -> None:
        self._alarm, self._alarm_at = None, math.inf
        now = self._loop.time()
        for flight in list(self._flights.values()):
            if flight.until is None:
                continue
            if flight.until > now:
                self._set_alarm(flight.until)
            elif flight.asked_to_stop():
                self._give_up(flight)
            else:
                flight.timed_out = True
                self._tell_to_stop(flight)

    def _tell_to_stop(self, flight: _Flight) -> None:
        if flight.task is not None:
            flight.task.add_done_callback(lambda _: self._stopped(flight))
            flight.task.cancel()
        flight.until = self._loop.time() + GRACE_S
        self._set_alarm(flight.until)

    def _stopped(self, flight: _Flight) -> None:
        """Answer for an attempt that was told to stop before it came to its executor."""
        code = "E_UNKNOWN_CANCELLED" if flight.used else "E_ACTION_CANCELLED"
        error = GatebookError(code, tool=describe(flight.request.action), detail="started")
        spent = None if flight.used else Amount()
        record = Permanent(str(error), code=code)
        self._end(flight, Ended(error=record, doubtful=flight.used, spent=spent))

    def _give_up(self, flight: _Flight) -> None:
        name = describe(flight.request.action)
        _log.warning("%s does not stop; it is given up", name, extra={"run": self._lease.run.id})
        self._end(flight, outlived(flight.request))

    def cancel(self) -> None:
        """Tell every attempt in flight to stop; each ends within the grace."""
        for flight in self._flights.values():
            if not flight.cancelled:
                flight.cancelled = True
                self._tell_to_stop(flight)

    def forget_recorded(self, state: RunState) -> BaseException | None:
        """Drop ends that the journal holds now; return an exit that a tool asked for."""
        leave: BaseException | None = None
        known, self.ended = self.ended, {}
        under_way = state.head.open
        for address, (attempt, ended) in known.items():
            entry = under_way.get(address)
            if entry is not None and entry.attempt == attempt and entry.phase == "started":
                self.ended[address] = attempt, ended
            else:
                leave = leave or ended.leave
        return leave

    async def finish(self) -> list[tuple[str, int, Ended]]:
        """Let `at_most_once` attempts end by themselves, stop the others, return all ends."""
        self._finishing = True
        for flight in list(self._flights.values()):
            if flight.request.effect != "at_most_once":
                flight.cancelled = True
                self._tell_to_stop(flight)
        while self._flights:
            self._landed.clear()
            await self._landed.wait()
        return [(address, attempt, ended) for address, (attempt, ended) in self.ended.items()]

    async def close(self) -> None:
        """Stop what still runs; nothing of it is recorded, recovery will find it open."""
        flights = list(self._flights.values())
        self._flights.clear()
        tasks = [flight.task for flight in flights if flight.task is not None]
        if self._alarm is not None:
            self._alarm.cancel()
        for flight in flights:
            flight.cancelled = True
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE_S)
