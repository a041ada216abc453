"""Hooks around model calls: the messages that go out and the answers that come in."""

import asyncio
from typing import Any

from tests.runtime.hooking import LLM, asked, only, ran
from tests.runtime.kit import RUN, Desk, Model, run, said

from gatebook import Agent, Change, Deny, Message, tool
from gatebook.errors import ProviderError
from gatebook.kernel.events import ActionFailed, ActionRequested
from gatebook.kernel.messages import MessageEnd, MessageStart, TextDelta, ToolCallEnd, ToolCallStart
from gatebook.runtime.runs.states import Finished


def test_a_model_gets_the_messages_a_hook_made() -> None:
    """And the request's digest covers them."""
    model = Model(said("hello"))
    note = Message.system("today is Monday")
    before = asked("before_model", lambda view: Change([note, *view.messages]), "change")

    state, events = run(ran(LLM, before, providers={"fake": model}))

    assert state == Finished("hello")
    assert model.asked[0].messages == (note, Message.user("hi"))
    prompt = only(events, ActionRequested).action.prompt
    assert prompt.sent not in ("", prompt.digest)


def test_the_conversation_goes_on_as_the_agent_knows_it() -> None:
    """A hook changes what is sent, each time; it does not write the agent's memory."""

    @tool(effect="read")
    async def look() -> str:
        return "seen"

    calls: Any = [
        MessageStart("m"), ToolCallStart(0, "c1", "look"), ToolCallEnd(0, "c1", "look", "{}"),
        MessageEnd("tool_calls", "tool_calls", None),
    ]  # fmt: skip
    model = Model(calls, said("done"))
    agent = Agent(name="a", model="fake:m", tools=[look])
    note = Message.system("n")
    before = asked("before_model", lambda view: Change([note, *view.messages]), "change")

    async def scenario() -> Any:
        desk = Desk()
        async with desk.open(agent, hooks=[before], providers={"fake": model}) as runtime:
            return await desk.settled(await runtime.start(agent, "hi", run_id="r"))

    assert run(scenario()) == Finished("done")
    assert [[m.role for m in request.messages] for request in model.asked] == [
        ["system", "user"], ["system", "user", "assistant", "tool"],
    ]  # fmt: skip
    assert [len(view.messages) for view in before.seen] == [1, 3]


def test_a_refused_model_call_is_not_made() -> None:
    """The workflow sees why."""
    model = Model()

    state, _ = run(ran(LLM, asked("before_model", Deny("no"), "deny"), providers={"fake": model}))

    assert state == Finished(["E_HOOK_DENIED", None])
    assert model.asked == []


def test_an_answer_is_what_the_hook_made_of_it_and_was_not_shown_before() -> None:
    """Readers get the text once, as the journal holds it."""

    async def scenario() -> None:
        desk, model = Desk(), Model(said("the code is 1234"))
        after = asked("after_model", Change("the code is hidden"), "change")
        shown: list[Any] = []
        async with desk.open(LLM, hooks=[after], providers={"fake": model}) as runtime:
            handle = await runtime.start(LLM, None, run_id="r")

            async def read() -> None:
                shown.extend([item async for item in handle.text()])

            reading = asyncio.create_task(read())
            state = await desk.settled(handle)
            await desk.clock.until(reading)
        await desk.journal.open()

        assert state == Finished("the code is hidden")
        assert "".join(map(str, shown)) == "the code is hidden"
        assert "1234" not in str(await desk.events("r"))
        assert "1234" not in str(await desk.journal.pieces(RUN))

    run(scenario())


def test_a_withheld_answer_is_charged_and_fails_the_call() -> None:
    """It was asked and paid for; the journal's sums hold."""
    model = Model(said("secret plan"))
    prices = {"fake:m": {"input": "1", "output": "2"}}
    after = asked("after_model", Deny("a plan"), "deny")

    state, events = run(ran(LLM, after, providers={"fake": model}, prices=prices))

    assert isinstance(state, Finished)
    assert state.output[0] == "E_HOOK_WITHHELD"
    failed = only(events, ActionFailed)
    assert (failed.spent.llm_tokens, failed.usage.output_tokens) == (7, 4)
    assert "secret plan" not in str(events)


def test_a_half_answer_that_no_hook_saw_is_dropped() -> None:
    """The text of a broken stream would go round the filter."""
    broken = ProviderError("cut", kind="transient", category="truncated", phase="response")
    model = Model([MessageStart("m"), TextDelta(0, "the code is 12"), broken])
    after = asked("after_model", None, "change")

    state, events = run(ran(LLM, after, providers={"fake": model}))

    assert state == Finished(["E_PROVIDER", None])
    assert "the code" not in str(events)


def test_streams_are_shown_as_they_come_when_hooks_only_look() -> None:
    """An observer that fails open cannot change what was said."""

    async def scenario() -> None:
        go = asyncio.Event()
        model = Model([
            MessageStart("m"), TextDelta(0, "half and half again "), go.wait, MessageEnd("stop"),
        ])  # fmt: skip
        desk = Desk()
        look = asked("after_model", on_failure="open")
        async with desk.open(LLM, hooks=[look], providers={"fake": model}) as runtime:
            handle = await runtime.start(LLM, None, run_id="r")
            reading = handle.text().__aiter__()
            first = await desk.clock.until(reading.__anext__())
            go.set()
            state = await desk.settled(handle)

        assert str(first).startswith("half")
        assert state == Finished("half and half again ")

    run(scenario())
