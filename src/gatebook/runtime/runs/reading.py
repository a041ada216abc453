"""Reading one run by cursor: its events, and its answers while they are written, in any process.

An answer that is written here comes from the hub, at once; one that is written elsewhere from the
pieces in the store. Whichever it is, and whatever was missed of both, the outcome in the journal
completes it: the text a reader adds up is the same whenever it comes and however often it leaves.
"""

from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Generic, Protocol, Self, TypeVar

import msgspec

from gatebook.errors import InvalidInput
from gatebook.kernel.actions import CallLLM
from gatebook.kernel.codec import NULL
from gatebook.kernel.events import (
    ActionFailed,
    ActionRequested,
    ActionResolved,
    ActionSucceeded,
    AnyEvent,
    AttemptStarted,
    Ends,
)
from gatebook.kernel.messages import ChatResponse, StreamEvent, TextDelta
from gatebook.kernel.redact import Redactor
from gatebook.kernel.streams.pieces import split
from gatebook.ports import Clock, Journal, Piece, Recorded, RunKey
from gatebook.runtime.runs.cursors import Shown, cursor_of, place_of
from gatebook.runtime.subscriptions import Delta, Hub, Reset, Subscriber

Item_co = TypeVar("Item_co", covariant=True)


class Door(Protocol):
    """What a reader needs of the client it came from."""

    hub: Hub
    clock: Clock
    redactor: Redactor

    @property
    def journal(self) -> Journal:
        """The open store."""

    def touched(self, run: RunKey) -> None:
        """Somebody appended to a run here."""

    def look_s(self, run: RunKey, *, listening: bool = False) -> float:
        """How often to look at a run that nobody here tells about."""

    def claims(self, run: RunKey) -> bool:
        """Whether a worker here is about to have the run, so that its row is soon out of date."""


class Reading(Generic[Item_co]):
    """An async iterator that knows where it stands.

    Leave it whenever you like, and come back with `cursor`, in any process: you get what comes
    after the item you were given last.
    """

    def __init__(self, follower: "Follower", items: AsyncGenerator[Item_co]) -> None:
        self._follower = follower
        self._items = items

    @property
    def cursor(self) -> str:
        """The place after the last item."""
        return self._follower.cursor

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item_co:
        return await self._items.__anext__()

    async def aclose(self) -> None:
        """Stop reading."""
        await self._items.aclose()


class Follower:
    """One reader's place in a run, and what it needs to know to go on from there.

    Raises:
        InvalidInput: E_CURSOR_INVALID; when it reads, for a place that the run has not come to:
            it is another run's, or the store is an older copy, and events would be left out.
    """

    def __init__(self, door: Door, run: RunKey, after: int | str) -> None:
        self._door = door
        self._run = run
        self._seq, self._shown = place_of(after)
        self._answers = Answers(self._shown)
        self._mark = 0

    @property
    def cursor(self) -> str:
        """The place after what was yielded last."""
        return cursor_of(self._seq, self._shown)

    async def events(self) -> AsyncGenerator[Recorded]:
        """Yield the run's events, and new ones as they come, to its end."""
        await self._check_place()
        subscribe = self._door.hub.subscribe
        with subscribe(self._run, catch_up=False, keeps=False, hears=False) as news:
            while True:
                news.drain()
                recorded = await self._door.journal.read(self._run, after=self._seq)
                for each in recorded:
                    self._seq = each.seq
                    yield each
                    if isinstance(each.event, Ends):
                        return
                if await self._is_over():
                    return
                await news.wait(self._door.clock, self._look_s)

    async def items(self) -> AsyncGenerator[Recorded | Delta | Reset]:
        """Yield events, and before each outcome of a model call what its answer says."""
        answers, journal = self._answers, self._door.journal
        await self._check_place()
        if self._seq:
            for each in await journal.read(self._run, limit=self._seq):
                answers.remember(each.event)
        with self._door.hub.subscribe(self._run, catch_up=False, keeps=False) as news:
            while True:
                await self._look_for_pieces()
                news.drain()
                for each in await journal.read(self._run, after=self._seq):
                    for item in answers.before(each.event):
                        yield item
                    answers.remember(each.event)
                    self._seq = each.seq
                    yield each
                    if isinstance(each.event, Ends):
                        return
                for said in self._said():
                    yield said
                if await self._is_over():
                    return
                looked_at = self._door.clock.monotonic()
                while await self._only_spoken(news, looked_at):
                    news.drain()
                    for said in self._said():
                        yield said

    async def texts(self) -> AsyncGenerator[str | Reset]:
        """Yield only what a person reads: text, and when to drop it."""
        async for item in self.items():
            if isinstance(item, Reset):
                yield item
            elif isinstance(item, Delta) and isinstance(item.event, TextDelta):
                yield item.event.text

    async def _check_place(self) -> None:
        if self._seq and self._seq > (await self._door.journal.row(self._run)).head.seq:
            raise InvalidInput("E_CURSOR_INVALID", value=self.cursor)

    def _said(self) -> Iterator[Delta]:
        return self._answers.said(self._door.hub.current(self._run))

    async def _look_for_pieces(self) -> None:
        if self._listening:
            pieces = await self._door.journal.pieces(self._run, after=self._mark)
            if pieces:
                self._mark = pieces[-1].mark
                self._answers.take(pieces)

    async def _is_over(self) -> bool:
        """Whether the run ended before the place this reader began at."""
        row = await self._door.journal.row(self._run)
        return row.head.terminal and row.head.seq <= self._seq

    async def _only_spoken(self, news: Subscriber, looked_at: float) -> bool:
        """Wait for news; whether they are that an answer here goes on, and nothing else."""
        left_s = looked_at + self._look_s - self._door.clock.monotonic()
        return left_s > 0 and await news.wait(self._door.clock, left_s) and not news.grown

    @property
    def _look_s(self) -> float:
        return self._door.look_s(self._run, listening=self._listening)

    @property
    def _listening(self) -> bool:
        """Whether an answer may be written in another process."""
        return self._answers.elsewhere(self._door.hub.current(self._run))


class Answers:
    """The answers that are being written where a reader stands, and what it was given of them.

    Args:
        shown: by address; changed with everything that is yielded here.
    """

    def __init__(self, shown: dict[str, Shown]) -> None:
        self._shown = shown
        self._open: dict[str, int] = {}  # address -> the attempt that is under way
        self._given: dict[str, int] = {}  # address -> characters of a recorded answer
        self._heard: dict[str, list[Delta]] = {}
        self._pieces: dict[str, list[Piece]] = {}

    def elsewhere(self, current: Mapping[str, list[Delta]]) -> bool:
        """Whether a model call is under way of which `current`, what is said here, has nothing."""
        return any(not _is_of(current.get(a), attempt) for a, attempt in self._open.items())

    def take(self, pieces: list[Piece]) -> None:
        """Take in what the store keeps; it is shown in its turn."""
        for piece in pieces:
            self._pieces.setdefault(piece.address, []).append(piece)

    def said(self, current: Mapping[str, list[Delta]]) -> Iterator[Delta]:
        """Yield what is new of the answers under way."""
        for address, attempt in list(self._open.items()):
            heard = current.get(address)
            if heard is not None and _is_of(heard, attempt):
                self._heard[address] = heard
            yield from self._new(address, attempt)

    def _new(self, address: str, attempt: int) -> Iterator[Delta]:
        heard = self._heard.get(address)
        if heard is not None and _is_of(heard, attempt):
            shown = self._shown.setdefault(address, Shown(attempt))
            while shown.index < len(heard):
                delta = heard[shown.index]
                shown.index += 1
                shown.chars += _length(delta.event)
                yield delta
        pieces = self._pieces.pop(address, [])
        later = [piece for piece in pieces if piece.attempt > attempt]
        if later:
            self._pieces[address] = later
        for piece in pieces:
            if piece.attempt == attempt:
                yield from self._of_piece(piece)

    def _of_piece(self, piece: Piece) -> Iterator[Delta]:
        """Yield what a piece adds; after a gap nothing: the outcome will complete it."""
        shown = self._shown.setdefault(piece.address, Shown(piece.attempt))
        if not piece.first <= shown.index < piece.first + piece.count:
            return
        for count, event in split(piece.body, after=shown.index - piece.first):
            delta = Delta(piece.address, piece.attempt, shown.index, event)
            shown.index += count
            shown.chars += _length(event)
            yield delta

    def before(self, event: AnyEvent) -> Iterator[Delta | Reset]:
        """Yield what has to be shown before an event: the rest of an answer, or what to drop."""
        match event:
            case ActionRequested(address=address, action=CallLLM()):
                refused = asked_again(event)
                if self._given.get(refused) and address not in self._shown:
                    self._shown[address] = Shown()
                    yield Reset(refused, 0, self._given[refused], instead=address)
            case AttemptStarted(address=address, attempt=attempt) if address in self._open:
                shown = self._shown.get(address)
                if shown is not None and shown.attempt < attempt:
                    self._shown[address] = Shown(attempt)
                    if shown.index:
                        yield Reset(address, attempt, shown.chars)
            case ActionSucceeded(address=address) if address in self._open:
                yield from self._new(address, event.attempt)
                yield from self._rest(address, event.attempt, answer_text(event))
            case ActionFailed(address=address) if address in self._open:
                yield from self._new(address, event.attempt)
                yield from self._rest(address, event.attempt, event.error.partial)
            case _:
                pass

    def _rest(self, address: str, attempt: int, text: str) -> Iterator[Delta]:
        """Yield what the recorded text says after what was shown."""
        shown = self._shown.setdefault(address, Shown(attempt))
        if shown.chars < len(text):
            delta = Delta(address, attempt, shown.index, TextDelta(0, text[shown.chars :]))
            shown.index += 1
            shown.chars = len(text)
            yield delta

    def remember(self, event: AnyEvent) -> None:
        """Know an event that was yielded, now or to an earlier reader."""
        match event:
            case ActionRequested(address=address, action=CallLLM()):
                self._open[address] = 0
            case AttemptStarted(address=address, attempt=attempt) if address in self._open:
                self._open[address] = attempt
            case ActionSucceeded(address=address) if address in self._open:
                self._given[address] = len(answer_text(event))
                self._close(address)
            case ActionFailed(address=address) if address in self._open:
                self._close(address)
            case ActionResolved(address=address) if event.resolution != "retry":
                self._close(address)
            case _:
                pass

    def _close(self, address: str) -> None:
        for known in (self._open, self._shown, self._heard, self._pieces):
            known.pop(address, None)


def asked_again(request: ActionRequested) -> str:
    """Return the address of the answer that a model call asks for again, "" for none.

    Workflows ask again at `{address}.r1`, agents in their next turn, which then does not build
    on the answer of the turn before.
    """
    first, _, number = request.address.rpartition(".r")
    if first and number.isdecimal():
        return first if number == "1" else f"{first}.r{int(number) - 1}"
    turn = request.address.removeprefix("t")
    action = request.action
    if not turn.isdecimal() or turn == request.address or not isinstance(action, CallLLM):
        return ""
    before = f"t{int(turn) - 1}"
    built_on = any(
        part.outcome is not None or (part.message is not None and part.message.role != "user")
        for part in action.prompt.new
    )
    return "" if built_on else before


def _is_of(said: list[Delta] | None, attempt: int) -> bool:
    return said is not None and said[0].attempt == attempt


def _length(event: StreamEvent) -> int:
    return len(event.text) if isinstance(event, TextDelta) else 0


def answer_text(event: ActionSucceeded) -> str:
    """Return the text of a recorded model answer, "" of one that is withheld."""
    if event.output == NULL:
        return ""
    return msgspec.json.decode(event.output, type=ChatResponse).text
