"""Rules on results where models are: what an agent reads, and what is shown of an answer."""

import asyncio
from typing import Any

import pytest
from tests.catalogue.kit import calls
from tests.runtime.kit import Model, flow, run, said
from tests.runtime.results import Played, find, on_result, play, playing, ruled

from gatebook import Agent
from gatebook.kernel.messages import MessageStart, TextDelta, ToolResultPart
from gatebook.runtime.runs.handles import RunHandle
from gatebook.runtime.runs.states import Failed, Finished


def test_a_model_reads_why_a_result_is_withheld() -> None:
    """So that it goes on without it instead of calling again."""
    model = Model(calls(("find", '{"name":"ada"}')), said("done"))
    agent = Agent(name="helper", model="fake:m", tools=[find])

    played = play(ruled(on_result("deny")), agent, "go", providers={"fake": model})
    (read,) = [
        part.content
        for message in model.asked[-1].messages
        for part in message.content
        if isinstance(part, ToolResultPart)
    ]

    assert played.state == Finished("done")
    assert "withheld" in read
    assert "E_RESULT_WITHHELD" in read


def test_an_answer_that_rules_look_at_is_not_shown_while_it_is_written() -> None:
    """What is decided about later must not have been read before."""
    mask = (
        '[[rule]]\nid = "m"\non = "result"\nthen = "modify"\naction = "call_llm"\n'
        'redact = { "result.message.content.*.text" = "all" }\n'
    )

    async def body(ctx: Any) -> Any:
        return (await ctx.call_llm("fake:m", "hi")).text

    async def scenario() -> tuple[Played, list[Any]]:
        shown: list[Any] = []
        reading: list[asyncio.Task[None]] = []

        async def read(handle: RunHandle[Any]) -> None:
            async for part in handle.text():
                shown.append(part)

        async def before(handle: RunHandle[Any]) -> None:
            reading.append(asyncio.ensure_future(read(handle)))

        written = [MessageStart("m"), TextDelta(0, "call +49 "), *said("30 1")[1:]]
        models = {"fake": Model(written)}
        program = flow(body, models=["fake:m"])
        played = await playing(ruled(mask), program, before=before, providers=models)
        await reading[0]
        return played, shown

    played, shown = run(scenario())

    assert played.state == Finished("[redacted:policy]")
    assert shown == ["[redacted:policy]"]
    assert b"30 1" not in played.stored


@pytest.mark.parametrize(
    ("then", "more"), [("deny", ""), ("modify", 'set = { "result.message" = "x" }')]
)
def test_an_answer_that_is_withheld_ends_an_agent_as_denied(then: str, more: str) -> None:
    """There is nothing to go on with; so it is with one changed to what is no answer."""
    rule = f'[[rule]]\nid = "m"\non = "result"\nthen = "{then}"\naction = "call_llm"\n{more}\n'
    played = play(
        ruled(rule),
        Agent(name="helper", model="fake:m"),
        "go",
        providers={"fake": Model(said("secret plans"))},
    )

    assert isinstance(played.state, Failed)
    assert (played.state.denied, played.state.error.code) == (True, "E_RESULT_WITHHELD")
    assert b"secret plans" not in played.stored
