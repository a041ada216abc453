"""The executor: one attempt of one action, under a permit. The only code that calls out.

It knows how tools and providers are called and what their endings mean. It does not decide
whether to try again, and it appends nothing.
"""

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any

import msgspec

from gatebook.errors import (
    ActionError,
    GatebookError,
    IntegrityError,
    InvalidInput,
    Permanent,
    ProviderError,
    Transient,
    described,
)
from gatebook.kernel.actions import CallLLM, CallTool, action_digest, describe, rerouted
from gatebook.kernel.artifacts import Artifact, artifact_of, check_size
from gatebook.kernel.budget import Amount, charged, impossible, tokens_used
from gatebook.kernel.codec import MAX_PAYLOAD, Raw, idempotency_key, plain
from gatebook.kernel.events import ActionRequested, HookAnswered, RunStarted
from gatebook.kernel.messages import Call, ChatRequest, ChatResponse, Timeouts, Usage
from gatebook.kernel.origins import bound, sendable
from gatebook.kernel.redact import Redactor
from gatebook.kernel.spending.prices import Price
from gatebook.kernel.streams.machine import StreamMachine
from gatebook.ports import Clock, Invocation, Lease, Provider, RunKey, Tool, Want
from gatebook.runtime.models.prices import Prices
from gatebook.runtime.models.routes import Providers
from gatebook.runtime.performing.cleaning import clean_error, clean_exit, sounded, text_of
from gatebook.runtime.performing.secrets import Lent, Secrets, late
from gatebook.runtime.performing.voices import Voices
from gatebook.runtime.subscriptions import Hub, Progress

NOTHING_LENT = Lent()

_log = logging.getLogger(__name__)
_calling: ContextVar[tuple["Executor", str] | None] = ContextVar("gatebook_calling", default=None)

_encode = msgspec.json.Encoder(order="deterministic").encode


class Permit(msgspec.Struct, eq=False):
    """The gate's one-use token: made from a committed request, good for exactly one attempt.

    Attributes:
        route: that a model call's attempt asks, "" for its first.
        most_output: tokens that the answer of a model may have.
    """

    request: ActionRequested
    attempt: int
    lease: Lease
    _fresh: Callable[[Lease], bool]
    route: str = ""
    most_output: int | None = None
    cancelled: bool = False
    timed_out: bool = False
    _used: bool = False

    def use(self, action: CallTool | CallLLM) -> None:
        """Consume the permit for these bytes.

        Raises:
            IntegrityError: E_PERMIT when it was used, the lease is stale or the action differs.
        """
        reason = ""
        if self._used:
            reason = "it was used already"
        elif not self._fresh(self.lease):
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

    def asked_to_stop(self) -> bool:
        """Whether nobody waits for the attempt any more."""
        return self.cancelled or self.timed_out

    def _same(self, action: CallTool | CallLLM) -> bool:
        return action_digest(action) == action_digest(self.request.action)


class Ended(msgspec.Struct, kw_only=True):
    """How an attempt ended; complete once the executor has returned it.

    Attributes:
        output: canonical JSON of the result, None when it failed.
        error: what went wrong, None when it went well.
        doubtful: the effect may have happened although there is no result.
        spent: what to charge; None charges the reservation.
        price: what the tokens in `spent` cost, None when that is unknown.
        leave: SystemExit or KeyboardInterrupt to raise again once the end is recorded.
        note: what the journal should say beside the outcome, "" for nothing.
        answers: of the hooks that were asked about it, in order.
        shown: bytes of the output that a model may read.
        artifact: what the output is when it is longer than that.
    """

    output: Raw | None = None
    usage: Usage | None = None
    error: ActionError | None = None
    doubtful: bool = False
    spent: Amount | None = None
    price: Price | None = None
    leave: Any = None
    note: str = ""
    answers: tuple[HookAnswered, ...] = ()
    shown: int = MAX_PAYLOAD
    artifact: Artifact | None = None


def outlived(request: ActionRequested) -> Ended:
    """Return the end of an attempt that ran past its deadline: nobody knows what it did."""
    once = request.effect == "at_most_once"
    code = "E_UNKNOWN_TIMEOUT" if once else "E_ACTION_TIMEOUT"
    error = GatebookError(code, tool=describe(request.action), limit=request.timeout_ms)
    return Ended(error=Transient(str(error), code=code), doubtful=True)


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
        self._monotonic = clock.monotonic
        self.deps: Any = None
        self.secrets = Secrets({}, redactor)

    async def perform(
        self, permit: Permit, want: Want, tool: Tool | None, started: RunStarted
    ) -> Ended:
        """Make one attempt and return how it ended; raises nothing but programming errors."""
        began = self._monotonic()
        action = permit.request.action
        try:
            if type(action) is CallTool and tool is not None:
                if tool.spec.secrets:
                    ended = await self._with_secrets(permit, action, tool, started)
                else:
                    permit.use(action)
                    ended = await self._call_tool(permit, tool, started, NOTHING_LENT)
            elif isinstance(action, CallLLM):
                permit.use(action)
                ended = await self._call_llm(permit, action, want, started.nonce)
            else:
                raise IntegrityError("E_PERMIT", tool=describe(action), detail="nothing to call")
        except IntegrityError as exc:
            ended = Ended(error=Transient(str(exc), code=exc.code), spent=Amount())
        return self._clean(ended, permit, self._monotonic() - began)

    def _clean(self, ended: Ended, permit: Permit, elapsed_s: float) -> Ended:
        """Redact what came in and complete what was spent."""
        if ended.spent is None:
            request = permit.request
            wall = round(elapsed_s * 1000) if elapsed_s > 0 else 0
            if type(request.action) is CallLLM:
                reserve, usage = request.reserve, ended.usage
                called = request.action.on(permit.route)
                ended.spent, ended.price = self._cost(called, reserve, usage, wall)
            else:
                ended.spent = Amount(request.reserve.tool_calls, 0, wall)
        if ended.output is not None:
            ended.output = self._redactor.raw(ended.output)
            if len(ended.output) > ended.shown:
                ended.artifact = artifact_of(bytes(ended.output), limit=ended.shown)
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
        self, permit: Permit, action: CallTool, tool: Tool, started: RunStarted
    ) -> Ended:
        """Call a tool with the secrets its arguments refer to, read before its permit is used."""
        try:
            lent = await self.secrets.lend(bytes(permit.request.action.args), tool.spec)  # type: ignore[union-attr]
        except ActionError as exc:
            return Ended(error=exc, spent=Amount())
        except asyncio.CancelledError:
            if not permit.timed_out:
                raise
            return Ended(error=late(tool.spec), spent=Amount())
        try:
            permit.use(action)
            return await self._call_tool(permit, tool, started, lent)
        finally:
            self.secrets.end(lent)

    async def _call_tool(
        self, permit: Permit, tool: Tool, started: RunStarted, lent: Lent
    ) -> Ended:
        request, run, loop = permit.request, permit.lease.run, asyncio.get_running_loop()
        address, spec = request.address, tool.spec
        timeout_s = (request.timeout_ms or spec.timeout_ms) / 1000
        invocation = Invocation(
            deps=self.deps,
            context=lambda: plain(started.context),
            idempotency_key=lambda: idempotency_key(run.tenant, run.id, started.nonce, address),
            attempt=permit.attempt,
            deadline=self._monotonic() + timeout_s,
            cancelled=permit.asked_to_stop,
            progress=lambda *said: self._progress(run, address, loop, *said),
            monotonic=self._monotonic,
            secrets=lent,
        )
        token = _calling.set((self, run.id))
        try:
            output = await tool.call(bytes(request.action.args), invocation)  # type: ignore[union-attr]
            check_size(output, tool=spec.name)
        except asyncio.CancelledError:
            return self._stopped(permit, tool)
        except ActionError as exc:
            return Ended(error=sounded(exc, spec.name, self._redactor))
        except InvalidInput as exc:
            return Ended(error=Permanent(text_of(exc), code=exc.code))
        except OSError as exc:
            return Ended(error=_crash(tool, exc, kind="transient"), doubtful=True)
        except (SystemExit, KeyboardInterrupt) as exc:
            error = GatebookError("E_TOOL_EXIT", tool=spec.name, detail=type(exc).__name__)
            doubtful = spec.on_error == "unknown"
            return Ended(error=Permanent(str(error), code=error.code), doubtful=doubtful, leave=exc)
        except Exception as exc:  # noqa: BLE001 - whatever user code raises is this action's end
            doubtful = spec.on_error == "unknown" or _transport(exc)
            return Ended(error=_crash(tool, exc), doubtful=doubtful)
        finally:
            _calling.reset(token)
        return Ended(output=Raw(output), shown=spec.max_output)

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

    def _progress(
        self,
        run: RunKey,
        address: str,
        loop: asyncio.AbstractEventLoop,
        done: float | None,
        total: float | None,
        detail: str,
    ) -> None:
        said = Progress(address, done, total, self._redactor.text(detail))
        loop.call_soon_threadsafe(self._hub.publish, run, said)

    async def _call_llm(self, permit: Permit, action: CallLLM, want: Want, nonce: str) -> Ended:
        run, request = permit.lease.run, permit.request
        asked = want.action
        assert isinstance(asked, CallLLM)
        if asked != action and rerouted(asked, action) != action:
            raise IntegrityError("E_PERMIT", tool=action.route, detail="its prompt was not rebuilt")
        key = idempotency_key(run.tenant, run.id, nonce, request.address)
        action = action.on(permit.route)
        try:
            provider, model = self._providers.resolve(action.route)
            chat = self._chat(permit, model, want)
        except GatebookError as exc:
            return Ended(error=Permanent(str(exc), code=exc.code), spent=Amount())
        self._prices.warm(action)
        machine = StreamMachine(must_call=chat.must_call)
        try:
            await self._ask(provider, chat, permit, key=key, machine=machine)
        except asyncio.CancelledError:
            if not machine.complete:
                return self._stopped_llm(permit, action, machine)
        except ProviderError as exc:
            error = sounded(exc, action.route, self._redactor)
            return Ended(error=error, spent=None if exc.sent else Amount())
        except Exception as exc:  # noqa: BLE001 - an adapter's bug must not take the worker down
            text = f"provider {action.provider!r} raised {described(exc)}"
            return Ended(error=Permanent(text))
        return self._answered(action.route, bound(machine.response, action.provider))

    def _answered(self, route: str, response: ChatResponse) -> Ended:
        """Return the end of a call that was answered; usage that cannot be is told, not kept."""
        note, odd = "", impossible(response.usage)
        if odd:
            note = str(GatebookError("E_USAGE_INVALID", tool=route, detail=odd))
            response = msgspec.structs.replace(response, usage=None)
        elif tokens_used(response.usage) is None:
            _log.warning("%s", GatebookError("W_USAGE_MISSING", tool=route))
        return Ended(output=Raw(_encode(response)), usage=response.usage, note=note)

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
        voice = self._voices.begin(permit.lease, permit.request, permit.attempt)
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

    def _broken(self, machine: StreamMachine, error: ProviderError) -> ProviderError:
        partial = machine.partial().text
        if partial:
            error.fields["partial"] = self._redactor.text(partial)
        return error


def _within(timeouts: Timeouts, total_ms: int) -> Timeouts:
    bound = {
        name: min(getattr(timeouts, name), max(1, total_ms)) for name in timeouts.__struct_fields__
    }
    return Timeouts(**bound)


def _crash(tool: Tool, exc: BaseException, *, kind: str = "permanent") -> ActionError:
    text = f"{tool.spec.name} failed: {described(exc)}"
    made = Transient if kind == "transient" else Permanent
    return made(text, code="E_ACTION_FAILED")


TRANSPORT_ERRORS = frozenset({
    "ReadTimeout", "WriteTimeout", "ReadError", "WriteError", "RemoteProtocolError",
    "ServerDisconnectedError", "ClientPayloadError", "ClientOSError", "IncompleteRead",
})  # fmt: skip  # raised after bytes may have left: httpx, httpx2, aiohttp, http.client


def _transport(exc: BaseException) -> bool:
    return any(cls.__name__ in TRANSPORT_ERRORS for cls in type(exc).__mro__)
