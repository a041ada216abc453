"""Reads a policy file: TOML text becomes a `Document`, or errors that name their lines.

Every key is checked against a closed list. Knows no tools: see `check` for what needs them.
"""

import difflib
import re
from decimal import Decimal
from typing import Any

from gatebook.errors import ConfigError
from gatebook.kernel.approvals.terms import DEFAULT_EXPIRES_MS
from gatebook.kernel.records import STRICTNESS
from gatebook.kernel.rules.conditions import OPS, OperandError, check_test
from gatebook.kernel.rules.document import (
    Change,
    Condition,
    Document,
    Label,
    Limited,
    Retries,
    Rule,
    Selector,
    Test,
    place,
)
from gatebook.kernel.rules.facts import KINDS, POINTS, fact, fact_names
from gatebook.kernel.rules.tables import Source, Table, as_json
from gatebook.kernel.rules.templates import fields
from gatebook.kernel.rules.trials import read_trial
from gatebook.kernel.spending.ledgers import NAMES

TOP_KEYS = (
    "version", "name", "default", "mode", "budgets", "retry", "label", "rule", "test", "pins",
)  # fmt: skip
BUDGET_KEYS = ("tool_calls", "llm_tokens", "cost_usd", "wall_clock", "fan_out", "day", "tenant")
LEDGER_KEYS = ("tool_calls", "llm_tokens", "cost_usd")
RETRY_KEYS = ("max", "base", "cap", "jitter")
SELECT_KEYS = ("tool", "action", "agent")
LABEL_KEYS = (*SELECT_KEYS, "add", "where")
RULE_KEYS = (*SELECT_KEYS, "id", "then", "on", "where", "message")
THEN_KEYS: dict[str, tuple[str, ...]] = {
    "allow": (),
    "deny": ("hide",),
    "ask": ("approvers", "choices", "expires", "on_expiry"),
    "defer": ("after", "signal"),
    "modify": ("set", "drop", "redact"),
    "interrupt": (),
}
CHOICES = ("approve", "edit", "deny")
SILENCES = ("deny", "interrupt")
REDACTIONS = ("secrets", "all")
MAX_RULES = 1_000
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_PIN = re.compile(r"[0-9a-f]{16,64}")


def load(text: str, source: str = "policy.toml") -> Document:
    """Return the policy a text holds; `source` is the name that errors give.

    Raises:
        ConfigError: the first error, by line: E_POLICY_SYNTAX, E_POLICY_KEY, E_POLICY_VALUE,
            E_POLICY_FACT or E_POLICY_DUPLICATE.
    """
    document, errors = read(text, source)
    if errors:
        raise errors[0]
    return document


def read(text: str, source: str = "policy.toml") -> tuple[Document, list[ConfigError]]:
    """Return what can be read of a policy, and every error in it, by line."""
    found = Source(text, source)
    if found.errors:
        return Document(name=source), found.errors
    table = found.table()
    table.only(TOP_KEYS)
    if table.value.get("version") != 1 or type(table.value["version"]) is not int:
        table.bad("version", "version = 1")
    table.choice("default", ("deny",), "deny")
    rules = table.tables("rule")
    if len(rules) > MAX_RULES:
        table.bad("rule", f"at most {MAX_RULES} rules")
        return Document(name=source), found.errors
    budgets, ledgers = _budgets(table)
    document = Document(
        name=table.text("name", source.rpartition("/")[2][:64], limit=64),
        mode=table.choice("mode", ("enforce", "shadow"), "enforce"),
        budgets=budgets,
        ledgers=ledgers,
        retry=_retry(table),
        labels=tuple(_label(part) for part in table.tables("label")),
        pins=_pins(table),
        rules=_unique([_rule(part) for part in rules], found),
        trials=tuple(read_trial(part, budgets) for part in table.tables("test")),
    )
    return document, sorted(found.errors, key=lambda error: error.fields["line"])


def _unique(rules: list[Rule], source: Source) -> tuple[Rule, ...]:
    seen: dict[str, Rule] = {}
    for rule in rules:
        other = seen.setdefault(rule.id, rule)
        if other is not rule:
            source.errors.append(
                ConfigError(
                    "E_POLICY_DUPLICATE",
                    path=place(source.name, rule.line),
                    value=rule.id,
                    detail=place(source.name, other.line),
                    line=rule.line,
                )
            )
    return tuple(seen.values())


def _budgets(table: Table) -> tuple[Limited, dict[str, Limited]]:
    """Return the limits of a run, and those of its tenant's ledgers."""
    found = table.table("budgets", "[budgets]")
    if found is None:
        return Limited(), {}
    found.only(BUDGET_KEYS)
    own = Limited(
        tool_calls=found.whole("tool_calls"),
        llm_tokens=found.whole("llm_tokens"),
        wall_ms=found.duration("wall_clock"),
        cost_usd=found.money("cost_usd"),
        fan_out=found.whole("fan_out"),
    )
    ledgers = {}
    for name in NAMES:
        ledger = found.table(name, f"[budgets.{name}]")
        if ledger is not None:
            ledger.only(LEDGER_KEYS)
            ledgers[name] = Limited(
                tool_calls=ledger.whole("tool_calls"),
                llm_tokens=ledger.whole("llm_tokens"),
                cost_usd=ledger.money("cost_usd"),
            )
    return own, ledgers


def _pins(table: Table) -> dict[str, str]:
    found = table.table("pins", "[pins]")
    pins = {} if found is None else found.value
    for tool, pin in pins.items():
        if not isinstance(pin, str) or not _PIN.fullmatch(pin):
            assert found is not None
            found.bad(tool, "the digest of a tool, or 16 or more of its first characters")
    return {tool: pin for tool, pin in pins.items() if isinstance(pin, str)}


def _retry(table: Table) -> Retries | None:
    found = table.table("retry", "[retry]")
    if found is None:
        return None
    found.only(RETRY_KEYS)
    usual = Retries()
    jitter = found.value.get("jitter", Decimal(0))
    if type(jitter) not in (int, Decimal) or not 0 <= jitter <= 1:
        found.bad("jitter", "a number from 0 to 1")
        jitter = 0
    most = found.whole("max", 99)
    return Retries(
        max=usual.max if most is None else most,
        base_ms=found.duration("base") or usual.base_ms,
        cap_ms=found.duration("cap") or usual.cap_ms,
        jitter=Decimal(jitter),
    )


def _label(table: Table) -> Label:
    table.only(LABEL_KEYS)
    select = _selector(table, "result")
    add = table.texts("add")
    if "add" not in table:
        table.bad("add", 'the label, for example "untrusted"')
    where = _where(table, select)
    return Label(add=add, select=select, where=where, source=table.source.name, line=table.line)


def _rule(table: Table) -> Rule:
    then = table.choice("then", STRICTNESS)
    identity = table.text("id", limit=64)
    table.what = f"rule {identity!r} with then = {then!r}" if then else "a rule"
    table.only((*RULE_KEYS, *(THEN_KEYS[then] if then else sum(THEN_KEYS.values(), ()))))
    if not _ID.fullmatch(identity) or identity.startswith("gatebook."):
        table.bad("id", "1 to 64 letters, digits, '_', '-' or '.'", value=identity or "missing")
    select = _selector(table, table.choice("on", POINTS, "call"))
    message = table.text("message")
    for name in fields(message):
        if name != "tool":
            _check_fact(table, "message", name, select)
    if "after" not in table and "signal" not in table and then == "defer":
        table.bad("then", 'after = "10m" or signal = "name" beside it')
    if "hide" in table and ("where" in table or select.on != "call" or not select.tools):
        table.bad("hide", "hide only to a rule about tools without where")
    return Rule(
        id=identity,
        then=then or "deny",
        select=select,
        where=_where(table, select),
        message=message,
        hide=table.flag("hide"),
        approvers=table.texts("approvers"),
        choices=table.texts("choices", CHOICES) or ("approve", "deny"),  # type: ignore[arg-type]
        expires_ms=table.duration("expires") or DEFAULT_EXPIRES_MS,
        on_expiry=table.choice("on_expiry", SILENCES, "deny"),
        after_ms=table.duration("after"),
        signal=table.text("signal", limit=128) or None,
        changes=_changes(table, select) if then == "modify" else (),
        source=table.source.name,
        line=table.line,
    )


def _selector(table: Table, on: Any) -> Selector:
    tools, agents = table.texts("tool"), table.texts("agent")
    kinds: Any = table.texts("action", KINDS)
    if on == "start":
        if tools or kinds:
            table.bad("tool" if tools else "action", "no tool or action: this is about a start")
        return Selector(on="start", agents=agents)
    if tools and kinds and kinds != ("call_tool",):
        table.bad("action", "only one of tool and action")
    if not tools and not kinds and "tool" not in table and "action" not in table:
        table.bad("tool", f"tool = a name or pattern, or action = some of {', '.join(KINDS)}")
    return Selector(on=on, kinds=("call_tool",) if tools else kinds, tools=tools, agents=agents)


def _where(table: Table, select: Selector) -> tuple[Condition, ...]:
    where = table.table("where", "where")
    if where is None:
        return ()
    found = []
    for name in where.value:
        tests = where.table(name, f"the condition on {name}")
        if _check_fact(where, name, name, select) and tests is not None:
            found.append(_condition(name, tests))
    return tuple(found)


def _check_fact(table: Table, key: str, name: str, select: Selector) -> bool:
    found = fact(name)
    fits = found is not None and select.on in found.points
    if fits and found is not None and select.on != "start":
        fits = set(select.kinds) <= set(found.kinds)
    if not fits:
        about = select.on if select.on != "call" else " or ".join(select.kinds) or "call"
        table.source.errors.append(
            ConfigError(
                "E_POLICY_FACT",
                path=table.where(key),
                value=name,
                detail=f"at a {about}" if found else 'anywhere (dotted names are quoted: "args.x")',
                names=", ".join(
                    difflib.get_close_matches(name, fact_names(), 5, 0.3) or ["args..."]
                ),
                line=table.line_of(key),
            )
        )
    return fits


def _condition(name: str, table: Table) -> Condition:
    table.only((*OPS, "optional"))
    tests = []
    for op, operand in table.value.items():
        if op not in OPS:
            continue
        test = Test(op, operand)
        try:
            check_test(test)
        except OperandError as exc:
            table.bad(op, str(exc), value=operand if operand != [] else "an empty list")
            continue
        tests.append(test)
    if not any(op in OPS for op in table.value):
        table.source.errors.append(
            ConfigError(
                "E_POLICY_VALUE",
                path=table.where(),
                what=name,
                value="a condition without an operator",
                want=f"some of {', '.join(OPS)}",
                line=table.line,
            )
        )
    return Condition(name, tuple(tests), table.flag("optional"), table.line)


def _changes(table: Table, select: Selector) -> tuple[Change, ...]:
    found: list[Change] = []
    for op in ("set", "redact"):
        part = table.table(op, op)
        for path, value in part.value.items() if part is not None else ():
            assert part is not None
            if _changeable(part, path, path, select, op) and _fits(part, path, value, op):
                found.append(Change(op, path, as_json(value)))
    for path in table.texts("drop"):
        if _changeable(table, "drop", path, select, "drop"):
            found.append(Change("drop", path))
    if not any(op in table for op in THEN_KEYS["modify"]):
        table.bad("then", "set, drop or redact beside it")
    return tuple(sorted(found, key=lambda change: (change.path, change.op)))


def _changeable(table: Table, key: str, path: str, select: Selector, op: str) -> bool:
    if select.on == "result":
        fits, want = path == "result" or path.startswith("result."), "result... at a result"
    elif select.on == "start":
        fits, want = path.startswith("input."), "input... at a start"
    elif select.kinds == ("call_tool",):
        fits, want = path.startswith("args."), "args... at a tool call"
    else:
        fits = op == "set" and path in MODEL_SETTINGS and select.kinds == ("call_llm",)
        want = f"set with {', '.join(MODEL_SETTINGS)} at a model call alone"
    fits = fits and all(path.split(".")) and not (path == "result" and op == "drop")
    if not fits:
        table.bad(key, f"a path it can change: {want}", value=path)
    return fits


MODEL_SETTINGS = ("provider", "model", "max_output_tokens")


def _fits(table: Table, path: str, value: Any, op: str) -> bool:
    if op == "redact":
        if value not in REDACTIONS:
            table.bad(path, f"one of {', '.join(REDACTIONS)}")
        return value in REDACTIONS
    if path in MODEL_SETTINGS:
        wanted = int if path == "max_output_tokens" else str
        if type(value) is not wanted or not value or value == "":
            table.bad(path, "a whole number above 0" if wanted is int else "a name")
            return False
        return True
    try:
        as_json(value)
    except ValueError:
        table.bad(path, "a text, a finite number, true, false, a list or a table")
        return False
    return True
