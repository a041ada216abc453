"""Values of simple types, which pydantic need not read: the same answer as when it does."""

import json
from typing import Annotated, Any, NotRequired, Union

from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Field

from gatebook.errors import InvalidInput
from gatebook.kernel.codec import canonical
from gatebook.tools.schema import SURE, Arguments, Result

TYPES = st.sampled_from([str, int, float, bool, None])
HINTS = TYPES | st.lists(TYPES, min_size=2, max_size=4).map(lambda some: Union[tuple(some)])  # noqa: UP007
NUMBERS = st.integers() | st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**30])
TEXTS = st.text(st.characters(exclude_categories=())) | st.sampled_from(["1", "true", "\ud800"])
VALUES = st.none() | st.booleans() | NUMBERS | st.floats() | TEXTS | st.lists(st.none(), max_size=1)
NAMES = ("a", "b", "c")
OBJECTS = st.dictionaries(st.sampled_from([*NAMES, "other"]), VALUES, max_size=4)
SPELT = st.sampled_from(
    ["1.0", "-0.0", "-0", "1e3", "1E3", "1e999", "NaN", "Infinity", '"\\u0061"', '"\\ud800"', "tru"]
)


def spelt(value: Any) -> bytes:
    """Return JSON as anybody might write it; with what is no JSON, too."""
    return json.dumps(value, separators=(",", ":")).encode()


def written(value: Any) -> bytes:
    """Return canonical JSON where there is any."""
    try:
        return canonical(value)
    except InvalidInput:
        return spelt(value)


JSON = (
    OBJECTS.map(written)
    | OBJECTS.map(spelt)
    | SPELT.map(lambda text: b'{"a":%b}' % text.encode())
    | st.sampled_from(
        [b"", b"[]", b"null", b'{"a":1,"a":1}', b'{"a": 1}', b'{"b":1,"a":1}', b"\xff"]
    )
)


def field(hint: Any, optional: bool) -> Any:
    """Return the annotation of an argument, as a default makes it."""
    made: Any = Annotated[hint, Field(default="kept")]
    return NotRequired[made] if optional else hint


def outcome(arguments: Arguments, args: bytes) -> tuple[Any, ...]:
    """Return the final bytes and what a function is then given, with its types, or the refusal."""
    try:
        final = arguments.validate(args)
    except InvalidInput as refused:
        return refused.code, repr(refused.fields)
    taken = arguments.take(final)
    return final, sorted((name, type(value), repr(value)) for name, value in taken.items())


@given(
    st.dictionaries(st.sampled_from(NAMES), HINTS, max_size=3),
    st.sets(st.sampled_from(NAMES)),
    JSON,
)
@example({"a": int}, set(), b'{"a":9223372036854775808}')
@example({"a": float}, set(), b'{"a":1}')
@example({"a": int}, set(), b'{"a":1.0}')
@example({"a": bool}, set(), b'{"a":1}')
@example({"a": int}, set(), b'{"a":true}')
@example({"a": str}, set(), b'{"a":"\\ud800"}')
@example({"a": float}, set(), b'{"a":-0.0}')
@example({"a": str}, set(), b'{"a":"x","b":1}')
@example({"a": str, "b": int}, {"b"}, b'{"a":"x"}')
def test_simple_arguments_are_what_pydantic_makes_of_them(
    hints: dict[str, Any], optional: set[str], args: bytes
) -> None:
    """Who reads them is a matter of speed: no value, byte or refusal may depend on it."""
    fields = {name: field(hint, name in optional) for name, hint in hints.items()}
    quick = Arguments(fields, "t", (), simple=hints)
    thorough = Arguments(fields, "t", (), simple={})

    found = outcome(quick, args)

    assert found == outcome(thorough, args)


@given(
    st.sampled_from(SURE), JSON | VALUES.map(written) | VALUES.map(spelt) | SPELT.map(str.encode)
)
@example(int, b"9223372036854775808")
@example(int, b"1.0")
@example(int, b'"1"')
@example(bool, b"1")
@example(str, b'"\\ud800"')
def test_simple_results_are_what_pydantic_makes_of_them(hint: Any, output: bytes) -> None:
    """Who reads a result is a matter of speed, too."""
    quick, thorough = Result(hint, "t"), Result(Annotated[hint, "as any type"], "t")

    found = read(quick, output)

    assert found == read(thorough, output)


def read(result: Result, output: bytes) -> tuple[Any, ...]:
    """Return what a program is given, with its type, or that it is refused."""
    try:
        value = result.decode(output)
    except InvalidInput as refused:
        return refused.code, repr(refused.fields)
    return type(value), repr(value)
