"""Whatever a tool raises or returns is recorded so that it can be read back."""

import asyncio
from typing import Any

import pytest
from tests.runtime.failing import ending
from tests.runtime.kit import Desk, flow, run

from gatebook import tool
from gatebook.errors import ActionError, RateLimited, Transient
from gatebook.kernel.events import ActionFailed
from gatebook.runtime.runs.states import Finished


@pytest.mark.parametrize(
    "error", [Transient("a\nb\x1b[31mred"), ValueError("a\nb\x1b[31mred"), OSError("a\nb\x1b[31m")]
)
def test_error_texts_cannot_forge_log_lines(error: Exception) -> None:
    """Texts of tools end up in terminals and logs."""
    event = run(ending(error))

    assert "\n" not in event.error.message
    assert "\x1b" not in event.error.message
    assert "\\n" in event.error.message


class Mute(Exception):
    """An exception whose text cannot be read."""

    def __str__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "error",
    [
        Mute(), Transient("", code="MY_CODE"), RateLimited("x", retry_after_ms="soon"),  # type: ignore[arg-type]
        RateLimited("x", retry_after_ms=-5), Transient("\udc80"), ValueError("\udc80"),
        Transient("x", code=7, status="bad", category=3),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_whatever_a_tool_raises_can_be_recorded_and_read_back(error: Any) -> None:
    """A record that cannot be read would cost the whole run."""
    event = run(ending(error))

    assert isinstance(event, ActionFailed)
    assert event.error.retry_after_ms is None


class Grave(BaseException):
    """An error of a tool's libraries that `except Exception` lets through."""


@pytest.mark.parametrize("sync", [False, True])
def test_an_error_that_is_no_exception_ends_the_action_too(sync: bool) -> None:
    """Else its run would wait for it, and the worker's end for the run."""

    async def scenario() -> None:
        desk = Desk()

        def grave() -> None:
            raise Grave("no Exception")

        async def gravely() -> None:
            grave()

        act = tool(effect="read", name="act")(grave if sync else gravely)

        async def body(ctx: Any) -> str:
            try:
                await ctx.call_tool(act)
            except ActionError as exc:
                return str(exc)
            return ""

        async with desk.open() as runtime:
            state = await desk.settled(await runtime.start(flow(body, act), None))

        assert state == Finished("act failed: Grave: no Exception")

    run(scenario())


@pytest.mark.parametrize(
    ("result", "options", "code"),
    [(object(), {}, "E_RESULT_TYPE"), ("x" * 9_000_000, {}, "E_RESULT_TOO_LARGE")],
)
def test_a_result_that_cannot_be_used_is_a_failure(result: Any, options: Any, code: str) -> None:
    """It ran; running it again would give the same."""

    async def scenario() -> None:
        desk, calls = Desk(), list[int]()

        @tool(effect="read", **options)
        async def act() -> Any:
            calls.append(1)
            return result

        async def body(ctx: Any) -> str:
            try:
                await ctx.call_tool(act)
            except ActionError as exc:
                return exc.code
            return ""

        async with desk.open() as runtime:
            state = await desk.settled(await runtime.start(flow(body, act), None))

        assert (state, calls) == (Finished(code), [1])

    run(scenario())


@pytest.mark.parametrize("leave", [SystemExit, KeyboardInterrupt])
def test_a_tool_that_ends_the_process_is_recorded_first(leave: type[BaseException]) -> None:
    """The exit is obeyed, and the journal says who asked for it."""
    desk = Desk()

    @tool
    async def act() -> None:
        raise leave

    async def body(ctx: Any) -> None:
        await ctx.call_tool(act)

    async def scenario() -> None:
        async with desk.open() as runtime:
            await desk.settled(await runtime.start(flow(body, act), None, run_id="r"))

    async def look() -> ActionFailed:
        await desk.journal.open()
        return await desk.only("r", ActionFailed)

    with pytest.raises(leave):
        asyncio.run(scenario())

    assert asyncio.run(look()).error.code == "E_TOOL_EXIT"
