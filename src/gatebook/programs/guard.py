"""Catches real clocks and randomness while a program is stepped, where it would not replay.

A profile hook sees the calls into C that read them. It slows a step several times over, so it is
for development, tests and verify: `guarded(program.begin(started))`. Best effort: it cannot see
what extension modules do inside.
"""

import gc
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

from gatebook.errors import ConfigError
from gatebook.ports import Outcome, Step, Stepper

NOW = "ctx.now()"
RANDOM = "ctx.random()"
UUID = "ctx.uuid() or ctx.random()"
SLEEP = "await ctx.sleep(...)"

CLOCKS = frozenset(
    f"{name}{unit}"
    for name in (
        "time",
        "monotonic",
        "perf_counter",
        "process_time",
        "thread_time",
        "clock_gettime",
    )
    for unit in ("", "_ns")
)
OTHERS = {
    ("time", "sleep"): SLEEP,
    ("posix", "urandom"): UUID,
    ("posix", "getrandom"): UUID,
    ("nt", "urandom"): UUID,
    ("_uuid", "generate_time_safe"): UUID,
    ("_uuid", "UuidCreate"): UUID,
}
DATES = ("now", "utcnow", "today")
# Whose own use of the clock is none of the program's: log records, and modules being imported.
EXEMPT = frozenset({"logging", "structlog", "loguru", "importlib"})


class GuardedStepper(Stepper):
    """A stepper whose steps raise E_WORKFLOW_CLOCK where a program reads a clock or randomness.

    Attributes:
        caught: the first such error, None while there was none; the program may have handled it.
    """

    def __init__(self, stepper: Stepper, program: str) -> None:
        self._stepper = stepper
        self._program = program
        self.caught: ConfigError | None = None

    def step(self, outcomes: Sequence[Outcome]) -> Step:
        """Step with the hook set; the error is raised inside the program, at the call."""
        before, collecting = sys.getprofile(), gc.isenabled()
        gc.disable()  # a collection would run other people's callbacks under the hook
        sys.setprofile(self._watch)
        try:
            return self._stepper.step(outcomes)
        finally:
            sys.setprofile(before)
            if collecting:
                gc.enable()

    def check(self, address: str, output: bytes) -> None:
        """Ask the stepper inside."""
        self._stepper.check(address, output)

    def close(self) -> None:
        """Close the stepper inside."""
        self._stepper.close()

    def _watch(self, frame: FrameType, event: str, called: Any) -> None:
        if event != "c_call":
            return
        remedy = _remedy(called, frame)
        if remedy is not None and not _is_exempt(frame):
            error = ConfigError(
                "E_WORKFLOW_CLOCK", program=self._program, value=_name(called), fix=remedy
            )
            self.caught = self.caught or error
            raise error


def guarded(stepper: Stepper, *, program: str = "") -> GuardedStepper:
    """Return the stepper with a hook against real clocks and randomness; for one thread."""
    return GuardedStepper(stepper, program)


def _remedy(called: Any, frame: FrameType) -> str | None:
    """Return what to use instead of a C function, or None when it may be called."""
    name = getattr(called, "__name__", "")
    module = getattr(called, "__module__", None)
    if module == "time" and name in CLOCKS:
        return NOW
    other = OTHERS.get((str(module), name))
    if other is not None:
        return other
    owner = getattr(called, "__self__", None)
    if name in DATES and isinstance(owner, type) and owner.__module__ == "datetime":
        return NOW
    return RANDOM if _is_shared_random(owner, name, frame) else None


def _is_shared_random(owner: object, name: str, frame: FrameType) -> bool:
    """Whether a method is the global generator's, or seeds one from the system.

    A generator that was seeded with a value of the program's own replays and may be used.
    """
    module = sys.modules.get("random")
    if module is None or not isinstance(owner, module.Random):
        return False
    if owner is module._inst:
        return True
    return name == "seed" and frame.f_locals.get("a", name) is None


def _is_exempt(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code is not GuardedStepper.step.__code__:
        module = str(frame.f_globals.get("__name__", ""))
        if module.lstrip("_").partition(".")[0] in EXEMPT:
            return True
        frame = frame.f_back
    return False


def _name(called: Any) -> str:
    owner = getattr(called, "__self__", None)
    if isinstance(owner, type):
        return f"{owner.__name__}.{called.__name__}"
    module = getattr(called, "__module__", None) or "random"
    return f"{'os' if module == 'posix' else module}.{called.__name__}"
