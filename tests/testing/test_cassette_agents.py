"""Agents run from a cassette, and are told where they changed."""

from pathlib import Path
from typing import Any

import pytest

from gatebook import Agent, AllowDeclared, run_sync, tool
from gatebook.kernel.messages import ChatRequest
from gatebook.providers import Reply, Scripted, ToolUse
from gatebook.testing.cassette import CassetteMiss, cassette


@tool(effect="read")
def price(item: str) -> int:
    """Return the price of an item."""
    return len(item)


def shop(request: ChatRequest) -> Reply | str:
    """Ask for a price once, then tell it."""
    if request.messages[-1].role == "tool":
        return "It costs 3."
    return Reply(call=(ToolUse("price", {"item": "tea"}),))


def asked_of(agent: Agent, model: Any) -> Any:
    """Return what the agent says of the price of tea."""
    policy, providers = AllowDeclared(), {"openai": model}
    return run_sync(agent, "How much is tea?", policy=policy, providers=providers).output


def test_an_agent_runs_from_a_cassette(path: Path) -> None:
    """This is what a cassette is for."""
    agent = Agent(name="shop", model="openai:gpt-5-mini", tools=[price])
    with cassette(path, provider=Scripted(shop), mode="record") as model:
        asked_of(agent, model)

    with cassette(path) as model:
        output = asked_of(agent, model)

    assert output == "It costs 3."


def test_an_agent_that_changed_is_told_where(path: Path) -> None:
    """The path leads to the changed word, wherever it stands in the request."""
    agent = Agent(name="shop", model="openai:gpt-5-mini", tools=[price])
    with cassette(path, provider=Scripted(shop), mode="record") as model:
        asked_of(agent, model)
    agent = Agent(name="shop", model="openai:gpt-5-nano", tools=[price])

    with (
        pytest.raises(CassetteMiss, match="model: 'gpt-5-mini' -> 'gpt-5-nano'"),
        cassette(path) as model,
    ):
        asked_of(agent, model)
