"""Model calls of workflows: what is asked, what is stored of it, and how answers are read."""

from typing import Any

import pytest
from pydantic import BaseModel

from gatebook.errors import ActionError
from gatebook.kernel.codec import plain
from gatebook.kernel.messages import InvalidToolCall, Message
from gatebook.programs import Workflow, WorkflowContext
from gatebook.programs.conversation import resolve
from tests.programs.play import Echo, action, begin, call, failure, ok, output, said

ROUTE = "openai:gpt-5-mini"
read = Echo("read")


class Summary(BaseModel):
    """What a model is asked to write."""

    title: str
    pages: int


def flow(function: Any) -> Workflow[Any, Any]:
    """A workflow of a test."""
    return Workflow(function, tools=[read], models=[ROUTE])


def test_text_is_asked_as_the_user() -> None:
    """The short form of the commonest call."""

    async def f(ctx: WorkflowContext) -> str:
        return (await ctx.call_llm(ROUTE, "hi")).text

    stepper, step = begin(flow(f))

    assert step.wants[0].messages == (Message.user("hi"),)
    assert (action(step).route, plain(action(step).settings)) == (ROUTE, {})
    assert output(stepper.step([said("0", "hello")])) == "hello"


def test_messages_may_be_dicts_or_objects() -> None:
    """People write dicts; answers come back as objects."""

    async def f(ctx: WorkflowContext) -> None:
        await ctx.call_llm(ROUTE, [{"role": "system", "content": "be short"}, Message.user("hi")])

    _, step = begin(flow(f))

    assert step.wants[0].messages == (Message.system("be short"), Message.user("hi"))


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ("", "E_CONTENT"),
        ("  ", "E_CONTENT"),
        ([], "E_CONTENT"),
        (None, "E_JSON_TYPE"),
        ([5], "E_JSON_TYPE"),
        ([{"role": "tool", "content": "x"}], "E_JSON_TYPE"),
        ([{"role": "user", "content": ["x"]}], "E_JSON_TYPE"),
        ([{"role": "user", "content": "x", "name": "y"}], "E_JSON_TYPE"),
        ("\ud800", "E_TEXT_INVALID"),
    ],
)
def test_messages_are_checked(messages: Any, code: str) -> None:
    """A field we would drop silently is a message the model never reads."""

    async def f(ctx: WorkflowContext) -> None:
        await ctx.call_llm(ROUTE, messages)

    assert failure(begin(flow(f))[1]).error.code == code


def test_settings_and_limits_travel_with_the_call() -> None:
    """What was asked must be in the journal, in canonical form."""

    async def f(ctx: WorkflowContext) -> None:
        await ctx.call_llm(ROUTE, "hi", temperature=0.5, seed=None, timeout=2, max_output_tokens=9)

    _, step = begin(flow(f))
    asked = action(step)

    assert plain(asked.settings) == {"temperature": 0.5}
    assert (asked.timeout_ms, asked.max_output_tokens) == (2_000, 9)


@pytest.mark.parametrize(
    "options",
    [{"temprature": 1}, {"temperature": "hot"}, {"timeout": 0}, {"max_output_tokens": 0}],
)
def test_settings_are_checked(options: Any) -> None:
    """A misspelt setting must not be ignored."""

    async def f(ctx: Any) -> None:
        await ctx.call_llm(ROUTE, "hi", **options)

    assert failure(begin(flow(f))[1]).error.code == "E_CONFIG"


def test_a_route_is_checked() -> None:
    """A model without its provider cannot be asked."""

    async def f(ctx: WorkflowContext) -> None:
        await ctx.call_llm("gpt", "hi")

    assert failure(begin(flow(f))[1]).error.code == "E_ROUTE"


def test_an_output_type_is_asked_for_and_read() -> None:
    """The model is told the schema; what it writes is checked here all the same."""

    async def f(ctx: WorkflowContext) -> str:
        summary = await ctx.call_llm(ROUTE, "sum up", output=Summary)
        return f"{summary.title} {summary.pages + 1}"

    stepper, step = begin(flow(f))
    asked = plain(action(step).settings)["response_format"]

    assert (asked["name"], asked["strict"]) == ("Summary", True)
    assert asked["schema"]["required"] == ["title", "pages"]
    assert output(stepper.step([said("0", '{"title":"T","pages":2}')])) == "T 3"


@pytest.mark.parametrize("text", ["", "nope", '{"title":"T"}', '{"title":"T","pages":NaN}'])
def test_an_answer_of_another_type_is_an_error(text: str) -> None:
    """A guess at what the model meant would be silent."""

    async def f(ctx: WorkflowContext) -> None:
        await ctx.call_llm(ROUTE, "sum up", output=Summary)

    stepper, _ = begin(flow(f))
    again = [stepper.step([said(address, text)]) for address in ("0", "0.r1", "0.r2")]

    assert failure(again[-1]).error.code == "E_ANSWER_UNFIT"


@pytest.mark.parametrize(
    ("finish", "code"),
    [
        ("length", "E_ANSWER_INCOMPLETE"),
        ("error", "E_ANSWER_INCOMPLETE"),
        ("content_filter", "E_ANSWER_FILTERED"),
        ("refusal", "E_ANSWER_REFUSED"),
    ],
)
def test_an_unusable_answer_is_an_error_that_holds_its_text(finish: Any, code: str) -> None:
    """Cut text must not pass for an answer; whoever wants it can take it from the error."""

    async def f(ctx: WorkflowContext) -> list[Any]:
        try:
            await ctx.call_llm(ROUTE, "hi")
        except ActionError as exc:
            return [exc.code, exc.fields["partial"]]
        return []

    stepper, _ = begin(flow(f))

    assert output(stepper.step([said("0", "half", finish=finish)])) == [code, "half"]


def test_offered_tools_stand_in_the_call_and_calls_come_back() -> None:
    """A workflow may run its own loop; nothing is called for it."""

    async def f(ctx: WorkflowContext) -> list[Any]:
        answer = await ctx.call_llm(ROUTE, "hi", tools=[read])
        return [[part.name for part in answer.tool_calls], len(answer.invalid_tool_calls)]

    stepper, step = begin(flow(f))
    bad = InvalidToolCall("not_json", "x", "read")
    end = stepper.step([said("0", "", call("read"), invalid=[bad])])

    assert action(step).tools == ("read",)
    assert [tool.name for tool in step.wants[0].offered] == ["read"]
    assert output(end) == [["read"], 1]


def test_a_resolution_that_is_no_answer_is_an_error() -> None:
    """A person may resolve a model call with any JSON."""

    async def f(ctx: WorkflowContext) -> None:
        await ctx.call_llm(ROUTE, "hi")

    stepper, _ = begin(flow(f))

    assert failure(stepper.step([ok("0", {"x": 1})])).error.code == "E_ANSWER_UNREADABLE"


def test_a_longer_conversation_stores_what_is_new() -> None:
    """A list of all messages in every call would grow with the square of the turns."""

    async def f(ctx: WorkflowContext) -> None:
        first = [Message.user("a")]
        answer = await ctx.call_llm(ROUTE, first)
        await ctx.call_llm(ROUTE, [*first, answer.message, Message.user("b")])

    stepper, one = begin(flow(f))
    answer = said("0", "hello")
    two = stepper.step([answer])
    old, new = action(one).prompt, action(two).prompt

    assert new.parent == old.digest
    assert [(part.message, part.outcome) for part in new.new] == [
        (None, "0"),
        (Message.user("b"), None),
    ]
    assert resolve(new, {old.digest: old}, lambda _: Message.assistant("hello")) == (
        two.wants[0].messages
    )


def test_the_same_question_again_stores_a_whole_prompt() -> None:
    """A prompt must never be its own parent."""

    async def f(ctx: WorkflowContext) -> None:
        await ctx.gather(ctx.call_llm(ROUTE, "a"), ctx.call_llm(ROUTE, "a"))

    _, step = begin(flow(f))

    assert action(step, 0).prompt == action(step, 1).prompt
    assert action(step, 0).prompt.parent == ""
