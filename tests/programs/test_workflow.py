"""Workflows as programs: what they declare, take and give."""

from asyncio import CancelledError
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, SecretStr

from gatebook.errors import (
    ConfigError,
    GatebookError,
    InvalidInput,
)
from gatebook.kernel.codec import plain
from gatebook.ports import Program
from gatebook.programs import Workflow, WorkflowContext, workflow
from tests.programs.play import (
    Echo,
    begin,
    failure,
    flow,
    output,
    read,
)


class Order(BaseModel):
    """An input of a workflow."""

    item: str
    price: Decimal
    count: int = 1


@dataclass
class Report:
    """An output of a workflow."""

    total: Decimal
    at: datetime


def test_input_and_output_have_the_declared_types() -> None:
    """People work with models; the journal holds their JSON."""

    async def total(ctx: WorkflowContext, order: Order) -> Report:
        return Report(order.price * order.count, ctx.now())

    program = flow(total)
    data = program.accept(Order(item="tea", price=Decimal("2.50"), count=2))
    _, step = begin(program, plain(data))

    assert plain(data) == {"item": "tea", "price": "2.50", "count": 2}
    assert output(step) == {"total": "5.00", "at": "2023-11-14T22:13:20Z"}
    assert program.decode(b'{"total":"5.00","at":"2023-11-14T22:13:20Z"}') == Report(
        Decimal("5.00"), datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    )


def test_json_and_objects_of_one_input_are_stored_alike() -> None:
    """The same run may be started from the command line and from code."""

    async def f(ctx: WorkflowContext, order: Order) -> None: ...

    data = {"item": "tea", "price": "2.50", "count": 1}

    assert flow(f).accept(data) == flow(f).accept(Order(item="tea", price=Decimal("2.50")))


def test_defaults_are_filled_into_the_stored_input() -> None:
    """A changed default must not change runs that were started before."""

    async def f(ctx: WorkflowContext, order: Order) -> None: ...

    assert plain(flow(f).accept({"item": "tea", "price": "2"}))["count"] == 1


@pytest.mark.parametrize(
    "value", [None, "tea", {"item": "tea"}, {"item": 5, "price": "1"}, object()]
)
def test_an_input_of_another_type_is_refused(value: Any) -> None:
    """Nothing is written for a run that cannot begin."""

    async def f(ctx: WorkflowContext, order: Order) -> None: ...

    with pytest.raises(InvalidInput, match="E_INPUT"):
        flow(f).accept(value)


@pytest.mark.parametrize("error", [KeyError("oops"), CancelledError(), GeneratorExit()])
def test_an_input_whose_check_raises_anything_is_refused(error: BaseException) -> None:
    """Out of a plan it would break off the run, or end its worker."""

    def broken(_: str) -> str:
        raise error

    async def f(ctx: WorkflowContext, word: Annotated[str, AfterValidator(broken)]) -> None: ...

    with pytest.raises(InvalidInput, match=type(error).__name__):
        flow(f).accept("tea")


def test_a_workflow_without_input_takes_none() -> None:
    """A value that nobody reads is a mistake of the caller."""

    async def f(ctx: WorkflowContext) -> None: ...

    assert flow(f).accept(None) == b"null"
    with pytest.raises(InvalidInput, match="takes no input"):
        flow(f).accept({"x": 1})


def test_an_unannotated_input_is_plain_json() -> None:
    """Nothing declared means nothing converted."""

    async def f(ctx, value):  # type: ignore[no-untyped-def]
        return value

    assert flow(f).accept({"b": [1, None], "a": 0.5}) == b'{"a":0.5,"b":[1,null]}'
    with pytest.raises(InvalidInput, match="E_JSON_TYPE"):
        flow(f).accept(Decimal(1))


@pytest.mark.parametrize("value", ["5", None, object()])
def test_an_output_of_another_type_fails_the_run(value: Any) -> None:
    """Whoever reads the result relies on the declared type."""

    async def f(ctx: WorkflowContext) -> int:
        return value

    assert failure(begin(flow(f))[1]).error.code == "E_OUTPUT"


def test_an_unannotated_output_must_be_json() -> None:
    """An object that JSON cannot hold would be lost at the first replay."""

    async def f(ctx: WorkflowContext):  # type: ignore[no-untyped-def]
        return {1, 2}

    error = failure(begin(flow(f))[1]).error

    assert error.code == "E_OUTPUT"
    assert "a set at $ is not a JSON value" in error.message


class Login(BaseModel):
    """What is stored of it is asterisks."""

    password: SecretStr


@pytest.mark.parametrize("declared", [SecretStr, list[Login]])
def test_an_input_that_would_be_asterisks_is_refused(declared: Any) -> None:
    """The run would be given them for the password, without a word."""

    async def f(ctx: WorkflowContext, value: Any) -> None: ...

    f.__annotations__["value"] = declared

    with pytest.raises(ConfigError, match="asterisks"):
        _ = flow(f).digest


@pytest.mark.parametrize("declared", [AsyncIterator[int], range])
def test_an_input_that_cannot_be_declared_is_told_as_that(declared: Any) -> None:
    """Not as a value that does not fit: no value would."""

    async def f(ctx: WorkflowContext, value: Any) -> None: ...

    f.__annotations__["value"] = declared

    for value in (None, range(3)):
        with pytest.raises(ConfigError, match="E_PROGRAM_DECLARATION") as caught:
            flow(f).accept(value)
        assert "does not fit" not in str(caught.value)


def test_an_input_that_no_longer_fits_fails_the_run() -> None:
    """A run whose definition was adopted may hold an input of the old type."""

    async def f(ctx: WorkflowContext, order: Order) -> None: ...

    assert failure(begin(flow(f), {"old": 1})[1]).error.code == "E_INPUT"


def test_the_decorator_takes_options_or_none() -> None:
    """Both forms make the same kind of object, and mypy knows its types."""

    @workflow
    async def plain_one(ctx: WorkflowContext, n: int) -> str:
        return str(n)

    @workflow(version="2", name="other", tools=[read], models=["openai:gpt-5-mini"])
    async def with_options(ctx: WorkflowContext) -> None: ...

    first: Program[int, str] = plain_one
    second: Program[None, None] = with_options

    assert (first.name, first.kind, plain_one.version) == ("plain_one", "workflow", "1")
    assert (second.name, list(second.tools)) == ("other", ["read"])
    assert list(second.models) == ["openai:gpt-5-mini"]


def test_the_digest_is_of_the_declaration() -> None:
    """A changed comment must not strand runs; a changed contract must show."""

    async def f(ctx: WorkflowContext, n: int) -> None:
        await ctx.sleep(1)

    async def same(ctx: WorkflowContext, n: int) -> None:
        await ctx.sleep(2)

    async def other_input(ctx: WorkflowContext, n: str) -> None: ...

    async def other_output(ctx: WorkflowContext, n: int) -> str:
        return ""

    base = Workflow(f, name="f").digest
    others = {
        Workflow(f, name="g").digest,
        Workflow(f, name="f", version="2").digest,
        Workflow(f, name="f", tools=[read]).digest,
        Workflow(f, name="f", tools=[Echo("read", "idempotent")]).digest,
        Workflow(f, name="f", models=["a:b"]).digest,
        Workflow(other_input, name="f").digest,
        Workflow(other_output, name="f").digest,
    }

    assert Workflow(same, name="f").digest == base
    assert len(others | {base}) == 8


async def unary(ctx: WorkflowContext) -> None: ...


async def no_ctx() -> None: ...


async def three(ctx: WorkflowContext, a: int, b: int) -> None: ...


async def keyword(ctx: WorkflowContext, *, a: int) -> None: ...


async def default(ctx: WorkflowContext, n: int = 5) -> None: ...


def not_async(ctx: WorkflowContext) -> None: ...


@pytest.mark.parametrize(
    ("function", "options", "code"),
    [
        (no_ctx, {}, "E_PROGRAM_DECLARATION"),
        (three, {}, "E_PROGRAM_DECLARATION"),
        (keyword, {}, "E_PROGRAM_DECLARATION"),
        (default, {}, "E_PROGRAM_DECLARATION"),
        (not_async, {}, "E_PROGRAM_DECLARATION"),
        (unary, {"verson": "2"}, "E_PROGRAM_DECLARATION"),
        (unary, {"version": 2}, "E_PROGRAM_DECLARATION"),
        (unary, {"runs": [object()]}, "E_PROGRAM_DECLARATION"),
        (unary, {"tools": read}, "E_PROGRAM_DECLARATION"),
        (unary, {"tools": [print]}, "E_TOOL_DECLARATION"),
        (unary, {"tools": [Echo]}, "E_TOOL_DECLARATION"),
        (unary, {"tools": [read, Echo("read")]}, "E_TOOL_DUPLICATE"),
        (unary, {"models": ["gpt"]}, "E_ROUTE"),
        (unary, {"name": "a b"}, "E_PROGRAM_NAME"),
        (unary, {"name": "gatebook.x"}, "E_NAME_RESERVED"),
    ],
)
def test_a_wrong_declaration_is_refused_at_once(function: Any, options: Any, code: str) -> None:
    """The error must come where the mistake is written, not at the first run."""
    with pytest.raises(GatebookError) as caught:
        Workflow(function, **options)

    assert caught.value.code == code
    assert str(caught.value)
