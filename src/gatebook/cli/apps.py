"""Finding programs and policies by "module:attribute", or where `run` remembers them."""

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.machinery import PathFinder
from typing import Any

from gatebook.cli.memory import Remembered, recall, remember, remembered_runs
from gatebook.cli.options import Given
from gatebook.errors import ConfigError
from gatebook.journals import open_journal
from gatebook.ports import Program, RunRow, is_program

DEVELOPMENT = "allow-declared"
POLICY_FORMS = "give a file policy.toml, module:attribute or allow-declared"
FORM = "write module:attribute, for example app:support"
FORMS = "pass a program, a Runtime or a list of programs"


@dataclass(frozen=True)
class App:
    """What an app's target held: programs by name, and the Runtime they came with, if any.

    `folders` says of programs that were not found from here where their app was imported from,
    `missing` of remembered ones why they are not there any more.
    """

    programs: Mapping[str, Program[Any, Any]]
    targets: Mapping[str, str] = field(default_factory=dict)
    runtime: Any = None
    folders: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, ConfigError] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Where its Runtime was imported from, "" for here."""
        return next(iter(self.folders.values()), "")

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
        by_name = {found.name: found}
        return App(by_name, {found.name: target}, folders=_all_in(folder, by_name))
    programs = getattr(found, "programs", found)
    if isinstance(programs, Mapping):
        programs = list(programs.values())
    if not isinstance(programs, list | tuple) or not all(map(is_program, programs)):
        detail = f"it is a {type(found).__name__}"
        raise ConfigError("E_APP", value=target, detail=detail, fix=FORMS)
    by_name = {program.name: program for program in programs}
    runtime = found if hasattr(found, "drive") else None
    return App(by_name, dict.fromkeys(by_name, target), runtime, _all_in(folder, by_name))


def _all_in(folder: str | None, names: Iterable[str]) -> dict[str, str]:
    return {} if folder is None else dict.fromkeys(names, folder)


def load(target: str, *, folder: str | None = None) -> Any:
    """Import "module:attribute"; the folder comes first on the path.

    Raises:
        ConfigError: E_APP, saying where the module failed.
    """
    module, colon, attribute = target.partition(":")
    if not colon or not module or not attribute:
        raise ConfigError("E_APP", value=target, detail="it does not name an attribute", fix=FORM)
    place = folder or os.getcwd()
    if place not in sys.path:
        sys.path.insert(0, place)
    try:
        found: Any = import_module(module)
    except Exception as exc:
        detail, fix = _failure(exc, module, place)
        raise ConfigError("E_APP", value=target, detail=detail, fix=fix) from exc
    _check_place(module.partition(".")[0], place, target)
    for name in attribute.split("."):
        if not hasattr(found, name):
            names = ", ".join(_programs_of(found)) or "no programs"
            detail = f"{module} has no {name} (it has {names})"
            raise ConfigError("E_APP", value=target, detail=detail, fix="correct the name")
        found = getattr(found, name)
    return found


def _check_place(module: str, folder: str, target: str) -> None:
    """Refuse another module of that name than the folder's own. Raises ConfigError E_APP."""
    own, found = PathFinder.find_spec(module, [folder]), sys.modules[module]
    if own is None or own.origin is None or not own.has_location:
        return
    here, file = own.origin, getattr(found, "__file__", None) or "built in"
    if os.path.realpath(here) == os.path.realpath(file):
        return
    detail = f"{module} is {file} here already, and {here} is another"
    fix = f"rename one of them, or go to {folder} and begin there"
    raise ConfigError("E_APP", value=target, detail=detail, fix=fix)


def _failure(exc: Exception, module: str, folder: str) -> tuple[str, str]:
    """Return why an import failed, with the user's own line it came from, and what to do."""
    if isinstance(exc, ModuleNotFoundError) and f"{module}.".startswith(f"{exc.name}."):
        return f"there is no module {exc.name} in {folder}", "correct its name, or go to its folder"
    trace, place = exc.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file.startswith(folder):
            place = f"{os.path.relpath(file, folder)}:{trace.tb_lineno}: "
        trace = trace.tb_next
    return f"{place}{type(exc).__name__}: {exc}", "correct that, then try again"


def _programs_of(module: Any) -> list[str]:
    return [name for name, value in vars(module).items() if is_program(value)]


def load_policy(given: Given, app: App, past: Remembered | None = None, *, run: str = "") -> Any:
    """Return the policy in force; for a run that is taken up, the one that it was given.

    A --policy given now wins, then the --policy that this run was started with, then the
    Runtime's own, the settings, and the settings that this run was started under. What another
    run was given never counts.

    Args:
        past: what the run was given, see `remembered_of`; None for one yet to start.
        run: its id.

    Raises:
        ConfigError: E_POLICY_MISSING when nobody named one or its file cannot be read, another
            E_POLICY_... when it is wrong, E_APP when it cannot be imported.
    """
    own = getattr(app.runtime, "options", {}).get("policy")
    setting = given.settings.policy
    if given.policy:
        return _named(given.policy)
    if past is not None and not past.app and given.settings.app is None:
        own = None  # the app was found by what other runs were given
    if past is not None and past.policy and (past.flag or (own is None and setting is None)):
        return _named(past.policy, folder=past.folder)
    if own is not None:
        return _read(own, folder=app.folder)
    if setting is not None:
        return _named(setting)
    detail = "was given" if past is None else f"is remembered for run {run!r}"
    raise ConfigError("E_POLICY_MISSING", detail=detail)


def _named(text: str, *, folder: str = "") -> Any:
    """Return the policy that a --policy names, as seen from a folder."""
    if text == DEVELOPMENT:
        from gatebook.kernel.policies import AllowDeclared

        return AllowDeclared()
    if is_policy_file(text):
        return _read(text.split(","), folder=folder)
    if ":" not in text:
        raise ConfigError("E_APP", value=text, detail=_no_policy(text), fix=POLICY_FORMS)
    found = load(text, folder=folder or None)
    return found() if isinstance(found, type) else found


def _no_policy(text: str) -> str:
    """Return what is wrong with a --policy that is neither a file nor module:attribute."""
    from difflib import get_close_matches

    near = get_close_matches(text, [DEVELOPMENT], 1)
    return f"it is no policy{f' (did you mean {DEVELOPMENT}?)' if near else ''}"


def _read(policy: Any, *, folder: str) -> Any:
    """Return a policy, read from its files if it is given by their paths."""
    from gatebook.kernel.redact import Redactor
    from gatebook.runtime.policy_files import in_force

    if isinstance(policy, str | os.PathLike):
        policy = os.path.join(folder, policy)
    elif isinstance(policy, list):
        policy = [os.path.join(folder, part) for part in policy]
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


def app_for(given: Given, programs: list[str], past: Remembered | None = None) -> App:
    """Return the app that holds programs: from --app or the settings, else as `run` remembered.

    Args:
        programs: the names that are needed; empty for all that are known and can be loaded.
        past: what the run was given that is taken up; its program comes from there.

    Raises:
        ConfigError: E_APP, E_PROGRAM_UNKNOWN, E_APP_MISSING.
    """
    target, folder = given.settings.app, None
    if target is None and past is not None and past.app:
        target, folder = past.app, past.folder
    if target is not None:
        app = load_app(target, folder=folder)
        for name in programs:
            app.program(name)
        return app
    known = recall(open_journal(given.settings.store).url)
    apps, missing = list[App](), dict[str, ConfigError]()
    for name in programs or known:
        if name not in known:
            continue
        try:
            apps.append(load_app(known[name]["app"], folder=known[name]["folder"]))
        except ConfigError as exc:
            if programs:
                raise
            missing[name] = exc
    if missing and not apps:
        raise next(iter(missing.values()))
    merged = App(
        {name: program for app in apps for name, program in app.programs.items()},
        {name: text for app in apps for name, text in app.targets.items()},
        apps[0].runtime if len(apps) == 1 else None,
        {name: folder for app in apps for name, folder in app.folders.items()},
        missing,
    )
    for name in programs:
        merged.program(name)
    if not merged.programs:
        raise ConfigError("E_APP_MISSING")
    return merged


def remembered_of(given: Given, row: RunRow) -> Remembered:
    """Return what `run` remembers of a run; nothing of it when it remembers nothing."""
    known = recall(open_journal(given.settings.store).url)
    return remembered_runs(known, row.program).get(row.run.id, Remembered())


def note_run(given: Given, url: str, app: App, *, program: str, run: str) -> None:
    """Remember beside the store what a run was given: its app, and the policy if one was said."""
    policy = given.settings.policy or ""
    if is_policy_file(policy):
        policy = ",".join(os.path.abspath(part) for part in policy.split(","))
    past = Remembered(app.targets[program], os.getcwd(), policy, flag=bool(given.policy))
    remember(url, run, app.targets, program, past)
