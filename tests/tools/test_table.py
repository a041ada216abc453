"""A program's tools by name."""

from typing import Any

import pytest

from gatebook.errors import ConfigError
from gatebook.ports import Tool
from gatebook.tools import tool, tool_table


@tool
def pay(account: str) -> None:
    """Pay."""


@tool
async def refund(order: str) -> None:
    """Refund."""


def test_tools_stand_by_name_in_their_order() -> None:
    """The order of a list of tools is the order the model sees."""
    table = tool_table([refund, pay])

    assert list(table) == ["refund", "pay"]
    assert table["pay"] is pay


def test_a_function_tool_is_a_tool() -> None:
    """The type checker compares it with the port; so does this line."""
    port: Tool = pay

    assert port.spec.name == "pay"


def test_two_tools_of_one_name_are_refused() -> None:
    """A name means one thing to policy, model and journal."""

    @tool(name="pay")
    def also_pay() -> None: ...

    with pytest.raises(ConfigError) as caught:
        tool_table([pay, also_pay])

    assert caught.value.code == "E_TOOL_DUPLICATE"


@pytest.mark.parametrize("thing", [lambda: None, len, dict])
def test_a_plain_function_is_refused_with_the_remedy(thing: Any) -> None:
    """Forgetting @tool is the commonest mistake."""
    with pytest.raises(ConfigError, match="decorate it with @tool") as caught:
        tool_table([thing])

    assert caught.value.code == "E_TOOL_DECLARATION"


@pytest.mark.parametrize("thing", ["pay", None, object()])
def test_what_is_no_tool_is_refused(thing: object) -> None:
    """The list may come from configuration."""
    with pytest.raises(ConfigError, match="is not a tool"):
        tool_table([thing])


def test_a_tool_that_cannot_be_declared_is_refused_in_the_table() -> None:
    """Building the program finds the mistake, not the first call in production."""

    def broken(x) -> None: ...  # type: ignore[no-untyped-def]

    with pytest.raises(ConfigError, match="parameter x"):
        tool_table([tool(broken)])
