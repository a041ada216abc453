"""Programs are stepped off the loop: nothing inside one can reach it."""

import asyncio
from typing import Any

from tests.runtime.kit import Desk, flow, run

from gatebook.runtime.runs.states import Failed


def test_asyncio_inside_a_workflow_raises() -> None:
    """A task that escapes a workflow would act outside the gate."""

    async def scenario() -> None:
        desk = Desk()

        async def escaping(ctx: Any) -> None:
            async with asyncio.timeout(1):  # noqa: ASYNC100 - what it asks of the loop counts
                pass

        async with desk.open() as runtime:
            state = await desk.settled(await runtime.start(flow(escaping), None))

        assert isinstance(state, Failed)
        assert state.error.code == "E_WORKFLOW_AWAIT"

    run(scenario())
