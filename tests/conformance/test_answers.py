"""What an answer amounts to: a value that validates, or a reason why there is none."""

from dataclasses import dataclass
from typing import Any

import pytest

from gatebook.runtime.runs.states import Failed, Finished
from gatebook.testing.dialects import Refuse, Say, Story
from tests.conformance.adapters import (
    ANTHROPIC_ADAPTER,
    CHAT_ADAPTER,
    GOOGLE_ADAPTER,
    RESPONSES_ADAPTER,
    Adapter,
    every_adapter,
)
from tests.conformance.cases import case
from tests.conformance.kit import answering, driven, run, served
from tests.providers.calls import CALL, asking, attempt


@dataclass(frozen=True)
class City:
    """What the model is asked for."""

    name: str
    people: int


PARIS = Story.text('{"name": "Paris", ', '"people": 2102650}')
MAX_REPAIRS = 2

ENDS: dict[str, tuple[Any, tuple[str, str]]] = {
    "length": (Say("hello"), ("length", "incomplete")),
    "content_filter": (Say("hello"), ("content_filter", "incomplete")),
    "refusal": (Refuse("I must not."), ("refusal", "complete")),
    "pause": (Say("hello"), ("pause", "suspended")),
}
TELLS = {
    CHAT_ADAPTER: ("length", "content_filter", "refusal"),
    RESPONSES_ADAPTER: ("length", "content_filter", "refusal"),
    ANTHROPIC_ADAPTER: ("length", "refusal", "pause"),
    GOOGLE_ADAPTER: ("length", "content_filter"),
}


@case(39)
@every_adapter
def test_a_typed_answer_is_a_value(adapter: Adapter) -> None:
    """Case 39: in one request, which carries the schema to the provider."""

    async def scenario() -> None:
        async with driven(adapter, answering(adapter, PARIS)) as it:
            state = await it.end(await it.start(output=City))

            assert state == Finished({"name": "Paris", "people": 2102650})
            (sent,) = it.server.requests
            assert b'"people"' in sent.body

    run(scenario())


@case(39)
@every_adapter
@pytest.mark.parametrize("text", ["Paris, of course.", '{"name": "Paris"}', '{"people": "many"}'])
def test_an_answer_that_ignores_the_schema_is_no_success(adapter: Adapter, text: str) -> None:
    """Case 39: local validation is the authority, and two repairs are the most."""

    async def scenario() -> None:
        async with driven(adapter, answering(adapter, Story.text(text))) as it:
            state = await it.end(await it.start(output=City))

            assert isinstance(state, Failed)
            assert state.error.code == "E_ANSWER_UNFIT"
            assert it.server.count == 1 + MAX_REPAIRS

    run(scenario())


@case(40)
@pytest.mark.parametrize(
    ("adapter", "finish"),
    [(adapter, finish) for adapter, finishes in TELLS.items() for finish in finishes],
    ids=str,
)
def test_an_answer_says_how_it_ended(adapter: Adapter, finish: Any) -> None:
    """Case 40: none of these is the model's full answer, and each wants another reaction."""
    part, expected = ENDS[finish]

    async def scenario() -> None:
        async with served(adapter, answering(adapter, Story((part,), finish=finish))) as it:
            streamed, _ = await attempt(it.provider, asking())
            whole = await it.provider.complete(asking(), CALL)

            assert (streamed.finish_reason, streamed.state) == expected
            assert (whole.finish_reason, whole.state) == expected
            assert streamed.raw_finish_reason == whole.raw_finish_reason
            assert streamed.raw_finish_reason
            assert it.server.count == 2

    run(scenario())


@case(40)
@every_adapter
def test_a_cut_answer_is_no_answer_to_a_program(adapter: Adapter) -> None:
    """Case 40: a workflow that goes on with half a text does so knowingly or not at all."""

    async def scenario() -> None:
        cut = Story((Say("hel"),), finish="length")
        async with driven(adapter, answering(adapter, cut)) as it:
            state = await it.end(await it.start())

            assert isinstance(state, Failed)
            assert state.error.code == "E_ANSWER_INCOMPLETE"
            assert it.server.count == 1

    run(scenario())
