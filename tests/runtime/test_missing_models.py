"""Runs of a program whose models this worker cannot ask: left to a worker that can."""

import asyncio
import logging
from typing import Any

import pytest
from tests.runtime.kit import RUN, Desk, flow, run

from gatebook import Scripted
from gatebook.errors import ConfigError
from gatebook.runtime.runs.states import Finished


async def asks(ctx: Any) -> str:
    await ctx.sleep(3600)
    return str((await ctx.call_llm("openai:m", "Hello")).text)


def test_a_worker_without_the_key_leaves_the_run_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """To fail it would end what another worker could bring to its end."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    caplog.set_level(logging.WARNING)
    model = Scripted(lambda _: "Good day")

    async def scenario() -> None:
        desk, program = Desk(), flow(asks, name="asks", models=["openai:m"])
        await desk.ran(program, providers={"openai": model})
        before = await desk.journal.raw(RUN)
        desk.clock.advance(3600)

        async with desk.open(program) as runtime:
            with pytest.raises(ConfigError) as caught:
                await runtime.drive(RUN)
            while not caplog.records:  # noqa: ASYNC110 - nothing says that a line came
                await asyncio.sleep(0)
            after = await desk.journal.raw(RUN)
        await desk.journal.open()
        state = await desk.taken_up(program, providers={"openai": model})

        assert caught.value.code == "E_KEY_MISSING"
        assert after == before
        assert isinstance(state, Finished)
        assert state.output == "Good day"

    run(scenario())

    told = [record.getMessage() for record in caplog.records]
    assert [text.split(":")[0] for text in told] == ["program asks is left to other workers"]
