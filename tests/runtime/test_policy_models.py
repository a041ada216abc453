"""Rules about models, and policies that change: what is asked, hidden, retried, taken up."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.catalogue.kit import calls
from tests.runtime.kit import Desk, Model, Said, eventually, flow, handle_of, run, said
from tests.runtime.policies import MODELS, TOOLS, Shop, replayed, rule, ruled

from gatebook import (
    ActionDenied,
    Agent,
    Decision,
    Policy,
    Transient,
    tool,
)
from gatebook.kernel.actions import CallLLM
from gatebook.kernel.codec import plain
from gatebook.kernel.events import ActionDenied as ActionDeniedEvent
from gatebook.kernel.events import ActionFailed, ActionRequested, AttemptStarted
from gatebook.kernel.messages import MessageStart
from gatebook.runtime.runs.states import Failed, Finished

SMALLER = rule("modify", 'action = "call_llm"',
               'set = { model = "small", max_output_tokens = 9 }')  # fmt: skip


async def asking(policy: Any, *, crash: bool = False) -> tuple[Any, Model, Desk]:
    """One agent that asks its model once; with `crash`, its worker dies while it asks."""
    never = asyncio.Event()
    stuck: list[Said] = [[MessageStart("m"), never.wait]] if crash else []
    model = Model(*stuck, said("hello"))
    desk = Desk(policy=policy, providers={"fake": model})
    agent = Agent(name="helper", model="fake:m", max_output_tokens=100)
    if crash:
        runtime = desk.runtime(agent)
        await runtime.open()
        await runtime.start(agent, "hi", run_id="r")
        await eventually(lambda: model.open, "the model was asked")
        await desk.crash(runtime)
        desk.lapse()
    async with desk.open(agent) as runtime:
        handle = handle_of(runtime) if crash else await runtime.start(agent, "hi", run_id="r")
        state = await desk.settled(handle)
        assert (await replayed(desk, agent)).ended
    await desk.journal.open()
    return state, model, desk


def test_another_route_and_a_smaller_answer_are_what_the_provider_is_asked_for() -> None:
    """And what the journal says was asked."""
    state, model, desk = run(asking(ruled(MODELS, SMALLER)))
    request = run(desk.only("r", ActionRequested))

    assert state == Finished("hello")
    assert (model.asked[0].model, model.asked[0].max_output_tokens) == ("small", 9)
    assert isinstance(request.action, CallLLM)
    assert (request.action.route, request.action.max_output_tokens) == ("fake:small", 9)
    assert request.decision.verdict == "modify"
    assert {op["path"] for op in plain(request.decision.patch)} == {"/model", "/max_output_tokens"}


def test_a_changed_model_call_that_was_lost_is_asked_again_as_it_was_changed() -> None:
    """The worker that takes the run up has the request from the journal, not from the program."""
    state, model, _ = run(asking(ruled(MODELS, SMALLER), crash=True))

    assert state == Finished("hello")
    assert [(call.model, call.max_output_tokens) for call in model.asked] == [("small", 9)] * 2


def test_the_changed_route_is_decided_about_too() -> None:
    """Only what is allowed as it will be asked is asked."""
    only = rule("allow", 'action = "call_llm"', 'where = { model = { eq = "m" } }')

    state, model, _ = run(asking(ruled(only, SMALLER)))

    assert isinstance(state, Failed)
    assert (state.denied, model.asked) == (True, [])


@pytest.mark.parametrize(
    ("parts", "code"),
    [([], "E_POLICY_NO_RULE"), ([MODELS, rule("deny", 'action = "call_llm"')], "E_POLICY_DENIED")],
)
def test_a_model_that_is_not_allowed_is_not_asked(parts: list[str], code: str) -> None:
    """The run ends as denied."""
    state, model, _ = run(asking(ruled(*parts)))

    assert isinstance(state, Failed)
    assert (state.error.code, state.denied, model.asked) == (code, True, [])


HIDE = rule("deny", 'tool = "admin.*"', "hide = true")


@pytest.mark.parametrize(
    ("top", "offered", "paid"),
    [("", ["pay"], []), ('mode = "shadow"', ["pay", "admin.wipe"], [-1])],
)
def test_a_hidden_tool_is_not_offered_and_its_call_is_denied(
    top: str, offered: list[str], paid: list[int]
) -> None:
    """A model that guesses its name gets no further; a shadow policy hides nothing."""

    async def scenario() -> tuple[Model, Shop, list[Any], list[Any]]:
        shop = Shop()
        model = Model(calls(("admin.wipe", "{}")), said("done"))
        desk = Desk(policy=ruled(MODELS, TOOLS, HIDE, top=top), providers={"fake": model})
        agent = Agent(name="helper", model="fake:m", tools=[shop.pay, shop.wipe])
        async with desk.open(agent) as runtime:
            handle = await runtime.start(agent, "go", run_id="r")
            assert await desk.settled(handle) == Finished("done")
            assert (await replayed(desk, agent)).ended
            asked = [
                e for e in await desk.all("r", ActionRequested) if isinstance(e.action, CallLLM)
            ]
            return model, shop, asked, await desk.all("r", ActionDeniedEvent)

    model, shop, asked, denied = run(scenario())

    assert [tool.name for tool in model.asked[0].tools] == offered
    assert shop.paid == paid
    hidden = () if paid else ("admin.wipe",)
    assert [event.decision.hidden for event in asked] == [hidden, hidden]
    assert [event.decision.rule for event in denied] == ([] if paid else ["deny-it"])


def test_a_retry_is_decided_under_the_policy_in_force_and_the_stricter_wins() -> None:
    """A policy that was tightened counts from its next decision on, and the journal says which."""
    calls_made: list[int] = []

    @tool(effect="read")
    async def fetch() -> str:
        calls_made.append(1)
        raise Transient("later")

    async def body(ctx: Any) -> Any:
        return await ctx.call_tool(fetch)

    loose = ruled(TOOLS, top='[retry]\nmax = 3\nbase = "1h"\ncap = "1h"')
    tight = ruled(TOOLS, rule("deny", 'tool = "fetch"', "where = { attempt = { gt = 0 } }"))

    async def scenario() -> tuple[Any, ActionFailed, str]:
        desk, program = Desk(), flow(body, fetch)
        async with desk.open(program, policy=loose) as first:
            await (await first.start(program, None, run_id="r")).settled()
        desk.clock.advance(3601)
        async with desk.open(program, policy=tight) as second:
            state = await desk.settled(handle_of(second))
            return state, await desk.only("r", ActionFailed), tight.digest

    state, failed, digest = run(scenario())

    assert isinstance(state, Failed)
    assert len(calls_made) == 1
    assert failed.error.code == "E_POLICY_DENIED"
    assert failed.decision is not None
    assert (failed.decision.rule, failed.decision.policy) == ("deny-it", digest)


def test_a_retry_that_another_policy_allows_says_so() -> None:
    """Which policy let an attempt start can be told from the journal alone."""
    left = [Transient("later")]

    @tool(effect="read")
    async def fetch() -> str:
        if left:
            raise left.pop()
        return "fine"

    async def body(ctx: Any) -> Any:
        return await ctx.call_tool(fetch)

    async def scenario() -> tuple[Any, AttemptStarted, str]:
        desk, program = Desk(), flow(body, fetch)
        loose = ruled(TOOLS, top='[retry]\nmax = 3\nbase = "1h"\ncap = "1h"')
        async with desk.open(program, policy=loose) as first:
            await (await first.start(program, None, run_id="r")).settled()
        desk.clock.advance(3601)
        other = ruled(TOOLS)
        async with desk.open(program, policy=other) as second:
            state = await desk.settled(handle_of(second))
            return state, await desk.only("r", AttemptStarted), other.digest

    state, again, digest = run(scenario())

    assert state == Finished("fine")
    assert again.decision is not None
    assert (again.decision.verdict, again.decision.policy) == ("allow", digest)


def test_a_stricter_policy_file_counts_for_a_run_that_is_taken_up(tmp_path: Path) -> None:
    """A changed policy strands nobody; it decides from its next decision on."""
    path, shop = tmp_path / "p.toml", Shop()

    async def body(ctx: Any) -> Any:
        got = [await ctx.call_tool(shop.pay, amount=1)]
        await ctx.sleep(3600)
        try:
            got.append(await ctx.call_tool(shop.pay, amount=2))
        except ActionDenied as exc:
            got.append(exc.code)
        return got

    async def scenario() -> tuple[Any, ActionDeniedEvent, str]:
        desk, program = Desk(), flow(body, shop.pay)
        path.write_text(f"version = 1\n{TOOLS}")
        async with desk.open(program, policy=path) as first:
            await (await first.start(program, None, run_id="r")).settled()
        path.write_text(f"version = 1\n{TOOLS}" + rule("deny", 'tool = "pay"'))
        desk.clock.advance(3601)
        async with desk.open(program, policy=path) as second:
            state = await desk.settled(handle_of(second))
            assert second.policy is not None
            return state, await desk.only("r", ActionDeniedEvent), second.policy.digest

    state, denied, digest = run(scenario())

    assert state == Finished(["paid 1", "E_POLICY_DENIED"])
    assert denied.decision.policy == digest


def test_a_decision_that_takes_too_long_is_a_deny() -> None:
    """It holds up every run of its worker; what it said then does not count."""
    desk = Desk()

    class Slow(Policy):
        def authorize(self, action: Any, context: Any) -> Decision:
            desk.clock.advance(6)
            return Decision.allow()

    async def scenario() -> tuple[Any, list[int]]:
        shop = Shop()

        async def body(ctx: Any) -> Any:
            try:
                return await ctx.call_tool(shop.pay, amount=1)
            except ActionDenied as exc:
                return exc.code

        async with desk.open(policy=Slow()) as runtime:
            handle = await runtime.start(flow(body, shop.pay), None, run_id="r")
            return await desk.settled(handle), shop.paid

    assert run(scenario()) == (Finished("E_POLICY_TIMEOUT"), [])
