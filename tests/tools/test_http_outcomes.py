"""What a run knows when a request of `http` fails: repeated, failed, unknown, or a result."""

import asyncio
import json
import socket
from typing import Any

import pytest
from tests.runtime.kit import Desk, flow
from tests.tools.web import at, tools, with_server

from gatebook.errors import ActionError
from gatebook.kernel.events import ActionFailed, ActionRequested, ActionUnknown, AttemptFailed
from gatebook.runtime.runs.states import Finished
from gatebook.testing.fault_server import Cut, FaultServer, Play, Reset, Stall, answer


async def one_call(made: Any, url: str) -> tuple[Any, Desk]:
    """Where a workflow that makes one request comes to rest."""
    desk = Desk()

    async def body(ctx: Any) -> str:
        try:
            return str((await ctx.call_tool(made, url=url)).status)
        except ActionError as exc:
            return exc.code

    async with desk.open() as runtime:
        state = await desk.settled(await runtime.start(flow(body, made), None, run_id="r"))
        await desk.events("r")
    await desk.journal.open()
    return state, desk


@pytest.mark.parametrize("end", [Cut(), Reset()])
def test_a_sent_request_without_an_answer_is_unknown(end: Any) -> None:
    """It may have happened: a person must look, nothing repeats it."""

    async def scenario(server: FaultServer) -> None:
        _, desk = await one_call(tools([at(server)])["send"], server.url)

        await desk.only("r", ActionUnknown)
        assert server.count == 1

    with_server(scenario, Play(end))


def test_a_refused_connection_is_no_effect() -> None:
    """Nothing can have happened, so nobody has to look."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def scenario() -> None:
        made = tools([f"127.0.0.1:{port}"])["send"]
        _, desk = await one_call(made, f"http://127.0.0.1:{port}/")

        assert (await desk.only("r", ActionFailed)).error.kind == "transient"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "trouble", [Play(Cut()), answer(503, "", retry_after="1"), answer(502, "")]
)
def test_a_read_that_failed_is_repeated(trouble: Play) -> None:
    """Its retry has one owner, who journals it."""

    async def scenario(server: FaultServer) -> None:
        state, desk = await one_call(tools([at(server)])["get"], server.url)

        assert (state, server.count) == (Finished("200"), 2)
        await desk.only("r", AttemptFailed)

    with_server(scenario, trouble, answer(200, ""))


def test_a_server_that_asks_to_wait_is_given_that_time() -> None:
    """It knows when it will have room."""

    async def scenario(server: FaultServer) -> None:
        _, desk = await one_call(tools([at(server)])["get"], server.url)

        assert (await desk.only("r", AttemptFailed)).delay_ms == 7_000

    with_server(scenario, answer(429, "", retry_after="7"), answer(200, ""))


@pytest.mark.parametrize("trouble", [Play(Cut()), answer(503, "")])
def test_a_keyed_request_is_repeated_with_the_same_key(trouble: Play) -> None:
    """The server tells by it that it has done this already."""

    async def scenario(server: FaultServer) -> None:
        made = tools([at(server)], key_header="Idempotency-Key")["send"]
        state, _ = await one_call(made, server.url)

        assert state == Finished("201")
        first, second = (r.headers["idempotency-key"] for r in server.requests)
        assert first == second
        assert first.startswith("gb1-")

    with_server(scenario, trouble, answer(201, ""))


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_an_answer_to_what_may_happen_only_once_is_a_result(status: int) -> None:
    """Whatever it says: only the model can know what to do about it, and nothing repeats it."""

    async def scenario(server: FaultServer) -> None:
        state, _ = await one_call(tools([at(server)])["send"], server.url)

        assert (state, server.count) == (Finished(str(status)), 1)

    with_server(scenario, answer(status, ""))


def test_a_request_that_is_not_answered_in_time_is_unknown_and_closed() -> None:
    """The connection does not outlive the attempt."""

    async def scenario(server: FaultServer) -> None:
        made = tools([at(server)], timeout=0.2)["send"]
        _, desk = await one_call(made, server.url)

        assert (await desk.only("r", ActionUnknown)).error.code == "E_UNKNOWN_TIMEOUT"
        await server.until(lambda s: s.open_connections == 0)

    with_server(scenario, Play(Stall()))


def test_what_is_decided_about_is_what_is_asked() -> None:
    """The request of the journal names the whole address."""

    async def scenario(server: FaultServer) -> None:
        _, desk = await one_call(tools([at(server)])["get"], f"{server.url}/x?y")

        action: Any = (await desk.only("r", ActionRequested)).action
        assert json.loads(bytes(action.args))["url"] == f"{server.url}/x?y"

    with_server(scenario, answer(200, ""))
