"""Where secrets come from, and which values are about: by name, read anew for each attempt.

A value goes to the tool and to the redactor, nowhere else: not into errors, logs or `repr`.
"""

import inspect
import os
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, KeysView, Mapping
from typing import Any, NoReturn

from gatebook.errors import ActionError, ConfigError, GatebookError, Permanent, shown
from gatebook.kernel.redact import MIN_SECRET, REFERENCE, Redactor
from gatebook.kernel.secrets import SCHEME, Secret, referred
from gatebook.kernel.tools import ToolSpec
from gatebook.tools.threads import run_in_thread

Source = str | Callable[[], str | Awaitable[str]]

KEPT = 16  # values of one name that are still redacted after newer ones came
MAX_VALUE = 64 * 1024  # characters; keys and certificates are far below
MIN_LINE = 16  # characters of a line of a longer value that give it away


def checked_sources(sources: Mapping[Any, Any]) -> dict[str, Source]:
    """Return the sources of secrets by name.

    Raises:
        ConfigError: E_SECRET_SOURCE, which never repeats a source.
    """
    for name, source in sources.items():
        if not isinstance(name, str) or REFERENCE.fullmatch(f"{SCHEME}{name}") is None:
            raise ConfigError("E_SECRET_SOURCE", name=name, detail="its name is not allowed")
        if isinstance(source, str):
            kind, _, where = source.partition(":")
            if kind not in ("env", "file") or not where:
                detail = "a text that is no reference may be a secret itself"
                raise ConfigError("E_SECRET_SOURCE", name=name, detail=detail)
        elif not callable(source):
            detail = f"its source is {shown(type(source).__name__)}"
            raise ConfigError("E_SECRET_SOURCE", name=name, detail=detail)
    return dict(sources)


class Unavailable(Exception):
    """A source has no value; its text says why and never what."""


class Lent(dict[str, Secret[str]]):
    """The secrets of one attempt, by name; give them back with `Secrets.end`."""


class Secrets:
    """The secrets of one runtime.

    Args:
        sources: "env:VARIABLE", "file:/path" or a function (async or not), by name.
        redactor: learns every value before anybody else is given it.
    """

    def __init__(self, sources: Mapping[str, Source], redactor: Redactor) -> None:
        self._sources = checked_sources(sources)
        self._redactor = redactor
        self._latest: dict[str, deque[str]] = {}
        self._about: Counter[str] = Counter()  # values that running attempts hold

    def __repr__(self) -> str:
        return f"<secrets {', '.join(sorted(self._sources)) or 'none'}>"

    @property
    def names(self) -> KeysView[str]:
        """What may be referred to, also of what is added later."""
        return self._sources.keys()

    def add(self, sources: Mapping[str, Source]) -> None:
        """Take further sources; a name that is known keeps its source."""
        for name, source in checked_sources(sources).items():
            self._sources.setdefault(name, source)

    def learn(self) -> None:
        """Let the redactor know what variables and files hold now; what is not there may come."""
        for name, source in self._sources.items():
            if isinstance(source, str):
                try:
                    self._keep(name, _sound(_read(source)))
                except Unavailable:
                    continue

    async def lend(self, args: bytes, spec: ToolSpec) -> Lent:
        """Return the secrets that a call's final arguments refer to.

        Each is read from its source now, so that one that was rotated is the new one.

        Raises:
            ActionError: E_SECRET_LITERAL, E_SECRET_UNAVAILABLE: nothing was called. Transient or
                RateLimited where a function raised that.
        """
        try:
            names = sorted(set(referred(args, spec).values()))
        except GatebookError as exc:
            raise Permanent(str(exc), code=exc.code) from None
        lent = Lent()
        try:
            for name in names:
                value = await self._value(name, spec.name)
                self._keep(name, value)
                self._about[value] += 1
                lent[name] = Secret(value, name=name)
        except BaseException:
            self.end(lent)
            raise
        return lent

    def end(self, lent: Lent) -> None:
        """Say that an attempt that was lent secrets is over."""
        for secret in lent.values():
            value = secret.reveal()
            self._about[value] -= 1
            if self._about[value] <= 0:
                del self._about[value]

    async def _value(self, name: str, tool: str) -> str:
        source = self._sources.get(name)
        try:
            if source is None:
                raise Unavailable("there is none of that name")
            return _sound(_read(source) if isinstance(source, str) else await _call(name, source))
        except Unavailable as exc:
            _unavailable(Permanent, name, tool, str(exc))
        except ActionError as exc:
            _unavailable(type(exc), name, tool, f"its function raised {type(exc).__name__}")
        except Exception as exc:  # noqa: BLE001 - a source of the user may raise anything
            _unavailable(Permanent, name, tool, f"its function raised {type(exc).__name__}")

    def _keep(self, name: str, value: str) -> None:
        """Let the redactor know a value; forget the oldest that nobody can hold any more."""
        latest = self._latest.setdefault(name, deque())
        if value in latest:
            latest.remove(value)
        latest.append(value)
        self._redactor.add(_telling(value))
        if len(latest) > KEPT:
            gone = next((old for old in latest if not self._about[old]), None)
            if gone is not None:
                latest.remove(gone)
                kept = {
                    part for each in self._latest.values() for v in each for part in _telling(v)
                }
                self._redactor.forget(set(_telling(gone)) - kept)


def late(spec: ToolSpec) -> ActionError:
    """Return the error of an attempt whose deadline came before its secrets did."""
    why = "its source did not answer before the deadline"
    return _error(Permanent, ", ".join(spec.secrets), spec.name, why)


def _unavailable(kind: type[ActionError], name: str, tool: str, why: str) -> NoReturn:
    raise _error(kind, name, tool, why) from None


def _error(kind: type[ActionError], name: str, tool: str, why: str) -> ActionError:
    error = GatebookError("E_SECRET_UNAVAILABLE", name=name, tool=tool, detail=why)
    made = kind.__new__(kind)
    ActionError.__init__(made, str(error), code=error.code)
    return made


def _telling(value: str) -> list[str]:
    """Return what gives a value away: it, and its longer lines (of a key file, say)."""
    lines = value.split("\n")
    if len(lines) == 1:
        return [value]
    return [value, *(line.strip() for line in lines if len(line.strip()) >= MIN_LINE)]


def _read(source: str) -> Any:
    kind, _, where = source.partition(":")
    if kind == "env":
        if where not in os.environ:
            raise Unavailable(f"the environment variable {where} is not set")
        return os.environ[where]
    try:
        with open(where, encoding="utf-8") as file:
            return file.read(MAX_VALUE + 2).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise Unavailable(f"the file {where} cannot be read ({type(exc).__name__})") from None


async def _call(name: str, source: Callable[[], Any]) -> Any:
    """Ask a function: an async one here, another on a thread, where it may block."""
    if inspect.iscoroutinefunction(source):
        return await source()
    found = await run_in_thread(
        source, name=f"gatebook-secret-{name}", running=set(), stop=threading.Event()
    )
    return await found if inspect.isawaitable(found) else found


def _sound(value: Any) -> str:
    """Return a value that can be kept out of what is stored, or refuse it."""
    if not isinstance(value, str):
        raise Unavailable(f"its source gave {type(value).__name__}, not text")
    if len(value) < MIN_SECRET:
        raise Unavailable(
            f"its value is shorter than {MIN_SECRET} characters, too short to be found again "
            "in what is stored"
        )
    if len(value) > MAX_VALUE or _torn(value):
        raise Unavailable("its value is no text, or too long for a secret")
    return value


def _torn(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return True
    return False


def values_of(secrets: Mapping[str, Source] | Iterable[str]) -> list[str]:
    """Return the texts of a `secrets=` that only lists what is to be cut out."""
    return [] if isinstance(secrets, Mapping) else list(secrets)


def sources_of(secrets: Mapping[str, Source] | Iterable[str]) -> dict[str, Source]:
    """Return the sources of a `secrets=` that names secrets."""
    return dict(secrets) if isinstance(secrets, Mapping) else {}
