"""What recording writes: the file, its order and its lines, and what is left out."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.providers.calls import CALL, asking, attempt
from tests.testing.tapes import SECRET, answered, echo, record, stored

from gatebook.kernel.messages import ChatRequest, ChatResponse, MessageStart, ToolDefinition
from gatebook.providers import OpenAICompatible, Scripted
from gatebook.testing.cassette import Cassette
from gatebook.testing.fault_server import FaultServer, delta, event, streamed, text_stream


def test_recording_replaces_the_file(path: Path) -> None:
    """What is not asked any more must go."""
    record(path, asking("old"))

    record(path, asking("new"))

    assert [each["events"][1]["text"] for each in stored(path)] == ["you "]
    assert "old" not in path.read_text()


def test_auto_asks_only_what_is_new(path: Path) -> None:
    """A test that grows should not be recorded, and paid for, anew."""
    record(path, asking("a"))
    deck = Cassette(path, provider=Scripted(lambda _: "fresh"), mode="auto")

    texts = [answered(deck, asking(text)).text for text in ("a", "b")]

    assert texts == ["you said a", "fresh"]
    assert answered(Cassette(path), asking("b")).text == "fresh"


def test_recordings_stand_in_the_order_they_were_asked_for(path: Path) -> None:
    """Two answers that overtake each other would make a diff out of nothing."""
    slow = asyncio.Event()

    class Overtaking(Scripted):
        async def complete(self, request: ChatRequest, call: Any) -> ChatResponse:
            if request.messages[-1].text == "first":
                await slow.wait()
            else:
                slow.set()
            return await super().complete(request, call)

    async def scenario() -> None:
        deck = Cassette(path, provider=Overtaking(lambda _: "ok"), mode="record")
        async with asyncio.TaskGroup() as group:
            group.create_task(deck.complete(asking("first"), CALL))
            group.create_task(deck.complete(asking("second"), CALL))

    asyncio.run(scenario())

    asked = [each["request"]["messages"][0]["content"][0]["text"] for each in stored(path)]
    assert asked == ["first", "second"]


def test_recording_twice_gives_the_same_bytes(path: Path) -> None:
    """A diff should show what changed, and nothing else."""
    tool = ToolDefinition("add", schema=b'{"type":"object", "properties":{"b":{},"a":{}}}')  # type: ignore[arg-type]
    record(path, asking("a", provider_options={"z": 1, "a": 2}, tools=(tool,)))
    first = path.read_bytes()

    record(path, asking("a", provider_options={"a": 2, "z": 1}, tools=(tool,)))

    assert path.read_bytes() == first


def test_every_stream_event_has_its_line(path: Path) -> None:
    """One changed word should be one changed line."""
    record(path, asking("one two"))

    lines = [line.strip() for line in path.read_text().splitlines()]

    assert '{"type": "text_delta", "index": 0, "text": "said "},' in lines


def test_an_abandoned_stream_is_not_recorded(path: Path) -> None:
    """Its recording would replay as an answer that was cut off."""

    async def scenario() -> None:
        deck = Cassette(path, provider=echo(), mode="record")
        async with deck.stream(asking(), CALL) as events:
            async for said in events:
                if not isinstance(said, MessageStart):
                    break

    asyncio.run(scenario())

    assert not path.exists()


def test_a_recorded_stream_is_closed_with_its_reader(path: Path) -> None:
    """A cassette that leaks connections would change what it watches."""

    async def scenario() -> None:
        endless = streamed([event(delta(content="a"))] * 1_000)
        async with FaultServer(endless) as server:
            provider = OpenAICompatible(server.url, max_connections=1)
            deck = Cassette(path, provider=provider, mode="record")
            for _ in range(3):
                async with deck.stream(asking(), CALL) as events:
                    await anext(events)
            await provider.aclose()

    asyncio.run(scenario())


def test_the_configured_provider_is_asked_when_none_is_given(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recording should need nothing that running does not need."""

    async def scenario() -> str:
        async with FaultServer(text_stream("from the server")) as server:
            (tmp_path / "gatebook.toml").write_text(
                f'[providers.openai]\nbase_url = "{server.url}"\napi_key = "env:THE_SERVERS_KEY"\n'
            )
            monkeypatch.chdir(tmp_path)
            monkeypatch.setenv("THE_SERVERS_KEY", SECRET)
            deck = Cassette(path, mode="record")
            response, _ = await attempt(deck, asking(f"my key is {SECRET}"))
            await deck.aclose()
            return response.text

    assert asyncio.run(scenario()) == "from the server"
    assert SECRET not in path.read_text()
