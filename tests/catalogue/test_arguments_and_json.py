"""Section B: arguments and JSON, from a caller, a workflow and a model."""

import asyncio
import base64
import pickle
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from gatebook import AllowDeclared, Runtime, tool
from gatebook.cli.options import WrongJson, read_json
from gatebook.kernel.codec import MAX_DEPTH, MAX_PAYLOAD
from gatebook.kernel.events import ActionDenied, ActionRequested
from gatebook.runtime.runs.states import Finished
from tests.catalogue.kit import LONGEST, Asked, Desk, failure, legible, refused
from tests.runtime.kit import flow, run


async def echo(ctx: Any, value: Any) -> Any:
    return value


ECHO = flow(echo)
GIVEN: list[Any] = []


@tool(effect="read")
async def take(value: Any) -> int:
    """Take anything."""
    GIVEN.append(value)
    return 1


@tool(effect="read")
async def order(item: str, count: int = 1) -> str:
    """Order an item."""
    GIVEN.append((item, count))
    return item


@pytest.fixture(autouse=True)
def _nothing_given() -> None:
    GIVEN.clear()


async def from_a_caller(value: Any, code: str, *says: object) -> None:
    """A value is refused as a run's input, as its context and as a signal."""
    desk = Desk()

    async def wait(ctx: Any) -> None:
        await ctx.wait_signal("go")

    waiting = flow(wait)
    async with desk.open(ECHO, waiting) as runtime:
        handle = await runtime.start(waiting, None)
        await desk.settled(handle)
        async with refused(desk.journal, code, *says):
            await runtime.start(ECHO, value)
        async with refused(desk.journal, code, *says):
            await runtime.start(ECHO, 1, context={"x": value})
        async with refused(desk.journal, code, *says):
            await handle.signal("go", value)


async def from_a_workflow(make: Callable[[], Any], code: str, *says: object) -> None:
    """A value is refused as an argument of a tool call: the run fails, nothing was asked for."""
    desk = Desk()

    async def body(ctx: Any) -> None:
        await ctx.call_tool(take, value=make())

    state = await failure(desk, flow(body, take))
    assert state.error.code == code
    legible(state.error.message, code, *says)
    assert await desk.all("r", ActionRequested) == []
    assert GIVEN == []


async def from_a_model(arguments: str, code: str, *says: object) -> None:
    """Arguments a model wrote are refused: it reads why, and the tool is not called."""
    asked = Asked(("take", arguments))
    results = await asked.play(take)
    legible(results[0] if results else untaken(asked), code, *says)
    assert await asked.requested() == []
    assert GIVEN == []


def untaken(asked: Asked) -> str:
    """Why a call is no part of the conversation, as the model reads it in place of a result."""
    (message,) = [m for m in asked.model.asked[-1].messages if "did not run" in m.text]
    return message.text.partition("did not run: ")[2].partition(". Call it again")[0]


def cycle() -> Any:
    value: dict[str, Any] = {"a": []}
    value["a"].append(value)
    return value


def dated_cycle() -> Any:
    value: dict[str, Any] = {"when": datetime.now(UTC)}
    value["self"] = value
    return value


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


FROM_CODE: dict[str, Any] = {
    "B16 nan": (lambda: float("nan"), "E_JSON_NUMBER", "is not finite", "null or a string"),
    "B17 infinity": (lambda: float("-inf"), "E_JSON_NUMBER", "is not finite", "null or a string"),
    "B18 2**70": (lambda: [2**70], "E_JSON_INT_RANGE", "[0]", "64 bits", "as a string"),
    "B18 many digits": (lambda: 10**5000, "E_JSON_INT_RANGE", "64 bits", "as a string"),
    "B20 key": (lambda: {1: "a"}, "E_JSON_KEY", "key 1", "is not text", "str keys"),
    "B21 depth": (lambda: deep(100_000), "E_JSON_DEPTH", str(MAX_DEPTH), "flatten"),
    "B22 50 MB": (
        lambda: "x" * 50_000_000, "E_PAYLOAD_TOO_LARGE", "5000", MAX_PAYLOAD, "a reference"
    ),
    "B23 bytes": (lambda: {"k": b"raw"}, "E_JSON_TYPE", ".k", "b'raw'", "pass str, int"),
    "B24 cycle": (cycle, "E_JSON_CYCLE", "contains itself", "a tree"),
    "B5 surrogate": (lambda: {"k": "\udc00"}, "E_TEXT_INVALID", "surrogate", "decode it"),
}  # fmt: skip


@pytest.mark.parametrize("entry", FROM_CODE)
def test_what_json_cannot_hold_is_refused_from_a_caller(entry: str) -> None:
    """B16 to B24: nothing is started, and the message says where the value stands."""
    make, code, *says = FROM_CODE[entry]
    run(from_a_caller(make(), code, *says))


@pytest.mark.parametrize("entry", FROM_CODE)
def test_what_json_cannot_hold_is_refused_from_a_workflow(entry: str) -> None:
    """B16 to B24: the same for the arguments of a call, before anything is asked for."""
    make, code, *says = FROM_CODE[entry]
    run(from_a_workflow(make, code, *says))


@pytest.mark.parametrize(
    "value",
    [datetime(2026, 1, 2, tzinfo=UTC), Decimal("1.5"), {1}, object()],
    ids=lambda value: type(value).__name__,
)
def test_undeclared_rich_values_are_refused_from_a_caller(value: Any) -> None:
    """B23: how to write them is for a declared type to say."""
    run(from_a_caller({"k": value}, "E_JSON_TYPE", ".k", "declare the type"))


def test_rich_arguments_of_a_tool_are_written_and_never_lost() -> None:
    """B23: a tool's own types say how; only bytes and unknown objects are refused."""
    run(from_a_workflow(object, "E_JSON_TYPE", "a object", "$.value"))


def test_a_cycle_among_rich_values_is_found() -> None:
    """B24: the way that writes rich values must not run in circles either."""
    run(from_a_workflow(dated_cycle, "E_JSON_CYCLE", "contains itself", "a tree"))


FROM_MODEL: dict[str, Any] = {
    "B16 nan": ('{"value": NaN}', "E_JSON_NUMBER", "is not finite", "null or a string"),
    "B17 1e400": ('{"value": 1e400}', "E_JSON_NUMBER", "is not finite", "null or a string"),
    "B17 infinity": ('{"value": Infinity}', "E_JSON_NUMBER", "is not finite", "null or a string"),
    "B18 2**70": ('{"value": 1180591620717411303424}', "E_JSON_INT_RANGE", "64 bits"),
    "B18 many digits": (
        '{"value": ' + "9" * 5_000 + "}", "E_JSON_INT_RANGE", "64 bits", "as a string"
    ),
    "B19 twice": ('{"value": 1, "value": 2}', "E_JSON_DUPLICATE_KEY", "'value'"),
    "B19 twice inside": ('{"value": {"to": "me", "to": "you"}}', "E_JSON_DUPLICATE_KEY", "'to'"),
    "B21 depth": ('{"value": ' + "[" * 500 + "]" * 500 + "}", "E_JSON_DEPTH", "flatten"),
    "B21 depth that would end the interpreter": (
        '{"value": ' + "[" * 100_000 + "]" * 100_000 + "}", "E_JSON_DEPTH", MAX_DEPTH, "flatten"
    ),
}  # fmt: skip


@pytest.mark.parametrize("entry", FROM_MODEL)
def test_what_a_model_must_not_write_is_told_to_it(entry: str) -> None:
    """B16 to B21: the model may correct itself; the tool never sees the arguments."""
    arguments, code, *says = FROM_MODEL[entry]
    run(from_a_model(arguments, code, *says))


@pytest.mark.parametrize("arguments", ['{"value": 1', "{} {}", "value=1", '{"value": 1,}'])
def test_what_is_no_json_is_told_to_the_model(arguments: str) -> None:
    """B16 to B21: text that cannot be read at all has no place to name."""

    async def scenario() -> None:
        asked = Asked(("take", arguments))
        assert await asked.play(take) == []
        assert "its arguments are not JSON" in asked.model.asked[-1].messages[-1].text
        assert await asked.requested() == []
        assert GIVEN == []

    run(scenario())


ON_THE_COMMAND_LINE = {
    "B16 nan": ('{"a": NaN}', "E_JSON_NUMBER"),
    "B17 1e400": ('{"a": 1e400}', "E_JSON_NUMBER"),
    "B17 infinity": ("[-Infinity]", "E_JSON_NUMBER"),
    "B18 2**70": ("1180591620717411303424", "E_JSON_INT_RANGE"),
    "B18 many digits": ("9" * 5_000, "E_JSON_INT_RANGE"),
    "B19 twice": ('{"a": 1, "b": {"to": 1, "to": 2}}', "E_JSON_DUPLICATE_KEY"),
    "B21 depth": ("[" * 100_000 + "]" * 100_000, "E_JSON_DEPTH"),
    "B22 9 MB": ('"' + "x" * 9_000_000 + '"', "E_PAYLOAD_TOO_LARGE"),
}


@pytest.mark.parametrize("entry", ON_THE_COMMAND_LINE)
def test_strict_json_is_asked_of_the_command_line(entry: str) -> None:
    """B16 to B22: a person's slip is told with the same code, before a store is opened."""
    text, code = ON_THE_COMMAND_LINE[entry]

    with pytest.raises(WrongJson) as caught:
        read_json(text)

    assert caught.value.code == code
    assert len(caught.value.message) < LONGEST


class Evil:
    """An object that must be refused unseen."""

    def _never(self, *_: Any) -> Any:
        GIVEN.append("called")
        raise AssertionError("user code ran")

    __repr__ = __str__ = __eq__ = __hash__ = __len__ = __iter__ = __bool__ = _never


class EvilText(str):
    """Text whose own methods must not be asked."""

    def _never(self, *_: Any) -> Any:
        GIVEN.append("called")
        raise AssertionError("user code ran")

    __repr__ = __str__ = __format__ = _never


@pytest.mark.parametrize(
    "make", [Evil, lambda: {"k": Evil()}, lambda: [Evil()], lambda: EvilText("x")]
)
def test_an_object_is_refused_without_running_its_code(make: Callable[[], Any]) -> None:
    """B25: describing a refused value must not be a way to run code."""
    run(from_a_caller(make(), "E_JSON_TYPE", "is not a JSON value"))

    assert GIVEN == []


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self) -> Any:
        return exec, ("import sys; sys.gatebook_unpickled = True",)


def test_pickled_bytes_are_text_like_any_other() -> None:
    """B26: stored as they came, in a body of their own, and never loaded."""
    payload = base64.b64encode(pickle.dumps(Bomb())).decode() * 2_000

    async def scenario() -> None:
        desk = Desk()
        async with desk.open(ECHO) as runtime:
            handle = await runtime.start(ECHO, {"blob": payload}, run_id="r")
            assert (await handle.result()).output == {"blob": payload}

    run(scenario())

    assert len(payload) > 64 * 1024
    assert not hasattr(sys, "gatebook_unpickled")


TAGGED = [
    {"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {"command": "true"}},
    {"__type__": "subprocess.Popen", "args": ["true"]},
    {"py/object": "os.system", "$type": "System.Object"},
    {"action": "call_tool", "kind": "action_succeeded", "tool": "take", "v": 1},
]


@pytest.mark.parametrize("value", TAGGED)
def test_a_mapping_that_looks_like_an_object_stays_a_mapping(value: Any) -> None:
    """B27: no key has a meaning to whoever reads the data back."""

    async def body(ctx: Any, given: Any) -> Any:
        await ctx.call_tool(take, value=given)
        return [given, await ctx.wait_signal("go")]

    async def scenario() -> None:
        desk = Desk()
        program = flow(body, take)
        async with desk.open(program) as runtime:
            handle = await runtime.start(program, value, run_id="r")
            await handle.signal("go", value)
            state = await desk.settled(handle)

        assert state == Finished([value, value])
        assert [value] == GIVEN

    run(scenario())


def test_arguments_that_do_not_fit_are_told_with_place_want_and_got() -> None:
    """B28: a model corrects what it is told precisely."""

    async def scenario() -> None:
        asked = Asked(("order", '{"item": "tea", "count": "' + "9" * 500 + '"}'))
        (result,) = await asked.play(order)

        legible(result.split("\n")[0], "E_ARGS_SCHEMA", "count", "order", "integer", "99...")
        assert "9" * 81 not in result
        assert [event.error.code for event in await asked.denied()] == ["E_ARGS_SCHEMA"]
        assert await asked.requested() == []
        assert GIVEN == []

    run(scenario())


def test_a_missing_argument_is_named() -> None:
    """B28: the same for one that is not there."""

    async def scenario() -> None:
        asked = Asked(("order", "{}"))
        (result,) = await asked.play(order)

        legible(result, "E_ARGS_SCHEMA", "item", "it is required", "schema")
        assert GIVEN == []

    run(scenario())


def test_an_argument_nobody_declared_is_named() -> None:
    """B29: a misspelt option that is dropped would be an order carried out wrongly."""

    async def scenario() -> None:
        asked = Asked(("order", '{"item": "tea", "amount": 2}'))
        (result,) = await asked.play(order)

        legible(result, "E_ARGS_EXTRA", "order", "amount", "correct its name")
        assert [event.error.code for event in await asked.denied()] == ["E_ARGS_EXTRA"]
        assert GIVEN == []

    run(scenario())


def test_a_workflow_that_sends_an_undeclared_argument_is_told() -> None:
    """B29: the same for code."""

    async def body(ctx: Any) -> None:
        await ctx.call_tool(order, item="tea", amount=2)

    async def scenario() -> None:
        desk = Desk()
        state = await failure(desk, flow(body, order))
        (denied,) = await desk.all("r", ActionDenied)

        assert state.error.code == denied.error.code == "E_ARGS_EXTRA"
        legible(denied.error.message, "E_ARGS_EXTRA", "amount", "order")
        assert GIVEN == []

    run(scenario())


def test_what_is_changed_after_it_was_handed_over_does_not_count() -> None:
    """B30: what is decided, hashed and executed is the copy made at the call."""

    async def body(ctx: Any, given: Any) -> Any:
        items = ["tea"]
        call = ctx.call_tool(take, value=items)
        items.append("arsenic")
        await call
        return given

    async def scenario() -> None:
        desk = Desk()
        program = flow(body, take)
        async with desk.open(program) as runtime:
            value = {"items": ["cup"]}
            handle = await runtime.start(program, value, run_id="r")
            value["items"].append("poison")
            state = await desk.settled(handle)

        assert state == Finished({"items": ["cup"]})
        assert GIVEN == [["tea"]]
        (request,) = await desk.all("r", ActionRequested)
        assert bytes(request.action.args) == b'{"value":["tea"]}'  # type: ignore[union-attr]

    run(scenario())


def test_a_policy_that_changes_what_it_is_shown_changes_nothing() -> None:
    """B30: a policy answers; it does not reach into the arguments."""

    class Meddling(AllowDeclared):
        def authorize(self, action: Any, context: Any) -> Any:
            if hasattr(action, "args"):
                action.arguments["value"].append("more")
            return super().authorize(action, context)

    async def body(ctx: Any) -> None:
        await ctx.call_tool(take, value=["tea"])

    async def scenario() -> None:
        desk = Desk(Meddling())
        program = flow(body, take)
        async with desk.open(program) as runtime:
            state = await desk.settled(await runtime.start(program, None, run_id="r"))

        assert isinstance(state, Finished)
        assert GIVEN == [["tea"]]

    run(scenario())


def test_refused_input_leaves_a_store_on_disk_alone(tmp_path: Any) -> None:
    """B16 to B24 on SQLite."""

    async def scenario() -> None:
        runtime = Runtime(f"sqlite:///{tmp_path}/journal.db", policy=AllowDeclared())
        async with runtime:
            for make, code, *says in FROM_CODE.values():
                async with refused(runtime.journal, code, *says):
                    await runtime.start(ECHO, make())

    asyncio.run(scenario())
