"""Policies that raise what is no `Exception`: a deny like any other error, and the run goes on."""

import asyncio
from typing import Any

import pytest
from tests.runtime.kit import Desk, Model, flow, run, said

from gatebook import ActionError, Permanent, RunDenied, tool
from gatebook.kernel.events import ActionFailed, ActionSucceeded
from gatebook.kernel.policies import AllowDeclared
from gatebook.runtime.runs.handles import RunHandle
from gatebook.runtime.runs.states import Finished


class Odd(BaseException):
    pass


class Raising(AllowDeclared):
    """Allows what is declared, and raises at one point of it."""

    def __init__(self, at: str, error: BaseException) -> None:
        super().__init__()
        self.at, self.error = at, error

    def _point(self, name: str) -> None:
        if name == self.at:
            raise self.error

    @property
    def wants_facts(self) -> bool:
        return True

    def start(self, *asked: Any) -> Any:
        self._point("start")
        return super().start(*asked)

    def authorize(self, *asked: Any) -> Any:
        self._point("authorize")
        return super().authorize(*asked)

    def offered(self, *asked: Any) -> Any:
        self._point("offered")
        return super().offered(*asked)

    def sees_results(self, *asked: Any) -> Any:
        self._point("sees_results")
        return self.at == "result"

    def result(self, *asked: Any, **more: Any) -> Any:
        self._point("result")
        return super().result(*asked, **more)

    def retry(self, *asked: Any) -> Any:
        self._point("retry")
        return super().retry(*asked)


ERRORS = [asyncio.CancelledError(), GeneratorExit(), Odd(), MemoryError(), ZeroDivisionError()]
raising = pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)


async def told(ctx: Any, tool: Any) -> Any:
    try:
        return await ctx.call_tool(tool)
    except ActionError as exc:
        return [exc.code, str(exc)]


@raising
@pytest.mark.parametrize(
    ("at", "code", "paid"),
    [
        ("authorize", "E_POLICY_ERROR", 0),
        ("sees_results", "E_RESULT_WITHHELD", 1),
        ("result", "E_RESULT_WITHHELD", 1),
    ],
)
def test_what_a_policy_raises_is_a_deny(at: str, code: str, paid: int, error: Any) -> None:
    """A plan that breaks off at it would take what is known of other actions with it."""

    async def scenario() -> None:
        desk, calls = Desk(policy=Raising(at, error)), list[int]()

        @tool(effect="at_most_once")
        async def pay() -> str:
            calls.append(1)
            return "paid"

        async def body(ctx: Any) -> Any:
            return await told(ctx, pay)

        state = await desk.ran(flow(body, pay))

        assert isinstance(state, Finished)
        assert state.output[0] == code
        assert type(error).__name__ in state.output[1]
        assert len(calls) == paid
        kept = [bytes(each.output) for each in await desk.all("r", ActionSucceeded)]
        assert kept == [b"null"] * paid

    run(scenario())


@raising
def test_what_a_policy_raises_about_a_retry_retries_nothing(error: Any) -> None:
    """The action has failed, as it did."""

    async def scenario() -> None:
        desk = Desk(policy=Raising("retry", error))

        @tool(effect="read")
        async def look() -> str:
            raise Permanent("gone")

        async def body(ctx: Any) -> Any:
            return await told(ctx, look)

        state = await desk.ran(flow(body, look))

        assert isinstance(state, Finished)
        assert state.output[0] == "E_POLICY_ERROR"
        assert "gone" in (await desk.only("r", ActionFailed)).error.message

    run(scenario())


@raising
def test_what_a_policy_raises_about_a_start_refuses_it(error: Any) -> None:
    """And nothing is written."""

    async def body(ctx: Any) -> None:
        return None

    async def scenario() -> None:
        async with Desk(policy=Raising("start", error)).open() as runtime:
            with pytest.raises(RunDenied, match="E_POLICY_ERROR"):
                await runtime.start(flow(body), None)
            assert await runtime.runs() == []

    run(scenario())


@raising
@pytest.mark.parametrize("at", ["offered", "sees_results"])
def test_what_a_policy_raises_about_a_model_call_shows_nothing(at: str, error: Any) -> None:
    """No tool is offered that it might have hidden, and no word read that it might withhold."""

    @tool
    async def act() -> int:
        return 1

    async def body(ctx: Any) -> Any:
        try:
            return (await ctx.call_llm("fake:m", "hi", tools=[act])).text
        except ActionError as exc:
            return exc.code

    async def read(handle: RunHandle[Any]) -> list[Any]:
        return [part async for part in handle.text()]

    async def scenario() -> tuple[Any, list[Any]]:
        desk, model = Desk(policy=Raising(at, error)), Model(said("a secret"))
        async with desk.open(providers={"fake": model}) as runtime:
            handle = await runtime.start(flow(body, act, models=["fake:m"]), None, run_id="r")
            reading = asyncio.ensure_future(read(handle))
            return await desk.settled(handle), await desk.clock.until(reading)

    state, shown = run(scenario())

    assert state == Finished("E_POLICY_ERROR" if at == "offered" else "E_RESULT_WITHHELD")
    assert shown == []
