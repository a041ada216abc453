"""Agents as values: what they declare, take and give, and what their fingerprint covers."""

from typing import Any

import pytest
from pydantic import BaseModel

from gatebook.errors import GatebookError, InvalidInput
from gatebook.kernel.codec import plain
from gatebook.ports import Program
from gatebook.programs import Agent
from tests.programs.play import Echo, action, begin, failure, output, said

ROUTE = "openai:gpt-5-mini"
read = Echo("read")


class Reply(BaseModel):
    """What an agent is asked to write."""

    text: str
    score: int = 0


def agent(**changed: Any) -> Agent[Any]:
    """An agent of a test."""
    facts: dict[str, Any] = {"name": "support", "model": ROUTE, "instructions": "help"}
    made: Agent[Any] = Agent(**(facts | changed))
    return made


def test_an_agent_is_a_program() -> None:
    """The runtime knows programs, not agents."""
    program: Program[str, str] = Agent(name="support", model=ROUTE, tools=[read])
    typed: Program[str, Reply] = Agent(name="support", model=ROUTE, output=Reply)

    assert (program.name, program.kind, list(program.models)) == ("support", "agent", [ROUTE])
    assert list(program.tools) == ["read"]
    assert typed.decode(b'{"text":"hi"}') == Reply(text="hi")


def test_an_agent_cannot_be_changed() -> None:
    """Its fingerprint is recorded in every run that it begins."""
    fixed: Any = agent()

    with pytest.raises(AttributeError, match="immutable"):
        fixed.instructions = "obey"
    with pytest.raises(TypeError):
        fixed.tools["write"] = read


def test_the_first_question_has_instructions_and_input() -> None:
    """Everything the model is told is in the journal, written out once."""
    _, step = begin(agent(tools=[read], settings={"temperature": 0}, timeout=9), "refund 17")
    asked = action(step)

    assert [want.address for want in step.wants] == ["t1"]
    assert [(m.role, m.text) for m in step.wants[0].messages] == [
        ("system", "help"),
        ("user", "refund 17"),
    ]
    assert (asked.route, asked.tools, asked.timeout_ms) == (ROUTE, ("read",), 9_000)
    assert plain(asked.settings) == {"temperature": 0}
    assert [tool.name for tool in step.wants[0].offered] == ["read"]
    assert len(asked.prompt.new) == 2


def test_without_instructions_the_user_speaks_first() -> None:
    """An empty system message is refused by some providers."""
    _, step = begin(agent(instructions=""), "hi")

    assert [message.role for message in step.wants[0].messages] == ["user"]


def test_an_answer_without_calls_is_the_output() -> None:
    """The loop ends when the model has nothing left to call."""
    stepper, _ = begin(agent(), "hi")

    assert output(stepper.step([said("t1", "hello")])) == "hello"


def test_a_typed_answer_is_validated() -> None:
    """The caller gets the declared type; defaults are filled in and stored."""
    stepper, step = begin(agent(output=Reply), "hi")
    end = stepper.step([said("t1", '{"text":"hello"}')])

    assert plain(action(step).settings)["response_format"]["name"] == "Reply"
    assert output(end) == {"text": "hello", "score": 0}


@pytest.mark.parametrize("text", ["hello", '{"score":1}', '{"text":"a","text":"b"}', ""])
def test_an_answer_of_another_type_never_ends_well(text: str) -> None:
    """An output that does not fit must not reach the caller."""
    stepper, _ = begin(agent(output=Reply, max_turns=1), "hi")

    assert failure(stepper.step([said("t1", text)])).error.code == "E_ANSWER_UNFIT"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "E_CONTENT"),
        (" \n", "E_CONTENT"),
        (5, "E_INPUT"),
        (None, "E_INPUT"),
        ({"a": 1}, "E_INPUT"),
        ([{"role": "user"}], "E_INPUT"),
        ("\ud800", "E_TEXT_INVALID"),
    ],
)
def test_the_input_is_text(value: Any, code: str) -> None:
    """Nothing is written for a run that has nothing to do."""
    with pytest.raises(InvalidInput) as caught:
        agent().accept(value)

    assert caught.value.code == code


def test_the_input_is_stored_as_json_text() -> None:
    """The stored bytes are what a second start is compared with."""
    assert agent().accept("grüß") == '"grüß"'.encode()


class Other(BaseModel):
    """Another output."""

    words: str


class Opaque:
    """A type that JSON cannot hold."""


def test_the_fingerprint_covers_what_affects_execution() -> None:
    """A resumed run must notice a changed definition."""
    changes: list[dict[str, Any]] = [
        {},
        {"name": "other"},
        {"model": "openai:other"},
        {"instructions": "hinder"},
        {"tools": [read]},
        {"tools": [Echo("read", "idempotent")]},
        {"tools": [read, Echo("find")]},
        {"tools": [Echo("find"), read]},
        {"output": Reply},
        {"output": Other},
        {"max_turns": 3},
        {"max_parallel": 3},
        {"max_output_tokens": 3},
        {"timeout": 3},
        {"settings": {"temperature": 0}},
        {"settings": {"seed": 1}},
    ]

    digests = [agent(**change).digest for change in changes]

    assert len(set(digests)) == len(changes)
    assert agent(output=str).digest == agent().digest == agent().digest


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"name": ""}, "E_PROGRAM_NAME"),
        ({"name": "a b"}, "E_PROGRAM_NAME"),
        ({"name": "gatebook.a"}, "E_NAME_RESERVED"),
        ({"name": "ägent"}, "E_NAME_CONFUSABLE"),
        ({"model": "gpt"}, "E_ROUTE"),
        ({"instructions": None}, "E_PROGRAM_DECLARATION"),
        ({"tools": [read, Echo("read")]}, "E_TOOL_DUPLICATE"),
        ({"tools": [print]}, "E_TOOL_DECLARATION"),
        ({"tools": read}, "E_PROGRAM_DECLARATION"),
        ({"max_turn": 3}, "E_PROGRAM_DECLARATION"),
        ({"max_turns": 0}, "E_CONFIG"),
        ({"max_turns": True}, "E_CONFIG"),
        ({"max_parallel": 1.5}, "E_CONFIG"),
        ({"max_output_tokens": 0}, "E_CONFIG"),
        ({"timeout": -1}, "E_CONFIG"),
        ({"timeout": "5"}, "E_CONFIG"),
        ({"settings": ["temperature"]}, "E_PROGRAM_DECLARATION"),
        ({"settings": {"temprature": 1}}, "E_CONFIG"),
        ({"settings": {"stop": "END"}}, "E_CONFIG"),
        ({"settings": {"temperature": float("nan")}}, "E_CONFIG"),
        ({"output": Opaque}, "E_PROGRAM_DECLARATION"),
    ],
)
def test_a_wrong_declaration_is_refused_at_once(change: Any, code: str) -> None:
    """The error must come where the mistake is written, not at the first run."""
    with pytest.raises(GatebookError) as caught:
        agent(**change)

    assert caught.value.code == code
    assert str(caught.value)


def test_a_setting_in_the_wrong_place_is_told_its_place() -> None:
    """`ctx.call_llm` takes the same words as keywords, so they are tried here."""
    with pytest.raises(GatebookError, match=r"write settings=\{'temperature': \.\.\.\}"):
        agent(temperature=0.2)


def test_a_plain_function_is_told_to_be_decorated() -> None:
    """The commonest mistake; the remedy is one word."""
    with pytest.raises(GatebookError, match="decorate the function with @tool"):
        agent(tools=[len])
