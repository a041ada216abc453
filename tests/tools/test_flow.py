"""What a tool says of the flow of information, and the names and texts nobody may be fooled by."""

from typing import Any

import msgspec
import pytest

from gatebook import Agent
from gatebook.errors import ConfigError, InvalidInput
from gatebook.kernel.rules.facts import tool_facts
from gatebook.kernel.tools import ToolSpec, check_tools
from gatebook.tools import tool

HIDDEN = "\u200b"  # a space of no width


def spec(name: str, description: str = "", schema: bytes = b"{}") -> ToolSpec:
    """A spec as a foreign tool may bring it."""
    return ToolSpec(name=name, description=description, schema=msgspec.Raw(schema))


def test_a_tool_says_what_it_brings_in_and_whether_it_sends() -> None:
    """Rules decide on it, so it stands in the spec."""

    @tool(returns={"untrusted", "private"}, sends=True)
    async def fetch(url: str) -> str:
        return url

    assert fetch.spec.returns == ("private", "untrusted")
    assert fetch.spec.sends is True


def test_rules_see_what_a_tool_declares() -> None:
    """`tool.labels` and `tool.outbound` are facts."""

    @tool(returns=["untrusted"], sends=True)
    async def fetch(url: str) -> str:
        return url

    facts = tool_facts(fetch.spec)

    assert (facts.labels, facts.outbound) == (frozenset({"untrusted"}), True)


def test_what_a_tool_declares_is_part_of_its_digest() -> None:
    """A tool that begins to send is another tool."""

    async def fetch(url: str) -> str:
        return url

    digests = {
        tool(fetch).spec.digest,
        tool(sends=True)(fetch).spec.digest,
        tool(returns={"untrusted"})(fetch).spec.digest,
    }

    assert len(digests) == 3


def test_a_tool_that_declares_nothing_keeps_its_digest() -> None:
    """Old journals name it."""

    async def fetch(url: str) -> str:
        return url

    assert tool(returns=(), sends=False)(fetch).spec.digest == tool(fetch).spec.digest


@pytest.mark.parametrize(
    "options",
    [{"returns": "untrusted"}, {"returns": {"a b"}}, {"returns": {1}}, {"sends": "yes"}],
)
def test_odd_declarations_are_refused(options: Any) -> None:
    """A label that no rule can name would never be seen."""
    with pytest.raises(ConfigError) as caught:

        @tool(**options)
        async def fetch(url: str) -> str:
            return url

    assert caught.value.code == "E_TOOL_DECLARATION"


def test_two_names_that_look_alike_are_refused() -> None:
    """A person approves by name."""
    with pytest.raises(ConfigError) as caught:
        check_tools([spec("mail.send"), spec("Mail_send")])

    assert caught.value.code == "E_TOOL_CONFUSABLE"
    assert "mail.send" in str(caught.value)


@pytest.mark.parametrize("name", ["gatebook", "Gatebook.run", "gate_book", "gatebook_run"])
def test_reserved_names_are_refused_in_every_spelling(name: str) -> None:
    """What Gatebook itself will offer must not be imitated."""
    with pytest.raises(InvalidInput) as caught:
        check_tools([spec(name)])

    assert caught.value.code == "E_NAME_RESERVED"


@pytest.mark.parametrize("name", ["p\u0430y", f"pay{HIDDEN}"])
def test_a_foreign_tool_with_a_name_that_only_looks_plain_is_refused(name: str) -> None:
    """A Cyrillic letter or a space of no width makes another tool of it."""
    with pytest.raises(InvalidInput) as caught:
        check_tools([spec(name)])

    assert caught.value.code in ("E_NAME_CONFUSABLE", "E_TOOL_NAME")


@pytest.mark.parametrize(
    ("description", "schema"),
    [(f"Pay.{HIDDEN}", b"{}"), ("Pay. \U000e0041\U000e0042", b"{}"),
     ("Pay.", '{"description":"\u202eyap"}'.encode())],
)  # fmt: skip
def test_texts_with_characters_nobody_sees_are_refused(description: str, schema: bytes) -> None:
    """A model reads them, and whoever looks at the tool does not."""
    with pytest.raises(ConfigError) as caught:
        check_tools([spec("pay", description, schema)])

    assert caught.value.code == "E_TOOL_UNSEEN"


def test_texts_of_other_languages_and_several_lines_are_fine() -> None:
    """Only what cannot be seen is refused."""
    check_tools([spec("pay", "Zahlt Geld zurück.\n\n\tJa, wirklich: 支払い 💶")])


def test_programs_check_the_tools_they_are_given() -> None:
    """The check stands where tools are declared, so nobody can forget it."""

    @tool(name="mail.send", effect="read")
    async def one() -> str:
        return ""

    @tool(name="mail_send", effect="read")
    async def other() -> str:
        return ""

    with pytest.raises(ConfigError) as caught:
        Agent(name="a", model="scripted:x", tools=[one, other])

    assert caught.value.code == "E_TOOL_CONFUSABLE"
