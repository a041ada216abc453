"""The actions: every contact a run can have with the outside, as frozen values.

An action says what is wanted. It does not know where in a run it stands (its address), whether
it may happen (the gate) or how it is done (the executor).
"""

from datetime import timedelta
from typing import Any, Final

import msgspec

from gatebook.errors import InvalidInput
from gatebook.kernel.codec import Raw, digest, plain
from gatebook.kernel.messages import Message

MAX_SLEEP_DAYS = 3_660  # ten years: beyond it a unit was probably mistaken


class CallTool(
    msgspec.Struct, frozen=True, tag="call_tool", tag_field="action", omit_defaults=True, gc=False
):
    """Call a declared tool.

    Attributes:
        tool: its name.
        args: canonical JSON bytes of an object; final and validated once requested.
        call_id: the model's id of this call, None when a workflow asks.
        timeout_ms: this call's deadline, None for the tool's own.
        retries: this call's retry limit, None for the tool's own.
    """

    tool: str
    args: Raw
    call_id: str | None = None
    timeout_ms: int | None = None
    retries: int | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments as plain JSON values (a fresh copy)."""
        value: dict[str, Any] = plain(self.args)
        return value


class PromptPart(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One new message of a prompt: written out, or the outcome of the action at an address."""

    message: Message | None = None
    outcome: str | None = None


class Prompt(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A conversation by reference: what an earlier prompt held, plus what is new.

    Attributes:
        digest: over every message, in order, with its content.
        parent: the digest of the conversation this one extends, "" for none.
        new: the messages after it; model answers and tool results stand as references.
        size: bytes of all messages, the basis of the token estimate.
        sent: the digest of what is sent instead, where hooks changed it; "" for nothing else.
    """

    digest: str
    parent: str = ""
    new: tuple[PromptPart, ...] = ()
    size: int = 0
    sent: str = ""


class CallLLM(
    msgspec.Struct, frozen=True, tag="call_llm", tag_field="action", omit_defaults=True, gc=False
):
    """Ask a model.

    Attributes:
        provider: name of a configured provider.
        model: the provider's model name.
        prompt: the conversation.
        tools: names of the tools offered, in order.
        tools_digest: over their names, descriptions and schemas.
        settings: canonical JSON object of the rest (temperature, response_format, ...).
        max_output_tokens: the most the answer may have; reserved before the call.
        timeout_ms: total deadline of one attempt.
        fallbacks: routes to go on with, in order, when the one before cannot answer.
    """

    provider: str
    model: str
    prompt: Prompt
    tools: tuple[str, ...] = ()
    tools_digest: str = ""
    settings: Raw = Raw(b"{}")
    max_output_tokens: int | None = None
    timeout_ms: int | None = None
    fallbacks: tuple[str, ...] = ()

    @property
    def route(self) -> str:
        """The (first) route as people write it: "provider:model"."""
        return f"{self.provider}:{self.model}"

    def after(self, route: str) -> str | None:
        """Return the route to go on with after `route` ("" for the first), None after the last."""
        routes = (self.route, *self.fallbacks)
        place = routes.index(route or self.route) + 1
        return routes[place] if place < len(routes) else None

    def on(self, route: str) -> "CallLLM":
        """Return the call as one of its routes gets it; "" and the first stand for itself."""
        if not route or route == self.route:
            return self
        provider, model = split_route(route)
        return msgspec.structs.replace(self, provider=provider, model=model, fallbacks=())


class Sleep(
    msgspec.Struct, frozen=True, tag="sleep", tag_field="action", omit_defaults=True, gc=False
):
    """Go on `ms` milliseconds after the request was stored, in whatever process."""

    ms: int


class WaitSignal(
    msgspec.Struct, frozen=True, tag="wait_signal", tag_field="action", omit_defaults=True, gc=False
):
    """Go on when somebody sends the signal `name`, or fail after `timeout_ms`."""

    name: str
    timeout_ms: int | None = None


Action = CallTool | CallLLM | Sleep | WaitSignal
CALLS: Final = (CallTool, CallLLM)  # what reaches outside
WAITS: Final = (Sleep, WaitSignal)  # what only time or people answer

_encode = msgspec.json.Encoder(order="deterministic").encode


def action_digest(action: Action) -> str:
    """Return the digest of exactly what will run: what approvals and replay compare."""
    return digest(_encode(action))


def same_action(recorded: Action, wanted: Action) -> bool:
    """Whether a program asks again for what the journal says it asked for."""
    return recorded == wanted or _encode(recorded) == _encode(wanted)


def rerouted(call: CallLLM, like: Any) -> CallLLM:
    """Return a model call with what a policy may change taken from another, or from its answer.

    Who chooses another route chooses that one: it has no fallbacks.
    """
    same = (call.provider, call.model) == (like.provider, like.model)
    return msgspec.structs.replace(
        call,
        provider=like.provider,
        model=like.model,
        max_output_tokens=like.max_output_tokens,
        fallbacks=call.fallbacks if same else (),
    )


def describe(action: Action) -> str:
    """Return the few words people see for an action: a tool name, a route, a wait."""
    match action:
        case CallTool():
            return action.tool
        case CallLLM():
            return action.route
        case Sleep():
            return f"sleep {action.ms / 1000:g} s"
        case WaitSignal():
            return f"signal {action.name}"


def split_route(route: Any) -> tuple[str, str]:
    """Return (provider, model) of "provider:model", or refuse it with E_ROUTE."""
    if not isinstance(route, str):
        raise InvalidInput("E_ROUTE", value=route)
    provider, colon, model = route.partition(":")
    if not colon or not provider or not model:
        raise InvalidInput("E_ROUTE", value=route)
    return provider, model


def sleep_ms(value: Any) -> int:
    """Return a duration in whole milliseconds from seconds or a timedelta.

    Raises:
        InvalidInput: E_SLEEP_TYPE, E_SLEEP_NEGATIVE, or E_SLEEP_TOO_LONG above ten years.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if type(value) not in (int, float) or value != value:
        raise InvalidInput("E_SLEEP_TYPE", value=value)
    if value < 0:
        raise InvalidInput("E_SLEEP_NEGATIVE", value=value)
    if value > MAX_SLEEP_DAYS * 86_400:
        raise InvalidInput("E_SLEEP_TOO_LONG", value=value, limit=MAX_SLEEP_DAYS)
    milliseconds: int = round(value * 1000)
    return milliseconds
