"""Opening the store for a command, and finding the run that was meant."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from gatebook.cli.options import Given
from gatebook.errors import ConfigError, InvalidInput, RunNotFound
from gatebook.journals import open_journal
from gatebook.ports import RunKey, RunQuery, RunRow
from gatebook.runtime.client import Client

LAST = "@last"
OPEN = ("running", "interrupted", "cancelling")  # statuses of runs that are not over
MOST = 10_000  # open runs that one command looks at
NAMED = 5  # runs named when a beginning fits several


@asynccontextmanager
async def existing(given: Given) -> AsyncIterator[Client]:
    """Open a store that must be there already; reading never makes one.

    Raises:
        ConfigError: E_STORE_MISSING, or E_STORE_* when it cannot be opened.
    """
    async with Client(existing_url(given), secrets=given.settings.secrets) as client:
        yield client


def existing_url(given: Given) -> str:
    """Return the store in force.

    Raises:
        ConfigError: E_STORE_MISSING when there is none, E_STORE_URL for what is no location,
            E_STORE_READONLY as `is_there`.
    """
    url: str = given.settings.store
    open_journal(url)
    path = Path(url.removeprefix("sqlite:///"))
    if is_kept(given) and not is_there(path):
        raise ConfigError("E_STORE_MISSING", store=str(path))
    return url


def is_kept(given: Given) -> bool:
    """Whether the store in force is there when this command has ended."""
    return given.settings.store not in (":memory:", "memory:")


def is_there(path: Path) -> bool:
    """Whether a store is there: an empty file is none, and to open it would make it one.

    Raises:
        ConfigError: E_STORE_READONLY when we may not look.
    """
    try:
        return path.exists() and not (path.is_file() and path.stat().st_size == 0)
    except PermissionError as exc:
        raise ConfigError("E_STORE_READONLY", store=str(path)) from exc


async def find(client: Client, name: str) -> RunRow:
    """Return the run of an id, a unique beginning of one, or @last.

    Raises:
        RunNotFound: E_RUN_NOT_FOUND. InvalidInput: E_RUN_AMBIGUOUS.
    """
    if name == LAST:
        newest = await client.runs(RunQuery(limit=1))
        if not newest:
            raise RunNotFound("E_RUN_NOT_FOUND", run=name)
        return newest[0]
    with suppress(RunNotFound):
        return await client.journal.row(RunKey(client.tenant, name))
    rows = await client.runs(RunQuery(id_prefix=name, limit=NAMED + 1)) if name else []
    if not rows:
        raise RunNotFound("E_RUN_NOT_FOUND", run=name)
    if len(rows) > 1:
        names = ", ".join(row.run.id for row in rows[:NAMED])
        more = " and more" if len(rows) > NAMED else ""
        raise InvalidInput("E_RUN_AMBIGUOUS", run=name, names=names + more)
    return rows[0]


async def open_runs(client: Client) -> list[RunRow]:
    """Return the runs that are not over, newest first."""
    return await client.runs(RunQuery(statuses=OPEN, limit=MOST))


def whoami() -> str:
    """Return who gives this command, for the record."""
    return os.environ.get("USER") or os.environ.get("LOGNAME") or f"uid {os.getuid()}"
