"""Cassettes: model calls recorded once and replayed in every test run after, without a network.

    def test_refund():
        with cassette("tests/cassettes/refund.json") as model:
            result = run_sync(support, "Refund order 17", policy=..., providers={"openai": model})

Replays unless told otherwise; `GATEBOOK_CASSETTES=record pytest ...` calls the real provider.
Works at the provider port: it knows neither vendors nor HTTP.
"""

import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Literal, cast, get_args

from gatebook.errors import ConfigError, ProviderError, shown
from gatebook.kernel.codec import canonical
from gatebook.kernel.messages import (
    Call,
    Capabilities,
    ChatRequest,
    ChatResponse,
    MessageEnd,
    StreamEvent,
)
from gatebook.kernel.redact import Redactor
from gatebook.ports import Provider
from gatebook.testing import cassette_file as files
from gatebook.testing.cassette_file import Recording
from gatebook.testing.differences import differences

__all__ = ["Cassette", "CassetteMiss", "CassetteUnused", "cassette"]

VARIABLE = "GATEBOOK_CASSETTES"
SHOWN = 12  # differences that a miss names

Mode = Literal["replay", "record", "auto"]


class CassetteMiss(AssertionError):
    """A model was asked something that the cassette does not hold."""


class CassetteUnused(AssertionError):
    """The cassette holds calls that nobody made."""


class Cassette:
    """A provider that answers from a file, or asks another one and keeps what it says.

    A request is matched by everything it says except its timeouts. Equal requests are answered
    in the order they were recorded, each recording once. Calls that their caller abandoned are
    not recorded. Pass one wherever a provider is taken: `providers={"openai": Cassette(...)}`;
    `with cassette(...)` also fails a test whose code swallowed a miss.

    Args:
        path: the JSON file; made when recording.
        provider: who is asked when recording, or a function that makes it; unless given, the
            provider that a runtime would use for the request's route.
        mode: "replay" never asks anybody; "record" asks always and replaces the file; "auto"
            asks what the file does not hold. Unless given, the variable GATEBOOK_CASSETTES,
            else "replay". Where the variable CI is set, "record" is refused and "auto" replays.
        secrets: texts that must not be in the file, beside the formats of well-known keys and
            the values of environment variables that are named like secrets.

    Attributes:
        misses: what was asked in vain, as text for people.

    Raises:
        ConfigError: E_CONFIG for an unknown mode, recording in CI, or a file that is no cassette.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        provider: Provider | Callable[[], Provider] | None = None,
        mode: Mode | None = None,
        secrets: Iterable[str] = (),
    ) -> None:
        self.path = Path(path)
        self.mode = _mode(mode)
        self.misses: list[str] = []
        self._given = provider
        self._made: dict[str, Provider] = {}
        self._secrets = {*secrets, *files.environment_secrets(os.environ)}
        self._redactor = Redactor(self._secrets)
        self._recordings = [] if self.mode == "record" else files.read(self.path)
        self._waiting: dict[bytes, list[Recording]] = {}
        self._fresh: dict[int, Recording] = {}
        self._asked = 0
        self._lock = threading.Lock()  # runtimes in several threads may share a cassette
        for recording in self._recordings:
            self._waiting.setdefault(_key(recording.request, recording.streamed), []).append(
                recording
            )

    @property
    def name(self) -> str:
        """For errors and events."""
        return "cassette"

    @property
    def capabilities(self) -> Capabilities:
        """What its streams promise: all that a neutral stream can."""
        return Capabilities()

    @property
    def unused(self) -> list[dict[str, Any]]:
        """The recorded requests that were not made since this cassette was opened."""
        waiting = {id(each) for queue in self._waiting.values() for each in queue}
        return [each.request for each in self._recordings if id(each) in waiting]

    def assert_no_miss(self) -> None:
        """Raise CassetteMiss when something was asked in vain."""
        if self.misses:
            raise CassetteMiss("\n".join(self.misses))

    def assert_all_used(self) -> None:
        """Raise CassetteUnused when the file holds calls that nobody made."""
        if unused := self.unused:
            names = "".join(f"\n  {_summary(request)}" for request in unused)
            raise CassetteUnused(f"{self.path} holds {len(unused)} unused recording(s):{names}")

    @asynccontextmanager
    async def stream(
        self, request: ChatRequest, call: Call
    ) -> AsyncGenerator[AsyncIterator[StreamEvent]]:
        """Open one streamed attempt, recorded or new. Raises ProviderError only."""
        recording = self._take(request, streamed=True)
        if recording is not None:
            yield _played(recording)
            return
        place, tape = self._place(), _Tape()
        try:
            async with self._provider(request).stream(request, call) as source:
                events = tape.listen(source)
                try:
                    yield events
                finally:
                    await events.aclose()
        except ProviderError as error:
            if not tape.opened:  # else it is the caller's, or the tape has heard it
                tape.error = error
            raise
        finally:
            if tape.whole:
                self._keep(place, self._recording(request, tape))

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Make one whole attempt, recorded or new. Raises ProviderError only."""
        recording = self._take(request, streamed=False)
        if recording is None:
            return await self._record_whole(request, call)
        if recording.response is None:
            raise files.error_of(recording.error or {})
        return recording.response

    async def aclose(self) -> None:
        """Close the providers that were made here."""
        for provider in self._made.values():
            await provider.aclose()

    def _take(self, request: ChatRequest, *, streamed: bool) -> Recording | None:
        """Return the next recording of a request, None when the provider must be asked.

        Raises:
            ProviderError: there is none and nobody may be asked.
        """
        asked = files.asked(request, self._redactor)
        with self._lock:
            queue = self._waiting.get(_key(asked, streamed))
            if queue:
                return queue.pop(0)
            if self.mode != "replay":
                return None
            text = self._miss(asked, streamed)
            self.misses.append(text)
        raise ProviderError(text, kind="permanent", category="invalid_request", phase="pool")

    def _miss(self, asked: dict[str, Any], streamed: bool) -> str:
        fix = f"record it: {VARIABLE}=auto pytest ..., or correct the test"
        if not self._recordings:
            return f"{self.path} holds no recording; {fix}"
        found = [differences(each.request, asked) for each in self._recordings]
        weights = [sum(one.weight for one in each) for each in found]
        nearest = weights.index(min(weights))
        if not found[nearest]:
            kind = "streamed" if self._recordings[nearest].streamed else "answered whole"
            same = [n for n, each in enumerate(self._recordings) if not found[n]]
            if all(self._recordings[n].streamed is not streamed for n in same):
                return f"{self.path} holds this request {kind} only; {fix}"
            return f"{self.path} holds this request {len(same)} time(s), all used; {fix}"
        told = [f"\n  {each}" for each in found[nearest][:SHOWN]]
        if len(found[nearest]) > SHOWN:
            told.append(f"\n  and {len(found[nearest]) - SHOWN} more")
        count = len(self._recordings)
        return (
            f"{self.path} holds no recording of this request; {fix}; what differs from the "
            f"nearest (number {nearest + 1} of {count}):{''.join(told)}"
        )

    def _provider(self, request: ChatRequest) -> Provider:
        """Return who is asked."""
        given = self._given
        if hasattr(given, "stream"):
            return cast(Provider, given)
        key = "" if given is not None else request.provider
        provider = self._made.get(key)
        if provider is None:
            provider = self._made[key] = self._make(request)
        return provider

    def _make(self, request: ChatRequest) -> Provider:
        if self._given is not None:
            return cast(Callable[[], Provider], self._given)()
        from gatebook.runtime.models.routes import Providers
        from gatebook.runtime.settings import load_settings

        providers = Providers({}, load_settings().providers)
        provider, _ = providers.resolve(f"{request.provider}:{request.model}")
        self._secrets |= providers.secrets
        self._redactor.learn(self._secrets)
        return provider

    def _place(self) -> int:
        """Return a new recording's place: recordings stand in the order they were asked for."""
        with self._lock:
            self._asked += 1
            return self._asked

    def _keep(self, place: int, recording: Recording) -> None:
        """Add a recording and write the file."""
        with self._lock:
            self._fresh[place] = recording
            files.write(
                self.path, [*self._recordings, *(self._fresh[n] for n in sorted(self._fresh))]
            )

    def _recording(self, request: ChatRequest, tape: "_Tape") -> Recording:
        recording = Recording(files.asked(request, self._redactor))
        recording.events = files.cleaned(tape.events, self._redactor)
        if tape.error is not None:
            recording.error = files.error_fields(tape.error, self._redactor)
        return recording

    async def _record_whole(self, request: ChatRequest, call: Call) -> ChatResponse:
        place, provider = self._place(), self._provider(request)
        recording = Recording(files.asked(request, self._redactor))
        try:
            response = await provider.complete(request, call)
        except ProviderError as error:
            recording.error = files.error_fields(error, self._redactor)
            self._keep(place, recording)
            raise
        recording.response = files.cleaned_response(response, self._redactor)
        self._keep(place, recording)
        return response


class _Tape:
    """What is heard of one streamed attempt.

    Attributes:
        whole: the stream ended by itself, well or badly; its caller did not abandon it.
    """

    def __init__(self) -> None:
        self.events: list[StreamEvent] = []
        self.error: ProviderError | None = None
        self.opened = False
        self._ended = False

    @property
    def whole(self) -> bool:
        finished = bool(self.events) and isinstance(self.events[-1], MessageEnd)
        return self._ended or finished or self.error is not None

    async def listen(self, source: AsyncIterator[StreamEvent]) -> AsyncGenerator[StreamEvent]:
        """Yield what the provider says, and remember it."""
        self.opened = True
        try:
            async for event in source:
                self.events.append(event)
                yield event
        except ProviderError as error:
            self.error = error
            raise
        self._ended = True


async def _played(recording: Recording) -> AsyncIterator[StreamEvent]:
    for event in recording.events or ():
        yield event
    if recording.error is not None:
        raise files.error_of(recording.error)


@contextmanager
def cassette(
    path: str | os.PathLike[str],
    *,
    provider: Provider | Callable[[], Provider] | None = None,
    mode: Mode | None = None,
    secrets: Iterable[str] = (),
    all_used: bool = True,
) -> Iterator[Cassette]:
    """Open a cassette for the body of a test, and fail the test when the two do not fit.

    Takes what `Cassette` takes. A miss fails the body even if the code under test swallowed it;
    with `all_used`, so does a recording that a body which ended well did not use.

    Raises:
        CassetteMiss, CassetteUnused: when the body ends. ConfigError: see Cassette.
    """
    opened = Cassette(path, provider=provider, mode=mode, secrets=secrets)
    try:
        yield opened
    except Exception as error:
        if opened.misses:
            raise CassetteMiss("\n".join(opened.misses)) from error
        raise
    opened.assert_no_miss()
    if all_used:
        opened.assert_all_used()


def _mode(given: str | None) -> Mode:
    """Return the mode in force; a build server plays what is there and nothing else."""
    where = "mode=" if given is not None else VARIABLE
    mode = given if given is not None else os.environ.get(VARIABLE) or "replay"
    if mode not in get_args(Mode):
        detail, fix = f"there is no mode {mode!r}", f"choose {', '.join(get_args(Mode))}"
        raise ConfigError("E_CONFIG", name=where, path="a cassette", detail=detail, fix=fix)
    if mode == "replay" or os.environ.get("CI", "").lower() in ("", "0", "false"):
        return mode  # type: ignore[return-value]
    if mode == "record":
        detail, fix = "nothing is recorded where CI is set", "record on your machine, then commit"
        raise ConfigError("E_CONFIG", name=where, path="a cassette", detail=detail, fix=fix)
    return "replay"


def _key(asked: dict[str, Any], streamed: bool) -> bytes:
    return canonical([asked, streamed])


def _summary(request: dict[str, Any]) -> str:
    """Return a request in one line: whom it asks, and the last text that was said."""
    texts = [
        str(part.get("text") or part.get("content") or part.get("arguments") or "")
        for message in request.get("messages", [])
        for part in message.get("content", [])
    ]
    last = shown(texts[-1]) if texts else "nothing"
    return f"{request.get('provider')}:{request.get('model')} {last}"
