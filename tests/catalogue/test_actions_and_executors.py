"""Section D: actions that cannot be done, and tools that misbehave."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gatebook import (
    Agent,
    AllowDeclared,
    Client,
    ConfigError,
    Finished,
    GatebookError,
    Permanent,
    Runtime,
    Transient,
    tool,
)
from gatebook.kernel.actions import MAX_SLEEP_DAYS
from gatebook.kernel.events import ActionDenied, ActionFailed, ActionRequested, AnyEvent
from gatebook.ports import MAX_FANOUT, RunKey
from tests.catalogue.kit import Asked, Desk, failure, legible, refused, told
from tests.runtime.kit import flow, run

CALLED: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_called() -> None:
    CALLED.clear()


@tool(effect="read")
async def refund(order: int) -> int:
    """Refund an order."""
    CALLED.append(order)
    return order


async def failed(function: Any, **options: Any) -> ActionFailed:
    """Run a workflow that calls one argumentless tool; return how the call failed."""
    made = tool(name="act", **options)(function)

    async def body(ctx: Any) -> None:
        await ctx.call_tool(made)

    desk = Desk()
    state = await failure(desk, flow(body, made))
    found: ActionFailed = await desk.only("r", ActionFailed)
    assert found.error.code == state.error.code
    return found


def test_an_unknown_tool_is_told_with_the_near_names() -> None:
    """D51: models misspell; the name it meant is the best answer."""

    async def scenario() -> None:
        asked = Asked(("refnd", '{"order": 1}'), ("x" * 500, "{}"))
        near, far = await asked.play(refund)

        legible(near, "E_TOOL_UNKNOWN", "'refnd'", "did you mean: refund", "a declared tool")
        legible(far, "E_TOOL_UNKNOWN", "xxx...; call a declared tool")
        assert await asked.requested() == []
        assert CALLED == []

    run(scenario())


def test_a_result_that_is_no_json_fails_the_action() -> None:
    """D52: what cannot be stored cannot be replayed; the tool did run, and the text says so."""

    async def act() -> Any:
        return {"handle": object()}

    error = run(failed(act)).error

    assert error.code == "E_RESULT_TYPE"
    legible(error.message, "E_RESULT_TYPE", "'act'", "$.handle", "plain JSON")


def test_a_result_of_another_type_fails_the_action() -> None:
    """D52: whoever reads the result relies on the declared type."""

    async def act() -> int:
        return "seven"  # type: ignore[return-value]

    error = run(failed(act)).error

    legible(error.message, "E_RESULT_TYPE", "'act'", "integer", "the declared type")


def test_a_result_above_the_bound_is_dropped() -> None:
    """D53: a tool that answers with everything must not fill the journal and the prompt."""

    async def act() -> str:
        return "needle" * 1_500_000

    async def scenario() -> None:
        asked = Asked(("act", "{}"))
        (result,) = await asked.play(tool(max_output=1_000)(act))

        legible(result, "E_RESULT_TOO_LARGE", "9000000 bytes", "at most 8388608 bytes")
        assert "needle" not in str(await asked.desk.events("r"))

    run(scenario())


async def exits() -> None:
    raise SystemExit(3)


def exits_in_a_thread() -> None:
    raise SystemExit(3)


async def interrupts() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("function", "raised"),
    [
        (exits, SystemExit),
        (exits_in_a_thread, SystemExit),
        (interrupts, KeyboardInterrupt),
    ],
)
def test_a_tool_that_ends_the_process_is_recorded_first(
    tmp_path: Path, function: Any, raised: type[BaseException]
) -> None:
    """D54: whoever asks for the end gets it; whoever looks later sees who asked."""
    store = f"sqlite:///{tmp_path}/journal.db"
    made = tool(name="act")(function)

    async def body(ctx: Any) -> None:
        await ctx.call_tool(made)

    async def scenario() -> None:
        async with Runtime(store, policy=AllowDeclared()) as runtime:
            await (await runtime.start(flow(body, made), None, run_id="r")).settled()

    async def look() -> list[AnyEvent]:
        async with Client(store) as client:
            return [each.event for each in await client.journal.read(RunKey("default", "r"))]

    with pytest.raises(raised):
        asyncio.run(scenario())

    (found,) = [event for event in asyncio.run(look()) if isinstance(event, ActionFailed)]
    assert found.error.code == "E_TOOL_EXIT"
    legible(found.error.message, "E_TOOL_EXIT", "'act'", raised.__name__, "must not end")


class EvilError(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


class NumberError(Exception):
    def __str__(self) -> Any:
        return vars(self).get("text", 5)


class EvilAction(Permanent):
    def __str__(self) -> str:
        raise ZeroDivisionError


class Bare(Transient):
    """A subclass that forgot its base."""

    def __init__(self, order: int) -> None:
        self.order = order


class Odd(Permanent):
    kind = 5  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__("odd", code="E_\ud800")
        self.fields.update(status="x", retry_after_ms=[1], partial=b"y", category=7, other=object())


NUMBER: Any = 5
BAD = {
    "evil text": (EvilError, "EvilError: (its text cannot be read)"),
    "text is a number": (NumberError, "NumberError: (its text cannot be read)"),
    "no text": (ValueError, "ValueError"),
    "bytes": (lambda: ValueError(b"\xff\x00"), "ValueError"),
    "surrogate": (lambda: ValueError("a\ud800b"), "ValueError: a?b"),
    "forged lines": (lambda: ValueError("x\nERROR all gone\x1b[2J"), r"x\nERROR all gone\x1b[2J"),
    "a flood": (lambda: ValueError("x" * 10**6), "ValueError: xxx"),
    "our error, a number": (lambda: Permanent(NUMBER), "cannot be read"),
    "our error, evil text": (lambda: EvilAction("x"), "cannot be read"),
    "our error, no base": (lambda: Bare(5), "Bare"),
    "our error, odd fields": (Odd, "odd"),
    "our error, own code": (lambda: Permanent("", code="E_MINE"), "code of its own"),
}


@pytest.mark.parametrize("kind", BAD)
def test_whatever_a_tool_raises_can_be_recorded(kind: str) -> None:
    """D55: user code writes the text of its errors; a record that does not read costs the run."""
    make: Any
    make, says = BAD[kind]

    async def act() -> None:
        raise make()

    error = run(failed(act, retries=0)).error

    assert says in error.message
    assert len(error.message) <= 2_000
    assert error.message.isprintable()
    assert error.code == ("E_MINE" if "own code" in kind else error.code)
    assert error.code.isascii()


class Doors:
    """What a tool can reach of its runtime."""

    def __init__(self) -> None:
        self.runtime: Any = None
        self.loop: Any = None


async def _never(ctx: Any) -> None:
    CALLED.append("child")


CHILD = flow(_never, name="child")


async def from_inside(deed: Any, *, sync: bool) -> ActionFailed:
    """Let a tool do something with the runtime it runs under; return how it failed."""
    doors, desk = Doors(), Desk()

    async def act() -> None:
        await deed(doors.runtime)

    def act_in_a_thread() -> None:
        asyncio.run_coroutine_threadsafe(deed(doors.runtime), doors.loop).result(10)

    made = tool(name="act", effect="read", retries=0)(act_in_a_thread if sync else act)

    async def body(ctx: Any) -> None:
        await ctx.call_tool(made)

    program = flow(body, made)
    async with desk.open(program, CHILD) as runtime:
        doors.runtime, doors.loop = runtime, asyncio.get_running_loop()
        handle = await runtime.start(program, None, run_id="r")
        await handle.settled()
        assert [row.run.id for row in await runtime.runs()] == ["r"]
    found: ActionFailed = await desk.only("r", ActionFailed)
    return found


@pytest.mark.parametrize("sync", [False, True], ids=["async", "thread"])
@pytest.mark.parametrize(
    "deed",
    [
        lambda runtime: runtime.start(CHILD, None, run_id="inner"),
        lambda runtime: runtime.drive(RunKey("default", "r")),
    ],
    ids=["start", "drive"],
)
def test_a_tool_cannot_start_or_drive_runs_of_its_runtime(deed: Any, sync: bool) -> None:
    """D60: such a run has no parent, no share of the budget and no place in the journal."""
    error = run(from_inside(deed, sync=sync)).error

    assert error.code == "E_REENTRANT"
    legible(error.message, "E_REENTRANT", "run 'r'", "not from inside a tool", "to answer for")
    assert CALLED == []


def test_a_tool_may_steer_another_run_which_then_goes_on() -> None:
    """D60: a signal is no start; the run it wakes is driven as any other."""
    doors = Doors()

    @tool(effect="read")
    async def ring() -> None:
        await doors.runtime.handle("other").signal("go")

    async def waits(ctx: Any) -> int:
        await ctx.wait_signal("go")
        return await ctx.call_tool(refund, order=7)

    async def rings(ctx: Any) -> None:
        await ctx.call_tool(ring)

    async def scenario() -> None:
        desk = Desk()
        waiting, ringing = flow(waits, refund), flow(rings, ring)
        async with desk.open(waiting, ringing) as doors.runtime:
            other = await doors.runtime.start(waiting, None, run_id="other")
            await desk.settled(other)
            await doors.runtime.start(ringing, None)

            assert (await other.result()).output == 7

    run(scenario())


def test_idempotent_without_a_key_cannot_be_declared() -> None:
    """D61: nobody would hand the service the key that makes a second start harmless."""

    @tool(effect="idempotent")
    async def pay(order: int) -> None: ...

    async def body(ctx: Any) -> None: ...

    builds: list[Any] = [
        lambda: Agent(name="a", model="fake:m", tools=[pay]),
        lambda: flow(body, pay),
    ]
    for build in builds:
        with pytest.raises(ConfigError) as caught:
            build()
        told(caught.value, "E_IDEMPOTENCY_DECL", "'pay'", "ctx.idempotency_key")


SLEEPS: dict[str, Any] = {
    "D62 negative": (-1, "E_SLEEP_NEGATIVE", "-1", "zero or longer"),
    "D63 ages": (10**12, "E_SLEEP_TOO_LONG", 10**12, f"at most {MAX_SLEEP_DAYS} days"),
    "D63 for ever": (float("inf"), "E_SLEEP_TOO_LONG", "inf", f"{MAX_SLEEP_DAYS} days"),
    "D64 nan": (float("nan"), "E_SLEEP_TYPE", "nan", "a finite number"),
    "D64 bool": (True, "E_SLEEP_TYPE", "True", "a finite number"),
    "D64 text": ("5", "E_SLEEP_TYPE", "'5'", "a finite number"),
    "D64 none": (None, "E_SLEEP_TYPE", "None", "a finite number"),
}


async def sleeps(ctx: Any, entry: str) -> None:
    await ctx.sleep(SLEEPS[entry][0])


async def waits(ctx: Any, entry: str) -> None:
    await ctx.wait_signal("go", timeout=SLEEPS[entry][0])


@pytest.mark.parametrize(
    ("body", "entry"),
    [(sleeps, entry) for entry in SLEEPS]
    + [(waits, entry) for entry in SLEEPS if entry != "D64 none"],
)
def test_a_sleep_that_makes_no_sense_is_refused(body: Any, entry: str) -> None:
    """D62 to D64: a unit was mistaken; the run fails before it sleeps."""
    _, code, *says = SLEEPS[entry]

    async def scenario() -> None:
        desk = Desk()
        state = await failure(desk, flow(body), entry)

        assert state.error.code == code
        legible(state.error.message, code, *says)
        assert await desk.all("r", ActionRequested) == []

    run(scenario())


def test_a_models_fan_out_is_bounded() -> None:
    """D65: eight hundred calls in one turn are a loop, not a plan; the first hundred run."""

    async def scenario() -> None:
        asked = Asked(*[("refund", f'{{"order": {n}}}') for n in range(800)])
        results = await asked.play(refund)

        assert sorted(CALLED) == list(range(MAX_FANOUT))
        assert len(results) == 800
        for text in results[MAX_FANOUT:]:
            legible(text, "E_FANOUT", "800 actions", f"at most {MAX_FANOUT}", "split")
        assert len(await asked.requested()) == MAX_FANOUT

    run(scenario())


def test_a_workflows_fan_out_is_bounded() -> None:
    """D65: the same for code; what is too much is denied, not forgotten."""

    async def body(ctx: Any) -> None:
        await ctx.gather(*[ctx.call_tool(refund, order=n) for n in range(800)])

    async def scenario() -> None:
        desk = Desk()
        state = await failure(desk, flow(body, refund))
        denied = await desk.all("r", ActionDenied)

        assert state.error.code == "E_FANOUT"
        assert len(denied) == 800 - MAX_FANOUT
        for event in denied:
            legible(event.error.message, "E_FANOUT", "800 actions", f"at most {MAX_FANOUT}")
        assert sorted(CALLED) == list(range(MAX_FANOUT))

    run(scenario())


def test_resolving_takes_a_resolution_and_nothing_else() -> None:
    """A word that is no resolution must never order another start."""

    async def body(ctx: Any) -> None:
        await ctx.wait_signal("go")

    async def scenario() -> None:
        desk = Desk()
        program = flow(body)
        async with desk.open(program) as runtime:
            handle = await runtime.start(program, None, run_id="r")
            await desk.settled(handle)
            bad: Any
            for bad in (None, True, "no", "RETRY", {"output": 1}, Finished(1)):
                async with refused(desk.journal, "E_RESOLUTION", "says nothing", "Succeeded"):
                    await handle.resolve("0", bad)
            async with refused(desk.journal, "E_ACTION_NOT_UNKNOWN", "'0'", "gatebook show"):
                await handle.resolve("0", "retry")

    run(scenario())


def test_every_error_of_these_survives_being_shown_twice() -> None:
    """D55: an error is logged, then raised again; its text must not depend on how often."""
    error = GatebookError("E_TOOL_UNKNOWN", tool="x\u202e", names="none")

    assert str(error) == str(error)
    assert str(error).isprintable()
