"""Long results: kept whole, shown in part, the same for every reader and every replay."""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.catalogue.kit import Asked
from tests.runtime.kit import RUN, Desk, flow, run

from gatebook import Client, GatebookError, Runtime, tool
from gatebook.kernel.codec import canonical
from gatebook.kernel.events import ActionSucceeded, RunStarted
from gatebook.kernel.policies import AllowDeclared
from gatebook.runtime.replay import final_args, replay
from gatebook.runtime.runs.states import Finished

CANARY = "canary-7f3e91d2b4"
LONG = "a line of a report\n" * 10_000


@tool(effect="read", max_output=1_000)
async def report() -> str:
    """Return more than a model should read."""
    return LONG


async def reads(ctx: Any) -> int:
    return len(await ctx.call_tool(report))


def test_a_model_reads_the_beginning_and_the_name_of_the_whole() -> None:
    """A prompt that holds everything costs more than the answer is worth."""

    async def scenario() -> None:
        asked = Asked(("report", "{}"))

        (result,) = await asked.play(report)

        name = hashlib.sha256(canonical(LONG)).hexdigest()
        assert result.startswith(LONG[:1_000] + "\n[too long: ")
        assert result.endswith(f"artifact {name}]")

    run(scenario())


def test_a_workflow_gets_the_whole() -> None:
    """Code that asked for a typed result cannot work with part of one."""

    async def scenario() -> None:
        desk = Desk()

        async with desk.open() as runtime:
            state = await desk.settled(await runtime.start(flow(reads, report), None))

        assert state == Finished(len(LONG))

    run(scenario())


def test_the_whole_is_read_back_by_its_digest() -> None:
    """What the model was not shown, people can look up."""

    async def scenario() -> None:
        desk = Desk()

        async with desk.open() as runtime:
            handle = await runtime.start(flow(reads, report), None, run_id="r")
            await desk.settled(handle)
            event = await desk.only("r", ActionSucceeded)
            assert event.artifact is not None
            whole = await handle.artifact(event.artifact.digest)

        assert whole == LONG

    run(scenario())


def test_a_result_within_its_limit_is_no_artifact() -> None:
    """Most results are short, and their events stay as they were."""

    async def scenario() -> None:
        desk = Desk()

        async with desk.open() as runtime:
            short = report.options(max_output=len(canonical(LONG)))
            await desk.settled(await runtime.start(flow(reads, short), None, run_id="r"))
            event = await desk.only("r", ActionSucceeded)

        assert event.artifact is None

    run(scenario())


def test_secrets_are_cut_before_the_whole_is_named_and_kept() -> None:
    """A digest of a secret would still tell who guesses it that he is right."""

    async def scenario() -> None:
        desk = Desk(secrets=[CANARY])

        @tool(effect="read", max_output=10)
        async def leak() -> str:
            return f"{'x' * 100}{CANARY}"

        async def body(ctx: Any) -> Any:
            return await ctx.call_tool(leak)

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, leak), None, run_id="r")
            await desk.settled(handle)
            event = await desk.only("r", ActionSucceeded)
            assert event.artifact is not None
            whole = await handle.artifact(event.artifact.digest)

        clean = "x" * 100 + "[redacted:registered]"
        assert whole == clean
        assert event.artifact.digest == hashlib.sha256(canonical(clean)).hexdigest()

    run(scenario())


def test_a_later_limit_changes_no_conversation_of_today() -> None:
    """A run that was shown a thousand bytes was shown a thousand bytes, whatever is set now."""

    async def scenario() -> None:
        asked = Asked(("report", "{}"))
        await asked.play(report)
        agent = asked.agent(report.options(max_output=10_000))

        async with asked.desk.open() as runtime:
            recorded = await runtime.journal.read(RUN)
        started = recorded[0].event
        assert isinstance(started, RunStarted)
        found = replay(agent.begin(started), final_args(agent.tools), recorded)

        assert found.ended

    run(scenario())


def test_the_store_keeps_it_apart_with_a_reference(tmp_path: Path) -> None:
    """Collection deletes what no run refers to; readers of the run do not carry it about."""
    path = tmp_path / "runs.db"

    async def scenario() -> None:
        program = flow(reads, report)
        async with Runtime(
            f"sqlite:///{path}", programs=[program], policy=AllowDeclared()
        ) as runtime:
            await (await runtime.start(program, None, run_id="r")).result()

    run(scenario())

    with closing(sqlite3.connect(path)) as store:
        kept = store.execute(
            "SELECT length(body), seq FROM blobs JOIN blob_refs USING (tenant, digest)"
        ).fetchall()
    assert len(kept) == 1
    assert kept[0][0] > len(LONG)


def test_another_process_reads_it_back(tmp_path: Path) -> None:
    """The runtime that made it is gone by the time somebody asks."""
    url = f"sqlite:///{tmp_path / 'runs.db'}"

    async def scenario() -> Any:
        program = flow(reads, report)
        async with Runtime(url, programs=[program], policy=AllowDeclared()) as runtime:
            await (await runtime.start(program, None, run_id="r")).result()
        async with Client(url) as client:
            name = hashlib.sha256(canonical(LONG)).hexdigest()
            return await client.handle("r").artifact(name[:10])

    assert run(scenario()) == LONG


@pytest.mark.parametrize("name", ["", "0123"])
def test_an_artifact_that_is_not_there_is_refused(name: str) -> None:
    """A wrong name must not give the only one there is."""

    async def scenario() -> None:
        desk = Desk()

        async with desk.open() as runtime:
            handle = await runtime.start(flow(reads, report), None, run_id="r")
            await desk.settled(handle)
            with pytest.raises(GatebookError) as caught:
                await handle.artifact(name)

        assert caught.value.code == "E_ARTIFACT"

    run(scenario())


def test_a_tool_of_another_make_cannot_return_more_than_is_kept() -> None:
    """Only our own wrapper checks results; the executor does not rely on it."""

    class Huge:
        spec = report.spec

        def validate(self, args: bytes) -> bytes:
            return args

        async def call(self, args: bytes, invocation: Any) -> bytes:
            return b'"%b"' % (b"x" * 9_000_000)

        def decode(self, output: bytes) -> Any:
            raise AssertionError("nobody is given it")

    async def scenario() -> None:
        asked = Asked(("report", "{}"))

        (result,) = await asked.play(Huge())

        assert "[E_RESULT_TOO_LARGE]" in result

    run(scenario())
