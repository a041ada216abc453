"""Permits: each makes one attempt of a committed request lawful. Knows no tools and no loop."""

import msgspec

from gatebook.errors import IntegrityError
from gatebook.kernel.actions import CallLLM, CallTool, action_digest, describe
from gatebook.kernel.codec import idempotency_key
from gatebook.kernel.events import ActionRequested
from gatebook.runtime.leases import Held


class Permit(msgspec.Struct, eq=False):
    """The gate's one-use token: made from a committed request, good for exactly one attempt.

    Attributes:
        held: the lease it is good under.
        route: that a model call's attempt asks, "" for its first.
        most_output: tokens that the answer of a model may have.
    """

    request: ActionRequested
    attempt: int
    held: Held
    route: str = ""
    most_output: int | None = None
    cancelled: bool = False
    timed_out: bool = False
    _used: bool = False

    def use(self, action: CallTool | CallLLM, now: float) -> None:
        """Consume the permit for these bytes; `now` is the time of the clock of leases.

        Raises:
            IntegrityError: E_PERMIT when it was used, the lease is stale or the action differs.
        """
        reason = ""
        if self._used:
            reason = "it was used already"
        elif now >= self.held.fresh_until:
            reason = "the lease was not renewed in time"
        elif action is not self.request.action and not self._same(action):
            reason = "it was given for other arguments"
        if reason:
            raise IntegrityError("E_PERMIT", tool=describe(action), detail=reason)
        self._used = True

    @property
    def used(self) -> bool:
        """Whether the attempt has begun."""
        return self._used

    def idempotency_key(self, nonce: str) -> str:
        """Return the key of the action in a run of this nonce, the same on every attempt."""
        run = self.held.lease.run
        return idempotency_key(run.tenant, run.id, nonce, self.request.address)

    def asked_to_stop(self) -> bool:
        """Whether nobody waits for the attempt any more."""
        return self.cancelled or self.timed_out

    def _same(self, action: CallTool | CallLLM) -> bool:
        return action_digest(action) == action_digest(self.request.action)
