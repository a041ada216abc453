"""Decides again what was decided: what another policy would have said, as if it were enforced.

Each decision stands alone: everything before it has happened as the journal records it.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from gatebook.errors import GatebookError, InvalidInput
from gatebook.kernel.budget import Limits, shortfall
from gatebook.kernel.codec import canonical, plain
from gatebook.kernel.events import Verdict
from gatebook.kernel.review.decisions import Decided
from gatebook.kernel.rules.changes import plain_json
from gatebook.kernel.rules.document import Document, stricter
from gatebook.kernel.rules.facts import Request
from gatebook.kernel.rules.match import Rulebook
from gatebook.kernel.rules.views import View
from gatebook.kernel.spending.prices import micro_usd

Validate = Callable[[str, bytes], bytes]
PASSING = ("allow", "modify")
PINNED = (*PASSING, "defer")  # what becomes an ask of a tool that is not the pinned one


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy would say: verdict, the rules that say so, why, and for a deny its code."""

    verdict: Verdict
    rules: tuple[str, ...] = ()
    reason: str = ""
    code: str = ""


def limits_of(document: Document) -> Limits:
    """Return the limits that a policy file sets."""
    found = document.budgets
    return Limits(
        tool_calls=found.tool_calls,
        llm_tokens=found.llm_tokens,
        wall_ms=found.wall_ms,
        usd_micros=None if found.cost_usd is None else micro_usd(found.cost_usd),
        fan_out=found.fan_out,
    )


def answer(book: Rulebook, decided: Decided, validate: Validate | None = None) -> Answer:
    """Return what a policy says about a recorded decision, its budget included.

    Args:
        validate: returns the final form of a tool's changed arguments, or raises InvalidInput.
    """
    found = _narrowed(_routed(book, decided, validate), decided, book.document)
    short = shortfall(decided.limits, decided.used, decided.want)
    if found.verdict not in PASSING or short is None:
        return found
    error = GatebookError("E_BUDGET", tool=decided.what, **short.told())
    return Answer(verdict="deny", reason=str(error).partition(";")[0], code=error.code)


def differs(decided: Decided, now: Answer) -> bool:
    """Whether an answer is another decision than the recorded one.

    What a `modify` rule changed is recorded as it became: that it passes now is no difference.
    """
    return decided.was != now.verdict and (decided.was, now.verdict) != ("modify", "allow")


def _routed(book: Rulebook, decided: Decided, validate: Validate | None) -> Answer:
    """Return what the rules say of the action, of a model call on each of its routes."""
    found = _settled(book, decided.requests[0], validate)
    for request in decided.requests[1:]:
        if found.verdict not in PASSING:
            break
        ruling = book.decide(request)
        if ruling.verdict != "allow":
            found = Answer(
                verdict=ruling.verdict, rules=ruling.rules, reason=ruling.reason, code=ruling.code
            )
    return found


def _narrowed(found: Answer, decided: Decided, policy: Document) -> Answer:
    """Return the answer with what the policy pins, and with what no policy decides."""
    pin = policy.pins.get(decided.what, "") if decided.kind == "tool" else ""
    if pin and decided.pin and not decided.pin.startswith(pin) and found.verdict in PINNED:
        reason = f"the policy pins {pin[:16]}, the run began with {decided.pin[:16]}"
        found = Answer(verdict="ask", reason=reason, code="E_TOOL_PIN")
    if stricter(found.verdict, decided.floor) == found.verdict or decided.record is None:
        return found
    record = decided.record
    rules = (record.rule,) if record.rule else ()
    return Answer(
        verdict=decided.floor, rules=rules, reason=record.reason, code=decided.code or record.code
    )


def _settled(book: Rulebook, request: Request, validate: Validate | None) -> Answer:
    def final(changed: Any) -> Any:
        if validate is None or request.action != "call_tool" or request.on != "call":
            return changed
        args = plain(validate(request.tool, canonical(plain_json(changed))))
        schema = request.about.schema
        return args if schema is None else View(schema).of(args)

    try:
        settled = book.settle(request, validated=final)
    except InvalidInput as refused:
        return Answer(verdict="deny", reason=str(refused), code=refused.code)
    ruling = settled.ruling
    return Answer(
        verdict=settled.verdict, rules=ruling.rules, reason=ruling.reason, code=ruling.code
    )
