"""What `@tool` refuses to make a tool of, and what to write instead."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from pydantic import Base64Bytes, BaseModel, Field, SecretStr

from gatebook.errors import ConfigError, InvalidInput
from gatebook.tools import ToolContext, tool


class Opaque:
    pass


@dataclass
class Basket:
    items: set[str]


def refusal(function: Any, **options: Any) -> InvalidInput:
    """Return the error of making a tool and reading its spec."""
    with pytest.raises(InvalidInput) as caught:
        _ = tool(**options)(function).spec
    return caught.value


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", "E_TOOL_NAME"),
        ("a b", "E_TOOL_NAME"),
        ("a:b", "E_TOOL_NAME"),
        ("a\nb", "E_TOOL_NAME"),
        ("a" * 65, "E_TOOL_NAME"),
        (17, "E_TOOL_NAME"),
        ("gatebook.sleep", "E_NAME_RESERVED"),
        ("r\u0435fund", "E_NAME_CONFUSABLE"),
        ("re\u200bfund", "E_NAME_CONFUSABLE"),
        ("re\u202efund", "E_NAME_CONFUSABLE"),
    ],
)
def test_bad_names_are_refused_when_decorating(name: Any, code: str) -> None:
    """A name that looks like another one would be approved for the other one."""
    with pytest.raises(InvalidInput) as caught:
        tool(name=name)(keyless)

    assert caught.value.code == code


def test_a_lambda_needs_a_name() -> None:
    """`<lambda>` is no name a model can call."""
    assert refusal(lambda: None).code == "E_TOOL_NAME"


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"timeout": True},
        {"timeout": "5"},
        {"timeout": timedelta(0)},
        {"effect": "write"},
        {"on_error": "ignore"},
        {"max_output": 0},
        {"max_output": 1.5},
        {"description": 3},
        {"colour": "red"},
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, Any]) -> None:
    """A typo in an option must not silently mean the default."""
    error = refusal(keyless, **options)

    assert error.code == "E_TOOL_DECLARATION"
    assert next(iter(options)) in str(error)


@pytest.mark.parametrize("retries", [-1, True, 1.0, "2", 10**9])
def test_bad_retries_are_refused(retries: Any) -> None:
    """Retries are counted, so they are a small whole number."""
    assert refusal(keyless, retries=retries).code == "E_RETRY_CONFIG"


def test_an_idempotent_tool_must_see_its_key() -> None:
    """Without the key the service cannot know that it has seen the request."""
    assert refusal(keyless, effect="idempotent").code == "E_IDEMPOTENCY_DECL"


def test_an_idempotent_tool_with_a_context_is_fine() -> None:
    """The context carries the key."""
    assert tool(effect="idempotent")(with_key).spec.effect == "idempotent"


async def keyless(order: str) -> None: ...


async def with_key(ctx: ToolContext[None], order: str) -> None: ...


def star(*args: int) -> None: ...


def double_star(**options: int) -> None: ...


def positional(x: int, /) -> None: ...


def bare(x) -> None: ...  # type: ignore[no-untyped-def]


def bare_context(ctx) -> None: ...  # type: ignore[no-untyped-def]


def late_context(x: int, ctx: ToolContext) -> None: ...


def callback(x: Callable[[], int]) -> None: ...


def raw(x: bytes) -> None: ...


def raws(x: list[bytes] | None = None) -> None: ...


class Login(BaseModel):
    password: SecretStr


def masked(x: SecretStr) -> None: ...


def masked_inside(x: list[Login]) -> None: ...


def wrong_default(x: int = "three") -> None: ...  # type: ignore[assignment]


def none_default(x: int = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013


def odd_default(x: float = float("nan")) -> None: ...


def field_default(x: int = Field(default=3)) -> None: ...


def opaque(x: Opaque) -> None: ...


def basket(x: list[Basket]) -> None: ...


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (star, "*args"),
        (double_star, "**options"),
        (positional, "drop the '/'"),
        (bare, "write x:"),
        (bare_context, "write ctx: ToolContext"),
        (late_context, "move ctx first"),
        (callback, "parameter x cannot be JSON"),
        (raw, "parameter x holds bytes"),
        (raws, "parameter x holds bytes"),
        (masked, "parameter x holds a SecretStr, which is written as asterisks"),
        (masked_inside, "parameter x holds a SecretStr"),
        (wrong_default, "default of parameter x"),
        (none_default, "default of parameter x"),
        (odd_default, "default of parameter x"),
        (field_default, "default of parameter x is a pydantic Field"),
        (opaque, "parameter x cannot be JSON"),
        (basket, "parameter x holds a set"),
    ],
)
def test_parameters_that_json_cannot_fill_are_refused(function: Any, says: str) -> None:
    """The text names the parameter and what to write instead."""
    error = refusal(function)

    assert error.code == "E_TOOL_DECLARATION"
    assert says in str(error)


def test_an_annotation_nobody_knows_is_refused() -> None:
    """Types imported only for type checkers do not exist when the schema is built."""

    def late(x: "Imaginary") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert "Imaginary" in str(refusal(late))


def test_a_return_type_without_json_is_refused() -> None:
    """It would fail after the effect has happened."""

    def connect() -> Callable[[], int]:
        return lambda: 1

    assert "return type" in str(refusal(connect))


def test_bytes_as_a_result_are_refused() -> None:
    """Silently reading bytes as UTF-8 would lose some of them."""

    def download() -> bytes:
        return b""

    assert "return type holds bytes" in str(refusal(download))


def test_base64_is_the_way_to_pass_bytes() -> None:
    """The remedy that the refusal names works."""

    def upload(body: Base64Bytes) -> None: ...

    assert tool(upload).validate(b'{"body":"aGk="}') == b'{"body":"aGk="}'


def count() -> Iterator[int]:
    yield 1


async def stream() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("thing", [count, stream, Opaque, 17, print, staticmethod(count)])
def test_only_functions_with_one_result_are_tools(thing: Any) -> None:
    """Generators, classes and objects are refused when decorating, with the remedy."""
    with pytest.raises(ConfigError) as caught:
        tool(thing)

    assert caught.value.code == "E_TOOL_DECLARATION"
