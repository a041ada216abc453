"""Compares two policies rule by rule, in words.

What is compared is what decides: not the order, the lines or the tests of a file.
"""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from gatebook.kernel.records import STRICTNESS
from gatebook.kernel.review.writing import toml
from gatebook.kernel.rules.document import (
    METERS,
    Change,
    Condition,
    Document,
    Label,
    Limited,
    Rule,
    place,
)

Allows = Literal["more", "less", "either", "the same"]
NEW, GONE = "is new", "is gone"
NAMES = {  # the fields of a rule, as people see them and as a file spells them
    "then": "then", "on": "on", "kinds": "action", "tools": "tool", "agents": "agent",
    "message": "message", "hide": "hide", "approvers": "approvers", "choices": "choices",
    "expires_ms": "expires", "on_expiry": "on_expiry", "after_ms": "after", "signal": "signal",
    "changes": "changes",
}  # fmt: skip


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that two policies do not share.

    Attributes:
        change: what became of it.
        what: "rule", "label", "budget", "pin", "retry" or "mode".
        name: of the rule, the label or the meter.
        detail: what it says, or "old -> new" of each thing that is different.
        allows: whether the new policy allows more or less by this alone; "either" when that
            depends on the request.
        place: where it stands, in the new policy or, removed, in the old.
    """

    change: Literal["added", "removed", "changed"]
    what: str
    name: str
    detail: str
    allows: Allows
    place: str = ""


def differences(old: Document, new: Document) -> tuple[Difference, ...]:
    """Return what is different, by kind and name; nothing when both decide alike."""
    found = [*_modes(old, new), *_budgets(old, new), *_retries(old, new), *_labels(old, new)]
    found += _pins(old, new)
    return (*found, *_rules(old, new))


def _modes(old: Document, new: Document) -> Iterator[Difference]:
    if old.mode != new.mode:
        allows: Allows = "more" if new.mode == "shadow" else "less"
        detail = f"{old.mode} -> {new.mode}"
        yield Difference(change="changed", what="mode", name="mode", detail=detail, allows=allows)


def _budgets(old: Document, new: Document) -> Iterator[Difference]:
    yield from _limits("", old.budgets, new.budgets)
    for ledger in sorted({*old.ledgers, *new.ledgers}):
        before, after = (each.ledgers.get(ledger, Limited()) for each in (old, new))
        yield from _limits(f"{ledger}.", before, after)


def _limits(ledger: str, old: Limited, new: Limited) -> Iterator[Difference]:
    for meter in METERS:
        before, after = getattr(old, meter), getattr(new, meter)
        if before == after:
            continue
        name = "wall_clock" if meter == "wall_ms" else meter
        wider = after is None or (before is not None and after > before)
        allows: Allows = "more" if wider else "less"
        detail = f"{_limit(meter, before)} -> {_limit(meter, after)}"
        change: Any = "added" if before is None else "removed" if after is None else "changed"
        yield Difference(
            change=change, what="budget", name=f"{ledger}{name}", detail=detail, allows=allows
        )


def _pins(old: Document, new: Document) -> Iterator[Difference]:
    for tool in sorted({*old.pins, *new.pins}):
        before, after = old.pins.get(tool), new.pins.get(tool)
        if before == after:
            continue
        change: Any = "added" if before is None else "removed" if after is None else "changed"
        detail = " -> ".join("no pin" if pin is None else pin[:16] for pin in (before, after))
        yield Difference(change=change, what="pin", name=tool, detail=detail, allows="either")


def _limit(meter: str, limit: Any) -> str:
    if limit is None:
        return "no limit"
    return _span(limit) if meter == "wall_ms" else str(limit)


def _span(milliseconds: int) -> str:
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def _retries(old: Document, new: Document) -> Iterator[Difference]:
    if old.retry != new.retry:
        before, after = _retry(old), _retry(new)
        yield Difference(
            change="changed", what="retry", name="retry", detail=f"{before} -> {after}",
            allows="the same",
        )  # fmt: skip


def _retry(document: Document) -> str:
    found = document.retry
    if found is None:
        return "the runtime's own"
    waits = f"{_span(found.base_ms)} to {_span(found.cap_ms)}"
    return f"{found.max} times after {waits}" + (f", jitter {found.jitter}" if found.jitter else "")


def _labels(old: Document, new: Document) -> Iterator[Difference]:
    before = {_plain(label): label for label in old.labels}
    after = {_plain(label): label for label in new.labels}
    for key in sorted({*before, *after}):
        if (key in before) == (key in after):
            continue
        label = after.get(key) or before[key]
        yield Difference(
            change="added" if key in after else "removed", what="label",
            name=", ".join(label.add), detail=_about(label), allows="either",
            place=place(label.source, label.line),
        )  # fmt: skip


def _plain(part: Rule | Label) -> str:
    where = tuple(
        msgspec.structs.replace(c, line=0) for c in sorted(part.where, key=lambda c: c.fact)
    )
    bare = msgspec.structs.replace(part, source="", line=0, where=where)
    return msgspec.json.encode(bare, order="deterministic").decode()


def _rules(old: Document, new: Document) -> Iterator[Difference]:
    before = {rule.id: rule for rule in old.rules}
    after = {rule.id: rule for rule in new.rules}
    for name in sorted({*before, *after}):
        if name not in before:
            opens = after[name].then == "allow"
            yield _whole("added", after[name], "more" if opens else "less")
        elif name not in after:
            opens = before[name].then == "allow"
            yield _whole("removed", before[name], "less" if opens else "more")
        elif _plain(before[name]) != _plain(after[name]):
            yield _changed(before[name], after[name])


def _whole(change: Any, rule: Rule, allows: Allows) -> Difference:
    return Difference(
        change=change, what="rule", name=rule.id, detail=f"{rule.then} {_about(rule)}",
        allows=allows, place=place(rule.source, rule.line),
    )  # fmt: skip


def _about(part: Rule | Label) -> str:
    select = part.select
    words = "a start" if select.on == "start" else ", ".join(select.tools or select.kinds)
    words = f"results of {words}" if select.on == "result" else words
    words += f" of {', '.join(select.agents)}" if select.agents else ""
    where = " and ".join(_worded(condition) for condition in part.where)
    return f"{words} where {where}" if where else words


def _changed(old: Rule, new: Rule) -> Difference:
    said = dict(_fields(old, new))
    return Difference(
        change="changed", what="rule", name=new.id,
        detail="; ".join(f"{name} {detail}" for name, detail in said.items()),
        allows=_direction(old, new, said), place=place(new.source, new.line),
    )  # fmt: skip


def _fields(old: Rule, new: Rule) -> Iterator[tuple[str, str]]:
    """Yield (field, what became of it) for each field of a rule that is different."""
    for name, key in NAMES.items():
        before, after = _field(old, name), _field(new, name)
        if before != after:
            yield key, f"{_value(name, before)} -> {_value(name, after)}"
        if name == "agents":
            yield from _conditions(old, new)


def _field(rule: Rule, name: str) -> Any:
    return getattr(rule if name in rule.__struct_fields__ else rule.select, name)


def _conditions(old: Rule, new: Rule) -> Iterator[tuple[str, str]]:
    before = {condition.fact: _worded(condition) for condition in old.where}
    after = {condition.fact: _worded(condition) for condition in new.where}
    for name in sorted({*before, *after}):
        if before.get(name) == after.get(name):
            continue
        if name not in before:
            yield f"where {after[name]}", NEW
        elif name not in after:
            yield f"where {before[name]}", GONE
        else:
            yield f"where {before[name]}", f"-> {after[name].removeprefix(name).strip()}"


def _worded(condition: Condition) -> str:
    """Return a condition as its file has it: a text and a number that look alike differ."""
    tests = " and ".join(f"{test.op} {toml(test.operand)}" for test in condition.tests)
    return f"{condition.fact} {tests}{' (optional)' if condition.optional else ''}"


def _value(name: str, value: Any) -> str:
    if name == "changes":
        return ", ".join(_change(change) for change in value) or "nothing"
    if isinstance(value, tuple):
        return ", ".join(value) or "any"
    if name.endswith("_ms") and value is not None:
        return _span(value)
    if value in ("", None):
        return "nothing"
    return str(value) if name in ("then", "on", "on_expiry") else toml(value)


def _change(change: Change) -> str:
    told = "" if change.op == "drop" else f" = {toml(change.value)}"
    return f"{change.op} {change.path}{told}"


def _direction(old: Rule, new: Rule, said: dict[str, str]) -> Allows:
    if set(said) == {"message"}:
        return "the same"
    if set(said) == {"then"}:
        wider = STRICTNESS.index(new.then) < STRICTNESS.index(old.then)
        return "more" if wider else "less"
    added = all(detail == NEW for detail in said.values())
    gone = all(detail == GONE for detail in said.values())
    if added or gone:  # one condition more: the rule decides less
        return "less" if added == (new.then == "allow") else "more"
    return "either"
