"""Which provider answers a route: those given in code, those configured, and the built-in ones.

"openai:gpt-5-mini" is provider `openai`, model `gpt-5-mini`. Providers are made at first use and
closed with the runtime.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from gatebook.errors import ConfigError
from gatebook.kernel.actions import split_route
from gatebook.ports import Program, Provider

if TYPE_CHECKING:
    from gatebook.providers import Preset


COMPATIBLE = "openai-compatible"
KINDS = (COMPATIBLE, "openai", "anthropic", "google")


class ProviderSettings(msgspec.Struct, frozen=True):
    """One `[providers.x]` table.

    Attributes:
        base_url: where it is; "" for the vendor's own address.
        api_key: where its key comes from: "env:NAME", "file:/path", "" for none.
        kind: what it speaks, one of KINDS.
    """

    base_url: str = ""
    api_key: str = ""
    kind: str = COMPATIBLE


class Providers:
    """The providers of one runtime, by name.

    Args:
        given: objects passed as `providers=`; they win.
        configured: `[providers.x]` tables of gatebook.toml.
        learn: is told each key before a provider gets it.
    """

    def __init__(
        self,
        given: Mapping[str, Provider],
        configured: Mapping[str, ProviderSettings],
        *,
        learn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._learn = learn
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

    def check(self, program: Program[Any, Any]) -> None:
        """Check that a program's models can be asked; see `resolve` for what it raises."""
        for route in program.models:
            self.resolve(route)

    async def aclose(self) -> None:
        """Close the providers made here; those passed in stay open, they are their owner's."""
        for name, provider in list(self._made.items()):
            if name not in self._given:
                await provider.aclose()

    def _make(self, name: str, model: str) -> Provider:
        from gatebook.providers import PRESETS, LocalModel, Preset, Scripted

        settings = self._configured.get(name)
        if settings is None and name == "scripted":
            return Scripted.load(model)
        if name == "local" and (settings is None or not settings.base_url):
            return LocalModel() if settings is None else LocalModel(kind=settings.kind)  # type: ignore[arg-type]
        known = PRESETS.get(name)
        if settings is None and known is None:
            names = ", ".join(sorted({*self._made, *self._configured, *PRESETS, "local"}))
            raise ConfigError("E_PROVIDER_UNKNOWN", provider=name, provider_name=name, names=names)
        known = known or Preset("")
        settings = settings or ProviderSettings(kind=known.kind)
        vendor = PRESETS.get(settings.kind, known)
        variables = () if settings.base_url else vendor.key_variables
        secret = _secret(settings.api_key, variables, provider=name)
        if secret:
            self.secrets.add(secret)
            self._learn(secret)
        return _provider(name, settings, known, secret)


def _provider(name: str, settings: ProviderSettings, known: "Preset", secret: str) -> Provider:
    from gatebook import providers

    if settings.kind == COMPATIBLE:
        return providers.OpenAICompatible(
            settings.base_url or known.base_url,
            secret,
            name=name,
            dialect=known.dialect,
            capabilities=known.capabilities,
        )
    vendor: Callable[..., Provider] = getattr(providers, providers.VENDORS[settings.kind][0])
    return vendor(secret, base_url=settings.base_url or None, name=name)


def _secret(reference: str, variables: Sequence[str], *, provider: str) -> str:
    """Return the key that is referred to, else that of the vendor's variable; "" for none.

    A vendor's key is for the vendor: where a table says another address, no variable is looked at.
    """
    if reference:
        return read_key(reference, provider=provider)
    for variable in variables:
        if key := os.environ.get(variable, "").strip():
            return key
    if variables:
        fix = f"the environment variable {' or '.join(variables)}"
        raise ConfigError("E_KEY_MISSING", provider=provider, fix=fix)
    return ""


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
