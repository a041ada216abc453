"""Which provider answers a route: those given in code, those configured, and the built-in ones.

"openai:gpt-5-mini" is provider `openai`, model `gpt-5-mini`. Providers are made at first use and
closed with the runtime.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gatebook.errors import ConfigError
from gatebook.kernel.actions import split_route
from gatebook.ports import Provider


class ProviderSettings(msgspec.Struct, frozen=True):
    """One `[providers.x]` table: where it is and where its key comes from ("env:NAME", ...)."""

    base_url: str
    api_key: str = ""


class Providers:
    """The providers of one runtime, by name.

    Args:
        given: objects passed as `providers=`; they win.
        configured: `[providers.x]` tables of gatebook.toml.
    """

    def __init__(
        self, given: Mapping[str, Provider], configured: Mapping[str, ProviderSettings]
    ) -> None:
        self._made: dict[str, Provider] = dict(given)
        self._given = frozenset(given)
        self._configured = dict(configured)
        self.secrets: set[str] = set()

    def resolve(self, route: str) -> tuple[Provider, str]:
        """Return (provider, model) of a route.

        Raises:
            InvalidInput: E_ROUTE.
            ConfigError: E_PROVIDER_UNKNOWN, E_KEY_MISSING, E_EXTRA_MISSING.
        """
        name, model = split_route(route)
        key = route if name == "scripted" and name not in self._made else name
        provider = self._made.get(key)
        if provider is None:
            provider = self._made[key] = self._make(name, model)
        return provider, model

    async def aclose(self) -> None:
        """Close the providers made here; those passed in stay open, they are their owner's."""
        for name, provider in list(self._made.items()):
            if name not in self._given:
                await provider.aclose()

    def _make(self, name: str, model: str) -> Provider:
        from gatebook.providers import PRESETS, LocalModel, OpenAICompatible, Preset, Scripted

        settings, known = self._configured.get(name), PRESETS.get(name)
        if settings is None and name == "scripted":
            return Scripted.load(model)
        if settings is None and name == "local":
            return LocalModel()
        if settings is None and known is None:
            names = ", ".join(sorted({*self._made, *self._configured, *PRESETS, "local"}))
            raise ConfigError("E_PROVIDER_UNKNOWN", provider=name, provider_name=name, names=names)
        known = known or Preset("")
        reference = f"env:{known.key_variable}" if known.key_variable else ""
        settings = settings or ProviderSettings(known.base_url, reference)
        secret = read_key(settings.api_key, provider=name) if settings.api_key else None
        if secret:
            self.secrets.add(secret)
        return OpenAICompatible(
            settings.base_url,
            secret,
            name=name,
            dialect=known.dialect,
            capabilities=known.capabilities,
        )


def read_key(reference: str, *, provider: str) -> str:
    """Return the key behind "env:NAME" or "file:/path"; never a literal.

    Raises:
        ConfigError: E_KEY_MISSING naming the variable or file.
    """
    kind, _, where = reference.partition(":")
    readers: dict[str, Callable[[str], Any]] = {"env": os.environ.get, "file": _file}
    value = readers[kind](where) if kind in readers else None
    if not value:
        fix = f"the environment variable {where}" if kind == "env" else f"the file {where}"
        fix = fix if kind in readers else 'api_key = "env:NAME" or "file:/path"'
        raise ConfigError("E_KEY_MISSING", provider=provider, fix=fix)
    return str(value).strip()


def _file(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None
