"""The floors: a durable step written by hand, with nothing but two inserts into SQLite.

`two` commits the request and the outcome of each step apart; `one` commits an outcome together
with the next request. Both lose nothing in a crash, and neither has policy, budget, deadlines,
leases, a hash chain or typed events. `resume` reads 10,000 steps back and goes on.
"""

import asyncio
import json
import os
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.meter import Meter, arguments

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    position INTEGER PRIMARY KEY,
    run      TEXT    NOT NULL,
    seq      INTEGER NOT NULL,
    kind     TEXT    NOT NULL,
    time     REAL    NOT NULL,
    body     TEXT    NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS events_run ON events (run, seq);
"""
INSERT = "INSERT INTO events (run, seq, kind, time, body) VALUES (?, ?, ?, ?, ?)"
READ = "SELECT seq, kind, body FROM events WHERE run = ? ORDER BY seq"

entered: dict[str, list[float]] = {}  # run -> when each of its steps began


async def step(run: str, i: int) -> int:
    """Do what the measured step does: nothing that takes time."""
    entered.setdefault(run, []).append(time.perf_counter())
    return i


def connect(path: Path) -> sqlite3.Connection:
    """Open the store: WAL, synced at every commit, no transaction but those that are asked for."""
    store = sqlite3.connect(path, isolation_level=None)
    store.execute("PRAGMA journal_mode=WAL")
    store.execute("PRAGMA synchronous=FULL")
    store.executescript(SCHEMA)
    return store


def requested(run: str, i: int) -> tuple[Any, ...]:
    """Return the row that says a step begins."""
    body = {"kind": "tool", "name": "step", "args": {"i": i}, "id": f"{run}-{i}"}
    return run, 2 * i, "requested", time.time(), json.dumps(body)


def succeeded(run: str, i: int, result: int) -> tuple[Any, ...]:
    """Return the row that says a step ended well."""
    return run, 2 * i + 1, "succeeded", time.time(), json.dumps({"id": f"{run}-{i}", "out": result})


async def two(store: sqlite3.Connection, run: str, steps: int) -> int:
    """Make the steps of one run, two commits each; return the sum of their results."""
    total = 0
    for i in range(steps):
        store.execute(INSERT, requested(run, i))
        result = await step(run, i)
        store.execute(INSERT, succeeded(run, i, result))
        total += result
    return total


async def one(store: sqlite3.Connection, run: str, steps: int) -> int:
    """Make the steps of one run, one commit each; return the sum of their results."""
    total = 0
    store.execute(INSERT, requested(run, 0))
    for i in range(steps):
        result = await step(run, i)
        store.execute("BEGIN IMMEDIATE")
        store.execute(INSERT, succeeded(run, i, result))
        if i + 1 < steps:
            store.execute(INSERT, requested(run, i + 1))
        store.execute("COMMIT")
        total += result
    return total


async def resume(store: sqlite3.Connection, run: str) -> int:
    """Read a run back and make the step that was not finished."""
    total = done = 0
    for _, kind, body in store.execute(READ, (run,)):
        fact = json.loads(body)
        if kind == "succeeded":
            total += fact["out"]
            done += 1
    return total + await step(run, done)


LOOPS: dict[str, Callable[[sqlite3.Connection, str, int], Awaitable[int]]] = {
    "two": two,
    "one": one,
}


async def measure(case: str, path: Path, runs: int, steps: int) -> None:
    """Make all steps of all runs and report."""
    store, loop, meter = connect(path), LOOPS[case], Meter(path)
    await loop(store, "warm", 20)
    names = [f"{os.urandom(16).hex()}-{i}" for i in range(runs)]
    meter.begin()
    await asyncio.gather(*(loop(store, name, steps) for name in names))
    meter.end(runs * steps)
    store.close()
    meter.report(runs * steps + 20, entered[names[0]] if runs == 1 else [])


async def main() -> None:
    chosen = arguments("two", "one", "fill", "resume")
    if chosen.case == "fill":
        store = connect(chosen.store)
        store.execute("PRAGMA synchronous=OFF")
        await two(store, "long", chosen.steps)
        store.execute(INSERT, requested("long", chosen.steps))
    elif chosen.case == "resume":
        store = connect(chosen.store)
        began = time.perf_counter()
        await resume(store, "long")
        took_s = entered["long"][0] - began
        sys.stdout.write(json.dumps({"resume_ms": took_s * 1e3}))
    else:
        await measure(chosen.case, chosen.store, chosen.runs, chosen.steps)


if __name__ == "__main__":
    asyncio.run(main())
