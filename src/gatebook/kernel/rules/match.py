"""Chooses the verdict: a compiled policy answers one request at a time, and never raises.

A call needs an `allow` that is surely true; everything else narrows, the strictest that may be
true wins. The order of rules and files has no meaning.
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from gatebook.errors import GatebookError
from gatebook.kernel.approvals.terms import ApprovalTerms, DeferTerms
from gatebook.kernel.decisions import MAX_ROUNDS
from gatebook.kernel.events import Verdict
from gatebook.kernel.redact import Redactor
from gatebook.kernel.rules.changes import Operation, apply_changes, subject, with_subject
from gatebook.kernel.rules.conditions import Truth, compiled
from gatebook.kernel.rules.document import (
    Condition,
    Document,
    Rule,
    Selector,
    stricter,
)
from gatebook.kernel.rules.facts import MISSING, Kind, Request
from gatebook.kernel.rules.globs import any_glob
from gatebook.kernel.rules.templates import render, shown, value_of

MAX_NAMES = 1_024  # whose rules are remembered; a program declares fewer tools
CLOSED: frozenset[Kind] = frozenset({"call_tool", "call_llm"})  # need an allow; waits reach nobody

Judge = Callable[[Request], Truth]


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules say about one request.

    Attributes:
        verdict: the strictest that fired, "deny" when nothing allows.
        enforced: what is to be done: "allow" in shadow mode, else the verdict.
        rules: ids of the rules that decided, sorted.
        reason: for people and for the model, in one sentence.
        code: for a deny: a stable code.
        approvals: of every `ask` rule that fired; each must be given.
        defers: of every `defer` rule that fired.
        changed: with `modify` rules that changed something: the new subject, to be validated and
            decided again before anything else happens; also beside a stricter verdict: who is asked
            to answer an interrupt sees what would run, and is whom the `ask` rules name.
        patch: how it was changed.
    """

    verdict: Verdict
    enforced: Verdict
    rules: tuple[str, ...] = ()
    reason: str = ""
    code: str = ""
    approvals: tuple[ApprovalTerms, ...] = ()
    defers: tuple[DeferTerms, ...] = ()
    changed: Any = MISSING
    patch: tuple[Operation, ...] = ()


NOTHING_SAID = Ruling(verdict="allow", enforced="allow")


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """A request decided to the end.

    Attributes:
        verdict: the strictest of all rounds.
        ruling: of that round.
        request: the final one, as `modify` rules left it.
        patch: what they changed.
    """

    verdict: Verdict
    ruling: Ruling
    request: Request
    patch: tuple[Operation, ...] = ()


class Compiled(msgspec.Struct, frozen=True):
    """A rule ready to be asked: as a whole, and condition by condition to say what was unknown.

    Attributes:
        alone: what an `allow` makes of a request that nothing narrows.
    """

    rule: Rule
    truth: Judge
    parts: tuple[tuple[str, Judge], ...]
    alone: Ruling

    def unknown(self, request: Request) -> list[str]:
        """Return the facts of the rule that a request leaves unknown."""
        nameless = self.rule.select.agents and request.agent is None
        names = [name for name, truth in self.parts if truth(request) is None]
        return ["agent", *names] if nameless else names

    def told(self, request: Request) -> str:
        """Return why the rule decided: its message or its name, and what was not known."""
        rule, unknown = self.rule, self.unknown(request)
        text = render(rule.message, request) if rule.message else f"rule {rule.id!r} says so"
        return f"{text} ({', '.join(unknown)} not known)" if unknown else text


class _About(msgspec.Struct, frozen=True):
    """The rules that open and those that narrow one kind of request."""

    opens: tuple[Compiled, ...]
    narrows: tuple[Compiled, ...]


class Rulebook:
    """A document compiled once; `decide` is a dictionary look-up and the conditions that apply."""

    def __init__(self, document: Document, *, redactor: Redactor | None = None) -> None:
        self.document = document
        self._redactor = redactor or Redactor()
        self._rules = tuple(_compiled(r) for r in sorted(document.rules, key=lambda r: r.id))
        self._labels = tuple(
            (label, judge(label.select, label.where, opens=False)) for label in document.labels
        )
        self._known: dict[tuple[str, ...], _About] = {}

    def decide(self, request: Request) -> Ruling:
        """Return what the rules say about one request; any error on the way is a deny."""
        try:
            return self._decide(request)
        except Exception as exc:  # noqa: BLE001 - deciding fails closed, whatever went wrong
            error = GatebookError("E_POLICY_ERROR", detail=type(exc).__name__)
            return self._ruling("deny", (), str(error), code=error.code)

    def settle(
        self, request: Request, *, validated: Callable[[Any], Any] = lambda value: value
    ) -> Settled:
        """Decide, and decide again what `modify` rules changed, at most three rounds.

        `validated` returns the final form of a changed subject or raises. The strictest verdict
        of all rounds stands: a change cannot make an ask go away.
        """
        strictest = ruling = self.decide(request)
        patch: tuple[Operation, ...] = ()
        for rounds in range(1, MAX_ROUNDS + 1):
            if stricter(ruling.verdict, strictest.verdict) == ruling.verdict:
                strictest = ruling
            if ruling.changed is MISSING:
                return Settled(
                    verdict=strictest.verdict, ruling=strictest, request=request, patch=patch
                )
            if rounds < MAX_ROUNDS:
                request = with_subject(request, validated(ruling.changed))
                patch += ruling.patch
                ruling = self.decide(request)
        error = GatebookError("E_MODIFY_LOOP", tool=request.name, limit=MAX_ROUNDS)
        last = self._ruling("deny", (), str(error), code=error.code)
        return Settled(verdict="deny", ruling=last, request=request, patch=patch)

    def labels(self, request: Request) -> tuple[str, ...]:
        """Return the labels a result carries, sorted: declared by its tool or added by policy."""
        found = set(request.about.labels or ())
        for label, truth in self._labels:
            if is_about(label.select, request) and _may(truth, request):
                found.update(label.add)
        return tuple(sorted(found))

    def sees(self, request: Request) -> bool:
        """Whether any rule or label is about a request, by its names alone."""
        about = self._about(request)
        named = about.opens or about.narrows
        return bool(named) or any(is_about(label.select, request) for label, _ in self._labels)

    def facts(self, rules: Iterable[str], request: Request) -> dict[str, str]:
        """Return what these rules asked of a request, as it may be recorded."""
        parts = [part.rule for part in self._rules if part.rule.id in rules]
        return facts_used(parts, request, self._redactor)

    def hidden(self, request: Request) -> bool:
        """Whether a tool is left out of what the model is offered; its arguments are not known."""
        narrows = self._about(request).narrows
        return any(part.rule.hide and _may(part.truth, request) for part in narrows)

    def candidates(self, request: Request) -> tuple[Compiled, ...]:
        """Return the rules that are about a request by their names alone."""
        about = self._about(request)
        return (*about.opens, *about.narrows)

    def _about(self, request: Request) -> _About:
        on, kind = request.on, request.action
        key = (on, kind, request.tool) if kind == "call_tool" and on != "start" else (on, kind)
        found = self._known.get(key)
        if found is None:
            named = [part for part in self._rules if is_about(part.rule.select, request)]
            found = _About(
                tuple(part for part in named if part.rule.then == "allow"),
                tuple(part for part in named if part.rule.then != "allow"),
            )
            if len(self._known) < MAX_NAMES:
                self._known[key] = found
        return found

    def _decide(self, request: Request) -> Ruling:
        about = self._about(request)
        fired = [part for part in about.narrows if part.truth(request) is not False]
        denies = [part for part in fired if part.rule.then == "deny"]
        if denies:
            return self._ruling("deny", denies, _told(denies, request), code="E_POLICY_DENIED")
        allowed = NOTHING_SAID
        for part in about.opens:
            if part.truth(request) is True:
                allowed = part.alone
                break
        if allowed is NOTHING_SAID and request.on == "call" and request.action in CLOSED:
            return self._unopened(fired)
        return self._narrowed(fired, allowed, request) if fired else allowed

    def _narrowed(self, fired: list[Compiled], allowed: Ruling, request: Request) -> Ruling:
        rules = [part.rule for part in fired]
        changes = [change for rule in rules for change in rule.changes]
        changed, patch = apply_changes(changes, subject(request), self._redactor)
        verdict: Verdict = "allow"
        for rule in rules:
            if rule.then != "modify" or patch:
                verdict = stricter(verdict, rule.then)
        if verdict == "allow":
            return allowed
        winners = [part for part in fired if part.rule.then == verdict]
        return msgspec.structs.replace(
            self._ruling(verdict, winners, _told(winners, request)),
            approvals=tuple(_approval(rule, request) for rule in rules if rule.then == "ask"),
            defers=tuple(_defer(rule) for rule in rules if rule.then == "defer"),
            changed=changed if patch else MISSING,
            patch=patch,
        )

    def _unopened(self, fired: list[Compiled]) -> Ruling:
        reason = "no rule allows it"
        if fired:
            names = ", ".join(f"{part.rule.id!r} ({part.rule.then})" for part in fired)
            reason = f"rule {names} would narrow it, but no rule allows it"
        return self._ruling("deny", fired, reason, code="E_POLICY_NO_RULE")

    def _ruling(
        self, verdict: Verdict, rules: Iterable[Compiled], reason: str = "", *, code: str = ""
    ) -> Ruling:
        ids = tuple(part.rule.id for part in rules)
        enforced: Verdict = "allow" if self.document.mode == "shadow" else verdict
        return Ruling(verdict=verdict, enforced=enforced, rules=ids, reason=reason, code=code)


def is_about(select: Selector, request: Request) -> bool:
    """Whether a selector names a request's point, kind and tool; agents are asked later."""
    if select.on != request.on:
        return False
    if select.on == "start":
        return True
    if request.action not in select.kinds:
        return False
    return not select.tools or any_glob(select.tools)(request.tool)


def judge(select: Selector, where: tuple[Condition, ...], *, opens: bool) -> Judge:
    """Compile what is left to ask of a request that a selector is about: agent and conditions."""
    ask = compiled(where, opens=opens)
    if not select.agents:
        return ask
    matches = any_glob(select.agents)

    def truth(request: Request) -> Truth:
        if request.agent is None:
            return False if ask(request) is False else None
        return ask(request) if matches(request.agent) else False

    return truth


def facts_used(rules: Iterable[Rule], request: Request, redactor: Redactor) -> dict[str, str]:
    """Return the facts that rules asked and their values as they may be recorded."""
    names = {condition.fact for rule in rules for condition in rule.where}
    return {name: redactor.text(shown(value_of(name, request))) for name in sorted(names)}


def _may(truth: Judge, request: Request) -> bool:
    try:
        return truth(request) is not False
    except Exception:  # noqa: BLE001 - what cannot be decided is the stricter side
        return True


def _compiled(rule: Rule) -> Compiled:
    opens = rule.then == "allow"
    parts = tuple((c.fact, compiled((c,), opens=opens)) for c in rule.where)
    alone = Ruling(verdict="allow", enforced="allow", rules=(rule.id,))
    return Compiled(rule, judge(rule.select, rule.where, opens=opens), parts, alone)


def _told(parts: list[Compiled], request: Request) -> str:
    return "; ".join(part.told(request) for part in parts)


def _approval(rule: Rule, request: Request) -> ApprovalTerms:
    return ApprovalTerms(
        rule=rule.id,
        message=render(rule.message, request) or f"{request.name}?",
        approvers=rule.approvers,
        choices=rule.choices,
        expires_ms=rule.expires_ms,
        on_expiry=rule.on_expiry,
    )


def _defer(rule: Rule) -> DeferTerms:
    return DeferTerms(rule=rule.id, after_ms=rule.after_ms, signal=rule.signal)
