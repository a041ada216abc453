"""Starting: one run per id, checks in one order, and nothing left behind when one fails."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.kit import Desk, Model, flow, run

from gatebook import Client, Runtime, hook, tool
from gatebook.errors import ConfigError, GatebookError, InvalidInput, RunConflict, RunDenied
from gatebook.kernel.budget import Budget, Limits
from gatebook.kernel.events import RunStarted
from gatebook.kernel.policies import AllowDeclared
from gatebook.kernel.policy import Decision, Policy
from gatebook.ports import RunQuery
from gatebook.runtime.runs.states import Finished


@tool(effect="read")
async def look() -> int:
    return 1


async def body(ctx: Any, given: int) -> int:
    await ctx.call_tool(look)
    return given


class Doorman(Policy):
    """Answers a start with whatever it was given, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def start(self, program: str, input: Any, context: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Boundless(AllowDeclared):
    """States a budget that is none."""

    def budget(self) -> Any:
        return 5


@tool(effect="read")
async def pay() -> int:
    return 1


@hook("before_tool", rights=["deny"], timeout=60, on_failure="closed", tools=[pay])
async def watch_pay(ctx: Any) -> None: ...


async def refused(desk: Desk, program: Any, value: Any = 1, **options: Any) -> GatebookError:
    """The error of a start that must leave nothing behind."""
    async with desk.open() as runtime:
        known = runtime.programs
        with pytest.raises(GatebookError) as caught:
            await runtime.start(program, value, **options)
        assert await runtime.runs() == []
        assert runtime.programs == known
    return caught.value


def test_fifty_starts_of_one_id_are_one_run() -> None:
    """A web request that is sent again must not pay twice."""

    async def scenario() -> None:
        desk = Desk()
        program = flow(body, look)

        async with desk.open() as runtime:
            starts = [runtime.start(program, 7, run_id="r") for _ in range(50)]
            handles = await asyncio.gather(*starts)
            states = [await desk.settled(each) for each in handles]

        assert states == [Finished(7)] * 50
        await desk.journal.open()
        assert (await desk.kinds("r")).count("run_started") == 1
        assert (await desk.kinds("r")).count("action_requested") == 1

    run(scenario())


def test_the_same_id_with_another_input_is_a_conflict() -> None:
    """The answer of another question must not be given for this one."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            await runtime.start(flow(body, look), 1, run_id="r")

            with pytest.raises(RunConflict, match="another 'input'"):
                await runtime.start(flow(body, look), 2, run_id="r")

    run(scenario())


def test_the_same_id_with_another_program_is_a_conflict() -> None:
    """An id names one run, whatever runs."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            await runtime.start(flow(body, look), 1, run_id="r")

            with pytest.raises(RunConflict, match="another 'program'"):
                await runtime.start(flow(body, look, name="other"), 1, run_id="r")

    run(scenario())


def test_labels_and_budget_of_a_second_start_are_ignored() -> None:
    """They describe the run that is there."""

    async def scenario() -> None:
        desk = Desk()
        program = flow(body, look)
        async with desk.open() as runtime:
            await runtime.start(program, 1, run_id="r", labels={"a": "1"})

            again = await runtime.start(
                program, 1, run_id="r", labels={"a": "2"}, budget=Budget(tool_calls=0)
            )

            row = await again.row()
        assert (row.labels, row.head.limits) == ({"a": "1"}, Limits())

    run(scenario())


def test_a_finished_run_is_returned_as_it_is() -> None:
    """Starting again asks for the result, not for the work."""

    async def scenario() -> None:
        desk = Desk()
        program = flow(body, look)
        async with desk.open() as runtime:
            await desk.settled(await runtime.start(program, 1, run_id="r"))
            before = await desk.kinds("r")

            again = await runtime.start(program, 1, run_id="r")

            assert await desk.settled(again) == Finished(1)
            assert await desk.kinds("r") == before

    run(scenario())


@pytest.mark.parametrize(
    ("run_id", "code"),
    [("", "E_ID_EMPTY"), ("../x", "E_ID_CHARS"), (7, "E_ID_TYPE"), ("a" * 129, "E_ID_TOO_LONG")],
)
def test_a_bad_id_is_refused(run_id: Any, code: str) -> None:
    """Ids end up in URLs, files and shells."""
    error = run(refused(Desk(), flow(body, look), run_id=run_id))

    assert error.code == code


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"context": [1]}, "E_CONTEXT"),
        ({"context": {"a": object()}}, "E_JSON_TYPE"),
        ({"labels": {"a": 1}}, "E_LABEL"),
        ({"labels": {1: "a"}}, "E_LABEL"),
    ],
)
def test_bad_content_is_refused(options: Any, code: str) -> None:
    """What cannot be stored is found before anything is."""
    error = run(refused(Desk(), flow(body, look), **options))

    assert error.code == code


def test_an_input_that_does_not_fit_is_refused() -> None:
    """The declared type is the contract."""
    error = run(refused(Desk(), flow(body, look), "seven"))

    assert error.code == "E_INPUT"


def test_without_a_policy_nothing_starts() -> None:
    """Closed by default, with three choices to paste."""

    async def scenario() -> None:
        desk = Desk(AllowDeclared())
        async with desk.open(policy=None) as runtime:
            with pytest.raises(ConfigError) as caught:
                await runtime.start(flow(body, look), 1)
            assert await runtime.runs() == []

        assert caught.value.code == "E_POLICY_MISSING"
        for choice in ("AllowDeclared()", "AllowListPolicy(", "--policy"):
            assert choice in str(caught.value)

    run(scenario())


@pytest.mark.parametrize("odd", [object(), AllowDeclared])
def test_an_object_that_decides_nothing_is_no_policy(odd: Any) -> None:
    """A typo must not become an open door, and a forgotten () is told as what it is."""
    with pytest.raises(ConfigError) as caught:
        run(opened(Desk().runtime(policy=odd)))

    assert caught.value.code == "E_POLICY_SHAPE"


async def opened(runtime: Runtime) -> None:
    async with runtime:
        pass


@pytest.mark.parametrize("odd", [body, look, Runtime, "flow"])
def test_what_is_not_a_program_is_refused(odd: Any) -> None:
    """Who forgets @workflow, or passes a tool, reads what to pass."""
    started = run(refused(Desk(), odd))
    with pytest.raises(ConfigError) as registered:
        Runtime(":memory:", programs=[odd])

    assert started.code == registered.value.code == "E_PROGRAM_SHAPE"
    assert "decorated with @workflow" in str(started)


@pytest.mark.parametrize("odd", [flow(body, look), None])
def test_programs_that_are_no_list_are_refused(odd: Any) -> None:
    """Who passes one program as it is reads where to put it."""
    with pytest.raises(ConfigError) as caught:
        Runtime(":memory:", programs=odd)

    assert caught.value.code == "E_CONFIG"
    assert "not a list; pass a list: programs=[...]" in str(caught.value)


@pytest.mark.parametrize("odd", [None, "", 5])
@pytest.mark.parametrize("made", [Client, Runtime])
def test_a_tenant_that_names_nobody_is_refused(made: Any, odd: Any) -> None:
    """`tenant=user.get("tenant") or ""` would put all who have none together."""
    with pytest.raises(ConfigError) as caught:
        made(":memory:", tenant=odd)

    assert caught.value.code == "E_CONFIG"
    assert "names nobody" in str(caught.value)


def test_a_workflow_without_input_is_started_without_one() -> None:
    """And any other is not: what it gets is None, which does not fit."""

    async def alone(ctx: Any) -> int:
        return 1

    async def taking(ctx: Any, n: int) -> int:
        return n

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            assert (await (await runtime.start(flow(alone))).result()).output == 1
            with pytest.raises(InvalidInput) as caught:
                await runtime.start(flow(taking))
        assert caught.value.code == "E_INPUT"

    run(scenario())


def test_an_unknown_provider_is_refused() -> None:
    """A run that cannot ask its model should not begin."""
    error = run(refused(Desk(), flow(body, look, models=["nobody:m"])))

    assert error.code == "E_PROVIDER_UNKNOWN"


def test_another_program_of_the_same_name_is_refused() -> None:
    """A worker finds programs by name."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open(flow(body, look)) as runtime:
            with pytest.raises(ConfigError) as caught:
                await runtime.start(flow(body, look, version="2"), 1)

        assert caught.value.code == "E_PROGRAM_DUPLICATE"

    run(scenario())


def made_for(user: str, *, greeting: str = "hi", folder: str = "in") -> Any:
    """A program that is made anew for each user, as a web handler might."""
    place = Path(folder)

    @tool(effect="read")
    async def who() -> str:
        return user if place.name else ""

    async def greet(ctx: Any) -> str:
        return f"{greeting} {await ctx.call_tool(who)}"

    return flow(greet, who)


def test_a_program_made_anew_with_other_variables_is_refused() -> None:
    """A worker finds programs by name: the second user's run would act as the first user."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            first = await desk.settled(await runtime.start(made_for("ann")))
            again = await desk.settled(await runtime.start(made_for("ann")))
            assert first == again == Finished("hi ann")
            others = made_for("bob"), made_for("ann", greeting="ho"), made_for("ann", folder="b")
            for other in others:
                with pytest.raises(ConfigError) as caught:
                    await runtime.start(other)
                assert caught.value.code == "E_PROGRAM_CODE"

    run(scenario())


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Decision.deny("not today"), "not today"),
        (Decision.ask("a person?"), "a person?"),
        (Decision.defer(), "the policy answered defer"),
        (None, "which is not a Decision"),
        (True, "which is not a Decision"),
        (ZeroDivisionError(), "raised ZeroDivisionError"),
    ],
)
def test_a_start_needs_a_clear_yes(answer: Any, text: str) -> None:
    """Whatever is not an allow is a deny."""
    error = run(refused(Desk(Doorman(answer)), flow(body, look)))

    assert isinstance(error, RunDenied)
    assert text in str(error)


def test_the_checks_come_in_one_order() -> None:
    """With everything wrong at once, each repair shows the next fault, always in this order."""

    async def scenario() -> list[str]:
        codes = []

        async def attempt(runtime: Any, program: Any, **options: Any) -> None:
            try:
                await runtime.start(program, 1, **options)
            except GatebookError as exc:
                codes.append(exc.code)

        desk = Desk()
        door = Doorman(Decision.deny("no"))
        known = flow(body, look)
        wrong = flow(body, look, version="2", models=["nobody:m"])
        unreachable = flow(body, look, name="other", models=["nobody:m"])
        reachable = flow(body, look, name="third", models=["fake:m"])
        others: dict[str, Any] = {"policy": door, "providers": {"fake": Model()}}
        closed = desk.runtime(known, policy=None)
        await attempt(closed, wrong, context=[], budget=5)
        async with desk.open(known, policy=None) as runtime:
            await attempt(runtime, wrong, context=[], budget=5)
            await attempt(runtime, wrong, budget=5)
            await attempt(runtime, wrong)
        async with desk.open(known, policy=Boundless()) as runtime:
            await attempt(runtime, wrong)
        async with desk.open(known, hooks=[watch_pay], **others) as runtime:
            await attempt(runtime, wrong)
            await attempt(runtime, unreachable)
            await attempt(runtime, reachable)
            assert await runtime.runs() == []
        async with desk.open(known, **others) as runtime:
            await attempt(runtime, reachable)
            assert await runtime.runs() == []
        return codes

    assert run(scenario()) == [
        "E_RUNTIME_CLOSED", "E_CONTEXT", "E_BUDGET_TYPE", "E_POLICY_MISSING", "E_BUDGET_TYPE",
        "E_PROGRAM_DUPLICATE", "E_PROVIDER_UNKNOWN", "E_HOOK_TOOL", "E_RUN_DENIED",
    ]  # fmt: skip


def test_the_smallest_of_all_limits_wins() -> None:
    """Neither the caller nor the policy can widen what the other set."""

    async def scenario() -> None:
        desk = Desk(AllowDeclared(budget=Budget(tool_calls=5, llm_tokens=100)))
        async with desk.open() as runtime:
            handle = await runtime.start(
                flow(body, look), 1, budget=Budget(tool_calls=9, wall_clock=60)
            )

            limits = (await handle.row()).head.limits

        assert limits == Limits(tool_calls=5, llm_tokens=100, wall_ms=60_000)

    run(scenario())


def test_a_start_records_what_it_was_started_with() -> None:
    """The first event is what everything else is judged by."""

    async def scenario() -> None:
        desk = Desk()
        program = flow(body, look)
        async with desk.open() as runtime:
            await runtime.start(program, 3, run_id="r", context={"user": "u7"}, labels={"t": "x"})
            event = await desk.only("r", RunStarted)

        assert (event.program, event.program_kind, event.definition) == (
            "body", "workflow", program.digest,
        )  # fmt: skip
        assert (bytes(event.input), bytes(event.context)) == (b"3", b'{"user":"u7"}')
        assert event.policy == AllowDeclared().digest
        assert event.policy_name == "allow-declared (development)"
        assert len(event.nonce) == 32

    run(scenario())


def test_another_tenants_run_is_not_found() -> None:
    """That it exists is already news."""

    async def scenario() -> None:
        desk = Desk()
        async with desk.open() as runtime:
            await runtime.start(flow(body, look), 1, run_id="r")
            theirs = Client(desk.journal, tenant="other", policy=AllowDeclared())
            await theirs.open()

            with pytest.raises(GatebookError) as caught:
                await theirs.handle("r").row()

            assert caught.value.code == "E_RUN_NOT_FOUND"
            assert await theirs.runs(RunQuery()) == []

    run(scenario())


def test_a_closed_client_says_so() -> None:
    """Forgetting `async with` is the first mistake everybody makes."""

    async def scenario() -> None:
        with pytest.raises(InvalidInput, match="async with Runtime"):
            await Desk().runtime().start(flow(body, look), 1)

    run(scenario())
