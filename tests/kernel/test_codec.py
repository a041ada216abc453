"""Canonical JSON, strict parsing, digests and names."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatebook.errors import InvalidInput
from gatebook.kernel.codec import (
    INT_MAX,
    INT_MIN,
    MAX_DEPTH,
    MAX_PAYLOAD,
    canonical,
    check_name,
    check_run_id,
    digest,
    idempotency_key,
    parse,
    plain,
)

texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | st.integers(INT_MIN, INT_MAX) | texts
values = st.recursive(
    scalars | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=20,
)


def code(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        call(*args, **kwargs)
    return caught.value.code


@given(values)
def test_what_is_written_reads_back(value: Any) -> None:
    """Both by us and by any other JSON reader."""
    data = canonical(value)

    assert plain(data) == value
    assert json.loads(data) == value
    assert parse(data) == value


@given(values)
def test_canonical_bytes_are_a_fixed_point(value: Any) -> None:
    """What was read can be written again without changing a hash."""
    data = canonical(value)

    assert canonical(plain(data)) == data


@given(st.dictionaries(texts, scalars))
def test_the_order_of_keys_does_not_matter(value: dict[str, Any]) -> None:
    """Two processes that build the same object write the same bytes."""
    turned = dict(reversed(value.items()))

    assert canonical(turned) == canonical(value)


class Evil:
    """A value whose own methods must not be called."""

    def __repr__(self) -> str:
        raise AssertionError

    def __eq__(self, other: object) -> bool:
        raise AssertionError

    __hash__ = None  # type: ignore[assignment]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def cycle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, "E_JSON_NUMBER"), (math.inf, "E_JSON_NUMBER"), ([-math.inf], "E_JSON_NUMBER"),
        (2**63, "E_JSON_INT_RANGE"), (-(2**63) - 1, "E_JSON_INT_RANGE"),
        ({1: "a"}, "E_JSON_KEY"), ({"a": b"x"}, "E_JSON_TYPE"), ({1, 2}, "E_JSON_TYPE"),
        (Evil(), "E_JSON_TYPE"), ([Evil()], "E_JSON_TYPE"), (cycle(), "E_JSON_CYCLE"),
        (nested(MAX_DEPTH + 1), "E_JSON_DEPTH"), ("\udc80", "E_TEXT_INVALID"),
        ({"\udc80": 1}, "E_TEXT_INVALID"), ("x" * MAX_PAYLOAD, "E_PAYLOAD_TOO_LARGE"),
    ],
)  # fmt: skip
def test_what_is_not_json_is_refused(value: Any, expected: str) -> None:
    """Before anything is written, without calling the value's own code."""
    assert code(canonical, value) == expected


def test_a_refusal_names_the_place() -> None:
    """In a large object, the path is the message."""
    with pytest.raises(InvalidInput) as caught:
        canonical({"a": [1, {"b": math.nan}]})

    assert caught.value.fields["path"] == "$.a[1].b"


def test_the_same_object_twice_is_no_cycle() -> None:
    """A tree may share leaves."""
    shared = [1]

    assert canonical([shared, shared]) == b"[[1],[1]]"


@pytest.mark.parametrize("depth", [MAX_DEPTH])
def test_the_deepest_allowed_value_is_allowed(depth: int) -> None:
    """The limit is inclusive."""
    assert parse(canonical(nested(depth))) == nested(depth)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "E_JSON_SYNTAX"), ("", "E_JSON_SYNTAX"), ("1 2", "E_JSON_SYNTAX"),
        ("{'a': 1}", "E_JSON_SYNTAX"), ("[1,]", "E_JSON_SYNTAX"),
        ('{"a":1,"a":1}', "E_JSON_DUPLICATE_KEY"), ('[{"a":1,"a":3}]', "E_JSON_DUPLICATE_KEY"),
        ("NaN", "E_JSON_NUMBER"), ("[Infinity]", "E_JSON_NUMBER"), ("1e400", "E_JSON_NUMBER"),
        (str(2**70), "E_JSON_INT_RANGE"), ("9" * 5_000, "E_JSON_INT_RANGE"),
        ("[" * 100_000, "E_JSON_DEPTH"), ("[" * 65 + "]" * 65, "E_JSON_DEPTH"),
        (b"\xff", "E_TEXT_INVALID"), ('"\udc80"', "E_TEXT_INVALID"),
        ('"\\ud800"', "E_TEXT_INVALID"), (" " * (MAX_PAYLOAD + 1), "E_PAYLOAD_TOO_LARGE"),
    ],
)  # fmt: skip
def test_text_that_is_not_strict_json_is_refused(text: str | bytes, expected: str) -> None:
    """What two readers could read differently is not read at all."""
    assert code(parse, text) == expected


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_no_text_makes_the_parser_break(text: str | bytes) -> None:
    """Whatever comes from outside gives a value or a code."""
    try:
        value = parse(text)
    except InvalidInput:
        return
    assert parse(canonical(value)) == value


def test_brackets_inside_strings_are_no_depth() -> None:
    """A text about JSON is a text."""
    text = json.dumps(["[" * 200, '\\"[{'])

    assert parse(text) == ["[" * 200, '\\"[{']


def test_digest_parts_cannot_run_together() -> None:
    """("ab", "c") and ("a", "bc") are two things."""
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("ab") == digest(b"ab")
    assert digest("") != digest()


def test_the_key_of_an_action_is_golden() -> None:
    """A changed derivation would pay a refund twice after an upgrade."""
    key = idempotency_key("default", "r", "00" * 16, "t1.0")

    assert key == "gb1-" + digest("default", "r", "00" * 16, "t1.0")[:40]
    assert key == "gb1-a56ed8ee108f6537cd0959b5c1cc3657c0eceecb"


@pytest.mark.parametrize(
    "other",
    [("t2", "r", "n", "0"), ("t", "r2", "n", "0"), ("t", "r", "n2", "0"), ("t", "r", "n", "1")],
)
def test_keys_differ_in_every_part(other: tuple[str, str, str, str]) -> None:
    """Another tenant, run, life or place is another action."""
    assert idempotency_key("t", "r", "n", "0") != idempotency_key(*other)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", "E_ID_EMPTY"), ("a" * 129, "E_ID_TOO_LONG"), ("../../etc", "E_ID_CHARS"),
        ("a\0b", "E_ID_CHARS"), ("\udc80", "E_TEXT_INVALID"), ("e\u0301", "E_ID_NOT_NFC"),
        ("\u00e9", "E_ID_CHARS"), (7, "E_ID_TYPE"), (None, "E_ID_TYPE"), ("a b", "E_ID_CHARS"),
    ],
)  # fmt: skip
def test_a_bad_run_id_has_its_own_code(value: Any, expected: str) -> None:
    """Ids end up in URLs, files and shells."""
    assert code(check_run_id, value) == expected


@pytest.mark.parametrize("value", ["a", "A1._-:@", "a" * 128])
def test_a_good_run_id_is_returned(value: str) -> None:
    """As it is."""
    assert check_run_id(value) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", "E_TOOL_NAME"), ("a:b", "E_TOOL_NAME"), ("a b", "E_TOOL_NAME"), (1, "E_TOOL_NAME"),
        ("a" * 65, "E_TOOL_NAME"), ("gatebook.x", "E_NAME_RESERVED"),
        ("p\u0430y", "E_NAME_CONFUSABLE"), ("pay\u200b", "E_NAME_CONFUSABLE"),
    ],
)  # fmt: skip
def test_a_bad_name_has_its_own_code(value: Any, expected: str) -> None:
    """A name that looks like another is an attack on whoever reads the policy."""
    assert code(check_name, value, code="E_TOOL_NAME") == expected
