"""Hooks that raise, hang, or answer what they may not: open lets through, closed stops."""

import asyncio
from typing import Any

import pytest
from tests.runtime.hooking import Pay, answers, asked, only, ran
from tests.runtime.kit import Desk, Model, flow, run, said

from gatebook import Change, Deny, hook, tool
from gatebook.errors import ActionError
from gatebook.kernel.events import ActionDenied
from gatebook.runtime.runs.states import Failed, Finished

CANARY = "canary-0123456789"


async def hangs(view: Any) -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def raises(view: Any) -> None:
    """Break."""
    raise ZeroDivisionError(f"by {CANARY}\x1b[2J")


async def leaves(view: Any) -> None:
    """Try to end the process."""
    raise SystemExit(3)


async def gives_up(view: Any) -> None:
    """Look as if it had been cancelled."""
    raise asyncio.CancelledError


async def says_yes(view: Any) -> bool:
    """Answer what may mean either."""
    return True


async def takes_more(view: Any) -> Deny:
    """Answer what it has no right to."""
    return Deny("because I can")


def awaits_nothing(view: Any) -> Any:
    """Return a coroutine where an answer should be."""
    return says_yes(view)


def raises_stop(view: Any) -> None:
    """Raise what coroutines cannot hand on."""
    raise StopIteration(5)


class Vicious(dict[str, Any]):
    """Arguments that fight back."""

    def keys(self) -> Any:
        raise RuntimeError("no keys for you")

    def __iter__(self) -> Any:
        raise RuntimeError("no items for you")


async def fights(view: Any) -> Change:
    """Answer with what cannot be read."""
    return Change(Vicious(amount=1))


FAILURES = [
    (hangs, "E_HOOK_TIMEOUT"), (raises, "E_HOOK_FAILED"), (leaves, "E_HOOK_FAILED"),
    (gives_up, "E_HOOK_FAILED"), (says_yes, "E_HOOK_ANSWER"), (takes_more, "E_HOOK_RIGHTS"),
    (awaits_nothing, "E_HOOK_ANSWER"), (raises_stop, "E_HOOK_FAILED"),
]  # fmt: skip
POINTS = [
    "on_run_start", "before_model", "after_model", "before_tool", "after_tool", "on_run_end",
]  # fmt: skip


def failing(function: Any, point: Any, mode: Any, **options: Any) -> Any:
    """A hook that will fail, with the right to observe only."""
    timeout = 0.01 if function is hangs else 60
    given: dict[str, Any] = {"rights": ["observe"], "timeout": timeout} | options
    return hook(point, on_failure=mode, name="bad", **given)(function)


class Both:
    """A program that asks a model and calls a tool, and what was done of it."""

    def __init__(self) -> None:
        self.model = Model(said("hello"))
        self.calls: list[str] = []

        @tool
        async def act() -> str:
            self.calls.append("act")
            return "done"

        async def body(ctx: Any) -> Any:
            said = list[Any]()
            for first in (True, False):
                try:
                    asked = ctx.call_llm("fake:m", "hi") if first else ctx.call_tool(act)
                    answer = await asked
                    said.append(getattr(answer, "text", answer))
                except ActionError as exc:
                    said.append(exc.code)
            return said

        self.program = flow(body, act, models=["fake:m"])


async def ended(both: Both, bad: Any) -> Any:
    return await ran(both.program, bad, providers={"fake": both.model})


@pytest.mark.parametrize(("function", "code"), FAILURES)
@pytest.mark.parametrize("point", POINTS)
def test_a_hook_that_fails_open_is_as_if_it_had_not_been_asked(
    point: str, function: Any, code: str
) -> None:
    """But the journal says that it failed, and how."""
    both = Both()

    state, events = run(ended(both, failing(function, point, "open")))

    (answer,) = answers(events)
    assert (state, both.calls) == (Finished(["hello", "done"]), ["act"])
    assert answer.error is not None
    assert (answer.verdict, answer.error.code, answer.stops) == ("failed", code, False)


@pytest.mark.parametrize(("function", "code"), FAILURES)
@pytest.mark.parametrize("point", POINTS)
def test_a_hook_that_fails_closed_lets_nothing_through(
    point: str, function: Any, code: str
) -> None:
    """Whatever it was asked about is refused, withheld, or the run's end."""
    both = Both()

    state, events = run(ended(both, failing(function, point, "closed", security=True)))

    (answer,) = answers(events)
    assert answer.error is not None
    assert (answer.verdict, answer.error.code, answer.stops) == ("failed", code, True)
    match point:
        case "on_run_start" | "on_run_end":
            assert isinstance(state, Failed)
            assert (state.denied, state.error.code) == (True, code)
            assert bool(both.calls) is (point == "on_run_end")
        case "before_model":
            assert state == Finished([code, "done"])
            assert both.model.asked == []
        case "before_tool":
            assert (state, both.calls) == (Finished(["hello", code]), [])
        case "after_model":
            assert state == Finished(["E_HOOK_WITHHELD", "done"])
            assert "hello" not in str(events)
        case _:
            assert (state, both.calls) == (Finished(["hello", "E_HOOK_WITHHELD"]), ["act"])
            assert "'done'" not in str(events)


def test_an_answer_that_cannot_be_read_is_a_failure() -> None:
    """Whatever its own methods do."""
    pay = Pay()

    state, events = run(
        ran(pay.program, failing(fights, "before_tool", "closed", rights=["change"]))
    )

    assert isinstance(state, Finished)
    assert pay.calls == []
    assert only(events, ActionDenied).error.code in ("E_HOOK_FAILED", "E_HOOK_ANSWER")


def test_what_a_hook_raises_is_recorded_without_secrets() -> None:
    """Its text is user code's, and goes to the journal and to the program."""
    desk = Desk(secrets=[CANARY])

    state, events = run(ran(Pay().program, failing(raises, "before_tool", "closed"), desk=desk))

    assert "E_HOOK_FAILED" in str(state)
    for text in (str(events), str(state)):
        assert CANARY not in text
        assert "\x1b" not in text


@pytest.mark.parametrize("point", ["before_tool", "after_tool"])
def test_a_hook_cannot_put_a_secret_into_the_journal(point: str) -> None:
    """Neither as arguments, nor as a result, nor as a reason."""
    desk, value = Desk(secrets=[CANARY]), {"amount": 1, "key": CANARY}

    async def body(ctx: Any) -> Any:
        try:
            return await ctx.call_tool(take, amount=5)
        except ActionError as exc:
            return str(exc)

    @tool
    async def take(amount: int, key: str = "") -> Any:
        return 1

    changes = asked(point, Change(value), "change", "deny")
    denies = asked("on_run_end", Deny(f"it knows {CANARY}"), "deny")
    state, events = run(ran(flow(body, take), changes, denies, desk=desk))

    assert CANARY not in str(events)
    assert CANARY not in str(state)
