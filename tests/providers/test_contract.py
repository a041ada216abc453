"""Every provider fits the contract; the type checker reads this file as well."""

import asyncio
from collections.abc import Callable

import pytest

from gatebook.kernel.messages import Capabilities
from gatebook.ports import Provider
from gatebook.providers import OpenAICompatible, Scripted
from gatebook.runtime.runs.states import Failed
from gatebook.testing.fault_server import (
    Chunk,
    FaultServer,
    Play,
    Reset,
    answer,
    stream_head,
    text_answer,
    text_stream,
)
from tests.conformance.adapters import KEY, Adapter, every_adapter
from tests.conformance.cuts import started
from tests.conformance.kit import driven
from tests.providers.calls import CALL, asking, attempt


def compatible(url: str) -> Provider:
    return OpenAICompatible(url, name="it")


def scripted(_: str) -> Provider:
    return Scripted(lambda _: "two words", name="it")


@pytest.mark.parametrize("make", [compatible, scripted])
def test_a_provider_answers_streamed_and_whole_alike(make: Callable[[str], Provider]) -> None:
    """Which of the two the runtime asks for must not change a run."""

    async def scenario() -> None:
        async with FaultServer(choose) as server:
            provider = make(server.url)
            streamed, _ = await attempt(provider, asking())
            whole = await provider.complete(asking(), CALL)
            await provider.aclose()

        assert streamed == whole
        assert streamed.text == "two words"
        assert (provider.name, provider.capabilities) == ("it", Capabilities())

    def choose(request: object) -> Play:
        streams = b'"stream":true' in getattr(request, "body", b"")
        return text_stream("two ", "words") if streams else text_answer("two words")

    asyncio.run(scenario())


@every_adapter
@pytest.mark.parametrize("breaks", ["with a status", "in the middle"])
def test_an_error_names_the_providers_id_of_the_request(adapter: Adapter, breaks: str) -> None:
    """Its support desk asks for it, and of an error the journal keeps the text."""
    given = {"x_request_id": f"req-1-{KEY}"}
    play = answer(500, {"error": {"message": "oh"}}, **given)
    if breaks == "in the middle":
        words = b"".join(started(adapter.dialect))
        play = Play(*stream_head(**given), Chunk(words), Reset())

    async def scenario() -> None:
        async with driven(adapter, play) as it:
            state = await it.end(await it.start())

            assert isinstance(state, Failed)
            assert ", request req-1-[key])" in state.error.message

    asyncio.run(scenario())
