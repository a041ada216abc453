"""Prices: whose table wins, what the package says, and what nobody knows."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from gatebook.errors import ConfigError
from gatebook.kernel.actions import CallLLM, Prompt
from gatebook.kernel.messages import Usage
from gatebook.kernel.spending.prices import Price
from gatebook.runtime.models.prices import Prices
from gatebook.runtime.runtime import Runtime
from gatebook.runtime.settings import load_settings

NOVEMBER_2026 = 1_795_262_282_000_000  # microseconds UTC
LONG = Usage(input_tokens=200_001, output_tokens=1)
TABLE = {"input": "0.25", "output": 2}

packaged = pytest.mark.skipif(find_spec("genai_prices") is None, reason="no genai-prices here")


def call(route: str, size: int = 400) -> CallLLM:
    provider, _, model = route.partition(":")
    return CallLLM(provider, model, Prompt("d", size=size))


def prices(given: Any = None, **options: Any) -> Prices:
    return Prices(given, now=lambda: NOVEMBER_2026, **options)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project of a user without settings."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["openai:gpt-5-mini", "gpt-5-mini"])
def test_a_table_names_a_route_or_a_model(name: str) -> None:
    """The same model may cost the same everywhere, or not."""
    found = prices({name: TABLE}).price(call("openai:gpt-5-mini"))

    assert found == Price(250_000, 2_000_000, source="prices=")


def test_a_route_wins_over_a_model() -> None:
    """The more precise word counts."""
    table = prices({"m": TABLE, "here:m": {"input": 0, "output": 0}})

    assert table.price(call("here:m")) == Price(0, 0, source="prices=")


def test_what_is_given_wins_over_what_is_configured() -> None:
    """Code says what this program pays."""
    table = prices({"m": Price(1, 2)}, configured={"m": Price(3, 4), "n": Price(5, 6)})

    assert [table.price(call(f"x:{name}")) for name in "mn"] == [Price(1, 2), Price(5, 6)]


@packaged
def test_ones_own_table_wins_over_the_package() -> None:
    """Contracts differ from price lists."""
    assert prices({"gpt-5-mini": Price(1, 2)}).price(call("openai:gpt-5-mini")) == Price(1, 2)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"input": "1"}, "m.output in prices= is not allowed: it is missing"),
        ({**TABLE, "cached": "1"}, "there is no such price"),
        ({**TABLE, "input": 0.25}, 'write dollars per million tokens as text: input = "0.25"'),
        ({**TABLE, "input": "-1"}, "it is no amount of dollars"),
        ("0.25", "it is not a table"),
    ],
)
def test_a_table_that_is_no_price_is_refused_at_once(table: Any, told: str) -> None:
    """A price that was misread would be found out by the bill."""
    with pytest.raises(ConfigError) as caught:
        Runtime(":memory:", prices={"m": table})

    assert told in str(caught.value).replace("'", "")


def test_a_settings_file_has_prices(folder: Path) -> None:
    """What is paid is a fact of the project, not of each program."""
    (folder / "gatebook.toml").write_text(
        '[prices.\'openai:gpt-5-mini\']\ninput = "0.25"\noutput = 2\ncache_read = "0.025"\n'
    )

    found = load_settings().prices

    assert found == {"openai:gpt-5-mini": Price(250_000, 2_000_000, 25_000, source="gatebook.toml")}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[prices."a:m"]\ninput = "1"\noutput = 2.5\n', ":3 is not allowed: it is no amount"),
        ("[prices.'a:m']\ninput = \"1\"\nouput = 2\n", ":3 is not allowed: there is no such price"),
        ('[prices.m]\ninput = "1"\n', ":1 is not allowed: it is missing"),
        ("prices = 3\n", ":1 is not allowed: it is not a table"),
        ("[prices]\nm = 3\n", ":2 is not allowed: it is not a table"),
    ],
)
def test_a_wrong_price_in_a_file_is_refused_with_its_line(
    folder: Path, text: str, told: str
) -> None:
    """People should find the place."""
    (folder / "gatebook.toml").write_text(text)

    with pytest.raises(ConfigError) as caught:
        load_settings()

    assert told in str(caught.value)


@pytest.mark.parametrize("route", ["local:smollm2", "scripted:x.json", "ollama:llama3:8b"])
def test_a_model_on_this_machine_is_free(route: str) -> None:
    """Its price is known, and it is nothing."""
    found = prices().price(call(route))

    assert found is not None
    assert (found.input, found.output) == (0, 0)


def test_a_provider_that_was_moved_elsewhere_is_not_free() -> None:
    """The name alone says nothing of where it runs."""
    table = prices(endpoints={"ollama": "https://ollama.example/v1"})

    assert table.price(call("ollama:llama3")) is None


@packaged
def test_the_package_knows_a_vendors_models() -> None:
    """Nobody should have to write price lists down."""
    found = prices().price(call("openai:gpt-5-mini"))

    assert found is not None
    assert (found.input, found.output, found.cache_read) == (250_000, 2_000_000, 25_000)
    assert found.source.startswith("genai-prices 0.")


@packaged
@pytest.mark.parametrize(
    ("size", "usage", "dearer"),
    [(400, None, False), (4 * 200_001, None, True), (400, LONG, True), (10**6, Usage(), True)],
)
def test_a_long_input_has_the_price_of_its_tier(
    size: int, usage: Usage | None, dearer: bool
) -> None:
    """Some models cost twice as much above 200,000 tokens, for all of them."""
    found = prices().price(call("google:gemini-2.5-pro", size), usage)

    assert found is not None
    assert (found.input, found.output) == (
        (2_500_000, 15_000_000) if dearer else (1_250_000, 10_000_000)
    )


@packaged
@pytest.mark.parametrize(
    "route",
    ["openai:no-such-model", "nobody:gpt-5-mini", "my-openai-proxy:gpt-5-mini", "perplexity:sonar"],
)
def test_a_guess_is_no_price(route: str) -> None:
    """Names that merely look alike, and prices that are not by the token, are unknown."""
    assert prices().price(call(route)) is None


@packaged
def test_a_configured_provider_is_known_by_its_address() -> None:
    """Its name is the user's own."""
    table = prices(
        endpoints={"mine": "https://api.openai.com/v1", "openai": "http://127.0.0.1:9/v1"}
    )

    assert table.price(call("mine:gpt-5-mini")) is not None
    assert table.price(call("openai:gpt-5-mini")) is None


def test_without_the_package_a_price_is_unknown() -> None:
    """The extra is optional; nothing may break without it."""
    code = """
import sys
sys.modules["genai_prices"] = None
from tests.runtime.test_prices import call, prices
assert prices().price(call("openai:gpt-5-mini")) is None
"""

    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    assert done.stderr == ""


def test_a_run_without_models_does_not_import_the_package() -> None:
    """It costs 0.3 s: whoever calls no unlisted model does not wait for it."""
    code = """
import sys
from gatebook import Agent, AllowDeclared, Scripted, run_sync
agent = Agent(name="a", model="openai:m")
done = run_sync(agent, "hi", store=":memory:", policy=AllowDeclared(),
                providers={"openai": Scripted(lambda _: "ok")},
                prices={"openai:m": {"input": "1", "output": "1"}})
assert done.cost_usd > 0
assert "genai_prices" not in sys.modules
"""

    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    assert done.stderr == ""
