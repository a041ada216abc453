"""Decisions by a policy of 20 rules, measured in a process of their own; prints microseconds.

What is timed is all that the gate spends on a policy for one tool call: the context with the
run's facts, and the rules. `all` asks 20 rules about the one tool, each with conditions that hold,
`named` has 20 rules of which two are about it.

    python -m bench.decisions CASE
"""

import argparse
import gc
import json
import time

from bench.lowlat import ask_for_short_slices

from gatebook import tool
from gatebook.kernel.actions import CallTool
from gatebook.kernel.budget import Amount, Limits
from gatebook.kernel.codec import Raw, canonical
from gatebook.kernel.grounds import Grounds, context_at
from gatebook.kernel.policy import PolicyContext
from gatebook.kernel.redact import Redactor
from gatebook.kernel.rules.past import Past
from gatebook.kernel.rules.policy import RulesPolicy, policy_from
from gatebook.kernel.state import RunState

RULES = 20
BATCH = 500  # decisions timed together
BATCHES = 21

ALLOW = """[[rule]]
id = "open"
then = "allow"
tool = "refund"
agent = "support*"
where = { "args.amount" = { gt = 0, le = 500 }, "args.currency" = { in = ["EUR", "USD"] } }
"""
NARROW = (
    '"args.amount" = { gt = 500 }',
    '"args.order" = { glob = "x-*" }',
    '"args.order" = { regex = "[xyz]{2,8}" }',
    '"seen.label" = { has = "untrusted" }',
    '"budget.left.tool_calls" = { lt = 1 }',
    '"tool.effect" = { eq = "read" }',
    "count = { ge = 100 }",
)


@tool
async def refund(order: str, amount: int, currency: str = "EUR") -> str:
    """Refund an order."""
    return order


def policy(case: str) -> RulesPolicy:
    """Return 20 rules: one allows, the others deny what is not the case here."""
    text = "version = 1\n" + ALLOW
    for number in range(1, RULES):
        about = "refund" if case == "all" or number == 1 else f"tool{number}"
        where = NARROW[number % len(NARROW)]
        if about != "refund":
            where = '"args.amount" = { gt = 500 }'
        text += f'[[rule]]\nid = "r{number}"\nthen = "deny"\ntool = "{about}"\n'
        text += f"where = {{ {where} }}\n"
    return policy_from(("bench.toml", text))


def measure(case: str) -> list[float]:
    """Return the microseconds of a decision, batch by batch."""
    rules, past = policy(case), Past()
    base = PolicyContext(run_id="r", tenant="default", program="support", address="")
    state = RunState()
    state.head.limits = Limits(tool_calls=60, llm_tokens=400_000)
    state.head.spent = Amount(tool_calls=3)
    grounds = Grounds(
        policy=rules,
        policy_digest="d",
        state=state,
        base=base,
        tools={"refund": refund},
        redactor=Redactor(),
        run=past.facts,
    )
    args = {"order": "o-17", "amount": 20, "currency": "EUR"}
    action = CallTool("refund", Raw(canonical(args)))

    def decide() -> str:
        context = context_at(grounds, "0", action, "at_most_once")
        return rules.authorize(action, context).verdict

    assert decide() == "allow"
    found = []
    for _ in range(BATCHES):
        gc.collect()
        began = time.perf_counter()
        for _ in range(BATCH):
            decide()
        found.append((time.perf_counter() - began) / BATCH * 1e6)
    return found


def main() -> None:
    ask_for_short_slices()
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=("all", "named"))
    found = measure(parser.parse_args().case)
    print(json.dumps({"decision_us": min(found)}))  # what is above it is the machine's


if __name__ == "__main__":
    main()
