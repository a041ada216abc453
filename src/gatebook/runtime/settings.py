"""Settings: which store, app, policy and providers, and where each value came from.

flag > GATEBOOK_* environment > nearest gatebook.toml or [tool.gatebook] in pyproject.toml >
config.toml in the user's configuration folder > default. The keys are a closed set.
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from gatebook.errors import ConfigError
from gatebook.kernel.spending.prices import Price
from gatebook.runtime.models.limiter import RATE_KEYS, Rate, wrong_rate
from gatebook.runtime.models.prices import price_of, wrong_in
from gatebook.runtime.models.routes import COMPATIBLE, KINDS, ProviderSettings

KEYS = ("store", "app", "policy")
TABLES = ("providers", "prices", "secrets")
SECRET_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
PROVIDER_KEYS = ("base_url", "api_key", "kind", *RATE_KEYS)
REFERENCES = ("env:", "file:")
LOCAL_STORE = Path(".gatebook") / "journal.db"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings in force.

    Attributes:
        store: location of the journal, as `open_journal` takes it.
        app: "module:attribute" of the programs, or None.
        policy: "allow-declared", "module:attribute" or a path of a policy file, or None.
        providers: `[providers.x]` tables, by name.
        prices: `[prices.x]` tables, by route or model name.
        rates: what `[providers.x]` tables say of a minute, by provider or route.
        secrets: where each of `[secrets]` comes from, by name: "env:NAME" or "file:/path".
        origins: where each value came from, by key ("store", "providers.x"): a flag, a variable,
            "file:line" or "default".
    """

    store: str
    app: str | None = None
    policy: str | None = None
    providers: dict[str, ProviderSettings] = {}
    prices: dict[str, Price] = {}
    rates: dict[str, Rate] = {}
    secrets: dict[str, str] = {}
    origins: dict[str, str] = {}


def default_store_url() -> str:
    """Return the store that the command line uses here when no --store is given.

    Raises:
        ConfigError: E_CONFIG when a settings file is wrong.
    """
    return load_settings().store


def load_settings(
    *,
    flags: Mapping[str, str | None] | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """Return the settings in force in a folder; only reads.

    Args:
        flags: what the command line gave, by key; None means not given.
        environ: the process's environment unless given.
        folder: where to start looking for a settings file; the current folder unless given.

    Raises:
        ConfigError: E_CONFIG with file and line for an unknown key, a wrong type, a literal key
            or a file that others may change.
    """
    folder = Path.cwd() if folder is None else folder
    given = _given(flags or {}, os.environ if environ is None else environ)
    values = {key: value for key, (value, _) in given.items()}
    origins = {key: origin for key, (_, origin) in given.items()}
    providers: dict[str, ProviderSettings] = {}
    prices: dict[str, Price] = {}
    rates: dict[str, Rate] = {}
    secrets: dict[str, str] = {}
    for file in _files(folder):
        for key, value, line in file.values():
            if key not in values:
                values[key], origins[key] = value, f"{file.path}:{line}"
        for name, provider, line in file.providers():
            if name not in providers:
                providers[name] = provider
                origins[f"providers.{name}"] = f"{file.path}:{line}"
        prices = {**file.prices(), **prices}
        rates = {**file.rates(), **rates}
        secrets = {**file.secrets(), **secrets}
    if "store" not in values:
        values["store"], origins["store"] = f"sqlite:///{_default_store(folder)}", "default"
    return Settings(
        **values,
        providers=providers,
        prices=prices,
        rates=rates,
        secrets=secrets,
        origins=origins,
    )


def _given(
    flags: Mapping[str, str | None], environ: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Return what no file says: (value, origin) of each flag, else of its variable."""
    given = {key: (value, f"--{key}") for key, value in flags.items() if value}
    for key in KEYS:
        variable = f"GATEBOOK_{key.upper()}"
        if key not in given and environ.get(variable):
            given[key] = (environ[variable], variable)
    return given


def _default_store(folder: Path) -> Path:
    local = folder / LOCAL_STORE
    if local.exists():
        return local
    from platformdirs import user_data_path

    return user_data_path("gatebook", appauthor=False) / "journal.db"


def _files(folder: Path) -> list["_File"]:
    """Return the project's settings file, if any, then the user's."""
    found = []
    for place in (folder, *folder.parents):
        file = _read(place / "gatebook.toml", ()) or _read(
            place / "pyproject.toml", ("tool", "gatebook")
        )
        if file is not None:
            found.append(file)
            break
    from platformdirs import user_config_path

    own = _read(user_config_path("gatebook", appauthor=False) / "config.toml", ())
    return [*found, own] if own is not None else found


def _read(path: Path, table: tuple[str, ...]) -> "_File | None":
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise _refused("(file)", path, f"it cannot be read ({exc})", "correct it") from exc
    if table and f"[{'.'.join(table)}" not in text:
        return None
    import tomllib

    try:
        found: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise _refused("(file)", path, str(exc), "correct its TOML") from exc
    for name in table:
        found = found.get(name)
        if not isinstance(found, dict):
            return None
    _check_owner(path)
    return _File(path, text, found, table)


def _check_owner(path: Path) -> None:
    """Refuse a file that somebody else may have written: it names code, and who gets the keys."""
    status = path.stat()
    trusted = (0, os.geteuid())
    if (status.st_uid not in trusted and os.geteuid() != 0) or status.st_mode & stat.S_IWOTH:
        detail = "another user may change it, and it says what code runs"
        raise _refused("(file)", path, detail, f"run: chown $USER {path}; chmod o-w {path}")


class _File:
    """One settings file, checked as it is read."""

    def __init__(self, path: Path, text: str, found: dict[str, Any], table: tuple[str, ...]):
        self.path = path
        self._lines = text.splitlines()
        self._found = found
        self._table = table
        for key in found:
            if key not in (*KEYS, *TABLES):
                self._unknown(key, (), (*KEYS, *TABLES))

    def values(self) -> list[tuple[str, str, int]]:
        """Return (key, value, line); locations are made absolute from the file's folder."""
        given = []
        for key in KEYS:
            if key in self._found:
                value = self._text(key, self._found[key], ())
                if key == "store":
                    value = self._location(value)
                if key == "policy" and value.endswith(".toml"):
                    folder, parts = self.path.parent, value.split(",")
                    value = ",".join(str(folder / Path(part).expanduser()) for part in parts)
                given.append((key, value, self._line(key, ())))
        return given

    def providers(self) -> list[tuple[str, ProviderSettings, int]]:
        """Return (name, table, line) of each `[providers.x]` that says more than rates."""
        return [
            (name, self._provider(name, table), self._line(None, ("providers", name)))
            for name, table in self._tables().items()
            if not isinstance(table, dict) or not table or not table.keys() <= {*RATE_KEYS}
        ]

    def rates(self) -> dict[str, Rate]:
        """Return what each `[providers.x]` or `[providers."x:model"]` says of a minute."""
        found = {}
        for name, table in self._tables().items():
            said = {key: table[key] for key in RATE_KEYS if key in table}
            if wrong := wrong_rate(said):
                key, detail, fix = wrong
                raise self._wrong(key, ("providers", name), detail, fix)
            if said:
                found[name] = Rate(**said)
        return found

    def _tables(self) -> dict[str, Any]:
        tables = self._found.get("providers", {})
        if not isinstance(tables, dict):
            raise self._wrong("providers", (), "it is not a table", "write [providers.NAME]")
        return tables

    def prices(self) -> dict[str, Price]:
        """Return the price of each `[prices.x]`."""
        tables = self._found.get("prices", {})
        if not isinstance(tables, dict):
            raise self._wrong("prices", (), "it is not a table", "write [prices.'openai:MODEL']")
        found = {}
        for name, table in tables.items():
            if wrong := wrong_in(table):
                key, detail, fix = wrong
                where = ("prices", name) if key else ("prices",)
                raise self._wrong(key or name, where, detail, fix)
            found[name] = price_of(table, source=self.path.name)
        return found

    def secrets(self) -> dict[str, str]:
        """Return where each secret of `[secrets]` comes from; a file is sought from this one."""
        table = self._found.get("secrets", {})
        if not isinstance(table, dict):
            raise self._wrong("secrets", (), "it is not a table", "write [secrets]")
        found = {}
        for name, source in table.items():
            if not SECRET_NAME.fullmatch(name):
                fix = "use letters, digits, '_', '-' or '.'"
                raise self._wrong(name[:64], ("secrets",), "a secret cannot have this name", fix)
            kind, _, where = source.partition(":") if isinstance(source, str) else ("", "", "")
            if f"{kind}:" not in REFERENCES or not where:
                raise self._wrong(
                    name, ("secrets",), "it says no source, and this file is no place for a secret",
                    f'write {name} = "env:NAME_OF_A_VARIABLE" or "file:/path/of/a/secret"',
                )  # fmt: skip
            at = self.path.parent / Path(where).expanduser()
            found[name] = f"file:{at}" if kind == "file" else source
        return found

    def _provider(self, name: str, table: Any) -> ProviderSettings:
        where = ("providers", name)
        if not isinstance(table, dict):
            raise self._wrong(
                name, ("providers",), "it is not a table", f"write [providers.{name}]"
            )
        for key in table:
            if key not in PROVIDER_KEYS:
                self._unknown(key, where, PROVIDER_KEYS)
        said = self._text("kind", table.get("kind", COMPATIBLE), where)
        if said not in KINDS:
            raise self._wrong("kind", where, f"there is no {said!r}", f"use {' or '.join(KINDS)}")
        url = self._address(table, said, where)
        key = self._text("api_key", table.get("api_key", "env:"), where)
        if not key.startswith(REFERENCES):
            raise self._wrong(
                "api_key", where, "it holds a key itself, and this file is no place for one",
                'write api_key = "env:NAME_OF_A_VARIABLE" or "file:/path/of/a/secret"',
            )  # fmt: skip
        kind, _, at = key.partition(":")
        if kind == "file" and at:
            key = f"file:{self.path.parent / Path(at).expanduser()}"
        return ProviderSettings(url, key if at else "", said)

    def _address(self, table: dict[str, Any], kind: str, where: tuple[str, ...]) -> str:
        """Return a table's base URL; a vendor's own and the local model's may be left out."""
        if "base_url" not in table and (kind != COMPATIBLE or where[-1] == "local"):
            return ""
        if "base_url" not in table:
            raise self._wrong("base_url", where, "it is missing", 'add base_url = "https://..."')
        url = self._text("base_url", table["base_url"], where)
        if not url.startswith(("https://", "http://")):
            raise self._wrong("base_url", where, "it is not an http URL", 'write "https://..."')
        return url

    def _text(self, key: str, value: Any, where: tuple[str, ...]) -> str:
        if not isinstance(value, str) or not value:
            raise self._wrong(key, where, "it is not text", f'write {key} = "..."')
        return value

    def _location(self, store: str) -> str:
        if store in (":memory:", "memory:"):
            return store
        prefix, path = "sqlite:///", store.removeprefix("sqlite:///")
        if path == store and "://" in store:
            return store
        return f"{prefix}{self.path.parent / Path(path).expanduser()}"

    def _unknown(self, key: str, where: tuple[str, ...], known: tuple[str, ...]) -> None:
        import difflib

        near = difflib.get_close_matches(key, known, 1)
        fix = f"did you mean {near[0]}?" if near else f"known are: {', '.join(known)}"
        raise self._wrong(key, where, "there is no such setting", fix)

    def _wrong(self, key: str, where: tuple[str, ...], detail: str, fix: str) -> ConfigError:
        name = ".".join((*where, key))
        return _refused(name, f"{self.path}:{self._line(key, where)}", detail, fix)

    def _line(self, key: str | None, where: tuple[str, ...]) -> int:
        """Return the line a key or table stands on, as well as it can be found in the text."""
        header = ".".join((*self._table, *where))
        current = ""
        for number, line in enumerate(self._lines, start=1):
            table = re.match(r"\s*\[\s*([^\]]+?)\s*\]", line)
            if table:
                current = re.sub(r"[\"' ]", "", table[1])
                if key is None and current == header:
                    return number
                if key is not None and current == f"{header}.{key}".lstrip("."):
                    return number
            elif key and current == header and re.match(rf'\s*"?{re.escape(key)}"?\s*=', line):
                return number
        return (
            1 if where == () else self._line(None, where) if key else self._line(None, where[:-1])
        )


def _refused(name: str, path: Path | str, detail: str, fix: str) -> ConfigError:
    return ConfigError("E_CONFIG", name=name, path=str(path), detail=detail, fix=fix)
