"""What the catalogue's tests share: errors looked at as people see them, and unchanged stores."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gatebook import Agent, GatebookError, Runtime
from gatebook.kernel.events import ActionDenied, ActionRequested, AnyEvent, RunFailed
from gatebook.kernel.messages import (
    MessageEnd,
    MessageStart,
    ToolCallDelta,
    ToolCallStart,
    ToolResultPart,
)
from gatebook.ports import Journal
from gatebook.runtime.runs.states import Failed
from tests.runtime import kit
from tests.runtime.kit import USAGE, Model, Said, said

TENANTS = ("default", "other")
LONGEST = 500  # characters of any message: values in it are cut


class Desk(kit.Desk):
    """A desk whose runs can still be read when its runtime is closed."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.kept: dict[str, list[AnyEvent]] = {}

    @asynccontextmanager
    async def open(self, *programs: Any, **options: Any) -> AsyncIterator[Runtime]:
        self.kept.clear()
        async with super().open(*programs, **options) as runtime:
            yield runtime
            for row in await runtime.runs():
                self.kept[row.run.id] = await super().events(row.run.id)

    async def events(self, run_id: str) -> list[AnyEvent]:
        return self.kept[run_id] if run_id in self.kept else await super().events(run_id)


def told(error: GatebookError, code: str, *says: object) -> None:
    """Check an error as its reader sees it: the code, every part, no gap and no flood."""
    assert error.code == code
    legible(str(error), code, *says)


def legible(text: str, code: str, *says: object) -> None:
    """Check a message: what happened; what to do [CODE]."""
    for part in says:
        assert str(part) in text
    what, _, fix = text.partition("; ")
    assert what
    assert fix.endswith(f"[{code}]")
    assert len(fix) > len(f" [{code}]") + 3, "it does not say what to do"
    assert not re.search(r"(?<!\w)\?(?!\w)", text), f"a field is missing: {text}"
    assert text.isprintable()
    assert len(text) <= LONGEST


async def written(journal: Journal) -> int:
    """How many events a store holds, of all tenants."""
    return sum([len(await journal.tail(tenant, after=0, limit=10**6)) for tenant in TENANTS])


@asynccontextmanager
async def nothing_written(journal: Journal) -> AsyncIterator[None]:
    """Check that a store is left as it was."""
    before = await written(journal)
    yield
    assert await written(journal) == before


@asynccontextmanager
async def refused(journal: Journal, code: str, *says: object) -> AsyncIterator[None]:
    """Check that what is done here is refused with an error that reads well and writes nothing."""
    async with nothing_written(journal):
        with pytest.raises(GatebookError) as caught:
            yield
    told(caught.value, code, *says)


def calls(*asked: tuple[str, str]) -> Said:
    """An answer that calls tools with these argument texts, as a model wrote them."""
    events: list[Any] = [MessageStart("m")]
    for index, (name, arguments) in enumerate(asked):
        events += [ToolCallStart(index, f"c{index}", name), ToolCallDelta(index, arguments)]
    return [*events, MessageEnd("tool_calls", "tool_calls", USAGE)]


class Asked:
    """One run of an agent whose model calls tools once, then answers.

    Attributes:
        model: its requests.
        results: what the model read back, call by call.
    """

    def __init__(self, *asked: tuple[str, str]) -> None:
        self.model = Model(calls(*asked), said("done"))
        self.desk = Desk()

    @staticmethod
    def agent(*tools: Any) -> Agent[str]:
        """The agent with these tools."""
        return Agent(name="helper", model="fake:m", tools=list(tools))

    async def play(self, *tools: Any, **options: Any) -> list[str]:
        """Run to the end and return what the model read."""
        agent = self.agent(*tools)
        async with self.desk.open(agent, providers={"fake": self.model}, **options) as runtime:
            handle = await runtime.start(agent, "go", run_id="r")
            await self.desk.settled(handle)
        return [
            part.content
            for message in self.model.asked[-1].messages
            for part in message.content
            if isinstance(part, ToolResultPart)
        ]

    async def requested(self) -> list[ActionRequested]:
        """The tool calls that were let through."""
        found = await self.desk.all("r", ActionRequested)
        return [event for event in found if event.address not in {"t1", "t2"}]

    async def denied(self) -> list[ActionDenied]:
        """The tool calls the gate refused."""
        return await self.desk.all("r", ActionDenied)


async def failure(desk: Desk, program: Any, value: Any = None, **options: Any) -> Failed:
    """Run a program on a desk that must fail, and return how."""
    async with desk.open(program) as runtime:
        handle = await runtime.start(program, value, run_id="r", **options)
        state = await desk.settled(handle)
    assert isinstance(state, Failed)
    await desk.only("r", RunFailed)
    return state
