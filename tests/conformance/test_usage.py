"""What a call cost: inclusive buckets, and never zero for what nobody counted."""

import pytest

from gatebook.kernel.budget import Amount
from gatebook.kernel.events import ActionFailed, ActionRequested, ActionSucceeded
from gatebook.kernel.messages import Usage
from gatebook.runtime.runs.states import Cancelled, Finished
from gatebook.testing.dialects import Cost, Story
from gatebook.testing.dialects.chat import DONE, delta
from gatebook.testing.dialects.story import event
from gatebook.testing.fault_server import streamed
from tests.conformance.adapters import ANTHROPIC_ADAPTER, CHAT_ADAPTER, Adapter, every_adapter, on
from tests.conformance.cases import case
from tests.conformance.kit import answering, driven, run, served
from tests.conformance.test_cancellation import begun
from tests.providers.calls import CALL, asking, attempt

COST = Cost(input=1_220, output=300, cached=1_217, reasoning=120)


async def usages(adapter: Adapter, cost: Cost | None) -> list[Usage | None]:
    """Return the usage of an answer that costs this, streamed and whole."""
    async with served(adapter, answering(adapter, Story.text("hello", cost=cost))) as it:
        one, _ = await attempt(it.provider, asking())
        return [one.usage, (await it.provider.complete(asking(), CALL)).usage]


@case(38)
@every_adapter
def test_usage_is_inclusive_whatever_the_provider_counts(adapter: Adapter) -> None:
    """Case 38: one leaves the cache out of its input, another the thoughts out of its output."""

    async def scenario() -> None:
        for usage in await usages(adapter, COST):
            assert usage is not None
            assert (usage.input_tokens, usage.cache_read_tokens) == (1_220, 1_217)
            assert usage.output_tokens == 300
            assert usage.total_tokens in (1_520, None)
            assert usage.measured
            if adapter is not ANTHROPIC_ADAPTER:  # which does not count its thoughts apart
                assert usage.reasoning_tokens == 120

    run(scenario())


@case(38)
@every_adapter
@pytest.mark.parametrize("cost", [None, Cost(0, 0)], ids=["absent", "zeros"])
def test_usage_that_was_not_measured_is_none(adapter: Adapter, cost: Cost | None) -> None:
    """Case 38: answers that were broken off come with zeros, and were paid for."""

    async def scenario() -> None:
        assert await usages(adapter, cost) == [None, None]

    run(scenario())


@case(38)
@on(CHAT_ADAPTER)
def test_reasoning_that_is_counted_beside_the_output_is_added(adapter: Adapter) -> None:
    """Case 38: xAI's total is prompt, completion and reasoning."""
    told = {
        "prompt_tokens": 32,
        "completion_tokens": 9,
        "total_tokens": 700,
        "completion_tokens_details": {"reasoning_tokens": 659},
    }
    events = [
        event(delta(content="hello")),
        event(delta(finish_reason="stop")),
        event({"id": "chatcmpl-1", "choices": [], "usage": told}),
        DONE,
    ]

    async def scenario() -> None:
        async with served(adapter, streamed(events)) as it:
            got, _ = await attempt(it.provider, asking())

            assert got.usage is not None
            assert (got.usage.output_tokens, got.usage.reasoning_tokens) == (668, 659)

    run(scenario())


@case(38)
@every_adapter
def test_a_measured_answer_is_charged_as_measured(adapter: Adapter) -> None:
    """Case 38: the budget gets back what was reserved and not used."""

    async def scenario() -> None:
        async with driven(adapter, answering(adapter, Story.text("hello", cost=COST))) as it:
            state = await it.end(await it.start(max_output_tokens=1_000))

            assert state == Finished("hello")
            spent = (await it.desk.only("r", ActionSucceeded)).spent
            assert spent is not None
            assert spent.llm_tokens == 1_520

    run(scenario())


@case(38)
@every_adapter
def test_an_unmeasured_answer_is_charged_at_its_reservation(adapter: Adapter) -> None:
    """Case 38: nothing said is not nothing used."""

    async def scenario() -> None:
        async with driven(adapter, answering(adapter, Story.text("hello", cost=None))) as it:
            await it.end(await it.start(max_output_tokens=1_000))

            reserved = (await it.desk.only("r", ActionRequested)).reserve
            spent = (await it.desk.only("r", ActionSucceeded)).spent
            assert reserved.llm_tokens >= 1_000
            assert (spent or Amount()).llm_tokens == reserved.llm_tokens

    run(scenario())


@case(38)
@every_adapter
def test_a_cancelled_stream_is_charged_at_its_reservation(adapter: Adapter) -> None:
    """Case 38: its usage never came, its tokens did."""

    async def scenario() -> None:
        async with driven(adapter, begun(adapter)) as it:
            handle = await it.start(max_output_tokens=1_000)
            text = handle.text()
            assert await anext(text) == "hel"
            await handle.cancel()
            state = await it.end(handle)
            await text.aclose()

            assert isinstance(state, Cancelled)
            reserved = (await it.desk.only("r", ActionRequested)).reserve.llm_tokens
            (failed,) = await it.desk.all("r", ActionFailed)
            assert (failed.spent or Amount()).llm_tokens == reserved
            assert (await handle.row()).head.spent.llm_tokens == reserved

    run(scenario())
