"""Routes: which provider answers "provider:model", and where its key comes from."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from gatebook.errors import ConfigError, InvalidInput
from gatebook.providers import (
    PRESETS,
    VENDORS,
    Anthropic,
    Google,
    OpenAICompatible,
    OpenAIResponses,
    Scripted,
)
from gatebook.runtime.models.routes import COMPATIBLE, KINDS, Providers, ProviderSettings, read_key


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_known_name_needs_its_key_and_nothing_else(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first real run should need one environment variable."""
    variable = next(iter(PRESETS[name].key_variables), "")
    for other in PRESETS[name].key_variables:
        monkeypatch.delenv(other, raising=False)
    if variable:
        monkeypatch.setenv(variable, "sk-not-a-real-key-000000000000")
    providers = Providers({}, {})

    provider, model = providers.resolve(f"{name}:some/model:free")

    assert provider.name == name
    assert model == "some/model:free"
    assert providers.secrets == ({"sk-not-a-real-key-000000000000"} if variable else set())
    asyncio.run(providers.aclose())


def test_a_missing_key_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text must say what to set."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as caught:
        Providers({}, {}).resolve("openai:gpt-5-mini")

    assert caught.value.code == "E_KEY_MISSING"


@pytest.mark.parametrize("given", PRESETS["google"].key_variables)
def test_either_variable_of_a_vendor_will_do(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Google's own tools use two names for the same key."""
    for variable in PRESETS["google"].key_variables:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(given, "AIza-not-a-real-key")
    providers = Providers({}, {})

    providers.resolve("google:gemini-3-flash")

    assert providers.secrets == {"AIza-not-a-real-key"}


def test_a_missing_key_names_every_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text must say what to set, whichever name is known."""
    for variable in PRESETS["google"].key_variables:
        monkeypatch.delenv(variable, raising=False)

    with pytest.raises(ConfigError, match="GOOGLE_API_KEY or GEMINI_API_KEY"):
        Providers({}, {}).resolve("google:gemini-3-flash")


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("openai", OpenAIResponses),
        ("openai-chat", OpenAICompatible),
        ("anthropic", Anthropic),
        ("google", Google),
    ],
)
def test_a_vendor_is_spoken_to_in_its_own_way(
    name: str, cls: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vendor's own interface knows more than what it offers for compatibility."""
    monkeypatch.setenv(PRESETS[name].key_variables[0], "sk-not-a-real-key")

    provider, _ = Providers({}, {}).resolve(f"{name}:m")

    assert type(provider) is cls


@pytest.mark.parametrize(
    ("kind", "cls"),
    [(kind, cls) for kind, (cls, _) in VENDORS.items()] + [(COMPATIBLE, "OpenAICompatible")],
)
def test_a_proxy_is_spoken_to_as_its_table_says(kind: str, cls: str) -> None:
    """A house's proxy may offer any vendor's interface, with a key of its own or none."""
    table = ProviderSettings("http://127.0.0.1:1/v1", kind=kind)

    provider, _ = Providers({}, {"house": table}).resolve("house:m")

    assert (type(provider).__name__, provider.name) == (cls, "house")
    assert "http://127.0.0.1:1/v1" in repr(provider)


def test_a_vendors_key_is_not_sent_to_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line in a settings file must not hand the key to somebody else."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-openai-only")
    providers = Providers({}, {"openai": ProviderSettings("http://127.0.0.1:1/v1", kind="openai")})

    providers.resolve("openai:m")

    assert providers.secrets == set()


def test_a_vendor_may_be_used_with_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two teams, two bills."""
    monkeypatch.setenv("TEAM_KEY", "sk-of-the-team")
    providers = Providers({}, {"team": ProviderSettings("", "env:TEAM_KEY", "openai")})

    provider, _ = providers.resolve("team:gpt-5-mini")

    assert "api.openai.com" in repr(provider)
    assert providers.secrets == {"sk-of-the-team"}


def test_every_preset_is_of_a_known_kind() -> None:
    """What a table may say and what is built in are one list."""
    assert {preset.kind for preset in PRESETS.values()} == set(KINDS)


NO_EXTRA = """
import os, sys
sys.modules[{module!r}] = None  # as if it were not installed
os.environ[{variable!r}] = "sk-not-a-real-key"
from gatebook.errors import ConfigError
from gatebook.runtime.models.routes import Providers
try:
    Providers({{}}, {{}}).resolve({route!r})
except ConfigError as error:
    print(error.code, error)
"""


@pytest.mark.parametrize(
    ("route", "module"),
    [("openai:m", "openai"), ("anthropic:m", "anthropic"), ("google:m", "google.genai")],
)
def test_a_missing_extra_is_told_with_the_command(route: str, module: str) -> None:
    """The vendors' packages are not installed unless they are asked for."""
    name = route.partition(":")[0]
    probe = NO_EXTRA.format(route=route, module=module, variable=PRESETS[name].key_variables[0])

    told = subprocess.run(
        [sys.executable, "-c", probe], check=True, capture_output=True, text=True
    ).stdout

    assert told.startswith("E_EXTRA_MISSING")
    assert f'pip install "gatebook[{name}]"' in told
    assert ("openai-chat:" in told) == (name == "openai")


def test_an_unknown_provider_lists_the_known_ones() -> None:
    """A typo should be seen at once."""
    with pytest.raises(ConfigError, match="ollama") as caught:
        Providers({}, {}).resolve("opnai:gpt-5-mini")

    assert caught.value.code == "E_PROVIDER_UNKNOWN"


@pytest.mark.parametrize("route", ["gpt-5-mini", ":x", "openai:", "", 7])
def test_a_route_is_provider_and_model(route: object) -> None:
    """Half a route must not pick a provider by chance."""
    with pytest.raises(InvalidInput) as caught:
        Providers({}, {}).resolve(route)  # type: ignore[arg-type]

    assert caught.value.code == "E_ROUTE"


def test_a_given_provider_wins_over_a_configured_one() -> None:
    """Code is nearer than a file."""
    given = Scripted([{"say": "hi"}])

    provider, _ = Providers(
        {"house": given}, {"house": ProviderSettings("http://127.0.0.1:1/v1")}
    ).resolve("house:m")

    assert provider is given


def test_two_scripts_are_two_providers(tmp_path: Path) -> None:
    """The file is the model's name, so each file has answers of its own."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text('{"rules": [{"say": "x"}]}')
    providers = Providers({}, {})

    first, _ = providers.resolve(f"scripted:{tmp_path}/a.json")
    second, _ = providers.resolve(f"scripted:{tmp_path}/b.json")

    assert first is not second


def test_a_key_is_read_from_a_file(tmp_path: Path) -> None:
    """Secrets are mounted as files in many places."""
    (tmp_path / "key").write_text("sk-from-a-file\n")

    assert read_key(f"file:{tmp_path}/key", provider="house") == "sk-from-a-file"


def test_a_literal_key_is_refused() -> None:
    """A key in a settings file ends up in a repository."""
    with pytest.raises(ConfigError) as caught:
        read_key("sk-literal", provider="house")

    assert caught.value.code == "E_KEY_MISSING"
    assert "sk-literal" not in str(caught.value)
