"""The published JSON Schema: it says what the reader says, as far as shapes go."""

import json
import re
import tomllib
from typing import Any

import pytest

from gatebook.kernel.rules.reading import THEN_KEYS, read
from gatebook.kernel.rules.schema import json_schema
from tests.kernel.rules.kit import rule, text
from tests.kernel.rules.test_reading import WHOLE
from tests.kernel.rules.test_trials import DESK, EVERYTHING, written

SCHEMA = json_schema()


def fits(value: Any, schema: Any) -> bool:
    """A validator for the words this schema uses; an unknown word fails the test."""
    if schema is True:
        return True
    if "$ref" in schema:
        return fits(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    return all(_WORDS[word](value, operand, schema) for word, operand in schema.items())


def _is(value: Any, name: str) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return {
        "string": isinstance(value, str),
        "number": number,
        "integer": number and value == int(value),
        "boolean": isinstance(value, bool),
        "array": isinstance(value, list),
        "object": isinstance(value, dict),
    }[name]


def _properties(value: Any, known: Any, schema: Any) -> bool:
    if not isinstance(value, dict):
        return True
    patterns, rest = schema.get("patternProperties", {}), schema.get("additionalProperties", True)
    for key, item in value.items():
        matched = [part for pattern, part in patterns.items() if re.search(pattern, key)]
        parts = [known[key]] if key in known else matched or [rest]
        if any(part is False or not fits(item, part) for part in parts):
            return False
    return True


_WORDS: dict[str, Any] = {
    "type": lambda v, names, _: any(
        _is(v, n) for n in ([names] if isinstance(names, str) else names)
    ),
    "const": lambda v, wanted, _: type(v) is type(wanted) and v == wanted,
    "enum": lambda v, wanted, _: v in wanted,
    "pattern": lambda v, pattern, _: not isinstance(v, str) or bool(re.search(pattern, v)),
    "minLength": lambda v, least, _: not isinstance(v, str) or len(v) >= least,
    "maxLength": lambda v, most, _: not isinstance(v, str) or len(v) <= most,
    "minimum": lambda v, least, _: not _is(v, "number") or v >= least,
    "maximum": lambda v, most, _: not _is(v, "number") or v <= most,
    "minItems": lambda v, least, _: not isinstance(v, list) or len(v) >= least,
    "minProperties": lambda v, least, _: not isinstance(v, dict) or len(v) >= least,
    "items": lambda v, part, _: not isinstance(v, list) or all(fits(item, part) for item in v),
    "required": lambda v, names, _: not isinstance(v, dict) or set(names) <= set(v),
    "anyOf": lambda v, parts, _: any(fits(v, part) for part in parts),
    "oneOf": lambda v, parts, _: sum(fits(v, part) for part in parts) == 1,
    "properties": _properties,
    "patternProperties": lambda v, _, schema: True,
    "additionalProperties": lambda v, rest, schema: (
        "properties" in schema or _properties(v, {}, schema)
    ),
    **dict.fromkeys(("$schema", "title", "description", "$defs"), lambda v, o, s: True),
}


def both(given: str) -> tuple[bool, bool]:
    """Whether the reader takes a text, and whether the schema does."""
    return not read(given)[1], fits(tomllib.loads(given), SCHEMA)


@pytest.mark.parametrize(
    "given",
    [
        WHOLE,
        DESK,
        "version = 1",
        "version = 1" + written(EVERYTHING, "deny"),
        "version = 1\n[budgets]\nfan_out = 5\n[budgets.day]\ncost_usd = '5'\n[budgets.tenant]",
    ],
)
def test_what_the_reader_takes_the_schema_takes(given: str) -> None:
    """An editor must not underline what is right."""
    assert both(given) == (True, True)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "version = 2",
        "version = 1\nx = 1",
        "version = 1\nmode = 'x'",
        "version = 1\nrule = 1",
        "version = 1\n[budgets]\nx = 1",
        "version = 1\n[budgets]\ncost_usd = 1.5",
        "version = 1\n[budgets.day]\nwall_clock = '2h'",
        "version = 1\n[budgets.week]\ntool_calls = 1",
        "version = 1\n[retry]\njitter = 2",
        "version = 1\n[[label]]\ntool = 'x'",
        text(rule("a", "alow")),
        text(rule("a b", "deny")),
        text(rule("a", "deny", tool="[]")),
        text(rule("a", "allow", "", "hide = true")),
        text(rule("a", "deny", "", "approvers = 'x'")),
        text(rule("a", "ask", "", "expires = '1 h'")),
        text(rule("a", "ask", "", "choices = ['x']")),
        text(rule("a", "deny", "nope = { eq = 1 }")),
        text(rule("a", "deny", "user = { is = 1 }")),
        text(rule("a", "deny", "user = { glob = 1 }")),
        text(rule("a", "deny", "user = { in = [] }")),
        text(rule("a", "deny", "user = { size = { le = 'x' } }")),
        text(rule("a", "deny", "user = { type = 'text' }")),
        text(rule("a", "modify", "", "redact = { 'args.x' = 'y' }")),
        "version = 1" + written("tol = 'x'", "deny"),
        "version = 1" + written("tool = 'x'", "yes"),
    ],
)
def test_what_has_a_wrong_shape_neither_takes(given: str) -> None:
    """An editor should underline what `load` will refuse."""
    assert both(given) == (False, False)


def test_every_verdict_has_its_own_keys_in_the_schema() -> None:
    """`hide` belongs to a deny, and so on."""
    rules = {
        part["properties"]["then"]["const"]: part
        for part in SCHEMA["properties"]["rule"]["items"]["oneOf"]
    }

    assert set(rules) == set(THEN_KEYS)
    for then, keys in THEN_KEYS.items():
        assert set(keys) <= set(rules[then]["properties"])


def test_the_schema_is_plain_json() -> None:
    """It is published as a file."""
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
