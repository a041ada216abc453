"""Static checks: what is written but cannot mean anything, each with its line.

Needs no run. With the declared tools it also finds names and argument paths that do not exist.
"""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from gatebook.errors import ConfigError
from gatebook.kernel.codec import plain
from gatebook.kernel.near import near_or_known
from gatebook.kernel.rules.conditions import COMPARED, check_test, json_types, number
from gatebook.kernel.rules.document import Condition, Document, Label, Rule, Selector, place
from gatebook.kernel.rules.facts import FACTS
from gatebook.kernel.rules.globs import any_glob, covers, is_pattern, overlap
from gatebook.kernel.rules.match import CLOSED
from gatebook.kernel.rules.templates import fields
from gatebook.kernel.rules.views import branches
from gatebook.kernel.tools import ToolSpec

TEXT_OPS = ("glob", "regex", "within", "host")
_OPERAND_TYPES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(COMPARED, ("number", "integer")),
    **dict.fromkeys(TEXT_OPS, ("string",)),
    "has": ("array",),
    "size": ("string", "array", "object"),
}
Part = Rule | Label


def check(document: Document, tools: Mapping[str, ToolSpec] | None = None) -> list[ConfigError]:
    """Return what is wrong with a policy, by file and line; codes `W_...` are warnings.

    Without tools, what needs them is not looked at.
    """
    found = [*_pointless(document), *_shadowed(document), *_unopened(document)]
    parts: list[Part] = [*document.rules, *document.labels]
    for part in parts:
        found += _contradictions(part)
        if tools is not None:
            found += _unknown_tools(part, tools)
            found += _unknown_paths(part, tools)
    return sorted(found, key=lambda e: (e.fields["source"], e.fields["line"], e.code))


def _unreachable(rule: Part, detail: str, fix: str, *, line: int = 0) -> ConfigError:
    at = line or rule.line
    return ConfigError(
        "E_POLICY_UNREACHABLE",
        path=place(rule.source, at),
        value=_name(rule),
        detail=detail,
        fix=fix,
        source=rule.source,
        line=at,
    )


def _name(part: Part) -> str:
    return part.id if isinstance(part, Rule) else f"label {', '.join(part.add)}"


def _pointless(document: Document) -> Iterator[ConfigError]:
    for rule in document.rules:
        if rule.then != "allow":
            continue
        if rule.select.on != "call":
            yield _unreachable(rule, f"a {rule.select.on} passes unless a rule narrows it",
                               "remove it")  # fmt: skip
        elif rule.select.kinds and not CLOSED & set(rule.select.kinds):
            yield _unreachable(rule, "waits pass unless a rule narrows them", "remove it")


def _shadowed(document: Document) -> Iterator[ConfigError]:
    for rule in document.rules:
        wider = [
            other
            for other in document.rules
            if other is not rule
            and other.then == "deny"
            and not other.where
            and _covers(other.select, rule.select)
            and not (rule.then == "deny" and rule.hide and not other.hide)
            and not (rule.then == "deny" and not rule.where and rule.id < other.id
                     and _covers(rule.select, other.select))
        ]  # fmt: skip
        if wider:
            deny = min(wider, key=lambda other: other.id)
            yield _unreachable(
                rule,
                f"rule {deny.id} at {place(deny.source, deny.line)} denies all of it",
                "remove one of them, or narrow the deny",
            )


def _unopened(document: Document) -> Iterator[ConfigError]:
    allows = [rule for rule in document.rules if rule.then == "allow"]
    for rule in document.rules:
        closed = rule.select.on == "call" and bool(rule.select.kinds)
        if rule.then in ("allow", "deny") or not closed or not set(rule.select.kinds) <= CLOSED:
            continue
        if not any(_meet(rule.select, allow.select) for allow in allows):
            yield _unreachable(
                rule,
                "no allow rule is about the same calls, so they are denied before",
                "add an allow rule for them",
            )


def _covers(wide: Selector, narrow: Selector) -> bool:
    return (
        wide.on == narrow.on
        and set(narrow.kinds) <= set(wide.kinds)
        and _all_covered(wide.tools, narrow.tools)
        and _all_covered(wide.agents, narrow.agents)
    )


def _all_covered(wide: tuple[str, ...], narrow: tuple[str, ...]) -> bool:
    return not wide or all(any(covers(w, n) for w in wide) for n in narrow or ("*",))


def _meet(one: Selector, other: Selector) -> bool:
    return (
        one.on == other.on
        and bool(set(one.kinds) & set(other.kinds))
        and _any_meets(one.tools, other.tools)
        and _any_meets(one.agents, other.agents)
    )


def _any_meets(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return not one or not other or any(overlap(a, b) for a in one for b in other)


def _contradictions(part: Part) -> Iterator[ConfigError]:
    for condition in part.where:
        builtin = FACTS.get(condition.fact)
        if builtin is not None and builtin.type != "any":
            yield from _misfits(part, condition, {builtin.type}, condition.fact)
        if _is_contradiction(condition):
            yield _unreachable(
                part,
                f"no value fits its condition on {condition.fact}",
                "correct the operands",
                line=condition.line,
            )


def _is_contradiction(condition: Condition) -> bool:
    checks = [check_test(test) for test in condition.tests]
    named = [t.operand if t.op == "in" else [t.operand] for t in condition.tests
             if t.op in ("eq", "in")]  # fmt: skip
    for values in named:
        if not any(all(one(value) for one in checks) for value in values):
            return True
    lows = [(number(t.operand), t.op == "gt") for t in condition.tests if t.op in ("gt", "ge")]
    highs = [(number(t.operand), t.op == "lt") for t in condition.tests if t.op in ("lt", "le")]
    return any(
        low > high or (low == high and (over or under))
        for low, over in lows
        for high, under in highs
        if low is not None and high is not None
    )


def _misfits(part: Part, condition: Condition, types: set[str], what: str) -> Iterator[ConfigError]:
    """Yield an error for each operator that a value of these JSON types can never answer."""
    for test in condition.tests:
        wanted = set(_OPERAND_TYPES.get(test.op, ()))
        if test.op in ("eq", "ne", "in"):
            operands = test.operand if test.op == "in" else [test.operand]
            wanted = {name for operand in operands for name in json_types(operand)}
            wanted |= {"integer"} if "number" in wanted else set()
        if wanted and not wanted & types:
            yield ConfigError(
                "E_POLICY_PATH",
                path=place(part.source, condition.line),
                value=condition.fact,
                detail=f"{what} is {' or '.join(sorted(types))}, which {test.op} cannot answer",
                fix="use an operator for that type",
                source=part.source,
                line=condition.line,
            )


def _unknown_tools(part: Part, tools: Mapping[str, ToolSpec]) -> Iterator[ConfigError]:
    for name in part.select.tools:
        if any(map(any_glob([name]), tools)):
            continue
        where = place(part.source, part.line)
        if is_pattern(name):
            yield ConfigError(
                "W_POLICY_TOOL", path=where, value=name, source=part.source, line=part.line
            )
        else:
            yield _no_tool(part, name, tools, part.line)
    for condition in part.where:
        name = condition.fact.removeprefix("count.")
        counted = name != condition.fact and not is_pattern(name) and ":" not in name
        if counted and name not in tools:
            yield _no_tool(part, name, tools, condition.line)


def _no_tool(part: Part, name: str, tools: Mapping[str, ToolSpec], line: int) -> ConfigError:
    return ConfigError(
        "E_POLICY_TOOL",
        path=place(part.source, line),
        value=name,
        near=near_or_known(name, tools),
        source=part.source,
        line=line,
    )


def _unknown_paths(part: Part, tools: Mapping[str, ToolSpec]) -> Iterator[ConfigError]:
    if "call_tool" not in part.select.kinds:
        return
    matches = any_glob(part.select.tools or ("*",))
    schemas = {name: plain(spec.schema) for name, spec in tools.items() if matches(name)}
    if not schemas:
        return
    for condition in part.where:
        if condition.fact.startswith("args."):
            yield from _condition_path(part, condition, schemas)
    if isinstance(part, Rule):
        named = [name for name in fields(part.message) if name.startswith("args.")]
        for path in [*(change.path for change in part.changes), *named]:
            if path.startswith("args.") and all(
                types_at(schema, path) == set() for schema in schemas.values()
            ):
                yield _no_path(part, path, part.line, schemas)


def _condition_path(
    part: Part, condition: Condition, schemas: Mapping[str, Any]
) -> Iterator[ConfigError]:
    found = {name: types_at(schema, condition.fact) for name, schema in schemas.items()}
    lacking = sorted(name for name, types in found.items() if types == set())
    if len(lacking) == len(found):
        yield _no_path(part, condition.fact, condition.line, schemas)
        return
    if lacking and not condition.optional:
        opens = isinstance(part, Rule) and part.then == "allow"
        effect = "so it never allows there" if opens else "so it always fires there"
        yield ConfigError(
            "E_POLICY_PATH",
            path=place(part.source, condition.line),
            value=condition.fact,
            detail=f"{', '.join(lacking[:5])} has no such argument, {effect}",
            fix="name only tools that have it, or write optional = true",
            source=part.source,
            line=condition.line,
        )
    known = [types for types in found.values() if types]
    if known and len(known) == len(found) - len(lacking):
        yield from _misfits(part, condition, set().union(*known), condition.fact)


def _no_path(part: Part, path: str, line: int, schemas: Mapping[str, Any]) -> ConfigError:
    arguments = sorted(
        {name for schema in schemas.values() for name in schema.get("properties", ())}
    )
    near = difflib.get_close_matches(path.removeprefix("args."), arguments, 3, 0.5)
    return ConfigError(
        "E_POLICY_PATH",
        path=place(part.source, line),
        value=path,
        detail=f"no tool it is about ({', '.join(sorted(schemas)[:5])}) has such an argument",
        fix=f"write one of: {', '.join(f'args.{name}' for name in near or arguments)}",
        source=part.source,
        line=line,
    )


def types_at(schema: Any, path: str) -> set[str] | None:
    """Return the JSON types an argument path may have: none if absent, None if not known."""
    defs = schema.get("$defs", {}) if isinstance(schema, dict) else {}
    here = list(branches(schema, defs))
    for step in path.split(".")[1:]:
        after: list[dict[str, Any]] = []
        for option in here:
            found = _member(option, step)
            if found is None:
                return None
            after += [b for part in found for b in branches(part, defs)]
        here = after
    types: set[str] = set()
    for option in here:
        named = option.get("type")
        if named is None and "enum" not in option and "const" not in option:
            return None
        values = option.get("enum", [option["const"]] if "const" in option else [])
        types |= {named} if isinstance(named, str) else set(named or ())
        types |= {name for value in values if named is None for name in json_types(value)}
    return types | ({"integer"} if "number" in types else set())


def _member(schema: dict[str, Any], step: str) -> list[Any] | None:
    """Return the schemas of a member: none when it cannot be there, None when anything can."""
    properties, rest = schema.get("properties"), schema.get("additionalProperties")
    if step == "*" and schema.get("type") == "object":
        return []  # it has no items, and a member of that name would speak for all others
    if isinstance(properties, dict) and step in properties:
        return [properties[step]]
    if isinstance(rest, dict):
        return [rest]
    if schema.get("type") == "array" and (step == "*" or step.isdigit()):
        items = schema.get("items")
        return [items] if isinstance(items, dict) else None
    if rest is True or (
        properties is None and rest is None and schema.get("type") in (None, "object")
    ):
        return None
    return []
