"""A real model on the command line: two tools and a typed answer, through each adapter it knows."""

import json
import re
import signal
import subprocess
import time

import pytest

from gatebook.providers.local import KINDS
from tests.cli.conftest import COMMAND, Folder

pytestmark = pytest.mark.local_model

PATIENCE_S = 170  # a busy machine generates two words a second
SHOP = '''"""A tea shop. Choices instead of free text, because its model is very small."""

from dataclasses import dataclass
from typing import Literal

from gatebook import Agent, tool

Tea = Literal["green", "black"]


@tool(effect="read")
def price(tea: Tea) -> int:
    """Tell what a packet of tea costs, in cents."""
    return {"green": 450, "black": 390}[tea]


@tool
def order(tea: Tea, packets: int) -> str:
    """Order packets of tea."""
    return f"ordered {packets} packets of {tea} tea"


@dataclass
class Reply:
    tea: Tea
    packets: int
    ordered: bool


desk = Agent(
    name="desk", model="local:smollm2", tools=[price, order], output=Reply,
    instructions="You run a tea shop.", max_output_tokens=64,
)
writer = Agent(
    name="writer", model="local:smollm2", instructions="You tell long stories.",
    max_output_tokens=160,
)
'''
ALLOW = ("--policy", "allow-declared")


@pytest.fixture
def shop(tmp_path: object) -> Folder:
    """The command, in a folder with a shop."""
    folder = Folder(tmp_path)  # type: ignore[arg-type]
    (folder.path / "shop.py").write_text(SHOP)
    return folder


def called(folder: Folder, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the command with patience."""
    return subprocess.run(
        [COMMAND, *args],
        cwd=folder.path, env=folder.env, capture_output=True, text=True,
        timeout=PATIENCE_S, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_an_agent_with_two_tools_gives_a_typed_answer(shop: Folder, kind: str) -> None:
    """The whole way, from the command line to a model's tokens and back into the journal."""
    (shop.path / "gatebook.toml").write_text(f'[providers.local]\nkind = "{kind}"\n')

    done = called(
        shop, "run", "shop:desk", "Order 3 packets of green tea.", "--run-id", "r", *ALLOW
    )

    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == {"tea", "packets", "ordered"}
    assert re.search(r"done +t1\.0 +(order|price) ", done.stderr)
    rows = [line.split("\t") for line in called(shop, "show", "r", "--cost").stdout.splitlines()]
    (model,) = [row for row in rows if row[0] == "llm"]
    assert model[1] == "local:smollm2"
    assert int(model[4]) == int(model[5]) + int(model[6]) > 0  # charged: what went in and came out
    assert model[7] == "0.000000"
    assert called(shop, "verify", "r").returncode == 0


def said(lines: list[str]) -> str:
    """Return what the model said in lines of `tail --json`."""
    items = [json.loads(line) for line in lines]
    return "".join(item["delta"]["text"] for item in items if "delta" in item)


def test_a_reader_leaves_with_ctrl_c_and_comes_back_while_the_model_writes(shop: Folder) -> None:
    """Between two tails nothing is lost, and nothing is said twice."""
    command = [
        "run",
        "shop:writer",
        "Tell me about tea.",
        "--run-id",
        "r",
        *ALLOW,
        "--store",
        "r.db",
    ]
    store = shop.path / "r.db"
    run = shop.begin(*command)
    try:
        while not store.exists() or called(shop, "show", "r", "--store", "r.db").returncode:
            assert run.poll() is None, run.communicate()
            time.sleep(0.05)
        first = shop.begin("tail", "r", "--json", "--store", "r.db")
        assert first.stdout is not None
        before: list[str] = []
        for line in first.stdout:
            before.append(line)
            if "delta" in line:
                break
        first.send_signal(signal.SIGINT)
        with first:
            left = first.stdout.read()  # `communicate` would lose the lines that were read ahead
        *more, told = left.splitlines()
        before += more
        words = told.removeprefix("go on with: gatebook ").split(" ")
        after = called(shop, *words, "--json").stdout.splitlines()
        run.communicate(timeout=PATIENCE_S)
    finally:
        run.kill()
        run.communicate()

    items = [json.loads(line) for line in after]
    (answer,) = [
        item["event"]["output"] for item in items
        if item.get("event", {}).get("kind") == "action_succeeded"
    ]  # fmt: skip
    whole = "".join(part["text"] for part in answer["message"]["content"])
    assert said(before) + said(after) == whole
    assert "" not in (said(before), said(after))
