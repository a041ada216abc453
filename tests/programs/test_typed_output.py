"""What becomes of a typed answer that does not fit: repairs, their places, and the failure."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from gatebook.errors import ActionDenied, ActionError
from gatebook.kernel.actions import CallLLM
from gatebook.kernel.codec import Raw, plain
from gatebook.kernel.messages import ChatResponse, Message, RefusalPart
from gatebook.ports import Outcome, Stepper
from gatebook.programs import Agent, Workflow, WorkflowContext
from gatebook.programs.conversation import resolve
from tests.programs.play import (
    Echo,
    action,
    addresses,
    begin,
    call,
    denied,
    failure,
    ok,
    output,
    said,
    started,
)

ROUTE = "openai:gpt-5-mini"
GOOD = '{"name":"Rome","people":3}'
BAD = '{"name":"the candidate","people":"many"}'
read = Echo("read")


class City(BaseModel):
    """What is asked for."""

    name: str
    people: int


def agent(**options: Any) -> Agent[Any]:
    """An agent of a test."""
    facts: dict[str, Any] = {"name": "a", "model": ROUTE, "output": City}
    made: Agent[Any] = Agent(**(facts | options))
    return made


def flow(function: Any) -> Workflow[Any, Any]:
    """A workflow of a test."""
    return Workflow(function, tools=[read], models=[ROUTE])


async def one(ctx: WorkflowContext) -> str:
    """A workflow that asks once and acts once more."""
    city = await ctx.call_llm(ROUTE, "which city?", output=City)
    return f"{city.name} {await ctx.call_tool(read)}"


async def told(ctx: WorkflowContext) -> list[Any]:
    """A workflow that reports its failure."""
    try:
        await ctx.call_llm(ROUTE, "which city?", output=City)
    except ActionError as exc:
        return [exc.code, type(exc).__name__, exc.fields.get("problems"), str(exc)]
    return []


def test_an_agents_repair_is_its_next_turn() -> None:
    """Every model call of an agent is a turn, counted by its limit."""
    stepper, _ = begin(agent(), "which city?")

    again = stepper.step([said("t1", BAD)])

    assert (addresses(again), again.end) == (["t2"], None)
    assert output(stepper.step([said("t2", GOOD)])) == {"name": "Rome", "people": 3}


def test_a_repair_says_what_is_wrong_and_not_what_was_said() -> None:
    """A candidate fed back would anchor the model, cost its tokens again and speak as the user."""
    stepper, first = begin(agent(), "which city?")

    again = stepper.step([said("t1", BAD)])
    messages = again.wants[0].messages

    assert messages[:-1] == first.wants[0].messages
    assert messages[-1].role == "user"
    assert "people: Input should be a valid integer" in messages[-1].text
    assert '"required":["name","people"]' in messages[-1].text
    assert not any("candidate" in message.text or "many" in message.text for message in messages)


def test_a_repair_stores_what_is_new() -> None:
    """The question is in the journal already; so is the schema, in the call's settings."""
    stepper, first = begin(agent(), "which city?")

    again = stepper.step([said("t1", BAD)])
    prompt, parent = action(again).prompt, action(first).prompt

    assert (prompt.parent, len(prompt.new)) == (parent.digest, 1)
    assert resolve(prompt, {parent.digest: parent}, lambda _: Message.user("")) == (
        again.wants[0].messages
    )
    assert action(again).settings == action(first).settings


def test_the_schema_is_written_out_once() -> None:
    """Servers that ignore the response format get to see it; twice would be waste."""
    stepper, _ = begin(agent(), "which city?")

    stepper.step([said("t1", BAD)])
    second = stepper.step([said("t2", BAD)])

    texts = [message.text for message in second.wants[0].messages]
    assert ["JSON Schema" in text for text in texts] == [False, True, False]


def test_a_large_schema_is_not_written_out() -> None:
    """A repair of a large type must not double the prompt."""
    schema = {"type": "object", "required": ["a"], "description": "x" * 5_000}
    stepper, _ = begin(agent(output=schema), "which city?")

    again = stepper.step([said("t1", "{}")])

    assert "xxx" not in again.wants[0].messages[-1].text
    assert "a: a value is required" in again.wants[0].messages[-1].text


def test_two_repairs_are_the_most_an_agent_gets() -> None:
    """An answer that never fits ends the run as failed, with what was wrong at last."""
    stepper, _ = begin(agent(), "which city?")

    stepper.step([said("t1", "prose")])
    stepper.step([said("t2", BAD)])
    end = failure(stepper.step([said("t3", '{"people":1}')]))

    assert (end.error.code, end.error.kind, end.denied) == ("E_ANSWER_UNFIT", "permanent", False)
    assert "after 2 repairs: name: a value is required" in end.error.message


def test_repairs_are_counted_over_the_whole_run() -> None:
    """A model that calls tools in between must not get two more each time."""
    stepper, _ = begin(agent(tools=[read]), "which city?")

    stepper.step([said("t1", BAD)])
    stepper.step([said("t2", "", call("read"))])
    stepper.step([ok("t2.0", "a result")])
    stepper.step([said("t3", BAD)])

    assert failure(stepper.step([said("t4", BAD)])).error.code == "E_ANSWER_UNFIT"


def test_a_repair_may_call_tools() -> None:
    """The model may find out what it did not know."""
    stepper, _ = begin(agent(tools=[read]), "which city?")

    stepper.step([said("t1", BAD)])
    calls = stepper.step([said("t2", "", call("read"))])
    last = stepper.step([ok("t2.0", "Rome")])

    assert (addresses(calls), addresses(last)) == (["t2.0"], ["t3"])
    assert last.wants[0].messages[-1].role == "tool"
    assert output(stepper.step([said("t3", GOOD)])) == {"name": "Rome", "people": 3}


def test_without_a_turn_left_there_is_no_repair() -> None:
    """`max_turns` is what the author allowed, and the failure still says what was wrong."""
    stepper, _ = begin(agent(max_turns=1), "which city?")

    error = failure(stepper.step([said("t1", BAD)])).error

    assert error.code == "E_ANSWER_UNFIT"
    assert "after 0 repairs: people: Input should be a valid integer" in error.message


def test_a_repair_that_is_denied_ends_the_run_as_denied() -> None:
    """A repair is a model call like any other: the budget may refuse it."""
    stepper, _ = begin(agent(), "which city?")

    stepper.step([said("t1", BAD)])
    end = failure(stepper.step([denied("t2", "E_BUDGET", "no tokens left")]))

    assert (end.denied, end.error.code) == (True, "E_BUDGET")


CUT: list[tuple[dict[str, Any], str]] = [
    ({"finish": "length", "state": "incomplete"}, "E_ANSWER_INCOMPLETE"),
    ({"finish": "length"}, "E_ANSWER_INCOMPLETE"),
    ({"finish": "error", "state": "incomplete"}, "E_ANSWER_INCOMPLETE"),
    ({"state": "interrupted"}, "E_ANSWER_INCOMPLETE"),
    ({"finish": "content_filter", "state": "incomplete"}, "E_ANSWER_FILTERED"),
    ({"finish": "refusal"}, "E_ANSWER_REFUSED"),
]


@pytest.mark.parametrize("text", [GOOD, BAD, '{"name":"Ro'])
@pytest.mark.parametrize(("fields", "code"), CUT)
def test_cut_filtered_and_refused_answers_are_not_repaired(
    text: str, fields: dict[str, Any], code: str
) -> None:
    """Asked again they would end the same way; and JSON that was cut may look whole."""
    of_agent, _ = begin(agent(), "which city?")
    of_flow, _ = begin(flow(one))

    assert failure(of_agent.step([said("t1", text, **fields)])).error.code == code
    assert failure(of_flow.step([said("0", text, **fields)])).error.code == code


def test_a_refusal_in_the_message_is_not_repaired() -> None:
    """Some providers say stop and put the refusal into the content."""
    message = Message("assistant", (RefusalPart("I will not"),))
    response = ChatResponse(model="m", message=message, finish_reason="stop")
    stepper, _ = begin(flow(told))

    end = stepper.step([Outcome("0", "succeeded", 1, 1, Raw(msgspec.json.encode(response)))])

    assert output(end)[0] == "E_ANSWER_REFUSED"


def test_a_paused_answer_is_no_value() -> None:
    """A workflow that wants a value cannot continue the provider's turn."""
    stepper, _ = begin(flow(told))

    end = stepper.step([said("0", BAD, finish="pause", state="suspended")])

    assert output(end)[0] == "E_ANSWER_INCOMPLETE"


def test_a_workflows_repairs_stand_below_the_step() -> None:
    """The steps after it keep the addresses that they have without a repair."""
    stepper, first = begin(flow(one))

    second = stepper.step([said("0", "prose")])
    third = stepper.step([said("0.r1", BAD)])
    after = stepper.step([said("0.r2", GOOD)])

    assert [addresses(step) for step in (first, second, third, after)] == [
        ["0"], ["0.r1"], ["0.r2"], ["1"]
    ]  # fmt: skip
    assert output(stepper.step([ok("1", "!")])) == "Rome !"


def test_branches_repair_on_their_own() -> None:
    """Which branch's answer did not fit must not move the other's steps."""

    async def f(ctx: WorkflowContext) -> list[Any]:
        async def branch(text: str) -> Any:
            city = await ctx.call_llm(ROUTE, text, output=City)
            return [city.people, await ctx.call_tool(read)]

        parts = (branch("a"), branch("b"), ctx.call_llm(ROUTE, "c", output=int))
        return list(await ctx.gather(*parts))

    stepper, _ = begin(flow(f))

    steps = [
        stepper.step([said("0.b1.s0", BAD)]),
        stepper.step([said("0.b0.s0", GOOD)]),
        stepper.step([said("0.b2.s0", "no")]),
        stepper.step([said("0.b1.s0.r1", GOOD)]),
        stepper.step([said("0.b2.s0.r1", "7")]),
        stepper.step([ok("0.b0.s1", "x"), ok("0.b1.s1", "y")]),
    ]

    assert [addresses(step) for step in steps] == [
        ["0.b1.s0.r1"], ["0.b0.s1"], ["0.b2.s0.r1"], ["0.b1.s1"], [], []
    ]  # fmt: skip
    assert output(steps[-1]) == [[3, "x"], [3, "y"], 7]


def test_a_workflow_can_catch_the_failure() -> None:
    """It is an error of the action, with its problems as data."""
    stepper, _ = begin(flow(told))

    for address in ("0", "0.r1"):
        stepper.step([said(address, "prose")])
    code, kind, problems, text = output(stepper.step([said("0.r2", BAD)]))

    assert (code, kind) == ("E_ANSWER_UNFIT", "Permanent")
    assert [problem["path"] for problem in problems] == ["people"]
    assert "people: Input should be a valid integer" in text
    assert "candidate" not in text


def test_a_denied_repair_is_the_workflows_denial() -> None:
    """The gate decides every repair anew."""

    async def f(ctx: WorkflowContext) -> str:
        try:
            await ctx.call_llm(ROUTE, "which city?", output=City)
        except ActionDenied as exc:
            return exc.code
        return ""

    stepper, _ = begin(flow(f))
    stepper.step([said("0", BAD)])

    assert output(stepper.step([denied("0.r1", "E_BUDGET")])) == "E_BUDGET"


def test_a_call_instead_of_an_answer_is_repaired() -> None:
    """A value was asked for; a tool call cannot be one."""

    async def f(ctx: WorkflowContext) -> Any:
        return await ctx.call_llm(ROUTE, "which city?", tools=[read], output=dict[str, int])

    stepper, _ = begin(flow(f))
    again = stepper.step([said("0", "", call("read"))])

    assert addresses(again) == ["0.r1"]
    assert "$: it is empty" in again.wants[0].messages[-1].text
    assert [tool.name for tool in again.wants[0].offered] == ["read"]


def test_text_needs_no_repair() -> None:
    """Whatever a model says is text."""

    async def f(ctx: WorkflowContext) -> str:
        said: str = await ctx.call_llm(ROUTE, "hi", output=str)
        return said

    stepper, step = begin(flow(f))

    assert plain(action(step).settings) == {}
    assert output(stepper.step([said("0", "{not json")])) == "{not json"


def test_a_json_schema_gives_plain_json() -> None:
    """Where there is no type there is nothing to make of it."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    program = agent(output=schema)
    stepper, step = begin(program, "how many?")

    again = stepper.step([said("t1", '{"n":"x"}')])

    assert plain(action(step).settings)["response_format"]["schema"] == schema
    assert "n: want integer" in again.wants[0].messages[-1].text
    assert output(stepper.step([said("t2", '{"n":1,"more":true}')])) == {"n": 1, "more": True}
    assert program.decode(b'{"n":1}') == {"n": 1}


ANSWERS: list[Callable[[str], Outcome]] = [
    lambda address: said(address, "prose"),
    lambda address: said(address, BAD),
    lambda address: said(address, GOOD),
]


@pytest.mark.parametrize("program", [agent(), flow(one)], ids=["agent", "workflow"])
def test_a_run_with_repairs_replays(program: Any) -> None:
    """A worker that takes the run up between two repairs must ask for the same one."""

    def until(stop: int) -> tuple[Stepper, list[Any]]:
        stepper = program.begin(started("which city?" if program.kind == "agent" else None))
        steps = [stepper.step(())]
        for make in ANSWERS[:stop]:
            (want,) = steps[-1].wants
            assert isinstance(want.action, CallLLM)
            steps.append(stepper.step([make(want.address)]))
        return stepper, steps

    _, whole = until(3)

    for stop in range(4):
        assert until(stop)[1] == whole[: stop + 1]
