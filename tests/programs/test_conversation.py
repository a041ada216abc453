"""Conversations by reference: linear, exact, and readable from the journal alone."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatebook.errors import IntegrityError
from gatebook.kernel.actions import CallTool, Prompt, PromptPart
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import ErrorRecord
from gatebook.kernel.messages import Message
from gatebook.programs.conversation import (
    Conversation,
    Threads,
    chain,
    render,
    resolve,
    tools_digest,
)
from tests.programs.play import failed, ok

messages = st.lists(st.builds(Message.user, st.text(max_size=8)), min_size=1, max_size=8)


@given(messages, st.data())
def test_the_digest_does_not_depend_on_the_cuts(said: list[Message], data: st.DataObject) -> None:
    """Agents and workflows cut conversations differently; the same talk has one digest."""
    talk = Conversation()
    for message in said:
        talk.say(message)
        if data.draw(st.booleans()):
            talk.prompt()

    assert talk.prompt().digest == chain("", said) == Threads().prompt(said).digest


@given(messages, messages)
def test_another_talk_has_another_digest(one: list[Message], two: list[Message]) -> None:
    """The digest in the action stands for the content that is sent."""
    assert (chain("", one) == chain("", two)) == (one == two)


def test_the_size_is_that_of_all_messages() -> None:
    """Token estimates count what is sent, not what is stored."""
    talk = Conversation()
    talk.say(Message.user("a" * 100))
    first = talk.prompt()
    talk.say(Message.user("b" * 100))

    assert talk.prompt().size == 2 * first.size > 200


@given(st.lists(messages, min_size=1, max_size=5))
def test_a_prompt_resolves_from_the_journal(cuts: list[list[Message]]) -> None:
    """What was sent can be shown years later without the program."""
    talk, earlier, answers = Conversation(), {}, {}
    for index, part in enumerate(cuts):
        for message in part:
            talk.say(message)
        prompt = talk.prompt()
        earlier[prompt.digest] = prompt
        answers[f"t{index}"] = Message.assistant(str(index))
        talk.refer(f"t{index}", answers[f"t{index}"])
    last = talk.prompt()

    assert resolve(last, earlier, answers.__getitem__) == talk.messages


def test_a_prompt_that_does_not_match_is_refused() -> None:
    """A changed answer must not pass for what the model was sent."""
    prompt = Prompt("0" * 64, "", (PromptPart(message=Message.user("a")),), 10)

    with pytest.raises(IntegrityError, match="does not match"):
        resolve(prompt, {}, lambda _: Message.user(""))


def test_a_prompt_without_its_parent_is_refused() -> None:
    """A gap in the conversation is a fact to tell, not to skip."""
    with pytest.raises(IntegrityError, match="no parent"):
        resolve(Prompt("a", "b"), {}, lambda _: Message.user(""))


def test_prompts_in_a_circle_are_refused() -> None:
    """A damaged journal must not hang the reader."""
    circle = {"a": Prompt("a", "b"), "b": Prompt("b", "a")}

    with pytest.raises(IntegrityError, match="no parent"):
        resolve(circle["a"], circle, lambda _: Message.user(""))


@pytest.mark.parametrize(
    ("value", "text"), [("plain", "plain"), ({"a": [1, None]}, '{"a":[1,null]}'), (None, "null")]
)
def test_a_result_reads_as_its_stored_json(value: object, text: str) -> None:
    """The model reads the journaled bytes; a string comes without quotes."""
    message = render(CallTool("t", Raw(b"{}"), "c1"), ok("t1.0", value))

    assert message == Message.tool_result("c1", text)


def test_a_failure_reads_as_its_text() -> None:
    """The model is told what happened, in the words of the tool."""
    error = ErrorRecord("E_TOOL_RETRY", "use ISO dates")

    message = render(CallTool("t", Raw(b"{}"), "c1"), failed("t1.0", error))

    assert message == Message.tool_result("c1", "use ISO dates", is_error=True)


def test_a_conversation_costs_what_it_says() -> None:
    """400 turns of 2 kB cost what is written in them; whole lists would store it 200 times."""
    talk, stored, written = Conversation(), 0, 0
    for turn in range(400):
        talk.say(Message.user("x" * 2_000))
        talk.refer(f"t{turn}", Message.assistant("y" * 2_000))
        stored += len(msgspec.json.encode(talk.prompt()))
        written += 2_000

    assert stored < 1.2 * written


def test_no_tools_have_no_digest() -> None:
    """An absent field is shorter than the digest of nothing."""
    assert tools_digest(()) == ""
