"""Finding programs and policies by "module:attribute", and remembering where they were.

What `run` remembers lies beside the store in a file of the user's own, never in the store: a
journal must not be able to name code.
"""

import json
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from gatebook.cli.options import Given
from gatebook.errors import ConfigError
from gatebook.journals import open_journal
from gatebook.ports import Program

DEVELOPMENT = "allow-declared"
FORMS = "pass a program, a Runtime or a list of programs"


@dataclass(frozen=True)
class App:
    """What an app's target held: programs by name, and the Runtime they came with, if any.

    `policy` is the one that `run` was given for these programs, for verbs that go on with runs.
    """

    programs: Mapping[str, Program[Any, Any]]
    targets: Mapping[str, str] = field(default_factory=dict)
    runtime: Any = None
    policy: str | None = None

    def program(self, name: str) -> Program[Any, Any]:
        """Return a program. Raises ConfigError E_PROGRAM_UNKNOWN."""
        if name not in self.programs:
            names = ", ".join(sorted(self.programs)) or "none"
            raise ConfigError("E_PROGRAM_UNKNOWN", program=name, names=names)
        return self.programs[name]


def load_app(target: str, *, folder: str | None = None) -> App:
    """Import "module:attribute" as seen from a folder and return its programs.

    Raises:
        ConfigError: E_APP.
    """
    found = load(target, folder=folder)
    if is_program(found):
        return App({found.name: found}, {found.name: target})
    programs = getattr(found, "programs", found)
    if isinstance(programs, Mapping):
        programs = list(programs.values())
    if not isinstance(programs, list | tuple) or not all(map(is_program, programs)):
        raise ConfigError("E_APP", value=target, detail=f"it is a {type(found).__name__}; {FORMS}")
    by_name = {program.name: program for program in programs}
    runtime = found if hasattr(found, "drive") else None
    return App(by_name, dict.fromkeys(by_name, target), runtime)


def is_program(value: Any) -> bool:
    """Whether a value offers what `ports.Program` asks for."""
    return not isinstance(value, type) and all(
        hasattr(value, name) for name in ("name", "kind", "begin", "accept")
    )


def load(target: str, *, folder: str | None = None) -> Any:
    """Import "module:attribute"; the folder comes first on the path.

    Raises:
        ConfigError: E_APP, saying where the module failed.
    """
    module, colon, attribute = target.partition(":")
    if not colon or not module or not attribute:
        raise ConfigError("E_APP", value=target, detail="it does not name an attribute")
    place = folder or os.getcwd()
    if place not in sys.path:
        sys.path.insert(0, place)
    try:
        found: Any = import_module(module)
    except Exception as exc:
        raise ConfigError("E_APP", value=target, detail=_failure(exc, place)) from exc
    for name in attribute.split("."):
        if not hasattr(found, name):
            names = ", ".join(_programs_of(found)) or "no programs"
            detail = f"{module} has no {name} (it has {names})"
            raise ConfigError("E_APP", value=target, detail=detail)
        found = getattr(found, name)
    return found


def _failure(exc: Exception, folder: str) -> str:
    """Return an import's failure with the line of the user's own file it came from."""
    trace, place = exc.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file.startswith(folder):
            place = f"{os.path.relpath(file, folder)}:{trace.tb_lineno}: "
        trace = trace.tb_next
    return f"{place}{type(exc).__name__}: {exc}"


def _programs_of(module: Any) -> list[str]:
    return [name for name, value in vars(module).items() if is_program(value)]


def load_policy(given: Given, app: App) -> Any:
    """Return the policy in force: a flag or setting, the Runtime's own, or the remembered one.

    Raises:
        ConfigError: E_POLICY_MISSING when nobody named one or its file cannot be read, another
            E_POLICY_... when it is wrong, E_APP when it cannot be imported.
    """
    own = getattr(app.runtime, "options", {}).get("policy")
    text = given.policy or (None if own is not None else given.settings.policy or app.policy)
    if text is None:
        if own is None:
            raise ConfigError("E_POLICY_MISSING", detail="was given")
        return _read(own)
    if text == DEVELOPMENT:
        from gatebook.kernel.policies import AllowDeclared

        return AllowDeclared()
    if is_policy_file(text):
        return _read(text.split(","))
    found = load(text)
    return found() if isinstance(found, type) else found


def _read(policy: Any) -> Any:
    """Return a policy, read from its files if it is given by their paths."""
    from gatebook.kernel.redact import Redactor
    from gatebook.runtime.policy_files import in_force

    return in_force(policy, Redactor())


def is_policy_file(text: str) -> bool:
    """Whether a --policy names files and not code: `policy.toml`, or several with commas."""
    return all(part.endswith(".toml") for part in text.split(","))


def beside(given: Given, app: App | None = None) -> Given:
    """Return the options with the store of the app's own Runtime, when nothing else names one."""
    settings = given.settings
    if app is None and settings.app is not None:
        app = load_app(settings.app)
    own = getattr(app.runtime, "store", None) if app is not None else None
    if isinstance(own, str) and settings.origins["store"] == "default":
        return replace(given, store=own)
    return given


def app_for(given: Given, programs: list[str]) -> App:
    """Return the app that holds programs: from --app or the settings, else as `run` remembered.

    Args:
        programs: the names that are needed; empty for all that are known.

    Raises:
        ConfigError: E_APP, E_PROGRAM_UNKNOWN.
    """
    target = given.settings.app
    if target is not None:
        app = load_app(target)
        for name in programs:
            app.program(name)
        return app
    known = recall(open_journal(given.settings.store).url)
    apps = [
        load_app(known[name]["app"], folder=known[name]["folder"])
        for name in (programs or known)
        if name in known
    ]
    merged = App(
        {name: program for app in apps for name, program in app.programs.items()},
        {name: text for app in apps for name, text in app.targets.items()},
        apps[0].runtime if len(apps) == 1 else None,
        _one_policy([known[name] for name in (programs or known) if name in known]),
    )
    for name in programs:
        merged.program(name)
    if not merged.programs:
        raise ConfigError("E_PROGRAM_UNKNOWN", program="?", names="none")
    return merged


def _one_policy(entries: list[dict[str, str]]) -> str | None:
    """Return the policy all these programs were run under, None when they differ or had none."""
    policies = {entry.get("policy") for entry in entries}
    return policies.pop() if len(policies) == 1 else None


def remember(url: str, app: App, *, policy: str | None) -> None:
    """Note beside the store where an app's programs came from and their policy; mode 0600."""
    path = _memory(url)
    if path is None:
        return
    known = recall(url)
    folder = os.getcwd()
    chosen = {"policy": _lasting(policy)} if policy is not None else {}
    fresh = {name: {"app": text, "folder": folder} | chosen for name, text in app.targets.items()}
    if known | fresh == known:
        return
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(known | fresh, file, indent=2)
    os.replace(draft, path)


def _lasting(policy: str) -> str:
    """Return a --policy so that it means the same in another folder."""
    if not is_policy_file(policy):
        return policy
    return ",".join(os.path.abspath(part) for part in policy.split(","))


def recall(url: str) -> dict[str, dict[str, str]]:
    """Return what was remembered beside a store; nothing from a file others could have written."""
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
