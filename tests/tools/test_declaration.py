"""What `@tool` reads from a function: schema, description, options, and what stays a function."""

import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, ParamSpec, TypeVar, assert_type

import pytest
from pydantic import BaseModel, Field

from gatebook.errors import ConfigError
from gatebook.kernel.codec import plain
from gatebook.tools import FunctionTool, ToolContext, tool

P = ParamSpec("P")
R = TypeVar("R")


class Colour(Enum):
    RED = "red"


@dataclass
class Receipt:
    order: str
    amount: Decimal


class Address(BaseModel):
    street: str
    number: int = 1


@tool
async def refund(
    ctx: ToolContext[str], order: str, amount: Decimal, currency: str = "EUR"
) -> Receipt:
    """Refund an order.

    The money goes back the way it came.

    Args:
        order: the order id
        amount: how much
    """
    return Receipt(order, amount)


def measure(order: str) -> int:
    return len(order)


look_up = tool(effect="read", name="look_up")(measure)


def result_of(made: FunctionTool[P, R], output: bytes) -> R:
    return made.decode(output)


def schema_of(made: FunctionTool[..., Any]) -> Any:
    return plain(made.spec.schema)


def test_the_schema_comes_from_hints_and_docstring() -> None:
    """One declaration serves the type checker, the model and the validator."""
    schema = schema_of(refund)

    assert schema["required"] == ["order", "amount"]
    assert schema["properties"]["order"] == {"description": "the order id", "type": "string"}
    assert schema["properties"]["currency"] == {"default": "EUR", "type": "string"}
    assert schema["properties"]["amount"]["description"] == "how much"


def test_a_decimal_has_one_schema_in_every_release_of_pydantic() -> None:
    """Otherwise an upgrade would change every digest; 2.12 adds a pattern, 2.14 does not."""
    assert schema_of(refund)["properties"]["amount"] == {
        "anyOf": [{"type": "number"}, {"type": "string"}],
        "description": "how much",
    }


def test_the_context_is_not_an_argument() -> None:
    """The model must neither see nor fill what the runtime gives."""
    assert "ctx" not in schema_of(refund)["properties"]


def test_unknown_arguments_are_closed_in_the_schema() -> None:
    """Models invent arguments less when the schema says that there are no others."""
    assert schema_of(refund)["additionalProperties"] is False


def test_the_description_is_the_docstring_without_its_sections() -> None:
    """Parameter texts stand in the schema already."""
    assert refund.spec.description == ("Refund an order.\n\nThe money goes back the way it came.")


def test_a_given_description_wins_over_the_docstring() -> None:
    """Text for the model may differ from text for colleagues."""
    made = tool(description="For the model")(measure)

    assert made.spec.description == "For the model"


def test_a_function_without_docstring_has_an_empty_description() -> None:
    """A missing text is no error."""
    assert look_up.spec.description == ""


def test_titles_made_from_names_are_gone() -> None:
    """They repeat the names and cost tokens on every call."""

    def deliver(to: Address, colour: Colour) -> None: ...

    assert '"title"' not in bytes(tool(deliver).spec.schema).decode()


def test_a_parameter_named_title_stays() -> None:
    """Only pydantic's own titles are noise."""

    def write(title: str) -> None: ...

    assert list(schema_of(tool(write))["properties"]) == ["title"]


def test_annotated_fields_are_respected() -> None:
    """Constraints, aliases and texts that pydantic users write keep their meaning."""

    def move(
        steps: Annotated[int, Field(gt=0, description="of 1 m")],
        from_: Annotated[str, Field(alias="from")] = "here",
    ) -> None:
        """Move.

        Args:
            steps: from the docstring
        """

    assert schema_of(tool(move))["properties"] == {
        "steps": {"description": "of 1 m", "exclusiveMinimum": 0, "type": "integer"},
        "from": {"default": "here", "type": "string"},
    }


@pytest.mark.parametrize(
    "doc",
    [
        "Go.\n\n:param where: the place",
        "Go.\n\nParameters\n----------\nwhere : str\n    the place",
        "Go.\n\nArgs:\n    where: the place",
    ],
)
def test_three_docstring_styles_are_read(doc: str) -> None:
    """Sphinx, NumPy and Google are what people write."""

    def go(where: str) -> None: ...

    go.__doc__ = doc

    assert schema_of(tool(go))["properties"]["where"]["description"] == "the place"


def test_a_tool_is_at_most_once_unless_it_says_otherwise() -> None:
    """The cautious class is the default."""
    assert refund.spec.effect == "at_most_once"
    assert look_up.spec.effect == "read"


def test_options_reach_the_spec_in_its_units() -> None:
    """The kernel counts milliseconds and bytes."""
    made = tool(timeout=1.5, retries=2, on_error="unknown", max_output=10)(measure)

    spec = made.spec

    assert (spec.timeout_ms, spec.retries, spec.on_error, spec.max_output) == (
        1500,
        2,
        "unknown",
        10,
    )


def test_a_copy_with_other_options_is_the_same_tool() -> None:
    """A workflow may shorten one call's timeout without declaring a second tool."""
    copy = refund.options(timeout=timedelta(seconds=5), retries=0)

    assert copy.spec.timeout_ms == 5000
    assert copy.spec.retries == 0
    assert copy.spec.digest == refund.spec.digest
    assert refund.spec.timeout_ms == 60_000


def test_the_digest_pins_what_the_model_and_the_policy_see() -> None:
    """A changed description, schema, name or effect is another tool."""

    def other(order: str) -> int: ...  # type: ignore[empty-body]

    base = tool(name="x")(other).spec.digest

    assert tool(name="y")(other).spec.digest != base
    assert tool(name="x", effect="read")(other).spec.digest != base
    assert tool(name="x", description="!")(other).spec.digest != base
    assert tool(name="x", timeout=1)(other).spec.digest == base


def test_a_tool_is_still_the_function() -> None:
    """Unit tests of a tool need no runtime."""
    ctx = ToolContext(deps="bank", idempotency_key="k1")

    coroutine = refund(ctx, "17", Decimal(1))
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)

    assert ended.value.value == Receipt("17", Decimal(1))
    assert look_up("abc") == 3


def test_type_checkers_see_what_a_tool_returns() -> None:
    """`ctx.call_tool(refund, ...)` can infer Receipt; mypy checks these lines."""
    receipt = result_of(refund.options(timeout=1), b'{"order":"17","amount":"1"}')
    size = result_of(look_up, b"3")

    assert_type(receipt, Receipt)
    assert_type(size, int)
    assert_type(look_up("abc"), int)
    assert (receipt, size) == (Receipt("17", Decimal(1)), 3)


def test_importing_and_decorating_does_not_import_pydantic() -> None:
    """Pydantic costs a quarter of a second that `gatebook list` must not pay."""
    code = (
        "import sys\n"
        "from gatebook.tools import tool\n"
        "@tool(effect='read')\n"
        "def f(x: int) -> int: return x\n"
        "assert not {'pydantic', 'docstring_parser'} & set(sys.modules)\n"
        "f.spec\n"
        "assert 'pydantic' in sys.modules\n"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)


def test_options_of_a_call_cannot_change_the_effect() -> None:
    """What a second start does is a property of the tool, not of a call."""
    unchecked: Any = look_up

    with pytest.raises(ConfigError, match="effect"):
        unchecked.options(effect="idempotent")


def test_a_bound_method_can_be_a_tool() -> None:
    """Its `self` is filled already."""

    class Bank:
        def balance(self, account: str) -> int:
            """Say what is left."""
            return len(account)

    made = tool(Bank().balance)

    assert made.name == "balance"
    assert list(schema_of(made)["properties"]) == ["account"]


def test_a_pydantic_model_is_an_argument() -> None:
    """Nested types bring their own schema."""

    def deliver(to: Address) -> None: ...

    schema = schema_of(tool(deliver))

    assert schema["$defs"]["Address"]["required"] == ["street"]
