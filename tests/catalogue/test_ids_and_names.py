"""Section A: ids and names."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatebook import Agent, AllowDeclared, Client, GatebookError, Runtime, Workflow, tool
from gatebook.errors import ConfigError, InvalidInput
from gatebook.ports import RunQuery
from tests.catalogue.kit import Desk, nothing_written, refused, told
from tests.runtime.kit import flow, run


async def echo(ctx: Any, value: Any) -> Any:
    return value


ECHO = flow(echo)


async def refused_id(run_id: Any, code: str, *says: object) -> None:
    desk = Desk()
    async with desk.open(ECHO) as runtime:
        async with refused(desk.journal, code, *says):
            await runtime.start(ECHO, 1, run_id=run_id)
        async with refused(desk.journal, code, *says):
            await runtime.handle(run_id).signal("go")


def test_an_empty_run_id_is_refused() -> None:
    """A1: an id that is empty is a variable that was never set."""
    run(refused_id("", "E_ID_EMPTY", "the run id is empty", "leave it out"))


def test_a_long_run_id_is_refused() -> None:
    """A2: ten kilobytes are no id; the message must not carry them either."""
    run(refused_id("x" * 10_000, "E_ID_TOO_LONG", "10000", "x...", "at most 128"))


@pytest.mark.parametrize("run_id", ["../../etc", "a/b", "a b", "a\nb", "é"])
def test_a_run_id_is_no_path_and_no_text(run_id: str) -> None:
    """A3: ids stand in paths, URLs and log lines."""
    run(refused_id(run_id, "E_ID_CHARS", repr(run_id), "ASCII letters, digits and ._-:@"))


def test_a_nul_byte_in_a_run_id_is_refused() -> None:
    """A4: below us, a NUL ends a string."""
    run(refused_id("a\0b", "E_ID_CHARS", r"'a\x00b'", "ASCII letters"))


def test_a_lone_surrogate_in_a_run_id_is_refused() -> None:
    """A5: it is not text, and no store could hold it."""
    run(refused_id("a\ud800", "E_TEXT_INVALID", "run id", "decode it"))


def test_a_run_id_that_is_not_normalised_is_refused() -> None:
    """A6: two spellings of one letter would be two runs that look alike."""
    run(refused_id("cafe\u0301", "E_ID_NOT_NFC", "normal form", "ASCII letters"))


def test_case_twins_are_two_runs() -> None:
    """A7: ids are compared byte for byte, on every store."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open(ECHO) as runtime:
            small = await runtime.start(ECHO, "small", run_id="order-a")
            large = await runtime.start(ECHO, "large", run_id="ORDER-A")

            assert (await small.result()).output == "small"
            assert (await large.result()).output == "large"

    run(scenario())


@pytest.mark.parametrize("run_id", [7, 7.5, b"r", ["r"], object()])
def test_a_run_id_must_be_text(run_id: Any) -> None:
    """A8: 7 and "7" must not be two runs."""
    run(refused_id(run_id, "E_ID_TYPE", "must be text", "str(your_id)"))


def test_an_id_cannot_be_reused_for_another_input() -> None:
    """A9: whoever starts twice must not read the other's result as their own."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open(ECHO) as runtime:
            first = await runtime.start(ECHO, 1, run_id="r")
            await first.result()
            again = await runtime.start(ECHO, 1, run_id="r")
            assert (await again.result()).output == 1

            async with refused(desk.journal, "E_RUN_CONFLICT", "'r'", "another 'input'", "new run"):
                await runtime.start(ECHO, 2, run_id="r")

    run(scenario())


def test_an_id_cannot_be_reused_for_another_program() -> None:
    """A9: the same, when the program is another."""

    async def scenario() -> None:
        desk = Desk()
        other = flow(echo, name="other")
        async with desk.open(ECHO, other) as runtime:
            await (await runtime.start(ECHO, 1, run_id="r")).result()
            async with refused(desk.journal, "E_RUN_CONFLICT", "'echo'", "'other'", "new run id"):
                await runtime.start(other, 1, run_id="r")

    run(scenario())


STEERING: dict[str, Callable[[Any], Any]] = {
    "row": lambda handle: handle.row(),
    "signal": lambda handle: handle.signal("go"),
    "cancel": lambda handle: handle.cancel(),
    "result": lambda handle: handle.result(),
    "resume": lambda handle: handle.resume(),
}


@pytest.mark.parametrize("deed", STEERING)
def test_an_unknown_run_is_named(deed: str) -> None:
    """A10: a signal to a run that does not exist must not be lost without a word."""

    async def scenario() -> None:
        desk = Desk()
        async with (
            desk.open(ECHO) as runtime,
            refused(desk.journal, "E_RUN_NOT_FOUND", "'nobody'", "gatebook list"),
        ):
            await STEERING[deed](runtime.handle("nobody"))

    run(scenario())


@pytest.mark.parametrize("deed", STEERING)
def test_another_tenants_run_does_not_exist(deed: str) -> None:
    """A11: "forbidden" would say that the run exists."""

    async def scenario() -> None:
        desk = Desk()
        theirs = Client(desk.journal, tenant="other", policy=AllowDeclared(), clock=desk.clock)
        async with theirs, desk.open(ECHO) as runtime:
            await (await runtime.start(ECHO, 1, run_id="r")).result()

            async with refused(desk.journal, "E_RUN_NOT_FOUND", "'r'", "gatebook list"):
                await STEERING[deed](theirs.handle("r"))
            assert await theirs.runs(RunQuery()) == []

    run(scenario())


async def act() -> None:
    """A tool's function."""


@pytest.mark.parametrize("name", ["a:b", "a b", "", "x" * 65, "a/b", 5])
def test_a_tool_name_is_portable(name: Any) -> None:
    """A12: every provider must accept it, and policies are written with it."""
    with pytest.raises(InvalidInput) as caught:
        tool(name=name)(act)

    told(caught.value, "E_TOOL_NAME", "is not allowed", "1 to 64 letters")


@pytest.mark.parametrize("name", ["a:b", "a b", "", "x" * 65])
def test_a_program_name_is_portable(name: str) -> None:
    """A12: the same for programs."""
    with pytest.raises(InvalidInput) as caught:
        Agent(name=name, model="fake:m")

    told(caught.value, "E_PROGRAM_NAME", "is not allowed", "1 to 64 letters")


def test_two_tools_of_one_name_cannot_be_built_into_a_program() -> None:
    """A13: the model's call would reach one of them by chance."""
    twins = [tool(name="pay")(act), tool(name="pay")(echo_tool)]

    builds: list[Callable[[], Any]] = [
        lambda: Agent(name="a", model="fake:m", tools=twins),
        lambda: Workflow(echo, tools=twins),
    ]
    for build in builds:
        with pytest.raises(ConfigError) as caught:
            build()
        told(caught.value, "E_TOOL_DUPLICATE", "'pay'", "@tool(name=...)")


async def echo_tool(value: str) -> str:
    """Another tool's function."""
    return value


@pytest.mark.parametrize("name", ["gatebook.pay", "Gatebook.x", "GATEBOOK.y"])
def test_our_prefix_is_reserved(name: str) -> None:
    """A14: what Gatebook adds later must not take the place of a user's tool."""
    builds: list[Callable[[], Any]] = [
        lambda: tool(name=name)(act),
        lambda: Agent(name=name, model="fake:m"),
        lambda: Workflow(echo, name=name),
    ]
    for build in builds:
        with pytest.raises(InvalidInput) as caught:
            build()
        told(caught.value, "E_NAME_RESERVED", repr(name), "'gatebook.'", "another name")


@pytest.mark.parametrize("name", ["pay\u202eyap", "pay\u200b", "p\u0430y", "\uff50ay"])
def test_names_that_look_like_others_are_refused(name: str) -> None:
    """A15: a reviewer of a policy cannot see a letter that has no width or another alphabet."""
    for build in (lambda: tool(name=name)(act), lambda: Agent(name=name, model="fake:m")):
        with pytest.raises(InvalidInput) as caught:
            build()
        told(caught.value, "E_NAME_CONFUSABLE", "look like others", "plain ASCII")


def test_two_programs_of_one_name_cannot_share_a_runtime() -> None:
    """A13: the same for programs, before the store is opened."""
    with pytest.raises(ConfigError) as caught:
        Runtime(":memory:", programs=[ECHO, flow(echo)])

    told(caught.value, "E_PROGRAM_DUPLICATE", "'echo'", "rename one")


def test_text_that_is_no_text_is_refused_wherever_it_is_kept() -> None:
    """A5, A8: one event that cannot be read back would cost the whole run."""

    async def scenario() -> None:
        desk = Desk()

        async def wait(ctx: Any) -> None:
            await ctx.wait_signal("go")

        program = flow(wait)
        async with desk.open(program) as runtime:
            handle = await runtime.start(program, None, run_id="r")
            await desk.settled(handle)
            bad: Any = 5
            for say in (
                lambda: handle.signal("go", by=bad),
                lambda: handle.cancel(by=bad),
                lambda: handle.cancel(reason=bad),
                lambda: handle.resolve(bad, "retry"),
                lambda: handle.resume(by=bad),
            ):
                async with refused(desk.journal, "E_TEXT_TYPE", "must be text, got 5", "a str"):
                    await say()
            async with refused(desk.journal, "E_TEXT_INVALID", "reason", "decode it"):
                await handle.cancel(reason="\udfff")
            async with refused(desk.journal, "E_TEXT_INVALID", "labels", "decode it"):
                await runtime.start(program, None, labels={"a": "\ud800"})
            async with refused(desk.journal, "E_LABEL", "5 is no label", "texts by text"):
                await runtime.start(program, None, labels={"a": bad})

    run(scenario())


def test_a_store_on_disk_is_left_alone_by_a_refused_id(tmp_path: Path) -> None:
    """A1 to A8 on SQLite: not a byte of the file changes."""
    store = tmp_path / "journal.db"

    async def scenario() -> None:
        ids: list[Any] = ["", "x" * 129, "a/b", "a\0", "\ud800", "e\u0301", 7]
        runtime = Runtime(f"sqlite:///{store}", policy=AllowDeclared())
        async with runtime, nothing_written(runtime.journal):
            for run_id in ids:
                with pytest.raises(GatebookError):
                    await runtime.start(ECHO, 1, run_id=run_id)

    asyncio.run(scenario())
