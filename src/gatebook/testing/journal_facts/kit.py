"""What the facts are written with: small events, runs at a known point, and a way to run them."""

import asyncio
import functools
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from gatebook.kernel.actions import CallTool
from gatebook.kernel.append import Batch
from gatebook.kernel.budget import NOTHING, Amount, Limits
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import (
    ActionRequested,
    ActionSucceeded,
    ActionUnknown,
    AnyEvent,
    ErrorRecord,
    Note,
    RunStarted,
    SignalReceived,
)
from gatebook.ports import DEFAULT_TENANT, Journal, Lease, Recorded, RunKey

PATIENCE_S = 30.0  # after this a fact has failed; no fact depends on how fast it is
LONG_MS = 3_600_000  # a lease that does not lapse during a test

T = TypeVar("T")


def fact(test: Callable[[Any, Journal], Awaitable[None]]) -> Callable[[Any, Journal], None]:
    """Make a test of an async function: open the journal, run it, close the journal."""

    @functools.wraps(test)
    def run(self: Any, journal: Journal) -> None:
        async def scenario() -> None:
            async with asyncio.timeout(PATIENCE_S):
                await journal.open()
                try:
                    await test(self, journal)
                finally:
                    await journal.close()

        asyncio.run(scenario())

    return run


async def eventually(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until the answer is truthy, and return it; the fact's own time limit ends the wait."""
    while True:
        answer = await ask()
        if answer:
            return answer
        await asyncio.sleep(0.002)


def started(*, limits: Limits = Limits(), **fields: Any) -> RunStarted:  # noqa: B008
    """Return a run's first event."""
    facts: dict[str, Any] = {
        "program": "p", "program_kind": "workflow", "definition": "d1",
        "nonce": "00", "input": Raw(b"{}"), "limits": limits,
    }  # fmt: skip
    return RunStarted(**facts | fields)


def requested(address: str, *, reserve: Amount = NOTHING) -> ActionRequested:
    """Return the request of a tool call."""
    return ActionRequested(address=address, action=CallTool("t", Raw(b"{}")), reserve=reserve)


def succeeded(address: str, output: bytes = b"1", *, spent: Amount | None = None) -> AnyEvent:
    """Return an action's good end."""
    return ActionSucceeded(address=address, output=Raw(output), spent=spent)


def unknown(address: str) -> ActionUnknown:
    """Return an action's unknown end."""
    return ActionUnknown(address=address, error=ErrorRecord("E_UNKNOWN_LOST", "lost"))


def signal(name: str = "go") -> SignalReceived:
    """Return a signal."""
    return SignalReceived(name=name)


def note(text: str = "hello") -> Note:
    """Return a note."""
    return Note(text=text)


def outside(*events: AnyEvent) -> Batch:
    """Return a batch that anybody may append."""
    return Batch(events=events, append_id=secrets.token_bytes(16))


def inside(lease: Lease, after: int | None, *events: AnyEvent) -> Batch:
    """Return a batch of the worker that holds `lease`."""
    return Batch(events=events, append_id=secrets.token_bytes(16), epoch=lease.epoch, after=after)


async def begin(
    journal: Journal, id: str = "r1", *, tenant: str = DEFAULT_TENANT, **fields: Any
) -> RunKey:
    """Create a run and return its name."""
    run = RunKey(tenant, id)
    row = await journal.create(run, started(**fields), input_hash="h")
    assert row is not None, f"the id {id} is taken"
    return run


async def claimed(journal: Journal, run: RunKey, *, owner: str = "w1") -> Lease:
    """Claim a run for a long time."""
    lease = await journal.claim(run, owner=owner, ttl_ms=LONG_MS)
    assert lease is not None, f"{run} could not be claimed"
    return lease


async def working(journal: Journal, id: str = "r1", **fields: Any) -> Lease:
    """Create a run and claim it."""
    return await claimed(journal, await begin(journal, id, **fields))


async def kinds(journal: Journal, run: RunKey) -> list[str]:
    """Return the kinds of a run's events, in order."""
    return [kind(recorded) for recorded in await journal.read(run)]


def kind(recorded: Recorded) -> str:
    """Return the stable name of a recorded event's kind."""
    return str(recorded.event.__struct_config__.tag)
