"""Calling hooks: those of one driven run that are being asked, and what they said.

A hook is called in a task of its own, a blocking one on a daemon thread: it holds neither the
event loop nor the run beyond its timeout. Whether it is asked is decided in `hooks.turns`, what
its answer means in `kernel.hooks.answers`.
"""

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from gatebook.errors import GatebookError, Permanent, described
from gatebook.kernel.actions import CallTool
from gatebook.kernel.artifacts import artifact_of
from gatebook.kernel.codec import plain
from gatebook.kernel.events import HookAnswered, RunStarted
from gatebook.kernel.hooks.answers import BELOW, failed, heard, place_of_acts, withheld
from gatebook.kernel.hooks.declared import BEFORE, Hook, Hooks
from gatebook.kernel.hooks.subjects import ModelEnded, Subject, ToolEnded
from gatebook.kernel.hooks.views import HookView
from gatebook.kernel.redact import Redactor
from gatebook.ports import Lease, Tool
from gatebook.runtime.hooks.acts import Acts
from gatebook.runtime.performing.ended import Ended
from gatebook.runtime.performing.permits import Permit
from gatebook.runtime.services import Services

Key = tuple[str, str]  # the point, and there the address, or how the run is to end
Answers = tuple[HookAnswered, ...]

_log = logging.getLogger(__name__)


class Hooking:
    """The hooks of one driven run.

    Attributes:
        hooks: what may be asked.
        answers: what was said and is not recorded yet: all answers at one point, in order.
        redactor: of what is recorded of them.
        acts: tool calls that hooks wait for.
    """

    def __init__(
        self, hooks: Hooks, lease: Lease, services: Services, *, on_end: Callable[[], None]
    ) -> None:
        self.hooks = hooks
        self.answers: dict[Key, Answers] = {}
        self.redactor = services.redactor
        self._lease = lease
        self._services = services
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self.acts = Acts(on_end)
        self._asks: dict[Key, tuple[Subject, RunStarted]] = {}
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._threads: set[threading.Thread] = set()

    @property
    def busy(self) -> bool:
        """Whether some hook is being asked whose answer the run waits for."""
        return bool(self._running)

    def ask(self, key: Key, subject: Subject, started: RunStarted) -> None:
        """Ask the hooks of a point once what is planned now is stored, unless they were asked."""
        if key not in self._running and key not in self.answers:
            self._asks[key] = (subject, started)

    def launch(self) -> None:
        """Ask what is to be asked."""
        for key, (subject, started) in self._asks.items():
            self._running[key] = self._loop.create_task(
                self._answer(key, subject, started), name=f"{self._lease.run.id}/{key[0]}"
            )
        self._asks.clear()

    def drop_asks(self) -> None:
        """Forget what was to be asked: the plan it belongs to was not stored."""
        self._asks.clear()

    def forget(self, key: Key) -> None:
        """Drop answers that are recorded, or that nobody needs any more."""
        self.answers.pop(key, None)

    def cancel(self, point: str, *, but: str | None = None) -> None:
        """Stop asking at a point (of which `but` may go on); what was said there is not used."""
        for key in [*self._running, *self.answers, *self._asks]:
            if key[0] == point and key[1] != but:
                self._asks.pop(key, None)
                self.answers.pop(key, None)
                task = self._running.pop(key, None)
                if task is not None:
                    task.cancel()

    def cancel_acting(self) -> None:
        """Stop asking hooks that wait for an act which may not start; they are asked again."""
        for key in list(self._running):
            point, address = key
            if self.acts.give_up((address if point in BEFORE else "") + BELOW):
                self._running.pop(key).cancel()

    def close(self) -> None:
        """Stop asking; the next worker asks whatever is not answered in the journal."""
        for task in self._running.values():
            task.cancel()
        self._running.clear()
        self._asks.clear()

    async def _answer(self, key: Key, subject: Subject, started: RunStarted) -> None:
        said: list[HookAnswered] = []
        for hook in self.hooks.at(subject.point, _tool_of(subject)):
            event, subject = await self._ask(hook, subject, started)
            said.append(event)
            if event.stops:
                break
        if self._running.pop(key, None) is not None:
            self.answers[key] = tuple(said)
            self._on_end()

    async def after(
        self, permit: Permit, tool: Tool | None, ended: Ended, started: RunStarted
    ) -> Ended:
        """Return the end of an attempt as its hooks leave it, with their answers.

        Nobody is asked about an end that may not be the end: what is doubtful, a person settles.
        """
        subject = _ended_subject(permit, tool, ended)
        if subject is None:
            return ended
        if isinstance(subject, ModelEnded) and ended.error and self.hooks.reworks_answers:
            ended.error.fields.pop("partial", None)  # no hook has seen it
        said: list[HookAnswered] = []
        stopped = permit.cancelled
        for hook in self.hooks.at(subject.point, _tool_of(subject)):
            event = None
            if not stopped:
                try:
                    event, after = await self._ask(hook, subject, started)
                    subject = after  # type: ignore[assignment]
                except asyncio.CancelledError:
                    stopped = True
            if event is None:
                error = GatebookError("E_HOOK_CANCELLED", hook=hook.spec.name)
                event, _ = failed(hook, subject, error)
            said.append(event)
            if event.stops:
                break
        return _reworked(ended, subject, tuple(said)) if said else ended

    async def _ask(
        self, hook: Hook[Any], subject: Subject, started: RunStarted
    ) -> tuple[HookAnswered, Subject]:
        """Ask one hook; return its answer and the subject after it. Raises CancelledError only."""
        name, limit_ms = hook.spec.name, hook.spec.timeout_ms
        stop = threading.Event()
        services = self._services
        services.leases.expect_silence(limit_ms / 1000)
        call = self._loop.create_task(
            self._call(hook, subject, self._told(hook, subject, started, stop), stop),
            name=f"{self._lease.run.id}/{name}",
            context=services.executor.caller(self._lease.run.id),
        )
        try:
            done, _ = await asyncio.wait({call}, timeout=limit_ms / 1000)
        finally:
            stop.set()
            call.cancel()
            self.acts.give_up(place_of_acts(subject.address, name, subject.attempt))
        if not done:
            error = GatebookError("E_HOOK_TIMEOUT", hook=name, limit=limit_ms)
        elif call.cancelled():
            error = GatebookError("E_HOOK_FAILED", hook=name, detail="CancelledError")
        else:
            told = call.result()
            if not isinstance(told, BaseException):
                return told
            detail = services.redactor.text(described(told))
            error = GatebookError("E_HOOK_FAILED", hook=name, detail=detail)
        _log.warning("%s", error, extra={"run": self._lease.run.id})
        return failed(hook, subject, error)

    async def _call(
        self,
        hook: Hook[Any],
        subject: Subject,
        told: Mapping[str, Any],
        stop: threading.Event,
    ) -> tuple[HookAnswered, Subject] | BaseException:
        """Call the function; return what it said, read at once, or what it raised."""
        try:
            view = subject.view(told)
            if hook.is_async:
                said = await hook.function(view)
                return heard(hook, subject, said, self.redactor)
            from gatebook.tools.threads import run_in_thread

            return await run_in_thread(
                partial(_blocking, hook, subject, view, self.redactor),
                name=f"gatebook-hook-{hook.spec.name}",
                running=self._threads,
                stop=stop,
            )
        except asyncio.CancelledError:
            raise
        except BaseException as exc:  # noqa: BLE001 - whatever user code raises is no answer
            return exc

    def _told(
        self, hook: Hook[Any], subject: Subject, started: RunStarted, stop: threading.Event
    ) -> Mapping[str, Any]:
        run = self._lease.run
        return {
            "run": run.id,
            "tenant": run.tenant,
            "program": started.program,
            "labels": dict(started.labels),
            "context": plain(started.context),
            "cancelled": stop.is_set,
            "call_tool": self.acts.caller(hook, subject, stop.is_set),
        }


def _blocking(
    hook: Hook[Any], subject: Subject, view: HookView, redactor: Redactor
) -> tuple[HookAnswered, Subject]:
    said = hook.function(view)
    if inspect.iscoroutine(said):
        said.close()
    return heard(hook, subject, said, redactor)


def _tool_of(subject: Subject) -> str:
    action = getattr(subject, "action", None)
    return action.tool if isinstance(action, CallTool) else ""


def _ended_subject(
    permit: Permit, tool: Tool | None, ended: Ended
) -> ToolEnded | ModelEnded | None:
    request = permit.request
    if BELOW in request.address:
        return None  # what hooks do themselves triggers none
    if ended.error is not None and (permit.cancelled or not permit.used):
        return None
    if ended.doubtful and request.effect != "read":
        return None
    error = "" if ended.error is None else ended.error.message
    place = (request.address, request.action, permit.attempt, ended.output)
    if isinstance(request.action, CallTool):
        if tool is None:
            return None
        return ToolEnded(*place, tool.decode, error)  # type: ignore[arg-type]
    return ModelEnded(*place, error)  # type: ignore[arg-type]


def _reworked(ended: Ended, subject: ToolEnded | ModelEnded, said: Answers) -> Ended:
    """Return an end with what hooks made of it; withheld, the action ran and shows nothing."""
    last = said[-1]
    if last.stops:
        record = withheld(last, subject.what)
        if ended.error is None:
            error = Permanent(record.message, code=record.code)
            return msgspec.structs.replace(
                ended, output=None, artifact=None, error=error, answers=said
            )
        ended.error.message = record.message
    elif ended.error is not None:
        ended.error.message = subject.error
    elif subject.output is not None and subject.output != ended.output:
        long = len(output := bytes(subject.output)) > ended.shown
        artifact = artifact_of(output, limit=ended.shown) if long else None
        ended = msgspec.structs.replace(ended, output=subject.output, artifact=artifact)
    return msgspec.structs.replace(ended, answers=said)
