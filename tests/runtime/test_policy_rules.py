"""Rules at work: each verdict at each point of a run, in its journal, after a crash, replayed."""

from typing import Any

import pytest
from tests.runtime.kit import Desk, flow, handle_of, run
from tests.runtime.policies import TOOLS, Shop, replayed, rule, ruled

from gatebook import (
    ActionDenied,
    SignalTimeout,
    Transient,
    tool,
)
from gatebook.kernel.codec import plain
from gatebook.kernel.events import ActionDenied as ActionDeniedEvent
from gatebook.kernel.events import ActionRequested
from gatebook.runtime.runs.states import Finished, Waiting


async def paying(policy: Any, amount: int = 5) -> tuple[Any, Shop, Desk]:
    """One run that pays and answers what it was told."""
    shop, desk = Shop(), Desk(policy=policy)

    async def body(ctx: Any) -> Any:
        try:
            return await ctx.call_tool(shop.pay, amount=amount)
        except ActionDenied as exc:
            return exc.code

    program = flow(body, shop.pay)
    async with desk.open() as runtime:
        state = await desk.settled(await runtime.start(program, None, run_id="r"))
        assert (await replayed(desk, program)).ended is not isinstance(state, Waiting)
    await desk.journal.open()
    return state, shop, desk


@pytest.mark.parametrize(
    ("parts", "end", "paid"),
    [
        ([TOOLS], "paid 5", [5]),
        ([], "E_POLICY_NO_RULE", []),
        ([TOOLS, rule("deny", 'tool = "pay"')], "E_POLICY_DENIED", []),
        ([TOOLS, rule("modify", 'tool = "pay"', 'set = { "args.amount" = 3 }')], "paid 3", [3]),
        ([rule("modify", 'tool = "pay"', 'set = { "args.amount" = 3 }')], "E_POLICY_NO_RULE", []),
        ([TOOLS, rule("modify", 'tool = "pay"', 'set = { "args.amount" = "x" }')],
         "E_ARGS_SCHEMA", []),
        ([rule("allow", 'tool = "pay"', 'where = { "args.amount" = { le = 3 } }'),
          rule("modify", 'tool = "pay"', 'set = { "args.amount" = 3 }')], "E_POLICY_NO_RULE", []),
        ([rule("allow", 'tool = "pay"'),
          rule("deny", 'tool = "pay"', 'where = { "args.amount" = { eq = 3 } }'),
          rule("modify", 'tool = "pay"', 'set = { "args.amount" = 3 }')], "E_POLICY_DENIED", []),
    ],
)  # fmt: skip
def test_a_tool_call_is_decided_on_its_final_arguments(
    parts: list[str], end: str, paid: list[int]
) -> None:
    """What runs was itself decided about; what was not allowed never ran."""
    state, shop, _ = run(paying(ruled(*parts)))

    assert (state, shop.paid) == (Finished(end), paid)


@pytest.mark.parametrize(("then", "more"), [("ask", ""), ("defer", 'after = "1m"'),
                                            ("interrupt", "")])  # fmt: skip
def test_what_waits_for_somebody_does_not_run(then: str, more: str) -> None:
    """Nor does what it would open without an allow."""
    _, shop, _ = run(paying(ruled(TOOLS, rule(then, 'tool = "pay"', more))))

    assert shop.paid == []


def test_what_was_modified_is_journaled_as_a_patch_with_its_rule_and_facts() -> None:
    """A reader sees what was asked for, what ran and why."""
    more = 'set = { "args.amount" = 3 }\nwhere = { "args.amount" = { gt = 3 } }'

    _, _, desk = run(paying(ruled(TOOLS, rule("modify", 'tool = "pay"', more))))
    request = run(desk.only("r", ActionRequested))

    assert plain(request.action.args) == {"amount": 3}  # type: ignore[union-attr]
    assert (request.decision.verdict, request.decision.rule) == ("modify", "modify-it")
    assert plain(request.decision.patch) == [{"op": "replace", "path": "/amount", "value": 3}]
    assert request.decision.facts == {"args.amount": "5"}


def test_a_denial_without_a_rule_says_what_the_allows_saw() -> None:
    """So that who reads it knows what was missing."""
    allow = rule("allow", 'tool = "pay"', 'where = { "args.amount" = { le = 3 } }')

    _, _, desk = run(paying(ruled(allow)))
    denied = run(desk.only("r", ActionDeniedEvent))

    assert denied.decision.facts == {"args.amount": "5"}


@pytest.mark.parametrize("parts", [[], [TOOLS, rule("deny", 'tool = "pay"')],
                                   [TOOLS, rule("modify", 'tool = "pay"',
                                                'set = { "args.amount" = 3 }')]])  # fmt: skip
def test_a_shadow_policy_lets_through_and_records_what_it_would_have_said(
    parts: list[str],
) -> None:
    """The bytes are those that were asked for."""
    state, shop, desk = run(paying(ruled(*parts, top='mode = "shadow"')))
    request = run(desk.only("r", ActionRequested))

    assert (state, shop.paid) == (Finished("paid 5"), [5])
    assert request.decision.verdict == "allow"
    assert request.decision.shadow == ("modify" if "modify" in str(parts) else "deny")


def test_a_shadow_policy_stops_nobody_at_its_budgets() -> None:
    """It says that it would have."""
    top = 'mode = "shadow"\n[budgets]\ntool_calls = 0'

    state, _, desk = run(paying(ruled(TOOLS, top=top)))
    request = run(desk.only("r", ActionRequested))

    assert state == Finished("paid 5")
    assert request.decision.shadow == "deny"
    assert "E_BUDGET" in request.decision.reason


def test_a_budget_of_a_file_holds() -> None:
    """It is a limit like any other."""
    state, shop, _ = run(paying(ruled(TOOLS, top="[budgets]\ntool_calls = 0")))

    assert (state, shop.paid) == (Finished("E_BUDGET"), [])


def test_counts_and_the_last_action_are_facts_across_a_crash() -> None:
    """History is a fold of the journal, so another process decides alike."""
    allow = rule("allow", 'tool = "pay"', "where = { count = { lt = 2 } }")
    shop = Shop()

    async def body(ctx: Any) -> Any:
        got = []
        for amount in (1, 2, 3):
            try:
                got.append(await ctx.call_tool(shop.pay, amount=amount))
            except ActionDenied as exc:
                got.append(exc.code)
            await ctx.sleep(3600)
        return got

    async def scenario() -> Any:
        desk = Desk(policy=ruled(allow))
        program = flow(body, shop.pay)
        runtime = desk.runtime(program)
        await runtime.open()
        await (await runtime.start(program, None, run_id="r")).settled()
        await desk.crash(runtime)
        desk.lapse()
        async with desk.open(program) as second:
            handle = handle_of(second)
            for _ in range(3):
                await desk.settled(handle)
                desk.clock.advance(3601)
            return await desk.settled(handle)

    assert run(scenario()) == Finished(["paid 1", "paid 2", "E_POLICY_NO_RULE"])
    assert shop.paid == [1, 2]


def test_a_retry_does_not_count_itself() -> None:
    """An action that was allowed as the last of its kind may be tried again."""
    left = [Transient("later")]

    @tool(effect="read")
    async def fetch() -> str:
        if left:
            raise left.pop()
        return "fine"

    async def body(ctx: Any) -> Any:
        got = [await ctx.call_tool(fetch)]
        try:
            got.append(await ctx.call_tool(fetch))
        except ActionDenied as exc:
            got.append(exc.code)
        return got

    async def scenario() -> Any:
        desk = Desk(policy=ruled(rule("allow", 'tool = "fetch"', "where = { count = { lt = 1 } }")))
        async with desk.open() as runtime:
            return await desk.settled(await runtime.start(flow(body, fetch), None))

    assert run(scenario()) == Finished(["fine", "E_POLICY_NO_RULE"])


@pytest.mark.parametrize(
    ("parts", "end"),
    [
        ([], ["slept", "SignalTimeout"]),
        ([rule("deny", 'action = "sleep"', "where = { sleep_s = { gt = 5 } }")],
         ["E_POLICY_DENIED", "SignalTimeout"]),
        ([rule("deny", 'action = "wait_signal"', 'where = { signal = { eq = "go" } }')],
         ["slept", "E_POLICY_DENIED"]),
    ],
)  # fmt: skip
def test_sleeps_and_waits_pass_unless_a_rule_denies_them(parts: list[str], end: list[str]) -> None:
    """They reach nobody."""

    async def body(ctx: Any) -> Any:
        got = []
        try:
            await ctx.sleep(10)
            got.append("slept")
        except ActionDenied as exc:
            got.append(exc.code)
        try:
            await ctx.wait_signal("go", timeout=1)
        except ActionDenied as exc:
            got.append(exc.code)
        except SignalTimeout:
            got.append("SignalTimeout")
        return got

    async def scenario() -> Any:
        desk = Desk(policy=ruled(*parts))
        async with desk.open(flow(body)) as runtime:
            handle = await runtime.start(flow(body), None, run_id="r")
            for _ in range(3):
                await desk.settled(handle)
                desk.clock.advance(11)
            return await desk.settled(handle)

    assert run(scenario()) == Finished(end)
