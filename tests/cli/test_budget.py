"""`gatebook budget`: what is left of a run's limits and of its ledgers, and raising them."""

import json

import apsw
import pytest

from tests.cli.conftest import Inside

SHOP = '''"""A shop whose runs wait, and share what a day may use."""

from gatebook import ActionDenied, AllowDeclared, Budget, Runtime, tool, workflow


@tool(effect="read")
async def look(n: int) -> int:
    return n


@workflow(tools=[look])
async def looks(ctx, count: str) -> list:
    found = []
    for n in range(int(count)):
        try:
            found.append(await ctx.call_tool(look, n=n))
        except ActionDenied as error:
            found.append(error.code)
            await ctx.wait_signal("go")
    return found


shop = Runtime(
    programs=[looks],
    policy=AllowDeclared(budget=Budget(tool_calls=1, fan_out=4, wall_clock=30, usd="2")),
    ledgers={"day": Budget(tool_calls=9), "tenant": Budget()},
)
'''


@pytest.fixture
def shop(gatebook: Inside) -> Inside:
    """A folder with a run that waits because its budget is used up."""
    (gatebook.path / "shop.py").write_text(SHOP)
    done = gatebook("run", "looks", "3", "--app", "shop:shop", "--run-id", "r")
    assert done.returncode == 4, done.stderr
    return gatebook


def meters(shop: Inside) -> dict[tuple[str, str], list[int | str | None]]:
    """What is told of each meter: limit, spent, reserved, left."""
    return {
        (line["of"].partition(":")[0], line["meter"]): [
            line[name] for name in ("limit", "spent", "reserved", "left")
        ]
        for line in shop.json("budget", "r")["budget"]
    }


def test_it_tells_what_is_left_of_the_run_and_of_its_ledgers(shop: Inside) -> None:
    """Whoever asks why a run was refused needs the numbers that refused it."""
    found = meters(shop)

    assert found["run", "tool_calls"] == [1, 1, 0, 0]
    assert found["run", "usd"] == ["2.000000", "0.000000", "0.000000", "2.000000"]
    assert found["run", "fan_out"][0] == 4
    assert found["day", "tool_calls"] == [9, 1, 0, 8]
    assert found["tenant", "tool_calls"] == [None, 1, 0, None]


def test_people_are_told_when_a_ledger_renews(shop: Inside) -> None:
    """The one who waits wants to know until when."""
    rows = shop("budget", "r").stdout

    assert "T00:00:00Z" in rows
    assert "it does not renew" in rows


def test_a_raise_is_recorded_and_lets_the_run_go_on(shop: Inside) -> None:
    """From the next request on, and with who and why."""
    raised = shop(
        "budget", "r", "--raise", "tool_calls=+2", "--raise", "usd=5", "--by", "ann",
        "--reason", "a long ticket",
    )  # fmt: skip
    shop("signal", "r", "go")
    resumed = shop("resume", "r", "--app", "shop:shop")

    assert raised.returncode == 0, raised.stderr
    assert meters(shop)["run", "tool_calls"] == [3, 2, 0, 1]
    assert resumed.returncode == 0, resumed.stderr
    assert shop.json("show", "r")["output"] == [0, "E_BUDGET", 2]
    events = shop("show", "r", "--events").stdout
    assert "limits raised, cost $5.00, tool calls +2 by ann: a long ticket" in events
    assert "counts against day (tool calls 9), tenant (no limit)" in events


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (["tool_calls=1"], 1, "E_BUDGET_RAISE"),
        (["llm_tokens=+5"], 1, "E_BUDGET_RAISE"),
        (["tool_calls=-1"], 2, "E_BUDGET_CONFIG"),
        (["usd=x"], 2, "give dollars"),
        (["calls=1"], 2, "METER=AMOUNT"),
        (["usd=3", "usd=+3"], 2, "METER=AMOUNT"),
    ],
)
def test_what_raises_nothing_is_refused(
    shop: Inside, raised: list[str], code: int, told: str
) -> None:
    """And says what would."""
    before = meters(shop)

    done = shop("budget", "r", *(part for text in raised for part in ("--raise", text)))

    assert (done.returncode, told in done.stderr) == (code, True), done.stderr
    assert meters(shop) == before


def test_a_run_that_is_over_stays_over(shop: Inside) -> None:
    """A raise is no second chance for what has ended."""
    shop("cancel", "r")
    shop("resume", "r", "--app", "shop:shop")

    done = shop("budget", "r", "--raise", "tool_calls=+1")

    assert (done.returncode, "E_RUN_TERMINAL" in done.stderr) == (1, True)


def test_verify_adds_the_ledgers_up_again(shop: Inside) -> None:
    """Whoever edits a balance, or loses one, is found."""
    sound = shop("verify", "--all")
    (store,) = shop.path.rglob("*.db")
    connection = apsw.Connection(str(store))
    connection.execute("UPDATE ledgers SET balance = '{}' WHERE key = 'tenant'")
    connection.close()

    edited = shop("verify", "--all", "--json")

    assert (sound.returncode, "ledger tenant\tok" in sound.stdout) == (0, True)
    assert edited.returncode == 1
    found = {each["ledger"]: each for each in json.loads(edited.stdout)["ledgers"]}
    assert not found["tenant"]["ok"]
    assert "tool_calls 0 instead of 1" in found["tenant"]["violation"]["message"]
    assert all(each["ok"] for key, each in found.items() if key != "tenant")
