"""What is said after a command has changed a run from outside: who takes it from here."""

from typing import Any

from gatebook.cli.latest import seen
from gatebook.cli.options import Given
from gatebook.cli.output import safe
from gatebook.cli.words import run_fields, status_of, waits
from gatebook.ports import RunKey
from gatebook.runtime.client import Client


async def after_steering(client: Client, run: RunKey, given: Given) -> tuple[dict[str, Any], str]:
    """Return the run's fields for JSON, and the words that follow for people."""
    row = await seen(client.journal, await client.journal.row(run))
    now = client.journal.now()
    status = status_of(row, now)
    fields = {"status": status, "waiting_on": run_fields(row, now)["waiting_on"]}
    if row.head.terminal or status == "running":
        return fields, ""
    if status == "waiting":  # nothing that it waits for has come
        return fields, f"; it waits for: {safe(', '.join(waits(row)))}"
    line = given.driving_line("resume", run.id)
    return fields, f"\nlet it go on: {line}"
