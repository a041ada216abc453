"""Recorded runs as policy commands see them: events, and what their programs declare.

Reads the store and imports programs; writes nothing and starts nothing.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gatebook.cli.apps import App, app_for
from gatebook.cli.options import Given
from gatebook.cli.policies.files import settings_app
from gatebook.cli.store import existing, find
from gatebook.errors import ConfigError, GatebookError
from gatebook.kernel.events import AnyEvent
from gatebook.kernel.review.again import Validate
from gatebook.kernel.tools import ToolSpec
from gatebook.ports import RunQuery, RunRow, Tool

ALL = 2**31  # runs; more than a store of one machine holds

Visit = Callable[[RunRow, Sequence[AnyEvent] | GatebookError], None]


class Declared:
    """What the programs of recorded runs declare: of --app, or where `run` remembers them.

    Attributes:
        unknown: programs that cannot be found, with the reason.
    """

    def __init__(self, given: Given) -> None:
        self._given = given
        self._named = settings_app(given)
        self._apps: dict[str, App | None] = {}
        self.unknown: dict[str, str] = {}

    def app(self, program: str) -> App | None:
        """Return the app that has a program, None when it cannot be found."""
        if program not in self._apps:
            self._apps[program] = self._find(program)
        return self._apps[program]

    def tools(self, program: str) -> Mapping[str, Tool]:
        """Return a program's tools, none when it cannot be found."""
        app = self.app(program)
        return {} if app is None else app.program(program).tools

    def _find(self, program: str) -> App | None:
        try:
            app = self._named or app_for(self._given, [program])
            app.program(program)
        except ConfigError as exc:
            self.unknown[program] = str(exc)
            return None
        return app


def specs(tools: Mapping[str, Tool]) -> dict[str, ToolSpec]:
    """Return what tools declare, by name."""
    return {name: tool.spec for name, tool in tools.items()}


def validator(tools: Mapping[str, Tool]) -> Validate:
    """Return how changed arguments become final; those of unknown tools stay as they are."""
    return lambda name, args: tools[name].validate(args) if name in tools else args


def read_run(given: Given, name: str) -> tuple[RunRow, list[AnyEvent]]:
    """Return one run and its events. Raises RunNotFound, InvalidInput, JournalCorrupt."""

    async def read() -> tuple[RunRow, list[AnyEvent]]:
        async with existing(given) as client:
            row = await find(client, name)
            return row, [each.event for each in await client.journal.read(row.run)]

    return asyncio.run(read())


def each_run(given: Given, query: dict[str, Any], names: Sequence[str], visit: Visit) -> None:
    """Call `visit` with every run and its events, oldest first, or with why they do not read.

    Args:
        query: which runs, as `RunQuery` takes it; `names` are runs instead.
    """

    async def read() -> None:
        async with existing(given) as client:
            if names:
                rows = [await find(client, name) for name in names]
                found = list({row.run: row for row in rows}.values())
            else:
                found = await client.runs(RunQuery(limit=ALL, **query))
            for row in sorted(found, key=lambda row: (row.created, row.run.id)):
                try:
                    events = [each.event for each in await client.journal.read(row.run)]
                except GatebookError as exc:
                    visit(row, exc)
                else:
                    visit(row, events)

    asyncio.run(read())
