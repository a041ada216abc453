"""Characters in two halves: servers that count in UTF-16 cut their texts between them."""

import asyncio
import json

import pytest

from gatebook.providers.halves import Halves
from gatebook.testing.dialects import Story, Use
from gatebook.testing.fault_server import tells
from tests.conformance.adapters import Adapter, every_adapter
from tests.conformance.kit import served
from tests.providers.calls import CALL, asking, attempt, texts

HIGH, LOW = "\ud83d", "\ude00"


@every_adapter
@pytest.mark.parametrize(
    ("pieces", "want"),
    [
        (("so ", f"a {HIGH}", f"{LOW} b"), "so a 😀 b"),
        ((f"a {HIGH}", LOW + HIGH, LOW), "a 😀😀"),
        ((f"a {HIGH}", "b", f"{LOW}c"), "a \ufffdb\ufffdc"),
        (("a b", HIGH), "a b"),
    ],
    ids=["two pieces", "one after another", "no halves of one another", "at the end"],
)
def test_a_character_in_two_pieces_is_one(
    adapter: Adapter, pieces: tuple[str, ...], want: str
) -> None:
    """Streamed and whole alike, for readers too; no such answer is malformed."""
    play = tells(adapter.dialect, Story.text(*pieces))

    async def scenario() -> None:
        async with served(adapter, play) as it:
            streamed, shown = await attempt(it.provider, asking())
            whole = await it.provider.complete(asking(), CALL)

        assert (streamed.text, texts(shown), whole.text) == (want, want, want)

    asyncio.run(scenario())


@every_adapter
def test_arguments_in_two_pieces_are_whole(adapter: Adapter) -> None:
    """A tool is called with the character, or not at all."""
    use = Use("c1", "say", ('{"text":"' + HIGH, LOW + '"}'))

    async def scenario() -> None:
        async with served(adapter, tells(adapter.dialect, Story.calls(use))) as it:
            answer, _ = await attempt(it.provider, asking())

        (call,) = answer.tool_calls
        assert json.loads(call.arguments) == {"text": "😀"}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":"\\ud83d\\ude00","n":12345678901234567890123}',
        b'{"a": "\\\\ud83d"}',
        b'{"\\ud83d": 1}',
        b'{"a": "\\ud83d',
        b"[DONE]",
    ],
)
def test_what_holds_no_halves_stays_as_it_is(data: bytes) -> None:
    """Numbers keep their digits, and what is no JSON stays for its reader to refuse."""
    assert Halves().whole(data) == data


def test_a_half_waits_for_its_own_text() -> None:
    """Another block is written meanwhile: it must not get what is not its own."""
    halves = Halves()
    events = [
        {"type": "d", "index": 0, "text": HIGH},
        {"type": "ping"},
        {"type": "d", "index": 1, "text": "{}"},
        {"type": "d", "index": 0, "text": LOW},
    ]

    told = [json.loads(halves.whole(json.dumps(each).encode())) for each in events]

    assert [each.get("text") for each in told] == ["", None, "{}", "😀"]
