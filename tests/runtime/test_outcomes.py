"""What the end of an attempt means: failed or unknown, by effect class."""

import asyncio
import threading
from typing import Any

import httpx2
import pytest
from tests.runtime.failing import ending, outcome
from tests.runtime.kit import Desk, Model, eventually, flow, run
from tests.runtime.lending import asking

from gatebook import Agent, ToolContext, tool
from gatebook.errors import ActionError, InvalidInput, Permanent, RateLimited, Transient
from gatebook.kernel.budget import Amount
from gatebook.kernel.events import ActionFailed, ActionUnknown, AttemptFailed
from gatebook.runtime.performing.ended import Ended
from gatebook.runtime.runs.states import Failed, Finished, Waiting


class Net(Exception):
    """Stands for an error class of an HTTP client; only its name counts."""


class ReadTimeout(Net):
    """As httpx raises it after the request was sent."""


class APIConnectionError(Net):
    """As Stripe's client raises it when the answer did not come."""


def group(*errors: BaseException) -> BaseException:
    """Return errors as a task group raises them."""
    return BaseExceptionGroup("in a task group", errors)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("reset"), OSError("broken"), ReadTimeout("slow"),
        httpx2.ReadTimeout("slow"), asyncio.CancelledError(), TimeoutError("slow"),
        APIConnectionError("lost"), group(ValueError("x"), ConnectionResetError("reset")),
        group(group(ReadTimeout("slow"))), group(asyncio.CancelledError()),
    ],
)  # fmt: skip
def test_an_at_most_once_action_that_may_have_happened_is_unknown(error: Any) -> None:
    """The bytes may have left; the answer did not come."""
    event = run(ending(error))

    assert isinstance(event, ActionUnknown)


def test_an_at_most_once_action_that_outlives_its_deadline_is_unknown() -> None:
    """It was told to stop, and nobody knows how far it came."""
    event = run(ending(None, timeout=0.01))

    assert isinstance(event, ActionUnknown)
    assert event.error.code == "E_UNKNOWN_TIMEOUT"


class Odd(BaseException):
    """What nobody raises, and a library did."""


@pytest.mark.parametrize(
    ("effect", "end"), [("read", ActionFailed), ("at_most_once", ActionUnknown)]
)
def test_a_tool_that_raises_what_ends_coroutines_has_ended(effect: Any, end: Any) -> None:
    """Else its run waits for a deadline, and is told that the tool was too slow."""
    event = run(ending(GeneratorExit(), effect))

    assert type(event) is end
    assert "GeneratorExit" in event.error.message


def test_a_sync_tool_that_raises_what_ends_coroutines_has_ended() -> None:
    """What it raised on its thread comes back as it was."""

    async def scenario() -> None:
        desk = Desk()

        @tool(effect="read", retries=0)
        def act() -> None:
            raise GeneratorExit

        async def body(ctx: Any) -> None:
            await ctx.call_tool(act)

        await desk.ran(flow(body, act))

        assert "GeneratorExit" in (await desk.only("r", ActionFailed)).error.message

    run(scenario())


@pytest.mark.parametrize("error", [Odd(), GeneratorExit()])
def test_a_provider_that_raises_what_is_no_exception_has_ended(error: BaseException) -> None:
    """An adapter's bug is told at once, as what it is."""

    async def scenario() -> None:
        desk, agent = Desk(), Agent(name="a", model="fake:m")

        async with desk.open(providers={"fake": Model([error])}) as runtime:
            state = await desk.settled(await runtime.start(agent, "hi"))

        assert isinstance(state, Failed)
        assert type(error).__name__ in state.error.message

    run(scenario())


@pytest.mark.parametrize("error", [Odd(), asyncio.CancelledError(), GeneratorExit()])
def test_a_source_of_secrets_that_raises_what_is_no_exception_has_ended(
    error: BaseException,
) -> None:
    """Something that it shares with others was cancelled: the attempt was not."""

    async def source() -> str:
        raise error

    async def scenario() -> None:
        desk, used = Desk(secrets={"bank": source}), list[str]()
        pay = asking(used)

        async def body(ctx: Any) -> Any:
            await ctx.call_tool(pay, order="1", token="secret://bank")

        await desk.ran(flow(body, pay))
        failed = await desk.only("r", ActionFailed)

        assert used == []
        assert type(error).__name__ in failed.error.message

    run(scenario())


@pytest.mark.parametrize("error", [Permanent("no"), Transient("busy"), RateLimited("later")])
def test_an_action_error_states_that_nothing_happened(error: Any) -> None:
    """The tool's author says so; that is what these classes are for."""
    event = run(ending(error))

    assert isinstance(event, ActionFailed)
    assert event.error.message == str(error)


def test_any_other_exception_is_a_failure() -> None:
    """Most bugs in tools come before the effect."""
    event = run(ending(ValueError("bad")))

    assert isinstance(event, ActionFailed)
    assert event.error.message == "act failed: ValueError: bad"


def test_a_tool_may_say_that_its_exceptions_leave_doubt() -> None:
    """`on_error="unknown"` is for tools that act first and compute later."""
    event = run(ending(ValueError("bad"), on_error="unknown"))

    assert isinstance(event, ActionUnknown)


def test_errors_of_ours_that_such_a_tool_raises_leave_doubt_too() -> None:
    """Whoever calls Gatebook in a tool may pass it what it refuses, after the effect."""
    event = run(ending(InvalidInput("E_CONTENT"), on_error="unknown"))

    assert isinstance(event, ActionUnknown)


@pytest.mark.parametrize(("options", "end"), [({"on_error": "unknown"}, Waiting), ({}, Finished)])
def test_a_result_that_cannot_be_recorded_leaves_doubt_with_such_a_tool(
    options: Any, end: Any
) -> None:
    """It has acted: a model that reads of a failure would do it again."""

    async def scenario() -> None:
        desk = Desk()

        @tool(**options)
        async def act() -> Any:
            return object()

        async def body(ctx: Any) -> str:
            try:
                await ctx.call_tool(act)
            except ActionError as exc:
                return exc.code
            return ""

        async with desk.open() as runtime:
            state = await desk.settled(await runtime.start(flow(body, act), None, run_id="r"))

        assert isinstance(state, end)

    run(scenario())


@pytest.mark.parametrize("error", [OSError("x"), None])
def test_a_read_that_breaks_has_failed(error: Any) -> None:
    """Reading changes nothing, so there is nothing to doubt."""
    event = run(ending(error, "read", timeout=0.01))

    assert isinstance(event, ActionFailed)


def test_an_idempotent_action_that_breaks_is_unknown_when_no_attempt_is_left() -> None:
    """It may have happened once; it cannot have happened twice."""
    event = run(ending(OSError("x"), "idempotent"))

    assert isinstance(event, ActionUnknown)


def test_a_permanent_error_after_a_doubtful_attempt_is_unknown() -> None:
    """That the second call was refused says nothing about the first."""
    ended = Ended(error=Permanent("closed"))

    event = outcome("idempotent", ended, doubted=True)

    assert isinstance(event, ActionUnknown)


def test_a_permanent_error_without_doubt_is_a_failure() -> None:
    """Every attempt said that nothing happened."""
    ended = Ended(error=Permanent("closed"))

    event = outcome("idempotent", ended, doubted=False)

    assert isinstance(event, ActionFailed)


def test_doubt_survives_a_later_attempt_that_had_none() -> None:
    """Timed out, refused, refused for good: of the first attempt still nobody knows."""

    async def scenario() -> None:
        desk = Desk()
        errors = [OSError("sent?"), Transient("busy"), Permanent("closed")]

        @tool(effect="idempotent")
        async def act(ctx: ToolContext[Any]) -> str:
            raise errors[ctx.attempt]

        async def body(ctx: Any) -> Any:
            return await ctx.call_tool(act)

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, act), None, run_id="r")
            await eventually_unknown(desk, handle)
            categories = [event.error.category for event in await desk.all("r", AttemptFailed)]

        assert categories == ["doubtful", ""]

    async def eventually_unknown(desk: Desk, handle: Any) -> None:
        while not await desk.all("r", ActionUnknown):
            state = await desk.settled(handle)
            assert isinstance(state, Waiting), state
            desk.clock.advance(60)

    run(scenario())


def test_a_sync_tool_that_outlives_its_deadline_is_unknown() -> None:
    """Python cannot kill its thread; what it does later is nobody's answer."""

    async def scenario() -> None:
        desk = Desk()
        release = threading.Event()
        told: list[bool] = []

        @tool(timeout=0.01)
        def act(ctx: ToolContext[Any]) -> str:
            release.wait(20)
            told.append(ctx.cancelled)
            return "late"

        async def body(ctx: Any) -> str:
            return await ctx.call_tool(act)

        async with desk.open() as runtime:
            handle = await runtime.start(flow(body, act), None, run_id="r")
            state = await desk.settled(handle)
            threads = act.running_threads()
            release.set()
            await eventually(lambda: not act.running_threads(), "the thread ended")

        assert state == Waiting(("resolve 0",))
        assert (len(threads), told) == (1, [True])

    run(scenario())


def test_a_refusal_of_the_permit_charges_nothing() -> None:
    """What did not begin costs nothing."""
    ended = Ended(error=Transient("stale", code="E_PERMIT"), spent=Amount())

    event = outcome("at_most_once", ended, doubted=False)

    assert isinstance(event, ActionFailed)
    assert event.spent == Amount()
