"""The executor: one attempt of one action, under a permit. The only code that calls out.

It knows how tools and providers are called and what their endings mean. It does not decide
whether to try again, and it appends nothing.
"""

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

import msgspec

from gatebook.errors import (
    ActionError,
    GatebookError,
    IntegrityError,
    InvalidInput,
    Permanent,
    ProviderError,
    described,
)
from gatebook.kernel.actions import CallLLM, CallTool, describe, rerouted
from gatebook.kernel.artifacts import artifact_of, too_large
from gatebook.kernel.budget import Amount, charged, impossible, tokens_used
from gatebook.kernel.codec import MAX_PAYLOAD, Raw, plain
from gatebook.kernel.events import RunStarted
from gatebook.kernel.messages import Call, ChatRequest, ChatResponse, Timeouts, Usage
from gatebook.kernel.origins import bound, sendable
from gatebook.kernel.redact import Redactor
from gatebook.kernel.spending.prices import Price
from gatebook.kernel.streams.machine import StreamMachine
from gatebook.ports import Clock, Provider, Tool, Want
from gatebook.runtime.models.prices import Prices
from gatebook.runtime.models.routes import Providers
from gatebook.runtime.performing.cleaning import clean_error, clean_exit, sounded, text_of
from gatebook.runtime.performing.ended import Ended, crashed, leaves_open, outlived, refused
from gatebook.runtime.performing.permits import Permit
from gatebook.runtime.performing.secrets import Lent, Secrets, late
from gatebook.runtime.performing.voices import Voices
from gatebook.runtime.subscriptions import Hub, Progress

Failure = TypeVar("Failure", bound=ActionError)
NOTHING_LENT = Lent()
ARGUMENTS = ("E_ARGS_SCHEMA", "E_ARGS_EXTRA")  # refused before the tool ran

_log = logging.getLogger(__name__)
_calling: ContextVar[tuple["Executor", str] | None] = ContextVar("gatebook_calling", default=None)

_encode = msgspec.json.Encoder(order="deterministic").encode


class Invoked(msgspec.Struct, eq=False):
    """What a tool may learn of its attempt: an `Invocation` that works out what it is asked."""

    _executor: "Executor"
    _permit: Permit
    _started: RunStarted
    _loop: asyncio.AbstractEventLoop
    deadline: float
    secrets: Lent

    def __repr__(self) -> str:
        return f"<attempt {self.attempt} of {describe(self._permit.request.action)}>"

    @property
    def deps(self) -> Any:
        """See Invocation, here and below."""
        return self._executor.deps

    @property
    def attempt(self) -> int:
        return self._permit.attempt

    def context(self) -> Any:
        return plain(self._started.context)

    def idempotency_key(self) -> str:
        return self._permit.idempotency_key(self._started.nonce)

    def cancelled(self) -> bool:
        return self._permit.asked_to_stop()

    def monotonic(self) -> float:
        return self._executor.monotonic()

    def progress(self, done: float | None, total: float | None, detail: str, /) -> None:
        self._executor.report(self._permit, self._loop, done, total, detail)


class Executor:
    """Performs attempts for one worker."""

    def __init__(
        self,
        *,
        providers: Providers,
        hub: Hub,
        redactor: Redactor,
        clock: Clock,
        prices: Prices | None = None,
        voices: Voices | None = None,
    ) -> None:
        self._voices = voices or Voices(hub, redactor)
        self._providers = providers
        self._prices = prices or Prices(now=clock.now)
        self._hub = hub
        self._redactor = redactor
        self.monotonic = clock.monotonic
        self.deps: Any = None
        self.secrets = Secrets({}, redactor)

    def perform(
        self, permit: Permit, want: Want, tool: Tool | None, started: RunStarted
    ) -> Coroutine[Any, Any, Ended]:
        """Make one attempt and return how it ended; raises nothing but programming errors.

        Await it in a task of its own: the mark of a running tool stays on that.
        """
        began = self.monotonic()
        if tool is None or type(permit.request.action) is not CallTool:
            return self._perform_llm(permit, want, started.nonce, began)
        if tool.spec.secrets:
            return self._with_secrets(permit, tool, started, began)
        return self._call_tool(permit, tool, started, began)

    def _came_back(self, output: bytes, *, shown: int = MAX_PAYLOAD) -> Ended:
        """Return the end of an attempt that went well, what it brought redacted."""
        clean = self._redactor.json(output)
        artifact = artifact_of(clean, limit=shown) if len(clean) > shown else None
        return Ended(output=Raw(clean), shown=shown, artifact=artifact)

    def _complete(self, ended: Ended, permit: Permit, began: float) -> Ended:
        """Work out what was spent, and redact what is said of an end that went wrong."""
        if ended.spent is None:
            request, wall_s = permit.request, self.monotonic() - began
            wall_ms = int(wall_s * 1000 + 0.5) if wall_s > 0 else 0  # round() is four times as dear
            if type(request.action) is CallLLM:
                reserve, usage = request.reserve, ended.usage
                called = request.action.on(permit.route)
                ended.spent, ended.price = self._cost(called, reserve, usage, wall_ms)
            else:
                ended.spent = Amount(request.reserve.tool_calls, 0, wall_ms)
        if ended.error is not None:
            clean_error(ended.error, self._redactor)
        if ended.leave is not None:
            clean_exit(ended.leave, self._redactor)
        return ended

    def _cost(
        self, action: CallLLM, reserve: Amount, usage: Usage | None, wall_ms: int
    ) -> tuple[Amount, Price | None]:
        """Return what a model call is charged, at which price; unmeasured it is its reservation."""
        measured = tokens_used(usage)
        tokens = reserve.llm_tokens if measured is None else measured
        price = self._prices.price(action, usage)
        if price is None:
            priced = tokens if reserve.priced_tokens else 0
            return Amount(0, tokens, wall_ms, reserve.usd_micros, priced), None
        return Amount(0, tokens, wall_ms, charged(action, price, usage), tokens), price

    async def _with_secrets(
        self, permit: Permit, tool: Tool, started: RunStarted, began: float
    ) -> Ended:
        """Call a tool with the secrets its arguments refer to, read before its permit is used."""
        try:
            lent = await self.secrets.lend(bytes(permit.request.action.args), tool.spec)  # type: ignore[union-attr]
        except ActionError as exc:
            return self._complete(Ended(error=exc, spent=Amount()), permit, began)
        except asyncio.CancelledError:
            if not permit.timed_out:
                raise
            return self._complete(Ended(error=late(tool.spec), spent=Amount()), permit, began)
        try:
            return await self._call_tool(permit, tool, started, began, lent)
        finally:
            self.secrets.end(lent)

    async def _call_tool(
        self,
        permit: Permit,
        tool: Tool,
        started: RunStarted,
        began: float,
        lent: Lent = NOTHING_LENT,
    ) -> Ended:
        request, spec = permit.request, tool.spec
        action: Any = request.action  # `perform` saw that it is a CallTool
        now = self.monotonic() if spec.secrets else began  # reading them takes time
        deadline = now + (request.timeout_ms or spec.timeout_ms) / 1000
        invoked = Invoked(self, permit, started, asyncio.get_running_loop(), deadline, lent)
        try:
            permit.use(action, now)
        except IntegrityError as exc:
            return self._complete(refused(exc), permit, began)
        _calling.set((self, permit.held.lease.run.id))
        try:
            output = await tool.call(bytes(action.args), invoked)
            if len(output) > MAX_PAYLOAD:
                raise too_large(output, tool=spec.name)
        except asyncio.CancelledError:
            ended = self._stopped(permit, tool)
        except ActionError as exc:
            ended = Ended(error=sounded(exc, spec.name, self._redactor))
        except InvalidInput as exc:  # of its arguments, before it ran; else of what it made
            doubtful = spec.on_error == "unknown" and exc.code not in ARGUMENTS
            ended = Ended(error=Permanent(text_of(exc), code=exc.code), doubtful=doubtful)
        except OSError as exc:
            ended = Ended(error=crashed(tool, exc, kind="transient"), doubtful=True)
        except (SystemExit, KeyboardInterrupt) as exc:
            error = GatebookError("E_TOOL_EXIT", tool=spec.name, detail=type(exc).__name__)
            doubtful = spec.on_error == "unknown"
            ended = Ended(
                error=Permanent(str(error), code=error.code), doubtful=doubtful, leave=exc
            )
        except GeneratorExit:
            raise
        except BaseException as exc:  # noqa: BLE001 - whatever user code raises is this action's end
            doubtful = spec.on_error == "unknown" or leaves_open(exc)
            ended = Ended(error=crashed(tool, exc), doubtful=doubtful)
        else:
            ended = self._came_back(output, shown=spec.max_output)
        return self._complete(ended, permit, began)

    def check_caller(self) -> None:
        """Refuse a caller that is a tool performed here.

        Raises:
            InvalidInput: E_REENTRANT.
        """
        calling = _calling.get()
        if calling is not None and calling[0] is self:
            raise InvalidInput("E_REENTRANT", run=calling[1])

    def caller(self, run_id: str) -> Context:
        """Return the caller's context variables with the mark of something performed here."""
        context = copy_context()
        context.run(_calling.set, (self, run_id))
        return context

    @staticmethod
    def forget_caller() -> Context:
        """Return the caller's context variables without the mark of a running tool."""
        context = copy_context()
        context.run(_calling.set, None)
        return context

    def _stopped(self, permit: Permit, tool: Tool) -> Ended:
        if permit.timed_out:
            return outlived(permit.request)
        text = f"{tool.spec.name} was cancelled while it ran"
        return Ended(error=Permanent(text, code="E_UNKNOWN_CANCELLED"), doubtful=True)

    def report(
        self,
        permit: Permit,
        loop: asyncio.AbstractEventLoop,
        done: float | None,
        total: float | None,
        detail: str,
    ) -> None:
        """Tell readers, in the loop of the runtime, how far an attempt is; from any thread."""
        said = Progress(permit.request.address, done, total, self._redactor.text(detail))
        loop.call_soon_threadsafe(self._hub.publish, permit.held.lease.run, said)

    async def _perform_llm(self, permit: Permit, want: Want, nonce: str, began: float) -> Ended:
        action = permit.request.action
        try:
            if not isinstance(action, CallLLM):
                raise IntegrityError("E_PERMIT", tool=describe(action), detail="nothing to call")
            permit.use(action, began)
            ended = await self._call_llm(permit, action, want, nonce)
        except IntegrityError as exc:
            ended = refused(exc)
        return self._complete(ended, permit, began)

    async def _call_llm(self, permit: Permit, action: CallLLM, want: Want, nonce: str) -> Ended:
        asked = want.action
        assert isinstance(asked, CallLLM)
        if asked != action and rerouted(asked, action) != action:
            raise IntegrityError("E_PERMIT", tool=action.route, detail="its prompt was not rebuilt")
        action = action.on(permit.route)
        try:
            provider, model = self._providers.resolve(action.route)
            chat = self._chat(permit, model, want)
        except GatebookError as exc:
            return Ended(error=Permanent(str(exc), code=exc.code), spent=Amount())
        self._prices.warm(action)
        machine = StreamMachine(must_call=chat.must_call)
        try:
            await self._ask(
                provider, chat, permit, key=permit.idempotency_key(nonce), machine=machine
            )
        except asyncio.CancelledError:
            if not machine.complete:
                return self._stopped_llm(permit, action, machine)
        except ProviderError as exc:
            error = sounded(exc, action.route, self._redactor)
            return Ended(error=error, spent=None if exc.sent else Amount())
        except Exception as exc:  # noqa: BLE001 - an adapter's bug must not take the worker down
            if not machine.complete:  # else only what came after the answer broke
                text = f"provider {action.provider!r} raised {described(exc)}"
                return Ended(error=self._broken(machine, Permanent(text)))
        return self._answered(action.route, bound(machine.response, action.provider))

    def _answered(self, route: str, response: ChatResponse) -> Ended:
        """Return the end of a call that was answered; usage that cannot be is told, not kept."""
        note, odd = "", impossible(response.usage)
        if odd:
            note = str(GatebookError("E_USAGE_INVALID", tool=route, detail=odd))
            response = msgspec.structs.replace(response, usage=None)
        elif tokens_used(response.usage) is None:
            _log.warning("%s", GatebookError("W_USAGE_MISSING", tool=route))
        ended = self._came_back(_encode(response))
        ended.usage, ended.note = response.usage, note
        return ended

    def _stopped_llm(self, permit: Permit, action: CallLLM, machine: StreamMachine) -> Ended:
        if permit.timed_out:
            text = f"{action.route} did not end within {permit.request.timeout_ms} ms"
            error = ProviderError(text, kind="transient", category="timeout")
        else:
            text = f"{action.route} was cancelled"
            error = ProviderError(text, kind="permanent", category="cancelled")
        return Ended(error=self._broken(machine, machine.fail(error)))

    def _chat(self, permit: Permit, model: str, want: Want) -> ChatRequest:
        action = permit.request.action
        assert isinstance(action, CallLLM)
        assert isinstance(want.action, CallLLM)
        own = want.action.provider
        action = action.on(permit.route)
        fields = msgspec.json.decode(action.settings)
        fields |= {"provider": action.provider, "model": model, "messages": []}
        if action.provider != own:
            fields.pop("provider_options", None)  # they are in the words of the first route's
        request = msgspec.json.decode(msgspec.json.encode(fields), type=ChatRequest)
        total = permit.request.timeout_ms
        timeouts = Timeouts() if total is None else _within(Timeouts(), total)
        return msgspec.structs.replace(
            request,
            messages=sendable(want.messages, action.provider),
            tools=tuple(tool for tool in want.offered if tool.name not in hidden)
            if (hidden := permit.request.decision.hidden)
            else want.offered,
            max_output_tokens=permit.most_output,
            timeouts=timeouts,
        )

    async def _ask(
        self,
        provider: Provider,
        request: ChatRequest,
        permit: Permit,
        *,
        key: str,
        machine: StreamMachine,
    ) -> None:
        """Make one streamed attempt; what it says goes to readers as it comes."""
        machine.open()
        voice = self._voices.begin(permit.held.lease, permit.request, permit.attempt)
        try:
            async with provider.stream(request, Call(key, permit.attempt)) as events:
                async for event in events:
                    for shown in machine.feed(event):
                        voice.say(shown)
        except ProviderError as exc:
            if not machine.complete:
                raise self._broken(machine, machine.fail(exc)) from exc
        finally:
            voice.end()
        ended = machine.eof()
        if ended is not None:
            raise self._broken(machine, ended)

    def _broken(self, machine: StreamMachine, error: Failure) -> Failure:
        partial = machine.partial().text
        if partial:
            error.fields["partial"] = partial  # redacted by `_complete`, as all of an error
        return error


def _within(timeouts: Timeouts, total_ms: int) -> Timeouts:
    bound = {
        name: min(getattr(timeouts, name), max(1, total_ms)) for name in timeouts.__struct_fields__
    }
    return Timeouts(**bound)
