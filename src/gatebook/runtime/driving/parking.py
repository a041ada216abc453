"""Parking: a run that nothing here moves on leaves the circulation, with the reason in its row.

Its lease is released with it. The journal of the run is not touched.
"""

import logging

from gatebook.errors import Conflict, Diverged, Fenced, GatebookError
from gatebook.kernel.events import DefinitionChanged, RunStarted
from gatebook.kernel.state import RunState
from gatebook.kernel.waits import waits_of
from gatebook.ports import Lease, Parked, ParkedReason
from gatebook.runtime.services import Services

_log = logging.getLogger(__name__)


class Parking:
    """Parks one run under one lease."""

    def __init__(self, lease: Lease, services: Services) -> None:
        self._lease = lease
        self._services = services
        self._journal = services.journal

    async def park(self, state: RunState, *, wake_at: int | None) -> Parked:
        """Park a run that only time or people can move. Raises Conflict: it has moved."""
        await self._journal.park(
            self._lease, after=state.head.seq, wake_at=wake_at, waiting_on=waits_of(state)
        )
        self._services.hub.changed(self._lease.run)
        return Parked("waiting", wake_at)

    async def refuse_definition(self, program: str, change: DefinitionChanged, seq: int) -> None:
        """Park a run whose program is another one here."""
        run, has, want = self._lease.run.id, change.before[:12], change.after[:12]
        error = GatebookError("E_DEFINITION_CHANGED", program=program, run=run, has=has, want=want)
        await self._refuse(error, seq, reason=ParkedReason.DEFINITION)

    async def refuse_unguarded(self, started: RunStarted, seq: int) -> bool:
        """Park a run if security hooks of it are missing here; return whether it was parked."""
        hooks, run = self._services.hooks, self._lease.run.id
        missing = set(started.guards) - set(() if hooks is None else hooks.guards)
        if not missing or self._services.on_definition_change == "adopt":
            return False
        error = GatebookError("E_HOOK_MISSING", run=run, names=", ".join(sorted(missing)))
        await self._refuse(error, seq, reason=ParkedReason.HOOKS)
        return True

    async def _refuse(self, error: GatebookError, seq: int, *, reason: ParkedReason) -> None:
        """Park a run until a worker comes that may drive it."""
        _log.warning("%s", error, extra={"run": self._lease.run.id})
        await self._journal.park(
            self._lease, after=seq, wake_at=None, waiting_on=str(error), reason=reason
        )
        self._services.hub.changed(self._lease.run)

    async def halt(self, exc: GatebookError) -> Parked:
        """Park a run that cannot go on, until a person lets it."""
        reason = ParkedReason.DIVERGED if isinstance(exc, Diverged) else ParkedReason.HALTED
        told = self._services.redactor.told(str(exc))
        _log.error("%s", told, extra={"run": self._lease.run.id})
        row = await self._journal.row(self._lease.run)
        try:
            await self._journal.park(
                self._lease, after=row.head.seq, wake_at=None, waiting_on=told, reason=reason
            )
        except (Conflict, Fenced):
            return Parked("busy")
        self._services.hub.changed(self._lease.run)
        return Parked("waiting")
