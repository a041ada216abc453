"""The tests that live in a policy file: reading them and running them."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from gatebook.kernel.events import Verdict
from gatebook.kernel.records import STRICTNESS
from gatebook.kernel.rules.document import Document, Limited, Trial, place
from gatebook.kernel.rules.facts import (
    UNLIMITED,
    History,
    Request,
    ToolFacts,
)
from gatebook.kernel.rules.match import Rulebook
from gatebook.kernel.rules.tables import Table

TEST_KEYS = ("call", "expect", "rule", "name")
OUTCOMES = ("succeeded", "failed", "denied", "unknown")
EFFECTS = ("read", "idempotent", "at_most_once")
LEFT_KEYS = ("tool_calls", "llm_tokens", "wall_s", "cost_usd")
CALL_KEYS = (
    "on", "tool", "args", "agent", "user", "tenant", "labels", "provider", "model", "est_tokens",
    "est_cost_usd", "max_output_tokens", "left", "seen", "count", "last", "attempt", "deferred",
    "signal", "sleep_s", "result", "outcome", "input", "effect", "server", "tool_labels",
    "outbound",
)  # fmt: skip


class TrialResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one test went.

    Attributes:
        name: its name, or what it calls.
        place: "policy.toml:41".
        got: the verdict, of all rounds the strictest.
        rules: the rules that decided.
        reason: why, as the model or a person would read it.
    """

    name: str
    place: str
    passed: bool
    expect: Verdict
    got: Verdict
    rules: tuple[str, ...]
    reason: str


def run_tests(document: Document) -> tuple[TrialResult, ...]:
    """Run every test of a policy; a shadow policy is tested as if it enforced."""
    book = Rulebook(document)
    return tuple(_run(book, trial) for trial in document.trials)


def _run(book: Rulebook, trial: Trial) -> TrialResult:
    settled = book.settle(trial.request)
    rules = settled.ruling.rules
    named = not trial.rule or trial.rule in rules
    return TrialResult(
        name=trial.name or trial.request.name,
        place=place(trial.source, trial.line),
        passed=settled.verdict == trial.expect and named,
        expect=trial.expect,
        got=settled.verdict,
        rules=rules,
        reason=settled.ruling.reason,
    )


def read_trial(table: Table, budgets: Limited) -> Trial:
    """Read one `[[test]]`; what it does not say of a run is that nothing has happened yet."""
    table.only(TEST_KEYS)
    call = table.table("call", "the call of a [[test]]")
    if "call" not in table:
        table.bad("call", 'what to decide about, for example { tool = "mail.send" }')
    return Trial(
        request=_request(call, budgets) if call is not None else Request(),
        expect=table.choice("expect", STRICTNESS) or "deny",
        rule=table.text("rule"),
        name=table.text("name", limit=200),
        source=table.source.name,
        line=table.line,
    )


def _request(call: Table, budgets: Limited) -> Request:
    call.only(CALL_KEYS)
    given: dict[str, Any] = {key: read(call, key) for key, read in _READERS.items() if key in call}
    on = call.choice("on", ("start", "call", "result"), "call")
    kinds = [kind for key, kind in _KIND_KEYS.items() if key in call]
    if on != "start" and len(kinds) != 1:
        call.bad("tool", "one of tool, model, signal and sleep_s", value=", ".join(kinds) or None)
    if on == "result":
        given.setdefault("outcome", "succeeded")
    return Request(
        on=on,
        action=kinds[0] if kinds else "call_tool",
        about=_about(call),
        left=_left(call, budgets),
        history=_history(call),
        **{"args": {}, "labels": {}, **given},
    )


_KIND_KEYS: dict[str, Any] = {
    "tool": "call_tool", "model": "call_llm", "signal": "wait_signal", "sleep_s": "sleep",
}  # fmt: skip


def _text(call: Table, key: str) -> str:
    return call.text(key)


def _number(call: Table, key: str) -> Any:
    found = call.value[key]
    if type(found) is str:
        return call.money(key)
    if type(found) not in (int, Decimal):
        call.bad(key, "a number")
    return found


def _args(call: Table, key: str) -> Any:
    found = call.table(key)
    return {} if found is None else found.value


def _map(call: Table, key: str) -> dict[str, str]:
    found = call.table(key)
    return {} if found is None else {name: found.text(name) for name in found.value}


_READERS: dict[str, Callable[[Table, str], Any]] = {
    **dict.fromkeys(("tool", "agent", "user", "tenant", "provider", "model", "signal"), _text),
    **dict.fromkeys(("est_cost_usd", "sleep_s"), _number),
    **dict.fromkeys(
        ("est_tokens", "max_output_tokens", "attempt", "deferred"),
        lambda call, key: call.whole(key) or 0,
    ),
    **dict.fromkeys(("result", "input"), lambda call, key: call.value[key]),
    "outcome": lambda call, key: call.choice(key, OUTCOMES, "succeeded"),
    "args": _args,
    "labels": _map,
}


def _about(call: Table) -> ToolFacts:
    return ToolFacts(
        effect=call.choice("effect", EFFECTS) if "effect" in call else None,
        server=call.text("server") if "server" in call else None,
        labels=frozenset(_names(call, "tool_labels")) if "tool_labels" in call else None,
        outbound=call.flag("outbound") if "outbound" in call else None,
    )


def _names(call: Table, key: str) -> tuple[str, ...]:
    return () if call.value.get(key) == [] else call.texts(key)


def _left(call: Table, budgets: Limited) -> dict[str, Any]:
    wall = budgets.wall_ms
    found: dict[str, Any] = {
        "tool_calls": budgets.tool_calls,
        "llm_tokens": budgets.llm_tokens,
        "wall_s": None if wall is None else Decimal(wall) / 1000,
        "cost_usd": budgets.cost_usd,
    }
    table = call.table("left")
    if table is not None:
        table.only(LEFT_KEYS)
        found |= {key: _number(table, key) for key in table.value if key in LEFT_KEYS}
    return {key: UNLIMITED if value is None else value for key, value in found.items()}


def _history(call: Table) -> History:
    counts, last = call.table("count"), call.table("last")
    if last is not None:
        last.only(("action", "outcome"))
    return History(
        seen=set(_names(call, "seen")),
        counts={} if counts is None else {n: counts.whole(n) or 0 for n in counts.value},
        last=last.text("action") if last is not None else None,
        last_outcome=last.choice("outcome", OUTCOMES, "succeeded") if last is not None else None,
    )
