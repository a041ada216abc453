"""`gatebook doctor`: is everything that runs need in order, and does anything need a person."""

import asyncio
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import stat
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NamedTuple

import click

from gatebook.cli.apps import app_for, load_policy
from gatebook.cli.latest import seen
from gatebook.cli.main import ERROR, OK, sentences
from gatebook.cli.options import Given, Verb, common
from gatebook.cli.output import document, safe, say, table
from gatebook.cli.store import is_there
from gatebook.cli.words import next_steps, status_of
from gatebook.errors import GatebookError
from gatebook.journals import open_journal
from gatebook.journals.sqlite_files import Store, check_kind
from gatebook.journals.sqlite_locks import OwnerLocks
from gatebook.ports import ParkedReason, RunQuery, RunRow
from gatebook.runtime.client import Client
from gatebook.runtime.models.routes import read_key

LOW_DISK = 256 * 1024 * 1024  # bytes: a journal grows by what agents read and write
NAMED = 5  # runs named in one line
NEEDS_A_PERSON = ("interrupted", *map(str, ParkedReason))


class Finding(NamedTuple):
    """One check: what, "ok", "warn" or "bad", and what to know about it."""

    check: str
    verdict: str
    detail: str


@click.command(cls=Verb, examples=("gatebook doctor", "gatebook doctor --app app:runtime --json"))
@common(driving=True)
def command(given: Given) -> int:
    """Check the store, the settings, the app and the keys, and list what needs a person.

    Exits with 1 when something is bad; a warning alone is 0. Calls no model and changes nothing.
    """
    findings = list(_findings(given))
    bad = any(finding.verdict == "bad" for finding in findings)
    if given.as_json:
        document(ok=not bad, checks=[finding._asdict() for finding in findings])
    else:
        table(("CHECK", "VERDICT", "DETAIL"), [tuple(f) for f in findings], styled=1)
        say("something is bad" if bad else "nothing is bad")
    return ERROR if bad else OK


def _findings(given: Given) -> Iterator[Finding]:
    yield from _versions()
    try:
        settings = given.settings
    except GatebookError as exc:
        yield _failed("settings", exc)
        return
    for name, origin in settings.origins.items():
        value = getattr(settings, name, None) or settings.providers[name.partition(".")[2]].base_url
        yield Finding(f"setting {name}", "ok", f"{value} (from {origin})")
    rows = yield from _store(given)
    yield from _app(given, {row.program for row in rows if not row.head.terminal})
    for name, provider in settings.providers.items():
        if provider.api_key:
            yield _try(f"key of {name}", lambda p=provider, n=name: _key(p.api_key, n))  # type: ignore[misc]


def _versions() -> Iterator[Finding]:
    import apsw

    versions = {
        "gatebook": importlib.metadata.version("gatebook"),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
    }
    yield Finding("versions", "ok", ", ".join(f"{k} {v}" for k, v in versions.items()))
    local = importlib.util.find_spec("xllamacpp") is not None
    yield Finding("extra local", "ok", "installed" if local else "not installed (optional)")


def _store(given: Given) -> Generator[Finding, None, list[RunRow]]:
    """Yield what is found of the store, and return its runs."""
    url: str = given.settings.store
    path = Path(url.removeprefix("sqlite:///"))
    try:
        open_journal(url)
        there = is_there(path)
    except GatebookError as exc:
        yield _failed("store", exc)
        return []
    if not there:
        yield Finding("store", "warn", f"there is none at {path} yet: the first run makes it")
        return []
    durability = _try("store durability", lambda: _durability(path))  # opening may repair it
    found: tuple[list[RunRow], int] | None = None
    try:
        found = asyncio.run(_rows(url))
    except GatebookError as exc:
        durability = _failed("store", exc)
    yield durability
    mode = stat.S_IMODE(path.stat().st_mode)
    open_to_all = path.is_file() and bool(mode & (stat.S_IRWXG | stat.S_IRWXO))
    detail = f"mode {mode:o}" + (f"; run: chmod 600 {path}" if open_to_all else "")
    yield Finding("store permissions", "warn" if open_to_all else "ok", detail)
    free = shutil.disk_usage(path.parent).free
    verdict = "ok" if free >= LOW_DISK else "bad"
    yield Finding("free disk", verdict, f"{free // (1024 * 1024):,} MB")
    if found is None:
        return []
    yield from _runs(*found, given)
    return found[0]


async def _rows(url: str) -> tuple[list[RunRow], int]:
    async with Client(url) as client:
        rows = [await seen(client.journal, r) for r in await client.runs(RunQuery(limit=1_000_000))]
        return rows, client.journal.now()


def _durability(path: Path) -> str:
    import apsw

    check_kind(path)
    try:
        journal, check = _ask_sqlite(path)
    except apsw.Error as exc:
        locks = OwnerLocks(path.with_name(path.name + ".locks"))
        raise Store(path, busy_s=0, vfs="", locks=locks).explain(exc) from exc
    if journal != "wal" or check != "ok":
        raise GatebookError("E_STORE_CORRUPT", store=str(path), detail=f"{journal}, {check}")
    return "journal mode wal, every append synced, quick_check ok"


def _ask_sqlite(path: Path) -> tuple[str, str]:
    """Return the journal mode and what `quick_check` says, without changing the file."""
    import apsw

    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        journal = connection.execute("PRAGMA journal_mode").get
        return str(journal), str(connection.execute("PRAGMA quick_check(1)").get)
    finally:
        connection.close()


def _runs(rows: list[RunRow], now: int, given: Given) -> Iterator[Finding]:
    latest = max((row.updated for row in rows), default=0)
    ahead_s = (latest - time.time() * 1e6) / 1e6
    if ahead_s > 1:
        yield Finding("clock", "bad", f"the newest event is {ahead_s:.0f} s in the future")
    else:
        yield Finding("clock", "ok", "not behind the journal")
    words = {row.run.id: status_of(row, now) for row in rows}
    counts = {word: list(words.values()).count(word) for word in sorted(set(words.values()))}
    yield Finding("runs", "ok", ", ".join(f"{n} {word}" for word, n in counts.items()) or "none")
    for check, verdict, chosen in (
        ("unknown outcomes", "warn", [r for r in rows if _unknown(r)]),
        ("open approvals", "warn", [r for r in rows if _asks(r)]),
        ("need a person", "warn", [r for r in rows if words[r.run.id] in NEEDS_A_PERSON]),
        ("nobody drives", "warn", [r for r in rows if words[r.run.id] in ("idle", "cancelling")]),
        ("lapsed leases", "warn", [r for r in rows if r.owner and r.lease_until <= now]),
    ):
        yield _about(check, verdict, chosen, given, now)


def _unknown(row: RunRow) -> bool:
    return not row.head.terminal and any(e.phase == "unknown" for e in row.head.open.values())


def _asks(row: RunRow) -> bool:
    return any(entry.phase == "open" for entry in row.head.approvals.asked.values())


def _about(check: str, verdict: str, rows: list[RunRow], given: Given, now: int) -> Finding:
    if not rows:
        return Finding(check, "ok", "none")
    which = -1 if check == "nobody drives" else 0  # what it waits for comes before who drives it
    steps = [next_steps(row, given, now) for row in rows[:NAMED]]
    lines = [each[which][1] for each in steps if each]
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return Finding(check, verdict, f"{len(rows)}: {'; '.join(lines)}{more}")


def _app(given: Given, programs: set[str]) -> Iterator[Finding]:
    """Yield what is found of the app; `programs` are those of open runs."""
    try:
        app = app_for(given, [])
    except GatebookError as exc:
        if given.settings.app is not None:
            yield _failed("app", exc)
        elif exc.code != "E_APP_MISSING" and programs:
            yield _failed("app", exc)._replace(verdict="warn")
        else:
            yield Finding("app", "ok", "none named: pass --app, or set app = in gatebook.toml")
        return
    yield Finding("app", "ok", ", ".join(sorted(app.programs)))
    for name in sorted(programs & app.missing.keys()):
        yield Finding(
            "app", "warn", safe(f"open runs of {name} are not served: {app.missing[name]}")
        )
    policy = _try("policy", lambda: str(getattr(load_policy(given, app), "name", "unnamed")))
    named = bool(given.settings.policy)
    yield policy if named or policy.verdict == "ok" else policy._replace(verdict="warn")


def _key(reference: str, provider: str) -> str:
    read_key(reference, provider=provider)
    if reference.startswith("file:") and os.stat(reference[5:]).st_mode & stat.S_IROTH:
        return f"{reference} is set, and everybody may read it"
    return f"{reference} is set"


def _try(check: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(check, "ok", look())
    except GatebookError as exc:
        return _failed(check, exc)


def _failed(check: str, exc: GatebookError) -> Finding:
    message, hint = sentences(exc)
    return Finding(check, "bad", safe(f"{message}; {hint}"))
