"""What tests of readers share: a long answer, readers elsewhere, and what they have of it."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from tests.runtime.kit import CutJournal, Desk, Said, flow

from gatebook.errors import ActionError
from gatebook.kernel.messages import MessageEnd, MessageStart, TextDelta
from gatebook.ports import Recorded
from gatebook.runtime.client import Client
from gatebook.runtime.runs.handles import RunHandle
from gatebook.runtime.subscriptions import Delta, Reset

END = MessageEnd("stop", "stop", None)
WORDS = ["one ", "two ", "three ", "four"]


async def asking(ctx: Any) -> str:
    try:
        return str((await ctx.call_llm("fake:m", "hi")).text)
    except ActionError as exc:
        return exc.code


ASKS = flow(asking, models=["fake:m"])


def spoken(*words: str, hold: asyncio.Event, at: int) -> Said:
    """An answer that waits before its word number `at`."""
    deltas: list[Any] = [TextDelta(0, word) for word in words]
    return [MessageStart("m"), *deltas[:at], hold.wait, *deltas[at:], END]


def elsewhere(desk: Desk) -> RunHandle[Any]:
    """The run as another process sees it: the same store, nobody to tell it anything."""
    client = Client(CutJournal(desk.journal), clock=desk.clock)
    client._journal = client.store  # type: ignore[assignment]
    return client.handle("r")


def written(items: Sequence[Any]) -> str:
    """The text a reader adds up that drops what it is told to drop."""
    texts: dict[str, str] = {}
    for item in items:
        if isinstance(item, Reset):
            assert len(texts.get(item.address, "")) == item.shown
            texts.pop(item.address, None)
        elif isinstance(item, Delta) and isinstance(item.event, TextDelta):
            texts[item.address] = texts.get(item.address, "") + item.event.text
    return "".join(texts.values())


def facts(items: Sequence[Any]) -> list[int]:
    """The seqs of the events a reader was given."""
    return [item.seq for item in items if isinstance(item, Recorded)]


async def begun(handle: RunHandle[Any], *, upto: str) -> tuple[list[Any], str]:
    """Read until that text has come; what came, and the cursor."""
    items: list[Any] = []
    reading = handle.events(deltas=True)
    async with aclosing(reading):
        async for item in reading:
            items.append(item)
            if written(items) == upto:
                break
    return items, reading.cursor


async def rest(handle: RunHandle[Any], cursor: int | str = 0) -> list[Any]:
    """Everything after a cursor."""
    return [item async for item in handle.events(after=cursor, deltas=True)]
