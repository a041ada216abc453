"""Labels of results: what came back, from whomever, decides what may be done after it."""

import contextlib
from typing import Any

import pytest
from tests.runtime.kit import Desk, flow, run
from tests.runtime.results import find, play, ruled, send

from gatebook import ActionDenied, Permanent, Succeeded, tool
from gatebook.kernel.events import ActionDenied as ActionDeniedEvent
from gatebook.runtime.runs.handles import RunHandle
from gatebook.runtime.runs.states import Finished

LABELLED = """
[[label]]
tool = "find"
add = "private"
[[rule]]
id = "no-private-out"
then = "deny"
tool = "send"
where = { "seen.label" = { has = "private" } }
"""


async def finds_and_sends(ctx: Any, name: str) -> Any:
    with contextlib.suppress(Permanent):
        await ctx.call_tool(find, name=name)
    await ctx.sleep(3600)
    try:
        return await ctx.call_tool(send, text="x")
    except ActionDenied as exc:
        return exc.code


@pytest.mark.parametrize("name", ["ada", "nobody"])
@pytest.mark.parametrize("crash", [False, True])
def test_labels_of_results_decide_what_comes_after(name: str, crash: bool) -> None:
    """Also of an error's text, and in the process that takes the run up."""

    async def scenario() -> Any:
        desk = Desk(policy=ruled(LABELLED))
        program = flow(finds_and_sends, find, send)
        runtime = desk.runtime(program)
        await runtime.open()
        handle = await runtime.start(program, name, run_id="r")
        await handle.settled()
        if crash:
            await desk.crash(runtime)
            desk.lapse()
        else:
            await runtime.close()
        desk.clock.advance(3601)
        state = await desk.taken_up(program)
        (denied,) = await desk.all("r", ActionDeniedEvent)
        ended: list[Any] = [e for e in await desk.events("r") if getattr(e, "labels", ())]
        return state, denied.decision.rule, [e.labels for e in ended]

    assert run(scenario()) == (Finished("E_POLICY_DENIED"), "no-private-out", [("private",)])


@pytest.mark.parametrize(
    ("policy", "labels"),
    [
        pytest.param(None, ("untrusted",), id="no rules"),
        pytest.param(ruled(), ("untrusted",), id="no rule on labels"),
        pytest.param(
            ruled('[[label]]\ntool = "fetch"\nadd = "web"\n'), ("untrusted", "web"), id="one more"
        ),
    ],
)
def test_a_tool_that_declares_labels_needs_no_rule_for_them(policy: Any, labels: Any) -> None:
    """They are recorded under any policy, so that a later one can ask."""

    @tool(effect="read", returns={"untrusted"})
    async def fetch() -> str:
        return "<p>"

    async def body(ctx: Any) -> Any:
        return await ctx.call_tool(fetch)

    assert play(policy, flow(body, fetch)).succeeded().labels == labels


@pytest.mark.parametrize("declared", [True, False])
def test_what_a_person_says_came_back_carries_the_tools_labels(declared: bool) -> None:
    """A hand-typed result is not cleaner than the tool's own, whoever labels that."""

    @tool(returns={"private"} if declared else ())
    async def vague() -> str:
        raise OSError("reset")

    async def body(ctx: Any) -> Any:
        await ctx.call_tool(vague)
        try:
            return await ctx.call_tool(send, text="x")
        except ActionDenied as exc:
            return exc.code

    async def settle(handle: RunHandle[Any]) -> None:
        await handle.settled()
        await handle.resolve("0", Succeeded("typed"))

    rules = LABELLED if declared else LABELLED.replace('tool = "find"', 'tool = "vague"')
    played = play(ruled(rules), flow(body, vague, find, send), before=settle)

    assert played.state == Finished("E_POLICY_DENIED")


def test_a_signal_is_a_result_too() -> None:
    """It comes from outside like any other."""
    rules = (
        '[[label]]\naction = "wait_signal"\nadd = "private"\n'
        '[[rule]]\nid = "s"\non = "result"\nthen = "modify"\naction = "wait_signal"\n'
        'drop = "result.note"\n'
    )

    async def body(ctx: Any) -> Any:
        got = await ctx.wait_signal("go")
        try:
            await ctx.call_tool(send, text="x")
        except ActionDenied as exc:
            return [got, exc.code]

    async def signal(handle: RunHandle[Any]) -> None:
        await handle.signal("go", {"yes": True, "note": "x"})

    played = play(ruled(rules, LABELLED), flow(body, find, send), before=signal)

    assert played.state == Finished([{"yes": True}, "E_POLICY_DENIED"])
