"""Explains one decision: which rules looked at it, which facts they saw, what would allow it."""

import msgspec

from gatebook.kernel.events import Verdict
from gatebook.kernel.redact import Redactor
from gatebook.kernel.rules.conditions import Truth
from gatebook.kernel.rules.document import Condition, place
from gatebook.kernel.rules.facts import Request
from gatebook.kernel.rules.globs import any_glob
from gatebook.kernel.rules.match import Compiled, Rulebook
from gatebook.kernel.rules.templates import shown, value_of


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One condition as it was met: "args.amount le 500", the value, and true, false or None."""

    text: str
    value: str
    truth: Truth


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """One rule that is about the request: where it stands, whether it fired, its conditions."""

    rule: str
    then: Verdict
    place: str
    fired: bool
    asked: tuple[Asked, ...]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request is decided as it is.

    Attributes:
        looked: every rule that is about it, by id.
        remedies: what would have to be otherwise for it to be allowed, one sentence each.
    """

    verdict: Verdict
    enforced: Verdict
    rules: tuple[str, ...]
    reason: str
    looked: tuple[Looked, ...]
    remedies: tuple[str, ...]


def explain(book: Rulebook, request: Request, *, redactor: Redactor | None = None) -> Explanation:
    """Return why a request is decided as it is, with every value redacted and cut."""
    clean = redactor or Redactor()
    ruling = book.decide(request)
    parts = sorted(book.candidates(request), key=lambda part: part.rule.id)
    return Explanation(
        verdict=ruling.verdict,
        enforced=ruling.enforced,
        rules=ruling.rules,
        reason=clean.text(ruling.reason),
        looked=tuple(_looked(part, request, clean) for part in parts),
        remedies=tuple(clean.text(text) for text in _remedies(parts, request)),
    )


def worded(condition: Condition) -> str:
    """Return a condition as a person would read it aloud."""
    tests = " and ".join(f"{test.op} {shown(test.operand)}" for test in condition.tests)
    return f"{condition.fact} {tests}{' (optional)' if condition.optional else ''}"


def _fired(part: Compiled, request: Request) -> bool:
    truth = part.truth(request)
    return truth is True if part.rule.then == "allow" else truth is not False


def _looked(part: Compiled, request: Request, clean: Redactor) -> Looked:
    rule = part.rule
    asked = [
        Asked(
            text=worded(condition),
            value=clean.text(shown(value_of(condition.fact, request))),
            truth=truth(request),
        )
        for condition, (_, truth) in zip(rule.where, part.parts, strict=True)
    ]
    return Looked(
        rule=rule.id,
        then=rule.then,
        place=place(rule.source, rule.line),
        fired=_fired(part, request),
        asked=tuple(asked),
    )


def _remedies(parts: list[Compiled], request: Request) -> list[str]:
    found = []
    for part in parts:
        rule = part.rule
        if rule.then in ("deny", "interrupt") and _fired(part, request):
            what = " and ".join(worded(condition) for condition in rule.where)
            remedy = f"make it surely false that {what}" if what else "nothing else lifts it"
            found.append(f"rule {rule.id!r} must not {rule.then} it: {remedy}")
    allows = [part for part in parts if part.rule.then == "allow"]
    if request.on == "call" and not any(_fired(part, request) for part in allows):
        found += [_opening(part, request) for part in allows]
        if not allows:
            found.append(f'add a rule with then = "allow" that is about {request.name!r}')
    return found


def _opening(part: Compiled, request: Request) -> str:
    rule, lacking = part.rule, []
    agents = rule.select.agents
    if agents and (request.agent is None or not any_glob(agents)(request.agent)):
        lacking.append(f"the agent is {' or '.join(agents)} (is {request.agent})")
    for condition, (_, truth) in zip(rule.where, part.parts, strict=True):
        if truth(request) is not True:
            value = shown(value_of(condition.fact, request))
            lacking.append(f"{worded(condition)} (is {value})")
    return f"rule {rule.id!r} allows it when {', and '.join(lacking)}"
