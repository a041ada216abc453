"""Answers while they are written: redacted, to readers here at once, to the store now and then.

Nothing here is the truth: what is lost is in the outcome, once that is recorded.
"""

import asyncio
import logging
from collections.abc import Callable

from gatebook.errors import EXITS, GatebookError, StoreError
from gatebook.kernel.actions import Action
from gatebook.kernel.events import ActionRequested
from gatebook.kernel.messages import StreamEvent
from gatebook.kernel.redact import Redactor
from gatebook.kernel.streams.holdback import Holdback
from gatebook.kernel.streams.pieces import coalesce
from gatebook.ports import Journal, Lease, Piece
from gatebook.runtime.subscriptions import Delta, Hub

FLUSH_S = 0.25  # four times a second is enough to read along, and cheap for any disk

_log = logging.getLogger(__name__)


class Voice:
    """One attempt of one model call. `say` each event, then `end`."""

    def __init__(self, voices: "Voices", lease: Lease, address: str, attempt: int) -> None:
        self.lease = lease
        self.kept = 0
        self._voices = voices
        self._hub = voices.hub
        self._address, self._attempt = address, attempt
        self._holdback = Holdback(voices.redactor)
        self._said: list[Delta] = []

    def say(self, event: StreamEvent) -> None:
        """Show an event to readers, but for what may be the beginning of a secret."""
        for shown in self._holdback.feed(event):
            self._show(shown)

    def _show(self, event: StreamEvent) -> None:
        delta = Delta(self._address, self._attempt, len(self._said), event)
        self._said.append(delta)
        self._hub.publish(self.lease.run, delta)

    def end(self) -> None:
        """Show what was held back: nothing more comes."""
        for event in self._holdback.end():
            self._show(event)
        self._voices.forget(self)

    def unkept(self) -> Piece | None:
        """Return what was said since the last piece, None for nothing."""
        first, upto = self.kept, len(self._said)
        if first == upto:
            return None
        body = coalesce(delta.event for delta in self._said[first:upto])
        return Piece(self._address, self._attempt, first, upto - first, body)


class MutedVoice:
    """The voice of an attempt of which nothing is shown before it is decided about."""

    def say(self, event: StreamEvent) -> None:
        """Show nothing."""

    def end(self) -> None:
        """Show nothing."""


class Voices:
    """The answers that are being written in this worker.

    Args:
        journal: where pieces are kept for readers in other processes; None keeps none.
        holds: whether answers to an action are shown only when they are decided about.
    """

    def __init__(
        self,
        hub: Hub,
        redactor: Redactor,
        journal: Journal | None = None,
        *,
        holds: Callable[[Action], bool] | None = None,
    ) -> None:
        self._holds = holds
        self.hub = hub
        self.redactor = redactor
        self._journal = journal
        self._live: set[Voice] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None

    def begin(self, lease: Lease, request: ActionRequested, attempt: int) -> Voice | MutedVoice:
        """Return the voice of an attempt that begins."""
        try:
            if self._holds is not None and self._holds(request.action):
                return MutedVoice()
        except EXITS:
            raise
        except BaseException:  # noqa: BLE001 - somebody's policy; its result is withheld then
            return MutedVoice()
        voice = Voice(self, lease, request.address, attempt)
        if self._journal is not None:
            self._live.add(voice)
            self._wait()
        return voice

    def forget(self, voice: Voice) -> None:
        """Keep nothing more of an attempt: its outcome comes now."""
        self._live.discard(voice)
        if not self._live and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        if self._live and self._timer is None and self._flushing is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._start)

    def _start(self) -> None:
        self._timer = None
        self._flushing = asyncio.ensure_future(self._flush())
        self._flushing.add_done_callback(self._flushed)

    def _flushed(self, task: "asyncio.Task[None]") -> None:
        self._flushing = None
        if not task.cancelled():
            self._wait()

    async def _flush(self) -> None:
        waiting: dict[Lease, list[tuple[Voice, Piece]]] = {}
        for voice in list(self._live):
            try:
                piece = voice.unkept()
            except UnicodeEncodeError:  # half a character, from a provider of somebody's own
                self._live.discard(voice)
                continue
            if piece is not None:
                waiting.setdefault(voice.lease, []).append((voice, piece))
        await asyncio.gather(*(self._put(lease, found) for lease, found in waiting.items()))

    async def _put(self, lease: Lease, found: list[tuple[Voice, Piece]]) -> None:
        assert self._journal is not None
        try:
            await self._journal.put_pieces(lease, [piece for _, piece in found])
        except GatebookError as exc:
            _log.debug("not kept: %s", exc, extra={"run": lease.run.id})
            if not isinstance(exc, StoreError) or exc.code == "E_FENCED":
                self._live.difference_update(voice for voice, _ in found)
            return  # a store that does not answer is asked again with more
        for voice, piece in found:
            voice.kept = piece.first + piece.count

    async def close(self) -> None:
        """Stop keeping."""
        self._live.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.wait({self._flushing})
