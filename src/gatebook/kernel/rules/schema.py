"""The published JSON Schema of a policy file, for editors and other tools.

Drawn from the same lists the reader checks against. It knows shapes; what it cannot say (a rule
that never fires, a fact at the wrong point) `check` and `load` do.
"""

from typing import Any

from gatebook.kernel.records import STRICTNESS
from gatebook.kernel.rules.conditions import COMPARED, JSON_TYPES, OPS
from gatebook.kernel.rules.facts import FACTS, FAMILIES, KINDS, POINTS
from gatebook.kernel.rules.reading import (
    CHOICES,
    LABEL_KEYS,
    MODEL_SETTINGS,
    REDACTIONS,
    RULE_KEYS,
    SILENCES,
    THEN_KEYS,
    TOP_KEYS,
)
from gatebook.kernel.rules.trials import CALL_KEYS, EFFECTS, LEFT_KEYS, OUTCOMES, TEST_KEYS

DRAFT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

_TEXT: Schema = {"type": "string", "minLength": 1}
_TEXTS: Schema = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}
_WHOLE: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number"}
_FLAG: Schema = {"type": "boolean"}
_SCALAR: Schema = {"type": ["string", "number", "boolean"]}
_SCALARS: Schema = {"type": "array", "items": _SCALAR, "minItems": 1}
_DURATION: Schema = {"type": "string", "pattern": r"^([0-9]{1,12}(ms|s|m|h|d))+$"}
_MONEY: Schema = {"type": "string", "pattern": r"^[0-9]{1,12}(\.[0-9]{1,6})?$"}
_LEDGER: Schema = {"tool_calls": _WHOLE, "llm_tokens": _WHOLE, "cost_usd": _MONEY}
_AMOUNT: Schema = {"anyOf": [_NUMBER, _MONEY]}


def json_schema() -> Schema:
    """Return the JSON Schema of a policy file as plain JSON."""
    properties = {
        "version": {"const": 1},
        "name": {"type": "string", "maxLength": 64},
        "default": {"const": "deny", "description": "nothing runs unless some rule allows it"},
        "mode": {"enum": ["enforce", "shadow"]},
        "budgets": _table(
            {
                "tool_calls": _WHOLE,
                "llm_tokens": _WHOLE,
                "cost_usd": _MONEY,
                "wall_clock": _DURATION,
                "fan_out": _WHOLE,
                "day": _table(_LEDGER),
                "tenant": _table(_LEDGER),
            }
        ),
        "retry": _table(
            {
                "max": {"type": "integer", "minimum": 0, "maximum": 99},
                "base": _DURATION,
                "cap": _DURATION,
                "jitter": {"type": "number", "minimum": 0, "maximum": 1},
            }
        ),
        "label": {"type": "array", "items": _table(_label(), "add")},
        "rule": {"type": "array", "items": {"oneOf": [_rule(then) for then in STRICTNESS]}},
        "test": {"type": "array", "items": _table(_test(), "call", "expect")},
        "pins": {
            "type": "object",
            "additionalProperties": {"type": "string", "pattern": "^[0-9a-f]{16,64}$"},
        },
    }
    assert set(properties) == set(TOP_KEYS)
    found = _table(properties, "version")
    return {"$schema": DRAFT, "title": "Gatebook policy", **found, "$defs": _parts()}


def _table(properties: Schema, *required: str) -> Schema:
    found: Schema = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return found | ({"required": list(required)} if required else {})


def _selector() -> Schema:
    kinds = {"enum": list(KINDS)}
    return {
        "tool": _TEXTS,
        "action": {"anyOf": [kinds, {"type": "array", "items": kinds, "minItems": 1}]},
        "agent": _TEXTS,
    }


def _label() -> Schema:
    found = {**_selector(), "add": _TEXTS, "where": {"$ref": "#/$defs/where"}}
    assert set(found) == set(LABEL_KEYS)
    return found


def _rule(then: str) -> Schema:
    own: Schema = {
        "hide": _FLAG,
        "approvers": _TEXTS,
        "choices": {"type": "array", "items": {"enum": list(CHOICES)}, "minItems": 1},
        "expires": _DURATION,
        "on_expiry": {"enum": list(SILENCES)},
        "after": _DURATION,
        "signal": {"type": "string", "minLength": 1, "maxLength": 128},
        "set": {"type": "object", "description": f"a path, or one of {', '.join(MODEL_SETTINGS)}"},
        "drop": _TEXTS,
        "redact": {"type": "object", "additionalProperties": {"enum": list(REDACTIONS)}},
    }
    properties = {
        "id": {"type": "string", "pattern": r"^[A-Za-z0-9_.-]{1,64}$"},
        "then": {"const": then},
        "on": {"enum": list(POINTS)},
        "message": {"type": "string", "maxLength": 500},
        "where": {"$ref": "#/$defs/where"},
        **_selector(),
    }
    assert set(properties) == set(RULE_KEYS)
    return _table(properties | {key: own[key] for key in THEN_KEYS[then]}, "id", "then")


def _parts() -> Schema:
    families = "|".join(sorted(FAMILIES))
    one: Schema = {"$ref": "#/$defs/condition"}
    where = {
        "type": "object",
        "properties": dict.fromkeys(sorted(FACTS), one),
        "patternProperties": {rf"^({families})\..+$": one},
        "additionalProperties": False,
    }
    return {"where": where, "condition": _condition()}


def _condition() -> Schema:
    bounds = {op: {"type": "integer"} for op in ("eq", "ne", *COMPARED)}
    types = {"enum": list(JSON_TYPES)}
    ops: Schema = {
        **dict.fromkeys(("eq", "ne"), _SCALAR),
        "in": _SCALARS,
        **dict.fromkeys(COMPARED, _NUMBER),
        **dict.fromkeys(("glob", "regex", "within", "host"), _TEXTS),
        "has": {"anyOf": [_SCALAR, _SCALARS]},
        "size": _table(bounds) | {"minProperties": 1},
        "type": {"anyOf": [types, {"type": "array", "items": types, "minItems": 1}]},
    }
    assert tuple(ops) == OPS
    return _table({**ops, "optional": _FLAG})


def _test() -> Schema:
    found = {
        "name": {"type": "string", "maxLength": 200},
        "call": _table(_call()),
        "expect": {"enum": list(STRICTNESS)},
        "rule": {"type": "string"},
    }
    assert set(found) == set(TEST_KEYS)
    return found


def _call() -> Schema:
    texts = ("tool", "agent", "user", "tenant", "provider", "model", "signal", "server")
    wholes = ("est_tokens", "max_output_tokens", "attempt", "deferred")
    names: Schema = {"anyOf": [{"type": "string"}, {"type": "array", "items": _TEXT}]}
    outcome: Schema = {"enum": list(OUTCOMES)}
    found: Schema = {
        **{key: {"type": "string"} for key in texts},
        **dict.fromkeys(wholes, _WHOLE),
        **dict.fromkeys(("seen", "tool_labels"), names),
        **dict.fromkeys(("est_cost_usd", "sleep_s"), _AMOUNT),
        **{key: {} for key in ("result", "input")},
        "on": {"enum": list(POINTS)},
        "args": {"type": "object"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "left": _table(dict.fromkeys(LEFT_KEYS, _AMOUNT)),
        "count": {"type": "object", "additionalProperties": _WHOLE},
        "last": _table({"action": {"type": "string"}, "outcome": outcome}),
        "outcome": outcome,
        "effect": {"enum": list(EFFECTS)},
        "outbound": _FLAG,
    }
    assert set(found) == set(CALL_KEYS)
    return found
