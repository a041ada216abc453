"""Run a blocking function on a daemon thread of its own and await it.

Not the loop's default executor: a tool that hangs must block neither its siblings nor the
interpreter's exit. Knows nothing of tools.
"""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

from gatebook.errors import ActionError

T = TypeVar("T")


async def run_in_thread(
    work: Callable[[], T],
    *,
    name: str,
    running: set[threading.Thread],
    stop: threading.Event,
) -> T:
    """Return what `work` returns, or raise what it raises, SystemExit included.

    The thread sees a copy of the caller's context variables and stands in `running` until it
    ends. Cancelling this call sets `stop` and leaves the thread to end by itself.

    Raises:
        Transient: no thread could be started, so nothing happened.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Callable[[], T]] = loop.create_future()
    context = contextvars.copy_context()

    def settle(outcome: Callable[[], T]) -> None:
        if not ended.done():
            ended.set_result(outcome)

    def body() -> None:
        outcome = _outcome(work, context)
        running.discard(thread)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, outcome)

    thread = threading.Thread(target=body, name=name, daemon=True)
    running.add(thread)
    try:
        thread.start()
    except RuntimeError as exc:
        running.discard(thread)
        raise ActionError.transient(f"no thread could be started: {exc}") from exc
    try:
        outcome = await ended
    except asyncio.CancelledError:
        stop.set()
        raise
    return outcome()


def _outcome(work: Callable[[], T], context: contextvars.Context) -> Callable[[], T]:
    """Run `work` and return a function that returns its result or raises its exception."""
    try:
        result = context.run(work)
    except BaseException as exc:  # noqa: BLE001 - a tool's SystemExit must reach the caller
        error = exc

        def fail() -> T:
            nonlocal error
            try:
                raise error
            finally:
                del error  # else the traceback keeps this frame alive in a cycle

        return fail
    return lambda: result
