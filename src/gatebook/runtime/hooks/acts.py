"""What hooks do: tool calls of their own, through the same gate, that no hook is asked about.

An act stands at an address below the hook that asked for it, counted in its order; so a hook that
is asked again after a crash gets what is recorded there and does nothing twice.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gatebook.errors import GatebookError, InvalidInput
from gatebook.kernel.actions import CallTool
from gatebook.kernel.codec import Raw, canonical
from gatebook.kernel.hooks.answers import place_of_acts
from gatebook.kernel.hooks.declared import Hook
from gatebook.kernel.hooks.subjects import Subject
from gatebook.ports import Outcome, Tool, Want
from gatebook.runtime.replay import Replay


class Acts:
    """The tool calls that hooks of one driven run wait for.

    Attributes:
        replay: where the run stands; of the planner that plans now.
    """

    def __init__(self, on_want: Callable[[], None]) -> None:
        self._on_want = on_want
        self._waiting: dict[str, tuple[Want, asyncio.Future[Outcome]]] = {}
        self._over = False
        self.replay: Replay | None = None
        self.tools: Mapping[str, Tool] = {}

    def caller(
        self, hook: Hook[Any], subject: Subject, answered: Callable[[], bool]
    ) -> Callable[..., Awaitable[Any]]:
        """Return what a hook calls tools with until it has `answered`; its calls count from 0."""
        place = place_of_acts(subject.address, hook.spec.name, subject.attempt)
        count = -1

        async def call_tool(tool: Any, /, **args: Any) -> Any:
            nonlocal count
            if "act" not in hook.spec.rights:
                raise InvalidInput("E_HOOK_RIGHTS", hook=hook.spec.name, right="act")
            if answered():
                detail = "it has answered, and calls a tool"
                raise GatebookError("E_HOOK_ANSWER", hook=hook.spec.name, detail=detail)
            count += 1
            name = tool if isinstance(tool, str) else tool.name
            action = CallTool(name, Raw(canonical(args, what="the arguments")))
            return await self._act(hook.spec.name, Want(f"{place}{count}", action))

        return call_tool

    async def _act(self, hook: str, want: Want) -> Any:
        if self._over:
            raise GatebookError("E_HOOK_CANCELLED", hook=hook)
        replay = self.replay
        assert replay is not None  # set before any hook is asked
        outcome = replay.hooks.acts.get(want.address)
        if outcome is None:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting[want.address] = (want, waiter)
            self._on_want()
            try:
                outcome = await waiter
            finally:
                self._waiting.pop(want.address, None)
        if self.replay is None or not self.replay.acted_alike(want):
            detail = "it does not ask for what is recorded"
            raise GatebookError("E_HOOK_ANSWER", hook=hook, detail=detail)
        if outcome.status != "succeeded":
            from gatebook.programs.failures import failure_of

            raise failure_of(outcome)
        assert isinstance(want.action, CallTool)
        return self.tools[want.action.tool].decode(bytes(outcome.output))

    def give_up(self, place: str) -> bool:
        """Ask no more for what hooks wait for below a place; return whether they did."""
        found = [each for each in self._waiting if each.startswith(place)]
        for address in found:
            self._waiting.pop(address)[1].cancel()
            if self.replay is not None:
                self.replay.pending.pop(address, None)
        return bool(found)

    def end(self) -> None:
        """Let no hook wait any more: the run is another worker's, and nothing may start here."""
        self._over = True
        self.give_up("")

    def want(self) -> None:
        """Put what hooks wait for among the wants of the run, unless it was asked for already."""
        replay = self.replay
        if replay is None:
            return
        for address, (want, _) in self._waiting.items():
            if address not in replay.hooks.acted and address not in replay.pending:
                replay.pending[address] = want

    def deliver(self) -> None:
        """Give hooks what is recorded of their acts by now."""
        for address, (_, waiter) in list(self._waiting.items()):
            outcome = None if self.replay is None else self.replay.hooks.acts.get(address)
            if outcome is not None and not waiter.done():
                waiter.set_result(outcome)
