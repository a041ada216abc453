"""What recorded answers of hooks promise of the events after them; for verification. Pure."""

from gatebook.kernel.codec import digest
from gatebook.kernel.events import (
    ActionRequested,
    ActionSucceeded,
    AnyEvent,
    AttemptFailed,
    HookAnswered,
    RunCompleted,
)
from gatebook.kernel.hooks.declared import AFTER, BEFORE


class HookFacts:
    """The answers of one run so far, and whether what follows agrees with them."""

    __slots__ = ("_last", "_refused", "_run")

    def __init__(self) -> None:
        self._refused: dict[str, str] = {}  # address -> the hook that refused it
        self._last: dict[str, HookAnswered] = {}  # address -> of the attempt that is looked at
        self._run = ""  # the hook that refused the run

    def problem(self, event: AnyEvent, *, requested: bool, running: bool) -> str:
        """Take in one more event; return what is wrong with it, "" for nothing.

        Args:
            requested: its action was requested or denied before.
            running: an attempt of its action is under way.
        """
        match event:
            case HookAnswered(hook=hook, address=address):
                if event.point in BEFORE and requested:
                    return f"hook {hook} was asked about {address} after it was decided"
                if event.point in AFTER and not running:
                    return f"hook {hook} was asked about {address}, of which nothing ran"
                self._take(event)
            case ActionRequested(address=address) if address in self._refused:
                return f"{address} was requested though hook {self._refused[address]} refused it"
            case ActionSucceeded(address=address):
                return self._disagrees(event, self._last.pop(address, None))
            case AttemptFailed(address=address):
                self._last.pop(address, None)
            case RunCompleted() if self._run:
                return f"the run completed though hook {self._run} refused it"
            case _:
                pass
        return ""

    def _take(self, event: HookAnswered) -> None:
        if event.point in AFTER:
            self._last[event.address] = event
        elif event.stops and event.point in BEFORE:
            self._refused[event.address] = event.hook
        elif event.stops:
            self._run = event.hook

    @staticmethod
    def _disagrees(event: ActionSucceeded, last: HookAnswered | None) -> str:
        if last is None:
            return ""
        if last.stops:
            return f"{event.address} shows a result that hook {last.hook} withheld"
        ruled = event.decision is not None  # result rules come after hooks
        if last.made and not ruled and digest(bytes(event.output)) != last.made:
            return f"{event.address} has another result than hook {last.hook} made"
        return ""
