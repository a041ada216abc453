"""How an attempt ended: what the executor returns, and what an exception says of the effect."""

import asyncio
from typing import Any

import msgspec

from gatebook.errors import (
    ActionError,
    GatebookError,
    IntegrityError,
    Permanent,
    Transient,
    described,
)
from gatebook.kernel.actions import describe
from gatebook.kernel.artifacts import Artifact
from gatebook.kernel.budget import Amount
from gatebook.kernel.codec import MAX_PAYLOAD, Raw
from gatebook.kernel.events import ActionRequested, HookAnswered
from gatebook.kernel.messages import Usage
from gatebook.kernel.spending.prices import Price
from gatebook.ports import Tool

# Raised after bytes may have left: httpx, httpx2, aiohttp, http.client, urllib3, botocore, and the
# clients of Stripe, OpenAI and Anthropic.
TRANSPORT_ERRORS = frozenset({
    "ReadTimeout", "WriteTimeout", "ReadError", "WriteError", "RemoteProtocolError",
    "ServerDisconnectedError", "ClientPayloadError", "ClientOSError", "IncompleteRead",
    "ReadTimeoutError", "ProtocolError", "ConnectionClosedError", "APIConnectionError",
})  # fmt: skip


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


def refused(error: IntegrityError) -> Ended:
    """Return the end of an attempt that was not made."""
    return Ended(error=Transient(str(error), code=error.code), spent=Amount())


def outlived(request: ActionRequested) -> Ended:
    """Return the end of an attempt that ran past its deadline: nobody knows what it did."""
    once = request.effect == "at_most_once"
    code = "E_UNKNOWN_TIMEOUT" if once else "E_ACTION_TIMEOUT"
    error = GatebookError(code, tool=describe(request.action), limit=request.timeout_ms)
    return Ended(error=Transient(str(error), code=code), doubtful=True)


def crashed(tool: Tool, exc: BaseException, *, kind: str = "permanent") -> ActionError:
    """Return the error of a tool that raised what is no `ActionError`."""
    text = f"{tool.spec.name} failed: {described(exc)}"
    made = Transient if kind == "transient" else Permanent
    return made(text, code="E_ACTION_FAILED")


def leaves_open(exc: BaseException) -> bool:
    """Whether an exception leaves open what happened outside; task groups raise groups of them."""
    if isinstance(exc, BaseExceptionGroup):
        broken = (OSError, asyncio.CancelledError)
        return any(isinstance(each, broken) or leaves_open(each) for each in exc.exceptions)
    return any(cls.__name__ in TRANSPORT_ERRORS for cls in type(exc).__mro__)
