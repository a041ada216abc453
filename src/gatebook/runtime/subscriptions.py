"""Live news of runs inside one process: deltas of model answers, progress, and "look again".

Nothing here is the truth and nothing is kept for long: a reader that comes late or reads slowly
finds every fact in the journal. A slow reader never blocks a run.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress

import msgspec

from gatebook.kernel.events import ActionFailed, ActionSucceeded, ActionUnknown, AnyEvent
from gatebook.kernel.messages import StreamEvent
from gatebook.ports import Clock, RunKey

BACKLOG = 10_000  # deltas one reader may lag before the oldest are dropped and it is told

_FINAL = (ActionSucceeded, ActionFailed, ActionUnknown)


class Delta(msgspec.Struct, frozen=True):
    """One live event of a model answer; `index` counts within (action, attempt) from 0."""

    address: str
    attempt: int
    index: int
    event: StreamEvent


class Progress(msgspec.Struct, frozen=True):
    """What a running tool says of itself; never journaled."""

    address: str
    done: float | None = None
    total: float | None = None
    detail: str = ""


class Reset(msgspec.Struct, frozen=True):
    """Drop what was shown of this action: it is superseded.

    Attributes:
        attempt: the one that begins now.
        shown: characters of its text that this reader was given, and drops.
        instead: "" when another attempt of the action begins; else the address of the action that
            asks for its answer again, because it did not fit.
    """

    address: str
    attempt: int
    shown: int = 0
    instead: str = ""


class Lagged(msgspec.Struct, frozen=True):
    """The reader was too slow: `dropped` live events are gone; the journal has the answer."""

    dropped: int


Live = Delta | Progress | Reset | Lagged


class Subscriber:
    """One reader's bounded queue. It may wait in another event loop than what wakes it runs in.

    Attributes:
        follows: it reads every event, and not only where the run stands when it stops.
        keeps: live items are queued for it; else it is only woken, and asks `Hub.current`.
        hears: live items concern it.
        grown: it was told to look at the journal since the last `drain`.
    """

    def __init__(self, *, follows: bool = True, keeps: bool = True, hears: bool = True) -> None:
        self.follows = follows
        self.keeps = keeps
        self.hears = hears
        self.grown = False
        self._queue: deque[Live] = deque()
        self._came = False
        self._waiter: asyncio.Future[None] | None = None
        self._dropped = 0

    def put(self, item: Live) -> None:
        """Offer an item; over the bound the oldest goes."""
        if not self.keeps:
            if self.hears:
                self._come()
            return
        if len(self._queue) >= BACKLOG:
            self._queue.popleft()
            self._dropped += 1
        self._queue.append(item)
        self._come()

    def wake(self) -> None:
        """Make a waiting reader look at the journal."""
        self.grown = True
        self._come()

    def _come(self) -> None:
        self._came = True
        self._end_wait()

    def _end_wait(self, _: object = None) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if (loop := waiter.get_loop()) is asyncio.get_running_loop():
            waiter.set_result(None)
            return
        with suppress(RuntimeError):  # the loop is closed: whoever waited there is gone
            loop.call_soon_threadsafe(self._end_wait)

    async def wait(self, clock: Clock, seconds: float) -> bool:
        """Wait for what is put or woken after the last `drain`; False when time is up before."""
        if self._came:
            return True
        self._waiter = asyncio.get_running_loop().create_future()
        timer = asyncio.ensure_future(clock.sleep(seconds))
        timer.add_done_callback(self._end_wait)
        try:
            await self._waiter
        finally:
            self._waiter = None
            timer.cancel()
        return self._came

    def drain(self) -> list[Live]:
        """Return what has come, oldest first."""
        self._came = self.grown = False
        items = [self._queue.popleft() for _ in range(len(self._queue))]
        if self._dropped:
            items.insert(0, Lagged(self._dropped))
            self._dropped = 0
        return items


class Hub:
    """Where drivers publish and handles listen, by run."""

    def __init__(self) -> None:
        self._subscribers: dict[RunKey, set[Subscriber]] = {}
        self._current: dict[RunKey, dict[str, list[Delta]]] = {}

    @contextmanager
    def subscribe(
        self,
        run: RunKey,
        *,
        catch_up: bool = True,
        follows: bool = True,
        keeps: bool = True,
        hears: bool = True,
    ) -> Iterator[Subscriber]:
        """Listen to a run; `catch_up` begins with what its running model calls said so far.

        Who does not follow every event is not woken for each; `keeps`, `hears`: see Subscriber.
        """
        subscriber = Subscriber(follows=follows, keeps=keeps, hears=hears)
        if catch_up:
            for deltas in self.current(run).values():
                for delta in deltas:
                    subscriber.put(delta)
        self._subscribers.setdefault(run, set()).add(subscriber)
        try:
            yield subscriber
        finally:
            listening = self._subscribers.get(run, set())
            listening.discard(subscriber)
            if not listening:
                self._subscribers.pop(run, None)

    def _listening(self, run: RunKey) -> tuple[Subscriber, ...]:
        """Return who listens now: readers in other event loops come and go meanwhile."""
        return tuple(self._subscribers.get(run, ()))

    def publish(self, run: RunKey, item: Delta | Progress) -> None:
        """Hand an item to every reader of the run."""
        if isinstance(item, Delta):
            self._keep(run, item)
        self._put(run, item)

    def _keep(self, run: RunKey, item: Delta) -> None:
        said = self._current.setdefault(run, {})
        kept = said.get(item.address)
        if kept is not None and kept[0].attempt == item.attempt:
            kept.append(item)
            return
        if kept is not None:
            self._put(run, Reset(item.address, item.attempt))
        if item.index == 0:  # else it is the end of something that was forgotten
            said[item.address] = [item]

    def current(self, run: RunKey) -> Mapping[str, list[Delta]]:
        """Return what the running model calls said so far, by address, each from its beginning.

        The lists grow while they are read.
        """
        return self._current.get(run, {})

    def _put(self, run: RunKey, item: Live) -> None:
        for subscriber in self._listening(run):
            subscriber.put(item)

    def settled(self, run: RunKey, address: str) -> None:
        """Forget the deltas of an action whose outcome is in the journal now."""
        current = self._current.get(run)
        if current is not None:
            current.pop(address, None)
            if not current:
                del self._current[run]

    def keep_only(self, run: RunKey, addresses: Set[str]) -> None:
        """Forget the deltas of all other actions of a run: they are not under way here."""
        for address in self.current(run).keys() - addresses:
            self.settled(run, address)

    def changed(self, run: RunKey) -> None:
        """Tell readers that the journal or the state of the run has changed."""
        for subscriber in self._listening(run):
            subscriber.wake()

    def grew(self, run: RunKey, events: Sequence[AnyEvent] = (), *, over: bool = False) -> None:
        """Tell readers that follow every event that there are new ones, and all when it is `over`.

        While the run goes on they are told after what is started now.
        """
        if over:
            self.changed(run)
        else:
            for subscriber in self._listening(run):
                if subscriber.follows:
                    asyncio.get_running_loop().call_soon(subscriber.wake)
        if run in self._current:
            for event in events:
                if isinstance(event, _FINAL):
                    self.settled(run, event.address)
