"""Foreign tools that answer what they should not: journal and gate hold."""

from typing import Any

import msgspec
import pytest

from gatebook.errors import ActionError, ConfigError
from gatebook.kernel.tools import ToolSpec
from gatebook.ports import Invocation
from tests.attacks.witness import Witness, asking
from tests.runtime.kit import Desk, flow, run


class Odd(Witness):
    """A foreign tool that answers what it should not."""

    def __init__(self, desk: Desk, **answers: Any) -> None:
        super().__init__(desk)
        self.answers = answers

    def validate(self, args: bytes) -> Any:
        """Answer as told."""
        answer = self.answers.get("validate", args)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def call(self, args: bytes, invocation: Invocation) -> Any:
        """Answer as told."""
        self.seen.append(args)
        return self.answers.get("call", b"null")


ODD_OUTPUTS = [
    b"nope", b"", b"[1,]", b'{"a":NaN}', b'{"a":1,"a":2}', b"\xff", b'"\\ud800"', "text", None, 7,
    b'null,"address":"9"', b'null}\n{"kind":"run_completed"', b'1,"v":1,"time":0,"epoch":9}',
    b"[" * 100_000, b'"' + b"x" * 9_000_000 + b'"', b"1e999",
]  # fmt: skip


@pytest.mark.parametrize("output", ODD_OUTPUTS, ids=range(len(ODD_OUTPUTS)))
def test_what_a_foreign_tool_returns_cannot_break_or_forge_the_journal(output: Any) -> None:
    """Its bytes become part of an event: they are one JSON value, or an error."""

    async def scenario() -> None:
        desk = Desk()
        odd = Odd(desk, call=output)
        state: Any = await desk.ran(asking(odd, "a"))
        kinds = await desk.kinds("r")

        assert state.output[0] in ("E_RESULT_TYPE", "E_RESULT_TOO_LARGE")
        assert kinds == ["run_started", "action_requested", "action_failed", "run_completed"]

    run(scenario())


ODD_ARGUMENTS = [
    RuntimeError("broken"), None, "text", b"nope", b"[1]", b'{"a":1,"a":2}', b'{"a":1},"tool":"x"',
    b'{"a":NaN}', b"null",
]  # fmt: skip


@pytest.mark.parametrize("answer", ODD_ARGUMENTS, ids=range(len(ODD_ARGUMENTS)))
def test_what_a_foreign_tool_makes_of_its_arguments_cannot_either(answer: Any) -> None:
    """They are what is decided about, and recorded."""

    async def scenario() -> None:
        desk = Desk()
        odd = Odd(desk, validate=answer)
        state: Any = await desk.ran(asking(odd, "a"))
        kinds = await desk.kinds("r")

        assert state.output[0][:2] == "E_"
        assert odd.seen == []
        assert kinds == ["run_started", "action_denied", "run_completed"]

    run(scenario())


def test_a_foreign_tool_whose_definition_cannot_be_read_any_more_is_not_called() -> None:
    """Nobody can say what it is now."""

    class Vanishing(Witness):
        gone = False

        @property
        def spec(self) -> ToolSpec:
            if self.gone:
                raise RuntimeError("the server is gone")
            return super().spec

    async def scenario() -> None:
        desk = Desk()
        witness = Vanishing(desk)

        async def body(ctx: Any) -> str:
            await ctx.wait_signal("go")
            try:
                return str(await ctx.call_tool(witness, query="b"))
            except ActionError as exc:
                return exc.code

        program = flow(body, witness)
        async with desk.open() as runtime:
            handle = await runtime.start(program, None, run_id="r")
            await desk.settled(handle)
            witness.gone = True
            await handle.signal("go")
            await desk.settled(handle)

        assert witness.seen == []

    run(scenario())


@pytest.mark.parametrize(
    "facts",
    [{"effect": "harmless"}, {"schema": msgspec.Raw(b"{")}, {"schema": b"{}"},
     {"sends": "no"}, {"schema": msgspec.Raw(b"[]")}, {"timeout_ms": "soon"}],
)  # fmt: skip
def test_a_foreign_tool_with_an_odd_spec_is_refused_when_it_is_declared(facts: Any) -> None:
    """What it says is what is decided on."""

    class Strange(Witness):
        @property
        def spec(self) -> ToolSpec:
            return msgspec.structs.replace(super().spec, **facts)

    with pytest.raises(ConfigError) as caught:
        asking(Strange(Desk()), "a")

    assert caught.value.code == "E_TOOL_DECLARATION"
