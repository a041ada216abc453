"""Routes: which provider answers "provider:model", and where its key comes from."""

import asyncio
from pathlib import Path

import pytest

from gatebook.errors import ConfigError, InvalidInput
from gatebook.providers import PRESETS, Scripted
from gatebook.runtime.routes import Providers, ProviderSettings, read_key


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_known_name_needs_its_key_and_nothing_else(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first real run should need one environment variable."""
    variable = PRESETS[name].key_variable
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
