"""What `run` remembers: where programs came from, and of each run the policy it was given.

It lies beside the store in a file of the user's own (0600), never in the store: a journal must
not be able to name code. What is not in it is asked for again; nothing is guessed from it.
"""

import fcntl
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

RUNS = 1_000  # remembered of a program; older ones need a --policy again


class Remembered(NamedTuple):
    """What `run` remembers of a run that it started: what it was given, "" for what it was not.

    Attributes:
        app, folder: where its program came from.
        policy: as --policy takes it, seen from the folder.
        flag: the policy was given for this run, and not found in settings.
    """

    app: str = ""
    folder: str = ""
    policy: str = ""
    flag: bool = False


def remember(
    url: str, run: str, programs: Mapping[str, str], program: str, past: Remembered
) -> None:
    """Note where an app's programs (name -> target) came from, and what one run was given."""
    path = _memory(url)
    if path is None:
        return
    with _alone(path.parent):
        known = recall(url)
        for name, target in programs.items():
            known.setdefault(name, {}).update(app=target, folder=past.folder)
        entry = known[program]
        runs = {key: each for key, each in _runs(entry).items() if key != run}
        runs[run] = past._asdict()
        entry["runs"] = dict(list(runs.items())[-RUNS:])
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(known, file, indent=1)
        os.replace(draft, path)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other commands from writing at once: what they note would be lost."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def remembered_runs(known: Mapping[str, Mapping[str, Any]], program: str) -> dict[str, Remembered]:
    """Return what the remembered runs of a program were given, by run id."""
    found = {}
    for run, entry in _runs(known.get(program, {})).items():
        match entry:
            case {"app": str(app), "folder": str(folder), "policy": str(policy)}:
                found[run] = Remembered(app, folder, policy, entry.get("flag") is True)
            case _:
                pass
    return found


def _runs(entry: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    runs = entry.get("runs")
    if not isinstance(runs, dict):
        return {}
    return {run: each for run, each in runs.items() if isinstance(each, dict)}


def recall(url: str) -> dict[str, dict[str, Any]]:
    """Return what was remembered of programs; nothing from a file others could have written."""
    path = _memory(url)
    try:
        if path is None:
            return {}
        status = path.lstat()
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
            return {}
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        name: entry
        for name, entry in found.items()
        if isinstance(entry, dict) and {"app", "folder"} <= entry.keys()
    }


def _memory(url: str) -> Path | None:
    path = url.removeprefix("sqlite:///")
    return None if path == url else Path(f"{path}.apps.json")
