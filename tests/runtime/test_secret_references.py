"""Secrets by reference: where one may stand, what it is exchanged for, and what is refused."""

import json
from typing import Any

import msgspec
import pytest
from tests.runtime.kit import Desk, flow, run
from tests.runtime.lending import VALUE, asking, codes

from gatebook import Change, Secret, hook, tool
from gatebook.errors import ConfigError, InvalidInput
from gatebook.kernel.events import ActionDenied, ActionRequested
from gatebook.kernel.tools import ToolSpec
from gatebook.ports import Invocation
from gatebook.runtime.runs.states import Finished


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(Secret.named("bank"), id="named in code"),
        pytest.param("secret://bank", id="written as text"),
    ],
)
def test_a_tool_gets_the_value_and_the_journal_the_reference(token: Any) -> None:
    """That is the whole point; a model writes nothing but text."""

    async def scenario() -> None:
        desk, used = Desk(secrets={"bank": lambda: VALUE}), list[str]()
        pay = asking(used)

        async def body(ctx: Any) -> Any:
            return await ctx.call_tool(pay, order="7", token=token)

        state = await desk.ran(flow(body, pay))
        data = await desk.stored()
        request = await desk.only("r", ActionRequested)

        assert (state, used) == (Finished("paid 7"), [VALUE])
        assert request.action.arguments == {"order": "7", "token": "secret://bank"}  # type: ignore[union-attr]
        assert VALUE.encode() not in data

    run(scenario())


def test_a_literal_is_refused_and_not_stored() -> None:
    """Whoever gives one may give a real one."""

    async def scenario() -> None:
        desk, used = Desk(secrets={"bank": lambda: VALUE}), list[str]()
        pay = asking(used)

        async def body(ctx: Any) -> Any:
            return await codes(
                ctx,
                lambda: ctx.call_tool(pay, order="1", token="hunter2hunter2"),
                lambda: ctx.call_tool(pay, order="1", token={"is": "hunter2hunter2"}),
                lambda: ctx.call_tool(pay, order="1", token=Secret("hunter2hunter2")),
                lambda: ctx.call_tool(pay, order=2, token="hunter2hunter2"),
            )

        state = await desk.ran(flow(body, pay))
        data = await desk.stored()

        assert (state, used) == (Finished(["E_SECRET_LITERAL"] * 4), [])
        assert b"hunter2" not in data

    run(scenario())


@pytest.mark.parametrize(
    ("name", "told"),
    [("bnak", "of that name (did you mean: bank); "), ("xyz", "there is none of that name; ")],
)
def test_a_name_that_there_is_none_of_is_denied_before_anything_runs(name: str, told: str) -> None:
    """The denial says which is near, and does not list what there is."""

    async def scenario() -> None:
        sources = {"bank": lambda: VALUE, "other_thing": lambda: VALUE}
        desk, used = Desk(secrets=sources), list[str]()
        pay = asking(used)

        async def body(ctx: Any) -> Any:
            return await codes(ctx, lambda: ctx.call_tool(pay, order="1", token=f"secret://{name}"))

        await desk.ran(flow(body, pay))
        denied = await desk.only("r", ActionDenied)

        assert used == []
        assert denied.error.code == "E_SECRET_UNKNOWN"
        assert told in denied.error.message
        assert "other_thing" not in denied.error.message

    run(scenario())


def test_elsewhere_a_reference_is_text() -> None:
    """Else a model could have any tool send any secret anywhere."""

    async def scenario() -> None:
        desk = Desk(secrets={"bank": lambda: VALUE})

        @tool(effect="read")
        async def post(body: str) -> str:
            return body

        async def body(ctx: Any) -> Any:
            return await ctx.call_tool(post, body="secret://bank")

        state = await desk.ran(flow(body, post))

        assert state == Finished("secret://bank")

    run(scenario())


def test_a_default_is_filled_in_and_nothing_else_may_stand_there() -> None:
    """The host chose the secret; a model that is steered cannot take another."""

    async def scenario() -> None:
        desk, used = Desk(secrets={"bank": lambda: VALUE, "aws": lambda: "x" * 20}), list[str]()

        @tool(effect="read")
        async def pay(order: str, token: Secret[str] = Secret.named("bank")) -> str:  # noqa: B008
            used.append(token.reveal())
            return order

        async def body(ctx: Any) -> Any:
            return await codes(
                ctx,
                lambda: ctx.call_tool(pay, order="1"),
                lambda: ctx.call_tool(pay, order="1", token="secret://aws"),
            )

        state = await desk.ran(flow(body, pay))
        (request,) = await desk.all("r", ActionRequested)

        assert (state, used) == (Finished(["", "E_SECRET_LITERAL"]), [VALUE])
        assert request.action.arguments["token"] == "secret://bank"  # type: ignore[union-attr]

    run(scenario())


def test_a_secret_without_its_value_says_so() -> None:
    """A workflow may name secrets; only a tool that runs has them."""
    with pytest.raises(InvalidInput) as caught:
        Secret.named("bank").reveal()

    assert caught.value.code == "E_SECRET_UNRESOLVED"


async def _nested(tokens: list[Secret[str]]) -> None: ...


async def _returned() -> Secret[str]:
    return Secret(VALUE)


async def _number(token: Secret[int]) -> None: ...


async def _valued(token: Secret[str] = Secret(VALUE)) -> None: ...  # noqa: B008


@pytest.mark.parametrize("function", [_nested, _returned, _number, _valued])
def test_secrets_stand_only_where_they_can_be_kept(function: Any) -> None:
    """Within other types nobody could tell them from values; results are stored."""
    with pytest.raises(ConfigError) as caught:
        _ = tool()(function).spec

    assert caught.value.code == "E_TOOL_DECLARATION"
    assert VALUE not in str(caught.value)


class Foreign:
    """A tool of another's making that takes a secret."""

    def __init__(self, used: list[str]) -> None:
        self.used = used
        schema = msgspec.Raw(b'{"type":"object"}')
        self.spec = ToolSpec(
            name="crm.find", description="", schema=schema, effect="read", secrets=("key",)
        )

    def validate(self, args: bytes) -> bytes:
        """Take anything."""
        return args

    async def call(self, args: bytes, invocation: Invocation) -> bytes:
        """Use the secret that its arguments name."""
        name = json.loads(args)["key"].removeprefix("secret://")
        self.used.append(invocation.secrets[name].reveal())
        assert VALUE not in repr(invocation)
        return json.dumps(VALUE).encode()

    def decode(self, output: bytes) -> Any:
        """Read plain JSON."""
        return json.loads(output)


def test_a_foreign_tool_takes_references_by_its_spec() -> None:
    """Its own validation need not know what a secret is: the gate checks."""

    async def scenario() -> None:
        desk, used = Desk(secrets={"crm": lambda: VALUE}), list[str]()
        foreign = Foreign(used)

        async def body(ctx: Any) -> Any:
            found = await ctx.call_tool(foreign, key="secret://crm")
            return [found, *await codes(ctx, lambda: ctx.call_tool(foreign, key="hunter2hunter2"))]

        async with desk.open() as runtime:
            program = flow(body, foreign)
            state = await desk.settled(await runtime.start(program, None, run_id="r"))
            data = await desk.stored()

        assert state == Finished(["[redacted:registered]", "E_SECRET_LITERAL"])
        assert used == [VALUE]
        assert b"hunter2" not in data
        assert VALUE.encode() not in data

    run(scenario())


def test_a_hook_cannot_put_a_value_in_a_references_place() -> None:
    """Its answer is journaled before the gate sees what it made."""

    async def scenario() -> None:
        desk, used = Desk(secrets={"bank": lambda: VALUE}), list[str]()
        pay = asking(used)

        @hook("before_tool", rights=["change"], timeout=5, on_failure="closed", name="helpful")
        async def helpful(view: Any) -> Any:
            return Change({**view.args, "token": "hunter2hunter2"})

        async def body(ctx: Any) -> Any:
            return await codes(ctx, lambda: ctx.call_tool(pay, order="1", token="secret://bank"))

        state = await desk.ran(flow(body, pay), hooks=[helpful])
        data = await desk.stored()

        assert (state, used) == (Finished(["E_HOOK_ANSWER"]), [])
        assert b"hunter2" not in data

    run(scenario())
