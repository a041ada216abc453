"""What is left of a run whose next step nobody can make out: the ends of attempts, and a reason.

A plan breaks off at errors that no rule foresees: memory that is gone, a bug of ours or of what a
program is made of. Made again it would break off again, so the run halts; but what attempts have
done is known, and is recorded first, without the program and without anything that follows.
"""

import logging
from collections.abc import Iterator, Mapping

from gatebook.errors import EXITS, GatebookError, IntegrityError, StoreError
from gatebook.kernel.events import ActionFailed, ActionSucceeded, AnyEvent, Interrupted, Note
from gatebook.kernel.opened import Open
from gatebook.kernel.redact import Redactor
from gatebook.kernel.state import RunState
from gatebook.kernel.status import RUNNING
from gatebook.kernel.stored import decode, stamp, written
from gatebook.ports import Stretch
from gatebook.runtime.driving.planner import Planner
from gatebook.runtime.logs import traced
from gatebook.runtime.performing.ended import Ended

_log = logging.getLogger(__name__)


def halt_for(exc: BaseException, run: str, redactor: Redactor) -> None:
    """Raise what halts a run in the place of an error that nobody expects of a plan.

    Returns for what has a way of its own: an exit, and what store and journal say.

    Raises:
        IntegrityError: E_RUN_STUCK.
    """
    if isinstance(exc, (*EXITS, StoreError, IntegrityError)):
        return
    _log.error("a plan broke off\n%s", traced(exc, redactor), extra={"run": run})
    name = type(exc).__name__
    detail = f"{name}: {exc}" if isinstance(exc, GatebookError) else name
    raise IntegrityError("E_RUN_STUCK", run=run, detail=detail) from exc


def remains(
    planner: Planner, past: Stretch, ends: Mapping[str, tuple[int, Ended]], run: str
) -> Iterator[tuple[AnyEvent, ...]]:
    """Yield what records the ends of attempts that the journal does not hold, one after another.

    What the plan that broke off has made of an end already is not decided again. One that cannot
    be told stays open; recovery finds it.

    Args:
        past: the run as the journal has it.
        ends: address -> (attempt, how).
    """
    state = RunState()
    for event in past.events:
        state.apply(event)
    for address, (attempt, ended) in list(ends.items()):
        entry = state.head.open.get(address)
        if entry is None or entry.attempt != attempt or entry.phase != "started":
            continue
        try:
            events = _recording(address, planner, state, entry, ended)
            for event in events:
                state.apply(decode(written(event, stamp(state.head.time, 0)), run=run, seq=0))
        except EXITS:
            raise
        except BaseException as exc:  # noqa: BLE001 - one must not take the others with it
            _log.error(
                "the end of %s is not kept: %s", address, type(exc).__name__, extra={"run": run}
            )
            continue
        yield tuple(events)


def _recording(
    address: str, planner: Planner, state: RunState, entry: Open, ended: Ended
) -> list[AnyEvent]:
    outcome = planner.outcome(state.requests[address], entry, ended)
    events: list[AnyEvent] = [*ended.answers]
    if ended.note:
        events.append(Note(text=ended.note))
    events.append(outcome)
    said = outcome.decision if isinstance(outcome, ActionSucceeded | ActionFailed) else None
    if said is not None and said.verdict == "interrupt" and state.head.status is RUNNING:
        events.append(Interrupted(error=said.told))
    return events
