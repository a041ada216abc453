"""A policy as structs: what a file says, checked and in one form. Merging and digesting too.

Knows no TOML (see `reading`) and decides nothing (see `match`).
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from gatebook.errors import ConfigError
from gatebook.kernel.approvals.terms import DEFAULT_EXPIRES_MS, Choice, Silence
from gatebook.kernel.codec import digest
from gatebook.kernel.records import STRICTNESS, Verdict
from gatebook.kernel.rules.facts import Kind, On, Request

Mode = Literal["enforce", "shadow"]

METERS: Final = ("tool_calls", "llm_tokens", "wall_ms", "cost_usd", "fan_out")


class Test(msgspec.Struct, frozen=True):
    """One operator and its operand."""

    __test__ = False  # not one of pytest's

    op: str
    operand: Any


class Condition(msgspec.Struct, frozen=True):
    """What one fact must be: every test must hold.

    Attributes:
        optional: a fact that is absent or null does not count against the rule's reader: an
            `allow` is not prevented by it, anything else is not caused by it.
        line: where it stands.
    """

    fact: str
    tests: tuple[Test, ...]
    optional: bool = False
    line: int = 0


class Selector(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule is about, by names alone; `tools` and `agents` are globs, () is any."""

    on: On = "call"
    kinds: tuple[Kind, ...] = ()
    tools: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()


class Change(msgspec.Struct, frozen=True):
    """One thing a `modify` rule does: `set`, `drop`, or `redact` "secrets" or "all" at a path."""

    op: Literal["set", "drop", "redact"]
    path: str
    value: Any = None


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One `[[rule]]`.

    Attributes:
        message: for people and the model; `{fact}` is replaced.
        hide: for deny: do not offer the tool to the model either.
        approvers: for ask: who may answer, () for anybody but the requester.
        expires_ms, on_expiry: for ask: how long to wait for an answer and what silence means.
        after_ms, signal: for defer: decide again after this time or at this signal.
        changes: for modify.
        source, line: where it stands.
    """

    id: str
    then: Verdict
    select: Selector
    where: tuple[Condition, ...] = ()
    message: str = ""
    hide: bool = False
    approvers: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ("approve", "deny")
    expires_ms: int = DEFAULT_EXPIRES_MS
    on_expiry: Silence = "deny"
    after_ms: int | None = None
    signal: str | None = None
    changes: tuple[Change, ...] = ()
    source: str = ""
    line: int = 0


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """One `[[label]]`: what the results of these actions carry."""

    add: tuple[str, ...]
    select: Selector
    where: tuple[Condition, ...] = ()
    source: str = ""
    line: int = 0


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One `[[test]]`: a request and the verdict it must get, by the rule named if one is."""

    request: Request
    expect: Verdict
    rule: str = ""
    name: str = ""
    source: str = ""
    line: int = 0


class Limited(msgspec.Struct, frozen=True, kw_only=True):
    """`[budgets]`: the most one run may use; None is no limit. Of a ledger: all runs together."""

    tool_calls: int | None = None
    llm_tokens: int | None = None
    wall_ms: int | None = None
    cost_usd: Decimal | None = None
    fan_out: int | None = None


class Retries(msgspec.Struct, frozen=True, kw_only=True):
    """`[retry]`: how often transient errors are tried again, and the waits between."""

    max: int = 3
    base_ms: int = 500
    cap_ms: int = 30_000
    jitter: Decimal = Decimal(0)


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A whole policy, from one file or several. An empty one allows nothing.

    Attributes:
        ledgers: `[budgets.day]` and `[budgets.tenant]`, by those names.
    """

    name: str = "policy"
    mode: Mode = "enforce"
    budgets: Limited = Limited()
    retry: Retries | None = None
    labels: tuple[Label, ...] = ()
    rules: tuple[Rule, ...] = ()
    trials: tuple[Trial, ...] = ()
    pins: dict[str, str] = {}
    ledgers: dict[str, Limited] = {}

    @property
    def digest(self) -> str:
        """Identifies what this policy decides: not its tests, lines, files or their order."""
        facts: dict[str, Any] = {
            "mode": self.mode,
            "budgets": self.budgets,
            "retry": self.retry,
            "labels": sorted({_encoded(label) for label in self.labels}),
            "rules": sorted(_encoded(rule) for rule in self.rules),
        }
        if self.ledgers:
            facts["ledgers"] = self.ledgers
        if self.pins:
            facts["pins"] = self.pins
        return digest("rules", msgspec.json.encode(facts, order="deterministic"))


def _encoded(part: Rule | Label) -> str:
    where = tuple(
        msgspec.structs.replace(c, line=0) for c in sorted(part.where, key=lambda c: c.fact)
    )
    bare = msgspec.structs.replace(part, source="", line=0, where=where)
    return msgspec.json.encode(bare, order="deterministic").decode()


def merge(documents: Iterable[Document]) -> Document:
    """Return the union of several policies: every rule counts, the smallest limit wins.

    One that enforces makes the whole enforce. No documents are an empty policy.

    Raises:
        ConfigError: E_POLICY_DUPLICATE when two rules have one id, E_POLICY_RETRY_TWICE when
            two files set different retries.
    """
    parts = sorted(documents, key=lambda part: (part.name, part.digest))
    if len(parts) == 1:
        return parts[0]
    seen: dict[str, Rule] = {}
    for rule in (rule for part in parts for rule in part.rules):
        if rule.id in seen:
            other = seen[rule.id]
            raise ConfigError(
                "E_POLICY_DUPLICATE",
                path=place(rule.source, rule.line),
                value=rule.id,
                detail=place(other.source, other.line),
            )
        seen[rule.id] = rule
    retries = {part.retry for part in parts if part.retry is not None}
    if len(retries) > 1:
        raise ConfigError("E_POLICY_RETRY_TWICE", names=", ".join(part.name for part in parts))
    return Document(
        name="+".join(part.name for part in parts) or "policy",
        mode="shadow" if parts and all(p.mode == "shadow" for p in parts) else "enforce",
        budgets=_smallest([part.budgets for part in parts]),
        ledgers={
            name: _smallest([p.ledgers[name] for p in parts if name in p.ledgers])
            for name in sorted({name for part in parts for name in part.ledgers})
        },
        retry=next(iter(retries), None),
        labels=tuple(label for part in parts for label in part.labels),
        rules=tuple(rule for part in parts for rule in part.rules),
        trials=tuple(trial for part in parts for trial in part.trials),
        pins=_pinned(parts),
    )


def _smallest(all_limits: list[Limited]) -> Limited:
    found: dict[str, Any] = {}
    for meter in METERS:
        set_ones = [n for each in all_limits if (n := getattr(each, meter)) is not None]
        found[meter] = min(set_ones, default=None)
    return Limited(**found)


def _pinned(parts: list[Document]) -> dict[str, str]:
    """Return the pins of all; "" where two differ: then no definition passes."""
    found: dict[str, str] = {}
    for part in parts:
        for tool, pin in part.pins.items():
            found[tool] = pin if found.get(tool, pin) == pin else ""
    return found


def place(source: str, line: int) -> str:
    """Return where something stands, as people write it: "policy.toml:12"."""
    return f"{source}:{line}"


def stricter(one: Verdict, other: Verdict) -> Verdict:
    """Return the stricter of two verdicts."""
    return max(one, other, key=STRICTNESS.index)
