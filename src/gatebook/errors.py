"""Every way Gatebook can fail, drawn as one tree and split by who must act.

    GatebookError
    |-- InvalidInput            the caller: a value, name or number we refuse (also a ValueError)
    |   `-- ConfigError         the caller: settings, definitions, stores named wrongly
    |-- RunNotFound             the caller: no such run for this tenant
    |-- RunConflict             the caller: the run id is taken by another program or input
    |-- RunIsOver               the caller: the run has ended, nothing can be added
    |-- RunStopped              a run ended without its result
    |   |-- RunFailed           ... because an action or the program failed
    |   |-- RunDenied           ... because policy or a budget refused what it needed
    |   |-- RunCancelled        ... because somebody cancelled it
    |   `-- RunWaiting          ... not yet: it waits for a person, a signal or a time
    |-- ActionError             the world: one action failed
    |   |-- Transient           ... a retry may help
    |   |-- RateLimited         ... a retry after `retry_after_ms` may help
    |   |-- Permanent           ... no retry helps
    |   |-- ProviderError       ... a model call, with category and phase
    |   |-- ToolRetry           ... text for the model: call it again, differently
    |   |-- ActionDenied        ... the gate refused it; it was never started
    |   `-- SignalTimeout       ... nobody sent the signal in time
    |-- StoreError              the operator: the store did not answer or refused
    |   |-- Conflict            ... somebody appended first (carries the tail)
    |   |-- Fenced              ... another worker owns the run now
    |   `-- CommitUnknown       ... a commit failed and may still be durable
    `-- IntegrityError          us, or somebody who edited the store
        |-- JournalCorrupt      ... the journal does not verify or cannot be read
        `-- Diverged            ... the program no longer asks for what the journal says

Codes are stable; their texts live in `gatebook.codes`. Every error survives pickle and copy.
"""

from decimal import Decimal
from numbers import Real
from typing import Any, Self

from gatebook.codes import TEXTS

SHOWN = 80  # characters of a refused value shown in a message
TOLD = 4_000  # characters of an exception's own text that are kept
EXITS = (KeyboardInterrupt, SystemExit)  # not anybody's fault: the process is to end
UNTOLD = ("an error with a code of its own was raised", "see where its code is raised")


def shown(value: object) -> str:
    """Return a short, safe picture of a value: never its own `__repr__`, at most 80 characters."""
    if isinstance(value, str):
        text = repr(str.__str__(value)[: SHOWN + 1])
    elif value is None or type(value) in (bool, int, float):
        text = repr(value) if not isinstance(value, int) or abs(value) < 10**60 else "a huge int"
    elif type(value) is bytes:
        text = repr(value[: SHOWN + 1])
    elif type(value) in (list, tuple, set, frozenset) and len(value) <= 12:  # type: ignore[arg-type]
        texts = sorted(each for each in value if type(each) is str)  # type: ignore[attr-defined]
        text = ", ".join(texts) or f"a {type(value).__name__}"
    else:
        text = f"a {type(value).__name__}"
    text = printable(text)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _rebuild(cls: type["GatebookError"], code: str, fields: dict[str, Any]) -> "GatebookError":
    return cls(code, **fields)


class GatebookError(Exception):
    """Root of the tree: a stable `code`, `fields` for programs and a sentence for people."""

    def __init__(self, code: str, /, **fields: Any) -> None:
        super().__init__(code)
        self.code = code
        self.fields = fields

    def __str__(self) -> str:
        what, fix = TEXTS.get(self.code, UNTOLD)
        values = _Shown(self.fields)
        return f"{what.format_map(values)}; {fix.format_map(values)} [{self.code}]"

    @property
    def hint(self) -> str:
        """What to do next, in one clause."""
        return TEXTS.get(self.code, UNTOLD)[1].format_map(_Shown(self.fields))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.code, self.fields)


class _Shown(dict[str, Any]):
    """Field values as they appear in a message: quoted and cut, except texts of our own making."""

    PLAIN = frozenset({
        "fix", "detail", "path", "store", "command", "limit", "used", "want", "names",
        "provider_name", "ledger", "left", "renews", "near", "status",
    })  # fmt: skip

    def __getitem__(self, key: str) -> str:
        if key not in self:
            return "?"
        value = super().__getitem__(key)
        if key in self.PLAIN and type(value) is str:
            return printable(value[:400])
        return shown(value)


def described(error: BaseException) -> str:
    """Return the type and text of a foreign exception; never fails, never a traceback."""
    try:
        text = str.__str__(str(error))
    except Exception:  # noqa: BLE001 - the text comes from a user's __str__
        text = "(its text cannot be read)"
    name = type(error).__name__
    return printable(writable(f"{name}: {text}" if text else name))


def writable(text: str) -> str:
    """Return text that JSON can hold: at most 4,000 characters, lone surrogates replaced."""
    return text[:TOLD].encode("utf-8", "replace").decode()


def printable(text: str) -> str:
    """Escape control and bidirectional characters so that a message cannot forge a log line."""
    return "".join(c if c.isprintable() or c == " " else repr(c)[1:-1] for c in text)


class InvalidInput(GatebookError, ValueError):
    """A value the caller gave is refused; nothing was written."""


class ConfigError(InvalidInput):
    """A definition, setting or store location is wrong; nothing was started."""


class RunNotFound(GatebookError):
    """This tenant has no run with that id."""


class RunConflict(GatebookError):
    """The run id is taken: by another program, or by the same program with another input."""


class RunIsOver(GatebookError):
    """The run has ended; nothing but audit notes can be added to it."""


class RunStopped(GatebookError):
    """A run has no result: see the subclass for who must act."""


class RunFailed(RunStopped):
    """The run ended because an action or the program failed."""


class RunDenied(RunStopped):
    """The run ended because policy or a budget refused something it could not do without."""


class RunCancelled(RunStopped):
    """The run ended because somebody cancelled it."""


class RunWaiting(RunStopped):
    """The run has not ended: it waits for what `fields["on"]` names."""


class ActionError(GatebookError):
    """One action failed; raised by tools to state that *nothing happened* outside.

    `kind` is "transient", "rate_limited" or "permanent" and decides whether a retry may help.
    """

    kind = "permanent"

    def __init__(self, message: str = "", *, code: str = "E_ACTION", **fields: Any) -> None:
        super().__init__(code, **fields)
        self.message = message

    def __str__(self) -> str:
        return self.message or super().__str__()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_action, (type(self), self.message, self.code, self.fields)

    @property
    def retry_after_ms(self) -> int | None:
        """How long the server asked us to wait, in milliseconds, if it said so."""
        value: int | None = self.fields.get("retry_after_ms")
        return value

    @staticmethod
    def transient(message: str) -> "Transient":
        """Return an error after which a retry may help."""
        return Transient(message)

    @staticmethod
    def permanent(message: str) -> "Permanent":
        """Return an error that no retry can mend."""
        return Permanent(message)

    @staticmethod
    def rate_limited(message: str, retry_after_ms: int | None = None) -> "RateLimited":
        """Return an error that says: too many calls, come back after `retry_after_ms`."""
        return RateLimited(message, retry_after_ms=retry_after_ms)


def _rebuild_action(
    cls: type[ActionError], message: str, code: str, fields: dict[str, Any]
) -> ActionError:
    error = cls.__new__(cls)
    ActionError.__init__(error, message, code=code, **fields)
    return error


class Transient(ActionError):
    """The world hiccuped and nothing happened; a retry may help."""

    kind = "transient"


class RateLimited(ActionError):
    """The other side asks us to slow down.

    Give the wait as `retry_after_ms=` (integer milliseconds) or `retry_after=` (seconds). What
    cannot be waited is kept as it is: the action is told of it and waits as if there were none.
    """

    kind = "rate_limited"

    def __init__(
        self,
        message: str = "",
        *,
        retry_after: float | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        if retry_after is not None and retry_after_ms is None:
            retry_after_ms = _milliseconds(retry_after)
        super().__init__(message, retry_after_ms=retry_after_ms)


def _milliseconds(seconds: Any) -> Any:
    """Return seconds as whole milliseconds, or what was given when it is no number of seconds."""
    if type(seconds) is bool or not isinstance(seconds, (Real, Decimal)):
        return seconds
    number: Any = seconds
    try:
        return round(number * 1000)
    except (ValueError, ArithmeticError):  # NaN, infinity
        return seconds


class Permanent(ActionError):
    """The action is refused for good and nothing happened."""


class ToolRetry(ActionError):
    """A tool tells the model to call it again, differently: `ToolRetry("use ISO dates")`."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="E_TOOL_RETRY")


class ActionDenied(ActionError):
    """The gate refused the action; it was never started. `fields` name the rule and the facts."""


class SignalTimeout(ActionError):
    """The signal a run waited for did not come in time."""


class ProviderError(ActionError):
    """A model call failed. Retrying is decided by `kind`; `category` says what went wrong.

    Attributes:
        kind: "transient", "permanent" or "rate_limited".
        category: auth, invalid_request, not_found, context_length, quota, content_filter,
            overloaded, rate_limited, server, connection, timeout, truncated, malformed, cancelled.
        retry_after_ms: the server's hint, None when it gave none.
        status: the HTTP status, None when no response came.
        phase: pool, connect, write, read or response: how far the call got.
        in_stream: the error came inside a stream that had answered 200.
        emitted: a meaningful event had already reached the reader, so nothing may be retried.
        request_id: the provider's id of the request, for its support desk.
        provider_code, provider_type: the provider's own words for the error.
        max_retries: how often an error of this sort is worth repeating, when that is known.
    """

    def __init__(self, message: str, *, kind: str, category: str, **fields: Any) -> None:
        super().__init__(message, code="E_PROVIDER", category=category, **fields)
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_provider, (self.message, self.kind, self.fields)

    @property
    def category(self) -> str:
        """What went wrong, from the closed list above."""
        category: str = self.fields["category"]
        return category

    @property
    def sent(self) -> bool:
        """Whether the provider may have received (and billed) the request."""
        return self.fields.get("phase") not in ("pool", "connect")

    def after_output(self) -> Self:
        """Return this error marked as one that came after output had been forwarded."""
        self.fields["emitted"] = True
        return self


def _rebuild_provider(message: str, kind: str, fields: dict[str, Any]) -> ProviderError:
    return ProviderError(message, kind=kind, **fields)


class StoreError(GatebookError):
    """The store refused or did not answer; the text says what is known about the write."""


class Conflict(StoreError):
    """Somebody appended first; `tail` holds the events since the expected seq."""

    def __init__(self, code: str = "E_CONFLICT", /, *, tail: Any = (), **fields: Any) -> None:
        super().__init__(code, **fields)
        self.tail = tail


class Fenced(StoreError):
    """Another worker claimed the run since; nothing was written."""


class CommitUnknown(StoreError):
    """A commit raised and may still be durable; the run must be read again."""


class IntegrityError(GatebookError):
    """A promise about stored data does not hold; the run is left untouched."""


class JournalCorrupt(IntegrityError):
    """The journal has a gap, a changed byte, a cut tail or an event we do not know."""


class Diverged(IntegrityError):
    """The program asked for something else than the journal records; the run is parked."""
