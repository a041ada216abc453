"""Soft limits: what the gate makes of an action that policy allows and that goes beyond one.

With a route, a model call goes there instead: recorded as a modify with its patch, and decided
again like any other. Without one a person is asked. The smallest budget still ends what it ends.
"""

from collections.abc import Sequence

from gatebook.kernel.actions import Action, CallLLM, CallTool, split_route
from gatebook.kernel.budget import METERS, Amount, Limits, Shortfall, SoftLimit, charged, shortfall
from gatebook.kernel.codec import Raw, canonical
from gatebook.kernel.policy import Decision
from gatebook.kernel.spending.prices import dollars_text
from gatebook.kernel.spending.reserving import Purse, estimate_tokens, in_dollars

RULE = "gatebook.soft"  # no rule of a policy may have this name
UNKNOWN = "unknown"


def softened(
    decision: Decision, action: Action, soft: Sequence[SoftLimit], purse: Purse
) -> Decision:
    """Return what an allowed action becomes under soft limits; asking goes before rerouting."""
    changed = decision
    for each in soft:
        if each.route and (not isinstance(action, CallLLM) or action.route == each.route):
            continue
        told = _beyond(each.limits, action, purse)
        if told is None:
            continue
        if not each.route:
            return _asked(told)
        if changed is decision and isinstance(action, CallLLM):
            changed = _elsewhere(action, each.route, told)
    return changed


def moved(soft: Sequence[SoftLimit], started: Limits, now: Limits) -> tuple[SoftLimit, ...]:
    """Return soft limits as far from the hard ones as they were: a raise moves both."""
    if started == now:
        return tuple(soft)
    before, after = started.named(), now.named()
    by = Limits(**{m: after[m] - n for m, n in before.items() if m in after and m in METERS})
    return tuple(SoftLimit(each.limits.grown(by), each.route) for each in soft)


def _beyond(limits: Limits, action: Action, purse: Purse) -> dict[str, object] | None:
    """Return what is told of a limit that is reached, None for one that surely is not.

    A price that nobody knows is not nothing; under a hard limit in dollars it is a denial.
    """
    short = _reached(limits, action, purse)
    if short is not None:
        return short.told()
    if not isinstance(action, CallLLM) or limits.usd_micros is None or in_dollars(purse):
        return None
    if purse.price(action) is not None:
        return None
    limit = dollars_text(limits.usd_micros)
    return {"meter": "usd", "limit": limit, "used": UNKNOWN, "want": UNKNOWN}


def _why(told: dict[str, object]) -> str:
    limit = f"the soft limit of {told['limit']} {told['meter']}"
    if told["want"] == UNKNOWN:
        return f"{limit} may be reached: the price of the call is unknown"
    return f"{limit} is reached"


def _reached(limits: Limits, action: Action, purse: Purse) -> Shortfall | None:
    match action:
        case CallTool():
            want = Amount(tool_calls=1)
        case CallLLM():
            price = purse.price(action) if limits.usd_micros is not None else None
            usd = 0 if price is None else charged(action, price, None)
            want = Amount(llm_tokens=estimate_tokens(action), usd_micros=usd)
        case _:
            return None
    return shortfall(limits, purse.state.head.used, want)


def _asked(told: dict[str, object]) -> Decision:
    used = "" if told["used"] == UNKNOWN else f": {told['used']} used"
    reason = f"{_why(told)}{used}"
    return Decision("ask", reason, RULE, facts=_facts(told))


def _elsewhere(action: CallLLM, route: str, told: dict[str, object]) -> Decision:
    provider, model = split_route(route)
    args = {
        "provider": provider, "model": model, "max_output_tokens": action.max_output_tokens
    }  # fmt: skip
    patch = [
        {"op": "replace", "path": f"/{name}", "value": args[name]} for name in ("provider", "model")
    ]
    return Decision(
        "modify",
        f"{_why(told)}: {route} instead",
        RULE,
        args=Raw(canonical(args)),
        facts=_facts(told),
        patch=Raw(canonical(patch)),
    )


def _facts(told: dict[str, object]) -> dict[str, str]:
    return {f"budget.{name}": str(told[name]) for name in ("meter", "limit", "used", "want")}
