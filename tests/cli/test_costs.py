"""What the command line says of tokens and money: what is known, and what is not."""

import pytest

from tests.cli.conftest import Inside

SHOP = '''"""A shop that pays for its model."""

from gatebook import Agent, AllowDeclared, Budget, Runtime, Scripted

clerk = Agent(name="clerk", model="openai:m")
priced = Runtime(
    programs=[clerk],
    policy=AllowDeclared(budget=Budget(usd="0.05")),
    providers={"openai": Scripted(lambda _: "four words of answer")},
    prices={"openai:m": {"input": "1", "output": "2"}},
)
unpriced = Runtime(
    programs=[clerk],
    policy=AllowDeclared(),
    providers={"openai": Scripted(lambda _: "four words of answer")},
)
'''


@pytest.fixture
def shop(gatebook: Inside) -> Inside:
    """A folder with a run of known cost and one of unknown."""
    (gatebook.path / "shop.py").write_text(SHOP)
    for name in ("priced", "unpriced"):
        done = gatebook("run", "clerk", "hi", "--app", f"shop:{name}", "--run-id", name)
        assert done.returncode == 0, done.stderr
    return gatebook


def test_show_tells_what_a_model_cost(shop: Inside) -> None:
    """Tokens alone say little: prices differ by a hundred times."""
    document = shop.json("show", "priced", "--cost")

    (cost,) = document["cost"]
    assert cost["cost_usd"] == document["cost_usd"]
    assert cost["cost_usd"].startswith("0.0000")
    assert document["meters"]["usd_micros"]["limit"] == 50_000


def test_show_says_that_a_cost_is_unknown(shop: Inside) -> None:
    """Nothing would be a lie."""
    document = shop.json("show", "unpriced", "--cost")

    assert document["cost_usd"] is None
    assert document["cost"][0]["cost_usd"] is None
    assert "\tunknown\t" in shop("show", "unpriced", "--cost").stdout


def test_show_gives_the_price_that_was_charged(shop: Inside) -> None:
    """Whoever doubts a sum can do it again."""
    (action,) = shop.json("show", "priced")["timeline"]

    usage, micros = action["usage"], action["charged"]["usd_micros"]
    assert action["price"] == {"input": 1_000_000, "output": 2_000_000, "source": "prices="}
    assert micros == usage["input_tokens"] + 2 * usage["output_tokens"]


def test_runs_of_known_and_unknown_cost_verify(shop: Inside) -> None:
    """The sums are checked without any table of prices."""
    assert shop("verify", "priced").returncode == 0
    assert shop("verify", "unpriced").returncode == 0
