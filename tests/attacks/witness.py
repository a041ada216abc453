"""A foreign tool that looks into the journal when it is called, and a workflow that calls it."""

from typing import Any

import msgspec

from gatebook.errors import ActionError
from gatebook.kernel.actions import action_digest
from gatebook.kernel.codec import idempotency_key
from gatebook.kernel.events import (
    ActionFailed,
    ActionRequested,
    ActionSucceeded,
    AttemptStarted,
    RunStarted,
)
from gatebook.kernel.tools import ToolSpec
from gatebook.ports import Invocation
from tests.runtime.kit import RUN, Desk, flow


class Witness:
    """A foreign tool, of the shape of an adapter's, that looks into the journal when it is called.

    Attributes:
        seen: what it was called with, one entry a call.
        wrong: every call that the journal does not vouch for.
    """

    def __init__(self, desk: Desk, *, effect: Any = "read", ends: list[Any] | None = None) -> None:
        self.desk, self.effect = desk, effect
        self.ends = list(ends or [])
        self.seen: list[bytes] = []
        self.wrong: list[str] = []

    @property
    def spec(self) -> ToolSpec:
        """What it says of itself: anew each time, as an adapter may."""
        schema = msgspec.Raw(b'{"type":"object"}')
        return ToolSpec(name="crm.find", description="Find.", schema=schema, effect=self.effect)

    def validate(self, args: bytes) -> bytes:
        """Take anything."""
        return args

    async def call(self, args: bytes, invocation: Invocation) -> bytes:
        """Look, then end as told: with a result, an error, or never."""
        self.seen.append(args)
        self.wrong += await self._objections(args, invocation)
        end = self.ends.pop(0) if self.ends else None
        if isinstance(end, BaseException):
            raise end
        if end is not None:
            await end.wait()
        return b'"found"'

    async def _objections(self, args: bytes, invocation: Invocation) -> list[str]:
        recorded = await self.desk.journal.read(RUN)
        events: list[Any] = [each.event for each in recorded]
        started = events[0]
        assert isinstance(started, RunStarted)
        key = invocation.idempotency_key()
        mine = [
            e for e in events
            if isinstance(e, ActionRequested)
            and idempotency_key("default", "r", started.nonce, e.address) == key
        ]  # fmt: skip
        if len(mine) != 1:
            return [f"{len(mine)} requests for its key"]
        (request,) = mine
        same = msgspec.structs.replace(request.action, args=msgspec.Raw(args))
        about = [e for e in events if getattr(e, "address", None) == request.address]
        tries = [e.attempt for e in about if isinstance(e, AttemptStarted)]
        said = []
        if action_digest(same) != action_digest(request.action):
            said.append("other bytes than were requested")
        if request.decision.verdict not in ("allow", "modify"):
            said.append(f"it was decided {request.decision.verdict}")
        if (tries[-1] if tries else 0) != invocation.attempt:
            said.append(f"attempt {invocation.attempt}, and the journal has {tries}")
        if any(isinstance(e, ActionSucceeded | ActionFailed) for e in about):
            said.append("it has ended already")
        return said

    def decode(self, output: bytes) -> Any:
        """Read plain JSON."""
        return msgspec.json.decode(output)


def asking(witness: Witness, *queries: Any) -> Any:
    """A workflow that asks for these, one after the other; the code of what fails."""

    async def body(ctx: Any) -> list[str]:
        found = []
        for query in queries:
            try:
                found.append(await ctx.call_tool(witness, query=query))
            except ActionError as exc:
                found.append(exc.code)
        return found

    return flow(body, witness, name="asking")
