"""Rules on starts: whether a run begins at all, and with which input."""

from typing import Any

import pytest
from tests.runtime.kit import Desk, Model, flow, handle_of, run

from gatebook import Agent, Decision, Policy, RunDenied, tool
from gatebook.kernel.codec import Raw, plain
from gatebook.kernel.events import RunStarted
from gatebook.kernel.rules.policy import RulesPolicy, policy_from
from gatebook.runtime.runs.states import Cancelled, Finished, Waiting


def ruled(then: str, more: str = "", *, top: str = "") -> RulesPolicy:
    rule = f'[[rule]]\nid = "s"\non = "start"\nthen = "{then}"\n{more}\n'
    return policy_from(("p.toml", f"version = 1\n{top}\n{rule}"))


async def echo(ctx: Any, value: dict[str, Any]) -> Any:
    return value


async def started(policy: Any, value: Any = None, **options: Any) -> tuple[Any, RunStarted]:
    """How a run of `echo` ends, and its first event."""
    desk = Desk(policy=policy)
    async with desk.open() as runtime:
        given = {"amount": 5} if value is None else value
        handle = await runtime.start(flow(echo), given, run_id="r", **options)
        state = await desk.settled(handle)
        return state, await desk.only("r", RunStarted)


async def refused(policy: Any, **options: Any) -> str:
    """Why a run of `echo` may not start; nothing was written."""
    desk = Desk(policy=policy)
    async with desk.open() as runtime:
        with pytest.raises(RunDenied) as caught:
            await runtime.start(flow(echo), {"amount": 5}, run_id="r", **options)
        assert await runtime.runs() == []
    return str(caught.value)


def test_a_start_that_no_rule_narrows_is_allowed() -> None:
    """And nothing is added to its event."""
    state, event = run(
        started(ruled("deny", 'where = { user = { eq = "root", optional = true } }'))
    )

    assert state == Finished({"amount": 5})
    assert event.decision is None


def test_a_start_is_denied_by_its_input() -> None:
    """The message is for whoever starts it."""
    rule = 'where = { "input.amount" = { gt = 4 } }\nmessage = "{input.amount} is too much"'

    assert "5 is too much" in run(refused(ruled("deny", rule)))


@pytest.mark.parametrize("context", [{"user": "root"}, None])
def test_a_start_is_denied_by_its_user(context: Any) -> None:
    """Who is not known is not somebody else."""
    policy = ruled("deny", 'where = { user = { eq = "root" } }')

    assert run(refused(policy, context=context))


@pytest.mark.parametrize(("then", "more"), [("ask", ""), ("defer", 'after = "1m"')])
def test_a_start_that_would_have_to_wait_is_refused(then: str, more: str) -> None:
    """Who starts it is there to ask, or to come again."""
    assert run(refused(ruled(then, more)))


@pytest.mark.parametrize("crash", [False, True])
def test_a_run_may_begin_interrupted(crash: bool) -> None:
    """Nothing is done before a person lets it go on; the reason is in its first event."""
    calls: list[int] = []

    @tool
    async def act() -> int:
        calls.append(1)
        return 1

    async def body(ctx: Any) -> Any:
        return await ctx.call_tool(act)

    async def scenario() -> tuple[Any, Any, str]:
        allow = '[[rule]]\nid = "a"\nthen = "allow"\ntool = "*"\n'
        policy = ruled("interrupt", f'message = "look first"\n{allow}')
        desk, program = Desk(policy=policy), flow(body, act)
        runtime = desk.runtime(program)
        await runtime.open()
        handle = await runtime.start(program, None, run_id="r")
        waits = await desk.settled(handle)
        assert calls == []
        if crash:
            await desk.crash(runtime)
            desk.lapse()
        else:
            await runtime.close()
        async with desk.open(program) as second:
            again = handle_of(second)
            assert isinstance(await desk.settled(again), Waiting)
            assert calls == []
            await again.resume(by="ada")
            ends = await desk.settled(again)
            event = await desk.only("r", RunStarted)
        assert event.decision is not None
        return waits, ends, event.decision.reason

    waits, ends, reason = run(scenario())

    assert isinstance(waits, Waiting)
    assert waits.on == ("resume",)
    assert (ends, calls, reason) == (Finished(1), [1], "look first")


def test_a_run_that_begins_interrupted_has_the_input_that_policy_wants() -> None:
    """A rule that stops it does not take back what another one changes."""
    cap = '[[rule]]\nid = "c"\non = "start"\nthen = "modify"\nset = { "input.amount" = 1 }'

    state, event = run(started(ruled("interrupt", cap)))

    assert isinstance(state, Waiting)
    assert plain(event.input) == {"amount": 1}


def test_a_run_that_begins_interrupted_may_be_cancelled() -> None:
    """That is the other thing a person may want."""

    async def scenario() -> Any:
        desk = Desk(policy=ruled("interrupt"))
        async with desk.open() as runtime:
            handle = await runtime.start(flow(echo), {}, run_id="r")
            await desk.settled(handle)
            await handle.cancel(reason="no")
            return await desk.settled(handle)

    assert isinstance(run(scenario()), Cancelled)


def test_a_run_starts_with_the_input_the_policy_made() -> None:
    """The event has the changed input and says how it was changed."""
    policy = ruled("modify", 'set = { "input.amount" = 3 }')

    state, event = run(started(policy))

    assert state == Finished({"amount": 3})
    assert plain(event.input) == {"amount": 3}
    assert event.decision is not None
    assert (event.decision.verdict, event.decision.rule) == ("modify", "s")
    assert [op["op"] for op in plain(event.decision.patch)] == ["replace"]


def test_a_changed_input_is_the_same_run_to_whoever_starts_it_again() -> None:
    """The same id and input is the same run, whatever a policy made of it."""

    async def scenario() -> None:
        desk = Desk(policy=ruled("modify", 'set = { "input.amount" = 3 }'))
        async with desk.open() as runtime:
            program = flow(echo)
            await desk.settled(await runtime.start(program, {"amount": 5}, run_id="r"))
            again = await runtime.start(program, {"amount": 5}, run_id="r")

            assert await desk.settled(again) == Finished({"amount": 3})

    run(scenario())


def test_a_changed_input_must_fit_the_program() -> None:
    """A policy's change is checked like a caller's input."""

    class Says(Policy):
        def start(self, program: str, input: Any, context: Any) -> Any:
            return Decision.modify({"amount": 1})

    async def scenario() -> str:
        desk = Desk(policy=Says())
        async with desk.open(providers={"fake": Model()}) as runtime:
            with pytest.raises(RunDenied) as caught:
                await runtime.start(Agent(name="helper", model="fake:m"), "go")
            assert await runtime.runs() == []
        return str(caught.value)

    assert "E_INPUT" in run(scenario())


def test_a_policy_that_never_settles_refuses_the_start() -> None:
    """Three rounds, then no."""

    class Counts(Policy):
        @property
        def wants_facts(self) -> bool:
            return True

        def start(self, program: str, input: Any, context: Any) -> Any:
            return Decision.modify({"amount": input["amount"] + 1})

    assert "E_MODIFY_LOOP" in run(refused(Counts()))


@pytest.mark.parametrize(
    "answer",
    [
        Decision("interrupt", rule=5),  # type: ignore[arg-type]
        Decision("Allow"),  # type: ignore[arg-type]
        Decision("interrupt", ValueError("no")),  # type: ignore[arg-type]
        Decision("modify", args=Raw(b"{")),
    ],
)
def test_a_start_is_refused_where_no_event_can_hold_the_decision(answer: Any) -> None:
    """Written into the first event it would make the run unreadable before it began."""

    class Says(Policy):
        def start(self, program: str, input: Any, context: Any) -> Any:
            return answer

    assert "E_POLICY_DECISION" in run(refused(Says()))


def test_a_shadow_policy_lets_start_and_says_what_it_would_have_done() -> None:
    """With the facts it asked, redacted."""
    policy = ruled("deny", 'where = { "input.amount" = { gt = 4 } }', top='mode = "shadow"')

    state, event = run(started(policy))

    assert state == Finished({"amount": 5})
    assert event.decision is not None
    assert (event.decision.verdict, event.decision.shadow) == ("allow", "deny")
    assert event.decision.facts == {"input.amount": "5"}


def test_a_reason_to_refuse_a_start_tells_no_secret() -> None:
    """A message may quote the input."""
    policy = ruled("deny", 'where = { user = { ne = "x" } }\nmessage = "not {user}"')

    async def scenario() -> str:
        desk = Desk(policy=policy)
        async with desk.open(secrets=["hunter22hunter22"]) as runtime:
            with pytest.raises(RunDenied) as caught:
                await runtime.start(flow(echo), {}, context={"user": "hunter22hunter22"})
        return str(caught.value)

    text = run(scenario())

    assert "not" in text
    assert "hunter22" not in text
