"""Results are written by their declared type, and read back by it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from gatebook.errors import InvalidInput
from gatebook.kernel.codec import canonical
from gatebook.tools.schema import Result


@dataclass
class Receipt:
    order: str
    amount: Decimal
    at: datetime | None = None


class Aliased(BaseModel):
    from_: str = Field(alias="from")


def encode(value: object, annotation: Any = Any, *, limit: int = 1_000) -> bytes:
    return Result(annotation, "pay").encode(value, limit=limit)


def decode(output: bytes, annotation: Any = Any) -> Any:
    return Result(annotation, "pay").decode(output)


def refusal(value: object, annotation: Any = Any, *, limit: int = 1_000) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        encode(value, annotation, limit=limit)
    return caught.value


def test_a_dataclass_is_written_as_json_and_read_back() -> None:
    """A program gets the type that the tool declares, live and after a crash."""
    output = encode(Receipt("17", Decimal("1.10")), Receipt)

    assert output == b'{"amount":"1.10","at":null,"order":"17"}'
    assert decode(output, Receipt) == Receipt("17", Decimal("1.10"))


def test_an_aliased_model_is_read_back() -> None:
    """A result that cannot be read would be lost after the effect has happened."""
    output = encode(Aliased(**{"from": "here"}), Aliased)

    assert decode(output, Aliased).from_ == "here"


def test_a_person_may_give_a_result_by_alias() -> None:
    """`resolve` takes JSON that people write."""
    assert decode(b'{"from":"here"}', Aliased).from_ == "here"


def test_a_time_is_written_in_utc() -> None:
    """The same instant has one form."""
    at = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))

    output = encode(at, datetime)

    assert output == b'"2026-01-01T00:00:00Z"'
    assert decode(output, datetime) == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_set_is_written_in_order() -> None:
    """The hash seed of the process must not show."""
    output = encode({"b", "c", "a"}, set[str])

    assert output == b'["a","b","c"]'
    assert decode(output, set[str]) == {"a", "b", "c"}


def test_no_result_is_null() -> None:
    """Tools that only do something return nothing."""
    assert encode(None, None) == b"null"


@pytest.mark.parametrize(
    "value", [b"x", Decimal(1), datetime(2026, 1, 1, tzinfo=UTC), {1: 2}, {"a": object()}]
)
@pytest.mark.parametrize("annotation", [Any, dict, dict[str, Any]])
def test_without_a_declared_type_only_plain_json_is_returned(
    value: object, annotation: Any
) -> None:
    """Converting silently would give the program another type after a crash."""
    assert refusal(value, annotation).code == "E_RESULT_TYPE"


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (3, str),
        ({"order": "17"}, Receipt),
        (Receipt("17", "much"), Receipt),  # type: ignore[arg-type]
        (Decimal("NaN"), Decimal),
        (float("inf"), float),
        (2**70, int),
        ("x", None),
        ([1], dict),
    ],
)
def test_a_result_that_is_not_what_is_declared_is_refused(value: object, annotation: Any) -> None:
    """What is recorded must be readable by the declared type."""
    assert refusal(value, annotation).code == "E_RESULT_TYPE"


def test_a_result_of_a_model_may_be_its_json() -> None:
    """The effect has happened: JSON that fits the type is the type's value."""
    assert encode({"order": "17", "amount": "1"}, Receipt) == b'{"amount":"1","order":"17"}'


def test_a_refused_result_is_never_printed_by_its_own_repr() -> None:
    """A hostile or broken object must not run code while being refused."""

    class Loud:
        def __repr__(self) -> str:
            raise AssertionError("asked for a repr")

    assert "Loud" in str(refusal(Loud()))


def test_a_result_over_the_limit_is_refused() -> None:
    """A journal event has a maximum."""
    error = refusal(["x" * 40], limit=20)

    assert (error.code, error.fields["size"], error.fields["limit"]) == (
        "E_RESULT_TOO_LARGE",
        44,
        20,
    )


def test_a_result_at_the_limit_is_kept() -> None:
    """The limit counts the bytes that are stored."""
    assert encode("x" * 18, limit=20) == b'"' + b"x" * 18 + b'"'


def test_a_huge_result_is_too_large_and_not_mistyped() -> None:
    """The remedy differs."""
    assert refusal(["x" * 9_000_000], limit=1_000_000).code == "E_RESULT_TOO_LARGE"


def test_a_stored_result_of_another_type_is_refused() -> None:
    """The declared type may have changed since."""
    with pytest.raises(InvalidInput) as caught:
        decode(b'{"order":"17"}', Receipt)

    assert caught.value.code == "E_RESULT_TYPE"


plain_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
untyped = Result(Any, "echo")
receipts = st.builds(
    Receipt,
    st.text(max_size=5),
    st.decimals(allow_nan=False, allow_infinity=False, places=2),
    st.none() | st.datetimes(timezones=st.just(UTC)),
)
typed = Result(list[Receipt], "list")


@given(plain_json)
def test_plain_json_comes_back_as_it_was(value: object) -> None:
    """Un-annotated tools lose nothing but the type of tuples."""
    output = untyped.encode(value, limit=100_000)

    assert canonical(untyped.decode(output)) == output


@given(st.lists(receipts, max_size=3))
def test_declared_types_come_back_as_they_were(value: list[Receipt]) -> None:
    """Live and replayed programs see equal values."""
    assert typed.decode(typed.encode(value, limit=100_000)) == value
