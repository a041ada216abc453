"""What a run was decided by would decide it the same: the law that a backtest stands on."""

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.kit import RUN

from gatebook import ActionDenied, ActionError, Runtime, ToolRetry, tool, workflow
from gatebook.kernel.review.again import answer, differs, limits_of
from gatebook.kernel.review.decisions import Told, decisions
from gatebook.kernel.rules.match import Rulebook
from gatebook.kernel.rules.policy import RulesPolicy, policy_from

PATIENCE_S = 20  # only a broken build gets there


@tool(effect="read", returns=["untrusted"])
async def look(at: int, note: str = "") -> int:
    """Look."""
    if at == 4:
        raise ToolRetry("not there")
    return at


@tool(sends=True)
async def send(at: int, note: str = "") -> str:
    """Send."""
    return note


@workflow(tools=[look, send])
async def desk(ctx: Any, plan: list[list[Any]]) -> int:
    denied = 0
    for name, at in plan:
        try:
            await ctx.call_tool(look if name == "look" else send, at=at)
        except ActionDenied:
            denied += 1
        except ActionError:
            denied += 100
    return denied


CONDITIONS = (
    '"args.at" = { le = 2 }',
    '"args.at" = { eq = 3 }',
    '"args.note" = { size = { eq = 0 } }',
    '"seen.label" = { has = "untrusted" }',
    '"count.look" = { ge = 2 }',
    "count = { ge = 2 }",
    '"count.*" = { ge = 3 }',
    '"last.action" = { eq = "send" }',
    '"last.outcome" = { eq = "denied", optional = true }',
    '"tool.read_only" = { eq = true }',
    '"tool.outbound" = { eq = true }',
    '"budget.left.tool_calls" = { lt = 3 }',
    '"label.team" = { eq = "desk" }',
    'user = { eq = "ann" }',
)
VERDICTS = {
    "allow": "", "deny": "", "ask": "", "interrupt": "", "defer": 'signal = "later"',
    "modify": 'set = { "args.at" = 1 }',
}  # fmt: skip


def one_rule(then: str, about: str, where: Sequence[str]) -> str:
    more = f"where = {{ {', '.join(where)} }}" if where else ""
    return "\n".join([f'then = "{then}"', f"tool = {about}", VERDICTS[then], more])


RESULTS = st.sampled_from(
    [
        'on = "result"\nthen = "deny"\ntool = "*"\nwhere = { result = { eq = 2 } }',
        'on = "result"\nthen = "deny"\ntool = "send"\nwhere = { outcome = { eq = "failed" } }',
        'on = "result"\nthen = "modify"\ntool = "look"\nset = { result = 7 }',
        'on = "start"\nthen = "ask"\nwhere = { "label.team" = { eq = "sales" } }',
    ]
)
RULES = st.lists(
    RESULTS
    | st.builds(
        one_rule,
        st.sampled_from(["deny", "deny", "modify", "ask", "defer", "interrupt"]),
        st.sampled_from(['"*"', '"look"', '"send"']),
        st.sampled_from(CONDITIONS).map(lambda one: [one]),
    ),
    min_size=1,
    max_size=3,
)
TOPS = st.sampled_from(
    ["", "[budgets]\ntool_calls = 3\n", '[[label]]\ntool = "send"\nadd = "untrusted"\n']
)
PLANS = st.lists(
    st.tuples(st.sampled_from(["look", "send"]), st.integers(1, 4)), min_size=3, max_size=9
)


def policy_of(rules: Sequence[str], top: str) -> RulesPolicy:
    opens = '[[rule]]\nid = "opens"\nthen = "allow"\ntool = "*"\n'
    body = "".join(f'[[rule]]\nid = "r{n}"\n{text}\n' for n, text in enumerate(rules))
    return policy_from(("p.toml", f"version = 1\n{top}{opens}{body}"))


async def recorded(policy: RulesPolicy, plan: Any) -> list[Any]:
    """The events of a run, up to its end or to where a person is wanted."""
    async with Runtime(":memory:", programs=[desk], policy=policy) as runtime:
        run = await runtime.start(
            desk, plan, run_id="r", labels={"team": "desk"}, context={"user": "ann"}
        )
        async with asyncio.timeout(PATIENCE_S):
            await run.settled()
        return [each.event for each in await runtime.journal.read(RUN)]


@settings(max_examples=100, deadline=None)
@given(RULES, TOPS, PLANS)
def test_the_policy_that_decided_would_decide_the_same(
    rules: list[str], top: str, plan: list[tuple[str, int]]
) -> None:
    """Every difference that a backtest shows must come from the file, and none from the telling."""
    policy = policy_of(rules, top)
    events = asyncio.run(recorded(policy, [list(step) for step in plan]))

    told = Told(
        run_id="r", tools={"look": look.spec, "send": send.spec}, results=True,
        limits=limits_of(policy.document), policy=policy.digest, labels=policy.book.labels,
    )  # fmt: skip
    book = Rulebook(policy.document)
    tools: dict[str, Any] = {"look": look, "send": send}
    found = [
        (each, answer(book, each, lambda name, args: tools[name].validate(args)))
        for each in decisions(events, told)
        if each.by_policy and not each.repeats
    ]

    different = [(each.seq, each.was, now.verdict) for each, now in found if differs(each, now)]
    assert different == []
