"""Whether what a person gives fits the program that is to read it, where the program is known here.

Only `run` and what follows it need programs: these checks say nothing when there is none, and
nothing of a program whose definition is not the run's.
"""

from collections.abc import Mapping
from typing import Any

from gatebook.cli.apps import app_for, remembered_of
from gatebook.cli.options import Given
from gatebook.errors import ConfigError, Diverged, InvalidInput
from gatebook.kernel.codec import canonical
from gatebook.kernel.events import RunStarted
from gatebook.kernel.state import RunState
from gatebook.ports import Program, Recorded, RunRow
from gatebook.runtime.client import Client
from gatebook.runtime.replay import Replay, final_args


def program_of(given: Given, row: RunRow) -> Program[Any, Any] | None:
    """Return a run's program from --app, the settings or what `run` remembered; else None."""
    try:
        program = app_for(given, [row.program], remembered_of(given, row)).program(row.program)
        return program if program.digest == row.definition else None
    except ConfigError:
        return None


async def check_signal(client: Client, given: Given, row: RunRow, name: str, payload: Any) -> None:
    """Refuse a signal that the wait which would take it cannot read.

    Raises:
        InvalidInput: E_SIGNAL_UNFIT.
    """
    recorded = await client.journal.read(row.run)
    address = _taker(recorded, name)
    program = program_of(given, row) if address else None
    started = recorded[0].event
    if program is None or not isinstance(started, RunStarted):
        return
    try:
        replay = Replay(program.begin(started), final_args(program.tools))
        try:
            for each in recorded:
                replay.feed(each.event, each.seq)
            replay.check(address, canonical(payload, what="signal payload"))
        finally:
            replay.close()
    except Diverged:
        return
    except InvalidInput as exc:
        if exc.code != "E_SIGNAL_TYPE":
            raise
        detail = exc.fields["detail"]
        raise InvalidInput("E_SIGNAL_UNFIT", run=row.run.id, name=name, detail=detail) from exc


def _taker(recorded: list[Recorded], name: str) -> str:
    """Return the address of the wait that the next signal of a name is for, "" for none yet."""
    state = RunState()
    for each in recorded:
        state.apply(each.event)
    waits, kept = state.waits.get(name, ()), len(state.signals.get(name, ()))
    return list(waits)[kept] if kept < len(waits) else ""


def check_edit(given: Given, row: RunRow, tool: str, edit: Mapping[str, Any]) -> None:
    """Refuse edited arguments that a tool does not take. Raises InvalidInput E_ARGS_*."""
    program = program_of(given, row)
    if program is not None and tool in program.tools:
        program.tools[tool].validate(canonical(dict(edit), what=f"edited arguments of {tool}"))
