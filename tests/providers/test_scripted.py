"""The scripted model: the same request, the same answer, and a clear word when there is none."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gatebook.errors import ConfigError, ProviderError
from gatebook.kernel.messages import (
    ChatRequest,
    ChatResponse,
    Message,
    TextDelta,
    ToolCallPart,
    ToolDefinition,
)
from gatebook.providers.script import Reply, ToolUse, read_script
from gatebook.providers.scripted import Scripted
from tests.providers.calls import CALL, asking, attempt

DESK = {
    "about": "a support desk",
    "rules": [
        {
            "when": {"user_matches": r"order (?P<order>\d+)", "not_called": ["shop.find"]},
            "say": "I will look at order {{order}}.",
            "call": [{"tool": "shop.find", "args": {"order": "{{order}}"}}],
        },
        {
            "when": {"last_tool": "shop.find", "result": {"shop.find": '"paid":true'}},
            "call": [
                {
                    "tool": "shop.refund",
                    "args": {
                        "order": "{{last.shop.find.id}}",
                        "amount": "{{last.shop.find.lines.0.price}}",
                        "why": "asked by {{last.shop.find.customer}}",
                    },
                }
            ],
        },
        {"when": {"last_tool": "shop.refund"}, "say": "Done: {{last.shop.refund}}"},
        {"when": {"system": "polite", "turns": 0}, "say": "Good day!"},
    ],
}
FOUND = '{"id":"17","paid":true,"customer":"Ada","lines":[{"price":12.5}]}'


def desk() -> Scripted:
    return Scripted(read_script(msgspec.json.encode(DESK), "desk.json"))


def ask(provider: Scripted, *messages: Message, **fields: Any) -> ChatResponse:
    return asyncio.run(provider.complete(asking(messages=messages, **fields), CALL))


def test_a_support_case_runs_through() -> None:
    """The demo: read a message, look the order up, refund it, say so."""
    talk = [Message.user("Please refund Order 17!")]
    first = ask(desk(), *talk)
    talk += [first.message, Message.tool_result(first.tool_calls[0].id, FOUND)]
    second = ask(desk(), *talk)
    talk += [second.message, Message.tool_result(second.tool_calls[0].id, "receipt 9")]
    third = ask(desk(), *talk)

    assert first.text == "I will look at order 17."
    assert [(c.name, c.arguments) for c in first.tool_calls] == [("shop.find", '{"order":"17"}')]
    assert [(c.name, c.arguments) for c in second.tool_calls] == [
        ("shop.refund", '{"order":"17","amount":12.5,"why":"asked by Ada"}')
    ]
    assert (third.text, third.finish_reason) == ("Done: receipt 9", "stop")


def test_the_same_request_gets_the_same_answer_in_every_process() -> None:
    """A resumed run asks again and must not be told something else."""
    first, again = (ask(desk(), Message.user("order 17")) for _ in range(2))
    other = ask(desk(), Message.user("order 18"))

    assert first == again
    assert first.tool_calls[0].id != other.tool_calls[0].id


def test_ids_differ_between_turns_with_the_same_last_message() -> None:
    """A conversation with two calls of one id is refused."""
    provider = Scripted(lambda _: Reply(call=(ToolUse("f"),)))
    once = ask(provider, Message.user("go"))
    twice = ask(provider, Message.user("go"), once.message, Message.user("go"))

    assert once.tool_calls[0].id != twice.tool_calls[0].id


def test_the_answer_is_streamed_word_by_word() -> None:
    """A reader of the demo should see it being written."""
    provider = Scripted(lambda _: "two words\n more")

    got, shown = asyncio.run(attempt(provider, asking()))

    assert [e.text for e in shown if isinstance(e, TextDelta)] == ["two ", "words\n ", "more"]
    assert got.text == "two words\n more"


def test_streamed_and_whole_answers_are_the_same() -> None:
    """Which way the runtime asks must not change a run."""
    request = asking("order 17")

    streamed, _ = asyncio.run(attempt(desk(), request))

    assert streamed == asyncio.run(desk().complete(request, CALL))


def test_usage_is_an_estimate_and_says_so() -> None:
    """Nobody counted tokens, so nobody may believe that somebody did."""
    got = ask(Scripted(lambda _: "12345678"), Message.user("1234"))

    assert got.usage is not None
    assert (got.usage.input_tokens, got.usage.output_tokens) == (1, 2)
    assert got.usage.measured is False


def test_without_a_rule_the_error_shows_question_and_rules() -> None:
    """Whoever writes the script must see at once which rule was meant to apply."""
    with pytest.raises(ProviderError) as caught:
        ask(desk(), Message.user("What is the weather?"))

    assert caught.value.kind == "permanent"
    assert "What is the weather?" in str(caught.value)
    assert "order (?P<order>" in str(caught.value)


@pytest.mark.parametrize(
    ("hole", "told"),
    [
        ("{{nobody}}", "user_matches"),
        ("{{last.gone.x}}", "no such tool"),
        ("{{last.shop.find.none}}", "shop.find answered"),
        ("{{last.shop.find.lines.x}}", "shop.find answered"),
    ],
)
def test_a_hole_without_a_value_is_an_error(hole: str, told: str) -> None:
    """An empty string in its place would refund order ''."""
    script = {"rules": [{"say": f"say {hole}"}]}
    provider = Scripted(read_script(msgspec.json.encode(script), "x"))
    call = ToolCallPart("c1", "shop.find")

    with pytest.raises(ProviderError, match=told):
        ask(provider, Message.assistant("", call), Message.tool_result("c1", FOUND))


def test_rules_are_tried_in_order_and_all_conditions_must_hold() -> None:
    """The first that applies answers, as people read it."""
    got = ask(desk(), Message.system("Be polite."), Message.user("hello"))

    assert got.text == "Good day!"
    with pytest.raises(ProviderError):
        ask(desk(), Message.system("Be polite."), Message.user("hello"), got.message)


def test_a_required_call_that_the_script_does_not_make_is_invalid() -> None:
    """The scripted model is judged like a real one."""
    tools = (ToolDefinition("f"),)
    got = ask(Scripted(lambda _: "no"), Message.user("x"), tools=tools, tool_choice="required")

    assert [call.reason for call in got.invalid_tool_calls] == ["not_called"]


def test_a_script_is_loaded_from_a_file(tmp_path: Path) -> None:
    """`scripted:answers.json` is the first model most people run."""
    file = tmp_path / "answers.json"
    file.write_bytes(msgspec.json.encode({"rules": [{"say": "hi"}]}))

    assert ask(Scripted.load(file), Message.user("x")).text == "hi"


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"rules": [{"sya": "typo"}]}', '{"rules": [{"when": {"user_matches": "("}}]}'],
)
def test_a_script_with_a_mistake_is_refused_at_once(tmp_path: Path, text: str) -> None:
    """A misspelt condition that is ignored applies always."""
    file = tmp_path / "answers.json"
    file.write_text(text)

    with pytest.raises(ConfigError):
        Scripted.load(file)


def test_a_missing_script_is_refused_with_its_path(tmp_path: Path) -> None:
    """The commonest mistake is the folder one stands in."""
    with pytest.raises(ConfigError) as caught:
        Scripted.load(tmp_path / "gone.json")

    assert "gone.json of a scripted model cannot be read: No such file" in str(caught.value)


def test_a_function_that_raises_is_a_provider_error() -> None:
    """Whatever a provider does, the runtime sees one kind of error."""

    def broken(_: ChatRequest) -> str:
        raise KeyError("x")

    with pytest.raises(ProviderError) as caught:
        ask(Scripted(broken), Message.user("x"))

    assert caught.value.kind == "permanent"
