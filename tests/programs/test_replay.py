"""The replay law: the same outcomes in the same order give the same steps, however batched."""

import random
from collections.abc import Coroutine
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gatebook.errors import ActionError
from gatebook.kernel.actions import CallLLM
from gatebook.kernel.codec import canonical, digest, plain
from gatebook.kernel.events import ErrorRecord
from gatebook.ports import Complete, Outcome, Program, Step, Want
from gatebook.programs import Agent, Workflow, WorkflowContext
from tests.programs.play import Echo, call, denied, failed, ok, play, said, started

read = Echo("read")
write = Echo("write", "at_most_once")

leaf = st.sampled_from(["tool", "sleep", "signal", "llm"])
tree = st.recursive(
    leaf, lambda inner: st.tuples(st.sampled_from(["all", "each"]), st.lists(inner, max_size=4)),
    max_leaves=12,
)  # fmt: skip


def workflow_of(shape: Any) -> Workflow[Any, Any]:
    """A workflow that awaits a tree: leaves are actions, nodes are gathers or sequences."""

    def branch(ctx: WorkflowContext, part: Any) -> Coroutine[Any, Any, Any]:
        return walk(ctx, part)

    async def walk(ctx: WorkflowContext, part: Any) -> Any:
        ctx.log.info(str(part)[:20])
        try:
            match part:
                case "tool":
                    return await ctx.call_tool(read, now=ctx.now(), luck=ctx.random())
                case "sleep":
                    return await ctx.sleep(1)
                case "signal":
                    return await ctx.wait_signal("go")
                case "llm":
                    return (await ctx.call_llm("p:m", ctx.uuid())).text
                case ("all", parts):
                    return await ctx.gather(*(branch(ctx, inner) for inner in parts))
                case ("each", parts):
                    return [await walk(ctx, inner) for inner in parts]
                case _:
                    raise AssertionError(part)
        except ActionError as exc:
            return exc.code

    async def f(ctx: WorkflowContext) -> Any:
        return await walk(ctx, shape)

    return Workflow(f, tools=[read])


def respond(want: Want) -> Outcome:
    """An outcome that depends on the address alone, as the world's would on the action."""
    chance = int(digest(want.address)[:2], 16)
    if chance < 40:
        return failed(want.address, ErrorRecord("E_ACTION", "broken"))
    if chance < 60:
        return denied(want.address)
    if isinstance(want.action, CallLLM):
        return said(want.address, want.address)
    return ok(want.address, want.address)


def batched(
    program: Program[Any, Any], first: Any, outcomes: list[Outcome], cuts: random.Random
) -> list[Step]:
    """The steps of the same outcomes, cut into other batches."""
    stepper = program.begin(first)
    steps = [stepper.step(())]
    left = list(outcomes)
    while left:
        count = cuts.randint(1, len(left))
        steps.append(stepper.step(left[:count]))
        left = left[count:]
    return steps


def joined(steps: list[Step]) -> Step:
    """All wants and notes of steps, in order, and the end."""
    wants = tuple(want for step in steps for want in step.wants)
    notes = tuple(note for step in steps for note in step.notes)
    return Step(wants, steps[-1].end, notes)


@given(tree, st.integers(0, 2**32))
def test_a_workflow_replays(shape: Any, seed: int) -> None:
    """A worker that takes a run over must come to the same place by the same outcomes."""
    program = workflow_of(shape)
    outcomes, steps = play(program.begin(started()), respond, random.Random(seed))

    replayed = program.begin(started())
    again = [replayed.step(()), *(replayed.step([outcome]) for outcome in outcomes)]

    assert again == steps


@given(tree, st.integers(0, 2**32))
def test_batches_make_no_difference(shape: Any, seed: int) -> None:
    """Live outcomes come one by one, replayed ones in bulk."""
    program, rng = workflow_of(shape), random.Random(seed)
    outcomes, steps = play(program.begin(started()), respond, rng)

    again = batched(program, started(), outcomes, rng)

    assert joined(again) == joined(steps)


@given(tree, st.integers(0, 2**32), st.integers(0, 2**32))
def test_addresses_do_not_depend_on_the_order_of_outcomes(shape: Any, one: int, two: int) -> None:
    """Which branch was faster is chance; where an action stands is not."""
    program = workflow_of(shape)
    _, first = play(program.begin(started()), respond, random.Random(one))
    _, second = play(program.begin(started()), respond, random.Random(two))

    places = [
        sorted((want.address, type(want.action).__name__) for step in steps for want in step.wants)
        for steps in (first, second)
    ]

    assert places[0] == places[1]
    assert len({address for address, _ in places[0]}) == len(places[0])
    assert first[-1].end == second[-1].end


calls = st.lists(
    st.tuples(st.sampled_from(["read", "write", "ghost"]), st.sampled_from(["{}", '{"n":1}', "["])),
    max_size=6,
)


def agent_play(
    turns: list[list[tuple[str, str]]], seed: int
) -> tuple[Agent[str], list[Outcome], list[Step]]:
    """An agent's run in which the model makes these calls, answered in an order by `seed`."""
    agent = Agent(name="a", model="p:m", tools=[read, write])

    def answer(want: Want) -> Outcome:
        if not isinstance(want.action, CallLLM):
            return respond(want)
        turn = int(want.address[1:])
        if turn > len(turns):
            return said(want.address, "done")
        made = [call(name, args, f"c{turn}.{i}") for i, (name, args) in enumerate(turns[turn - 1])]
        return said(want.address, "so", *made)

    outcomes, steps = play(agent.begin(started("go")), answer, random.Random(seed))
    return agent, outcomes, steps


@given(st.lists(calls, max_size=4), st.integers(0, 2**32))
def test_an_agent_replays(turns: Any, seed: int) -> None:
    """A worker that takes a run over must ask the model the same question."""
    agent, outcomes, steps = agent_play(turns, seed)
    stepper = agent.begin(started("go"))

    again = [stepper.step(()), *(stepper.step([outcome]) for outcome in outcomes)]

    assert again == steps
    assert joined(batched(agent, started("go"), outcomes, random.Random(seed))) == joined(steps)


@given(st.lists(calls, max_size=4), st.integers(0, 2**32), st.integers(0, 2**32))
def test_the_order_of_outcomes_does_not_reach_the_model(turns: Any, one: int, two: int) -> None:
    """Two interleavings of the same results give the same questions, byte for byte."""
    _, _, first = agent_play(turns, one)
    _, _, second = agent_play(turns, two)

    prompts = [
        [want for step in steps for want in step.wants if isinstance(want.action, CallLLM)]
        for steps in (first, second)
    ]

    assert prompts[0] == prompts[1]
    assert first[-1].end == second[-1].end


def test_a_long_run_of_an_agent_stores_its_payload_once() -> None:
    """400 turns of 2 kB: the requests hold references, so the journal grows with the payload."""
    agent = Agent(name="a", model="p:m", tools=[read], max_turns=401)
    stepper = agent.begin(started("go"))
    step, stored, payload = stepper.step(()), 0, 0
    for turn in range(1, 401):
        asked = said(f"t{turn}", "", call("read", canonical({"n": turn}).decode()))
        result = ok(f"t{turn}.0", "x" * 2_000)
        for outcome in (asked, result):
            stored += sum(len(msgspec.json.encode(want.action)) for want in step.wants)
            stored += len(bytes(outcome.output))
            step = stepper.step([outcome])
        payload += 2_000
    end = stepper.step([said("t401", "done")])

    assert isinstance(end.end, Complete)
    assert plain(end.end.output) == "done"
    assert stored < 2 * payload
