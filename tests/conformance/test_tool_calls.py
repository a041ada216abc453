"""Tool calls: put together however they are streamed, never run when they are not whole."""

import json
from typing import Any

import pytest

from gatebook import Agent, tool
from gatebook.kernel.messages import ChatResponse, Message, ToolDefinition
from gatebook.testing.dialects import CHAT, RESPONSES, Story, Think, Use
from gatebook.testing.dialects.chat import DONE, delta
from gatebook.testing.dialects.story import event
from gatebook.testing.fault_server import Play, streamed
from tests.conformance.adapters import (
    ADAPTERS,
    ANTHROPIC_ADAPTER,
    CHAT_ADAPTER,
    GOOGLE_ADAPTER,
    RESPONSES_ADAPTER,
    Adapter,
    every_adapter,
    on,
)
from tests.conformance.cases import case
from tests.conformance.kit import answering, driven, run, served
from tests.providers.calls import CALL, asking, attempt

SEVERAL = (
    Use("call_a", "add", ('{"a"', ":2,", '"b":40}')),
    Use("call_b", "look_up", ('{"q":"x"}',)),
)
TOOLS = (ToolDefinition("add"), ToolDefinition("look_up"))
SIGNATURE = "c2lnbmVkLWJ5LXRoZS1tb2RlbA=="
ARGUMENTS_IN_TEXT = tuple(adapter for adapter in ADAPTERS if adapter is not GOOGLE_ADAPTER)


def called(got: ChatResponse) -> list[tuple[str, Any]]:
    """Return name and decoded arguments of the calls that may run."""
    return [(each.name, json.loads(each.arguments)) for each in got.tool_calls]


async def streamed_and_whole(adapter: Adapter, story: Story, **fields: Any) -> list[ChatResponse]:
    """Return a story as it is read when streamed, then when whole."""
    async with served(adapter, answering(adapter, story)) as it:
        request = asking(tools=TOOLS, **fields)
        one, _ = await attempt(it.provider, request)
        return [one, await it.provider.complete(request, CALL)]


async def read(adapter: Adapter, play: Play, **fields: Any) -> ChatResponse:
    """Return what one streamed answer is read as."""
    async with served(adapter, play) as it:
        got, _ = await attempt(it.provider, asking(tools=TOOLS, **fields))
        return got


@case(34)
@every_adapter
def test_parallel_calls_come_whole_and_in_order(adapter: Adapter) -> None:
    """Case 34: with the ids that their results must name."""

    async def scenario() -> None:
        for got in await streamed_and_whole(adapter, Story.calls(*SEVERAL)):
            assert called(got) == [("add", {"a": 2, "b": 40}), ("look_up", {"q": "x"})]
            assert [each.id for each in got.tool_calls] == ["call_a", "call_b"]
            assert (got.finish_reason, got.invalid_tool_calls) == ("tool_calls", ())

    run(scenario())


@case(34)
@every_adapter
def test_empty_arguments_are_an_empty_object(adapter: Adapter) -> None:
    """Case 34: a tool without parameters is called with nothing at all."""

    async def scenario() -> None:
        for got in await streamed_and_whole(adapter, Story.calls(Use("call_a", "add", ("",)))):
            assert called(got) == [("add", {})]

    run(scenario())


def fragment(arguments: str = "", **fields: Any) -> dict[str, Any]:
    """Return one fragment of a call; `name` goes into its function."""
    function = {"arguments": arguments}
    if "name" in fields:
        function["name"] = fields.pop("name")
    return {**fields, "function": function}


TWO = [("add", {"a": 2}), ("look_up", {"q": "x"})]
STRAY: dict[str, list[list[dict[str, Any]]]] = {
    "interleaved": [
        [fragment(index=0, id="a", name="add"), fragment(index=1, id="b", name="look_up")],
        [fragment('{"a"', index=0)],
        [fragment('{"q":', index=1)],
        [fragment(":2}", index=0)],
        [fragment('"x"}', index=1)],
    ],
    "no index": [
        [fragment(id="a", name="add")],
        [fragment('{"a":')],
        [fragment("2}")],
        [fragment(id="b", name="look_up")],
        [fragment('{"q":"x"}')],
    ],
    "index 0 for all": [
        [fragment(index=0, id="a", name="add")],
        [fragment('{"a":2}', index=0)],
        [fragment(index=0, id="b", name="look_up")],
        [fragment('{"q":"x"}', index=0)],
    ],
    "index shifts inside a call": [
        [fragment(index=0, id="a", name="add")],
        [fragment('{"a":2}', index=1)],
        [fragment(index=2, id="b", name="look_up")],
        [fragment('{"q":"x"}', index=3)],
    ],
    "whole calls": [
        [fragment('{"a":2}', index=0, id="a", name="add")],
        [fragment('{"q":"x"}', index=0, id="b", name="look_up")],
    ],
    "whole calls without ids": [
        [fragment('{"a":2}', name="add"), fragment('{"q":"x"}', name="look_up")],
    ],
    "another id for every fragment": [
        [fragment(index=0, id="a", name="add")],
        [fragment('{"a":', index=0, id="b")],
        [fragment("2}", index=0, id="c"), fragment(index=1, id="d", name="look_up")],
        [fragment('{"q":"x"}', index=1, id="e"), fragment(index=0, id="f")],
    ],
    "one id for all": [
        [fragment(index=0, id="a", name="add"), fragment(index=1, id="a", name="look_up")],
        [fragment('{"a":2}', index=0)],
        [fragment('{"q":"x"}', index=1)],
    ],
    "names alone": [
        [fragment(name="add")],
        [fragment('{"a":2}')],
        [fragment(name="look_up")],
        [fragment('{"q":"x"}')],
    ],
    "name repeated empty": [
        [fragment(index=0, id="a", name="add")],
        [fragment('{"a":2}', index=0, name="")],
        [fragment(index=1, id="b", name="look_up")],
        [fragment('{"q":"x"}', index=1, name="")],
    ],
}


@case(34)
@on(CHAT_ADAPTER)
@pytest.mark.parametrize("way", STRAY)
def test_chat_calls_are_put_together_however_they_come(adapter: Adapter, way: str) -> None:
    """Case 34: every one of these is what some server really sends."""
    deltas = [event(delta(tool_calls=fragments)) for fragments in STRAY[way]]
    end = [event(delta(finish_reason="tool_calls")), DONE]

    async def scenario() -> None:
        got = await read(adapter, streamed([*deltas, *end]))

        assert called(got) == TWO
        assert len({each.id for each in got.tool_calls}) == 2
        assert all(each.id for each in got.tool_calls)

    run(scenario())


@case(34)
@on(RESPONSES_ADAPTER)
def test_interleaved_items_are_told_apart_by_their_index(adapter: Adapter) -> None:
    """Case 34: the deltas of two calls may alternate."""
    story = Story.calls(*SEVERAL)
    output = RESPONSES.output(story)
    half = next(i for i, part in enumerate(output) if b'"output_index": 1' in part)
    first, second = output[:half], output[half:]
    mixed = [each for pair in zip(first, second, strict=False) for each in pair]
    mixed += [*first[len(second) :], *second[len(first) :]]

    async def scenario() -> None:
        events = [*RESPONSES.opening(story), *mixed, *RESPONSES.ending(story)]
        got = await read(adapter, streamed(events))

        assert sorted(called(got)) == [("add", {"a": 2, "b": 40}), ("look_up", {"q": "x"})]

    run(scenario())


@case(34)
@on(GOOGLE_ADAPTER)
def test_gemini_calls_may_come_in_pieces(adapter: Adapter) -> None:
    """Case 34: each piece names its place by a JSON path."""

    def piece(**call: Any) -> bytes:
        content = {"role": "model", "parts": [{"functionCall": call}]}
        return event({"candidates": [{"index": 0, "content": content}]})

    pieces = [
        piece(name="look_up", willContinue=True),
        piece(partialArgs=[{"jsonPath": "$.q", "stringValue": "so", "willContinue": True}],
              willContinue=True),
        piece(partialArgs=[{"jsonPath": "$.q", "stringValue": "up"}], willContinue=True),
        piece(partialArgs=[{"jsonPath": "$.n", "numberValue": 3}], willContinue=True),
        piece(),
    ]  # fmt: skip
    end = adapter.dialect.ending(Story.calls())

    async def scenario() -> None:
        got = await read(adapter, streamed([*pieces, *end]))

        assert called(got) == [("look_up", {"q": "soup", "n": 3})]

    run(scenario())


CUT = (Use("call_a", "add", ('{"a": 2, "b"',)),)


def cut_off(adapter: Adapter) -> Story:
    """Return an answer that a limit ended inside a call; Gemini's calls come whole or not."""
    return Story(CUT if adapter is not GOOGLE_ADAPTER else SEVERAL[:1], finish="length")


@case(35)
@every_adapter
def test_a_call_that_the_limit_cut_off_is_not_in_the_answer(adapter: Adapter) -> None:
    """Case 35: half of its arguments may be JSON all the same, and mean something else."""

    async def scenario() -> None:
        play = streamed(adapter.dialect.events(cut_off(adapter)))
        got = await read(adapter, play)

        assert got.tool_calls == ()
        assert (got.finish_reason, got.state) == ("length", "incomplete")
        assert [each.reason for each in got.invalid_tool_calls] == ["cut_off"]

    run(scenario())


@case(35)
@every_adapter
def test_a_call_that_was_cut_off_never_runs(adapter: Adapter) -> None:
    """Case 35: through an agent whose tool would act."""
    ran: list[Any] = []

    @tool
    async def add(a: int, b: int = 0) -> int:
        ran.append((a, b))
        return a + b

    async def scenario() -> None:
        play = streamed(adapter.dialect.events(cut_off(adapter)))
        async with driven(adapter, play, answering(adapter)) as it:
            agent = Agent(name="clerk", model="it:m", tools=[add])
            await it.end(await it.runtime.start(agent, "add", run_id="r"))

            assert ran == []
            assert it.server.count >= 1

    run(scenario())


@case(35)
@on(*ARGUMENTS_IN_TEXT)
@pytest.mark.parametrize(
    ("arguments", "reason"), [('{"a": 2, "b"', "not_json"), ("[1]", "not_object")]
)
def test_arguments_that_are_no_object_are_invalid_whatever_the_finish_says(
    adapter: Adapter, arguments: str, reason: str
) -> None:
    """Case 35: routers rewrite "length" to "tool_calls", so the text itself is judged."""
    story = Story.calls(Use("call_a", "add", (arguments,)))

    async def scenario() -> None:
        got = await read(adapter, streamed(adapter.dialect.events(story)))

        assert got.tool_calls == ()
        assert [each.reason for each in got.invalid_tool_calls] == [reason]

    run(scenario())


@case(35)
@on(GOOGLE_ADAPTER)
def test_a_call_that_gemini_calls_malformed_is_no_success(adapter: Adapter) -> None:
    """Case 35: it comes with a finish reason of its own and no call."""
    candidate = {"index": 0, "content": {}, "finishReason": "MALFORMED_FUNCTION_CALL"}

    async def scenario() -> None:
        got = await read(adapter, streamed([event({"candidates": [candidate]})]))

        assert got.tool_calls == ()
        assert got.invalid_tool_calls or got.state != "complete"

    run(scenario())


@case(36)
@every_adapter
def test_a_required_tool_that_was_not_called_is_told(adapter: Adapter) -> None:
    """Case 36: words instead of the call are not what was asked for."""

    async def scenario() -> None:
        story = Story.text("I would", " rather talk")
        for got in await streamed_and_whole(adapter, story, tool_choice="required"):
            assert got.tool_calls == ()
            assert [each.reason for each in got.invalid_tool_calls] == ["not_called"]

    run(scenario())


@case(37)
@on(RESPONSES_ADAPTER, ANTHROPIC_ADAPTER, GOOGLE_ADAPTER)
@pytest.mark.parametrize("ask", ["streamed", "whole"])
def test_a_signature_goes_back_as_it_came(adapter: Adapter, ask: str) -> None:
    """Case 37: without it the provider refuses the next turn, or forgets what it thought."""
    call = Use("call_a", "add", ('{"a":2}',), SIGNATURE if adapter is GOOGLE_ADAPTER else "")
    story = Story((Think("well", SIGNATURE), call), finish="tool_calls")

    async def scenario() -> None:
        first, second = await streamed_and_whole(adapter, story)
        got = first if ask == "streamed" else second
        talk = (Message.user("add"), got.message, Message.tool_result("call_a", "2"))
        async with served(adapter, answering(adapter)) as it:
            await attempt(it.provider, asking(messages=talk, tools=TOOLS))
            (sent,) = it.server.requests

        assert json.dumps(sent.json()).count(SIGNATURE) >= 1
        assert called(got) == [("add", {"a": 2})]

    run(scenario())


@case(37)
@on(CHAT_ADAPTER)
def test_what_chat_servers_hang_on_a_call_goes_back(adapter: Adapter) -> None:
    """Case 37: Gemini's compatible endpoint puts its signature there."""
    extra = {"google": {"thought_signature": SIGNATURE}}
    call = {**fragment('{"a":2}', index=0, id="call_a", name="add"), "extra_content": extra}
    events = [event(delta(tool_calls=[call])), event(delta(finish_reason="tool_calls")), DONE]

    async def scenario() -> None:
        got = await read(adapter, streamed(events))
        talk = (Message.user("add"), got.message, Message.tool_result("call_a", "2"))
        async with served(adapter, answering(adapter)) as it:
            await attempt(it.provider, asking(messages=talk, tools=TOOLS))
            (sent,) = it.server.requests

        assert sent.json()["messages"][1]["tool_calls"][0]["extra_content"] == extra
        assert CHAT.streams(sent.path, sent.body)

    run(scenario())
