"""Typed answers in whole runs: what repairs cost, a crash between them, and the real model."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from pydantic import BaseModel

from gatebook.journals import MemoryJournal
from gatebook.kernel.budget import Budget
from gatebook.kernel.events import ActionDenied, ActionRequested, RunFailed
from gatebook.kernel.messages import Call, ChatRequest
from gatebook.kernel.policies import AllowDeclared
from gatebook.ports import RunKey
from gatebook.programs import Agent
from gatebook.providers.local import LocalModel
from gatebook.runtime.runs.states import Failed, Finished
from gatebook.runtime.runtime import Runtime
from tests.runtime.kit import Attempt, CutJournal, Desk, Model, eventually, handle_of, run, said

GOOD = '{"city":"Rome","people":3}'
model = pytest.mark.local_model


class City(BaseModel):
    """A city and how many people live there."""

    city: str
    people: int


typed = Agent(name="typed", model="fake:m", output=City, max_output_tokens=100)


class Learner(Model):
    """A model that answers by how often it was told that its answer does not fit."""

    def __init__(self, *answers: str) -> None:
        super().__init__()
        self.answers = answers

    def stream(self, request: ChatRequest, call: Call) -> Attempt:
        self.asked.append(request)
        told = sum("was not accepted" in message.text for message in request.messages)
        return Attempt(self, said(self.answers[told]))


async def asked(desk: Desk) -> list[str]:
    """Where a run asked its model."""
    return [event.address for event in await desk.all("r", ActionRequested)]


def test_each_repair_is_a_call_in_the_journal() -> None:
    """What was asked, decided and spent must be seen, also when it was asked again."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open(providers={"fake": Learner("prose", "{}", GOOD)}) as runtime:
            handle = await runtime.start(typed, "which city?", run_id="r")
            state = await desk.settled(handle)
            await desk.journal.open()

            assert isinstance(state, Finished)
            assert state.output == City(city="Rome", people=3)
            assert await asked(desk) == ["t1", "t2", "t3"]
            requests = await desk.all("r", ActionRequested)
            assert all(event.reserve.llm_tokens > 100 for event in requests)

    run(scenario())


def test_a_budget_ends_repairs() -> None:
    """Repairs are paid for like everything else."""

    async def scenario() -> None:
        policy = AllowDeclared(budget=Budget(llm_tokens=300))
        desk = Desk(policy)
        greedy = Learner("prose", "prose", "prose")
        async with desk.open(providers={"fake": greedy}) as runtime:
            handle = await runtime.start(typed, "which city?", run_id="r")
            state = await desk.settled(handle)
            await desk.journal.open()

            assert not isinstance(state, Finished)
            denied = await desk.only("r", ActionDenied)
            assert denied.error.code == "E_BUDGET"
            assert denied.address in ("t2", "t3")

    run(scenario())


def test_an_exhausted_run_says_what_was_wrong() -> None:
    """Never a best effort: the caller gets the declared type or an error."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open(providers={"fake": Learner("a", "b", '{"city":"x"}')}) as runtime:
            handle = await runtime.start(typed, "which city?", run_id="r")
            state = await desk.settled(handle)
            await desk.journal.open()

            assert isinstance(state, Failed)
            error = (await desk.only("r", RunFailed)).error
            assert error.code == "E_ANSWER_UNFIT"
            assert "people: a value is required" in error.message

    run(scenario())


@pytest.mark.parametrize("append", range(1, 5))
def test_a_crash_between_repairs_goes_on_where_it_was(append: int) -> None:
    """A worker that takes the run up must not start the repairs again from the first."""

    async def scenario() -> None:
        desk = Desk()
        journal = CutJournal(desk.journal, append=append)
        learner = Learner("prose", "{}", GOOD)
        first = desk.runtime(journal=journal, providers={"fake": learner})
        async with first:
            await first.start(typed, "which city?", run_id="r")
            await eventually(lambda: journal.dead, "the store is gone")
            await desk.crash(first)
        desk.lapse()
        await desk.journal.open()
        before = await asked(desk)

        async with desk.open(typed, providers={"fake": learner}) as runtime:
            state = await desk.settled(handle_of(runtime))
            await desk.journal.open()

            assert before == ["t1", "t2", "t3"][: append - 1]
            assert isinstance(state, Finished)
            assert await asked(desk) == ["t1", "t2", "t3"]

    run(scenario())


def with_model(scenario: Callable[[LocalModel], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        local = LocalModel()
        try:
            await scenario(local)
        finally:
            await local.aclose()

    asyncio.run(whole())


async def ended(program: Agent[Any], provider: Any, text: str) -> tuple[Any, list[str], str]:
    """How a run on a real server ended, where it asked, and with which error."""
    journal = MemoryJournal()
    async with Runtime(
        journal, programs=[program], policy=AllowDeclared(), providers={"real": provider}
    ) as runtime:
        handle = await runtime.start(program, text, run_id="r")
        state = await handle.settled()
        await journal.open()
        events = [each.event for each in await journal.read(RunKey("default", "r"))]
        requests = [event.address for event in events if isinstance(event, ActionRequested)]
        errors = [event.error.code for event in events if isinstance(event, RunFailed)]
        return state, requests, "".join(errors)


@model
def test_a_real_model_answers_in_a_type() -> None:
    """The hint reaches the server, and what comes back is read by the type."""

    async def scenario(local: LocalModel) -> None:
        program = Agent(name="real", model="real:smollm2", output=City)

        state, requests, _ = await ended(program, local, "Paris has 2102650 people.")

        assert isinstance(state, Finished)
        assert isinstance(state.output, City)
        assert state.output.city
        assert requests == ["t1"]

    with_model(scenario)


@model
def test_a_server_that_ignores_the_schema_gives_no_success() -> None:
    """A real server with a template that drops the schema: prose must not pass for a city."""

    async def scenario(local: LocalModel) -> None:
        provider = await local.provider("tools")
        program = Agent(
            name="real", model="real:smollm2", output=City, max_output_tokens=200,
            settings={"stop": ["\n", "."], "temperature": 0},
        )  # fmt: skip

        state, requests, code = await ended(program, provider, "Say hello.")

        assert isinstance(state, Failed)
        assert code == "E_ANSWER_UNFIT"
        assert requests == ["t1", "t2", "t3"]

    with_model(scenario)


@model
def test_a_real_answer_that_is_cut_is_not_repaired() -> None:
    """Real truncated JSON, not invented."""

    async def scenario(local: LocalModel) -> None:
        program = Agent(name="real", model="real:smollm2", output=City, max_output_tokens=4)

        state, requests, code = await ended(program, local, "Paris has 2102650 people.")

        assert isinstance(state, Failed)
        assert (requests, code) == (["t1"], "E_ANSWER_INCOMPLETE")

    with_model(scenario)
