"""Arguments are read strictly, completed, and written as canonical bytes."""

import json
from asyncio import CancelledError
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, Field, PlainSerializer

from gatebook.errors import ConfigError, InvalidInput
from gatebook.kernel.codec import canonical, plain
from gatebook.tools import tool


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


@dataclass
class Point:
    x: float
    y: float = 0.0


class Item(BaseModel):
    name: str
    price: Decimal
    tags: Annotated[set[str], PlainSerializer(sorted, return_type=list)] = set()


@tool
def order(  # noqa: PLR0917 - one of each kind of type
    item: Item,
    count: int,
    when: datetime | None = None,
    size: Size = Size.SMALL,
    at: Point = Point(1.5),  # noqa: B008
    colours: set[str] = frozenset(),  # type: ignore[assignment]
    wait: timedelta = timedelta(hours=1),
    note: Annotated[str, Field(max_length=20)] = "",
    mode: Literal["fast", "slow"] = "fast",
) -> None:
    """Order something."""


@tool
def pay(account: str, amount: Decimal, currency: str = "EUR") -> None:
    """Pay."""


def refusal(made: Any, args: bytes) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        made.validate(args)
    return caught.value


def test_defaults_are_filled_in() -> None:
    """Policy, approval and digest must see what the function will see."""
    assert pay.validate(b'{"account":"a","amount":"1"}') == (
        b'{"account":"a","amount":"1","currency":"EUR"}'
    )


def test_the_bytes_are_canonical() -> None:
    """Equal arguments have equal digests."""
    loose = b' {"currency": "EUR",\n"amount": "1", "account": "\\u0061"} '

    assert pay.validate(loose) == pay.validate(b'{"account":"a","amount":"1"}')


@pytest.mark.parametrize(("sent", "kept"), [("1.10", '"1.1"'), ('"1.10"', '"1.10"'), ("3", '"3"')])
def test_a_decimal_may_be_a_number_or_text_and_travels_as_text(sent: str, kept: str) -> None:
    """Models send both; only text keeps every digit."""
    args = f'{{"account":"a","amount":{sent}}}'.encode()

    assert f'"amount":{kept}'.encode() in pay.validate(args)


def test_an_aware_time_is_written_in_utc() -> None:
    """The same instant has one form."""

    @tool
    def wake(at: list[datetime]) -> None: ...

    assert wake.validate(b'{"at":["2026-01-01T01:00:00+02:00"]}') == (
        b'{"at":["2025-12-31T23:00:00Z"]}'
    )


def test_a_naive_time_stays_naive() -> None:
    """Guessing a zone would change what was said."""

    @tool
    def wake(at: datetime) -> None: ...

    assert wake.validate(b'{"at":"2026-01-01T01:00:00"}') == b'{"at":"2026-01-01T01:00:00"}'


def test_a_time_that_has_no_utc_form_is_refused() -> None:
    """The last hours of year 9999 lie beyond what a datetime can hold."""

    @tool
    def wake(at: datetime) -> None: ...

    assert refusal(wake, b'{"at":"9999-12-31T23:59:59-12:00"}').code == "E_ARGS_SCHEMA"


def test_a_set_is_written_in_order() -> None:
    """The hash seed of the process must not show."""

    @tool
    def paint(colours: frozenset[str]) -> None: ...

    assert paint.validate(b'{"colours":["red","blue","green","red"]}') == (
        b'{"colours":["blue","green","red"]}'
    )


@pytest.mark.parametrize(
    ("count", "code"),
    [
        ('"3"', "E_ARGS_SCHEMA"),
        ("3.0", "E_ARGS_SCHEMA"),
        ("true", "E_ARGS_SCHEMA"),
        ("null", "E_ARGS_SCHEMA"),
        ("NaN", "E_JSON_NUMBER"),
        ("1e400", "E_JSON_NUMBER"),
        (str(2**70), "E_JSON_INT_RANGE"),
        ('3,"count":4', "E_JSON_DUPLICATE_KEY"),
        ("[" * 100 + "]" * 100, "E_JSON_DEPTH"),
        ("three", "E_JSON_SYNTAX"),
    ],
)
def test_an_int_is_an_int(count: str, code: str) -> None:
    """Strict reading: nothing is converted, and JSON has one meaning."""

    @tool
    def repeat(count: int) -> None: ...

    assert refusal(repeat, f'{{"count":{count}}}'.encode()).code == code


def test_a_refusal_names_the_path_what_is_wanted_and_what_came() -> None:
    """The model reads this text and corrects its call."""
    error = refusal(order, b'{"item":{"name":"x","price":"1"},"count":"many"}')

    assert str(error) == (
        "argument count of 'order': want a valid integer, got 'many'; "
        "pass a value that fits the tool's schema [E_ARGS_SCHEMA]"
    )


def test_a_refusal_inside_a_list_names_the_element() -> None:
    """Long arguments need an exact place."""

    @tool
    def buy(items: list[Item]) -> None: ...

    error = refusal(buy, b'{"items":[{"name":"a","price":1},{"name":2,"price":1}]}')

    assert error.fields["path"] == "items[1].name"


def test_all_refused_paths_are_told() -> None:
    """One round trip to the model should correct every mistake."""
    error = refusal(pay, b'{"amount":"x","zzz":1}')

    assert sorted(error.fields["paths"]) == ["account", "amount", "zzz"]


def test_a_missing_argument_is_named() -> None:
    """Missing differs from null."""
    error = refusal(pay, b'{"account":"a"}')

    assert (error.code, error.fields["path"]) == ("E_ARGS_SCHEMA", "amount")
    assert "required" in str(error)


def test_a_misspelt_argument_is_named_beside_the_one_that_is_missing() -> None:
    """Who wrote it sees what they wrote."""
    error = refusal(pay, b'{"account":"a","amonut":1}')

    assert (error.code, error.fields["path"]) == ("E_ARGS_SCHEMA", "amount")
    assert "it is required (and there is no argument 'amonut')" in str(error)


def test_an_extra_argument_has_its_own_code() -> None:
    """A dropped argument may have been the one that mattered."""
    error = refusal(pay, b'{"account":"a","amount":1,"amonut":2}')

    assert (error.code, error.fields["path"]) == ("E_ARGS_EXTRA", "amonut")


@pytest.mark.parametrize("args", [b"[]", b"null", b"3", b'"{}"'])
def test_arguments_are_one_object(args: bytes) -> None:
    """They are named."""
    assert refusal(pay, args).code == "E_ARGS_SCHEMA"


def test_a_refused_large_value_is_not_carried_in_the_error() -> None:
    """Errors are journaled, and a journal is no place for megabytes."""
    error = refusal(pay, b'{"account":"a","amount":"' + b"x" * 100_000 + b'"}')

    assert len(str(error.fields)) < 1_000


def test_an_alias_is_the_argument_name() -> None:
    """`from` is a Python keyword and a fine argument."""

    @tool
    def move(from_: Annotated[str, Field(alias="from")]) -> None: ...

    assert move.validate(b'{"from":"here"}') == b'{"from":"here"}'
    assert refusal(move, b'{"from_":"here"}').code == "E_ARGS_SCHEMA"


def test_a_validator_that_normalises_is_fine() -> None:
    """Its answer is a fixed point, so what is approved is what the function sees."""

    @tool
    def find(word: Annotated[str, AfterValidator(str.lower)]) -> None: ...

    assert find.validate(b'{"word":"ABC"}') == b'{"word":"abc"}'


def test_a_validator_that_keeps_changing_its_answer_is_refused() -> None:
    """The function would see other bytes than those that were approved."""

    @tool
    def shout(word: Annotated[str, AfterValidator(lambda word: word + "!")]) -> None: ...

    with pytest.raises(ConfigError, match="change each time"):
        shout.validate(b'{"word":"hey"}')


def test_an_argument_that_is_left_out_when_written_is_refused() -> None:
    """The journal would not hold what the function was given."""

    @tool
    def keep(word: Annotated[str, Field(exclude=True)]) -> None: ...

    with pytest.raises(ConfigError, match="change each time"):
        keep.validate(b'{"word":"hey"}')


@pytest.mark.parametrize("error", [KeyError("oops"), CancelledError(), GeneratorExit()])
def test_a_validator_that_raises_anything_is_a_refusal(error: BaseException) -> None:
    """The gate must not fall over a bug in a validator."""

    def broken(_: str) -> str:
        raise error

    @tool
    def find(word: Annotated[str, AfterValidator(broken)]) -> None: ...

    assert type(error).__name__ in str(refusal(find, b'{"word":"x"}'))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
zones = st.none() | st.just(UTC) | st.integers(-14, 14).map(lambda h: timezone(timedelta(hours=h)))
times = st.datetimes(timezones=zones)
good_orders = st.fixed_dictionaries(
    {
        "item": st.fixed_dictionaries(
            {
                "name": st.text(max_size=5),
                "price": st.integers(0, 10**9) | st.decimals(0, 10**9, places=2).map(str),
            },
            optional={"tags": st.lists(st.text(max_size=3), max_size=5)},
        ),
        "count": st.integers(-(2**63), 2**63 - 1),
    },
    optional={
        "when": times.map(datetime.isoformat) | st.none(),
        "size": st.sampled_from(["s", "l"]),
        "at": st.fixed_dictionaries({"x": st.floats(allow_nan=False, allow_infinity=False)}),
        "colours": st.lists(st.text(max_size=3), max_size=6),
        "note": st.text(max_size=20),
        "mode": st.sampled_from(["fast", "slow"]),
    },
)


@given(good_orders)
def test_validating_the_answer_changes_nothing(args: dict[str, Any]) -> None:
    """Recovery, replay and approval all rely on the recorded bytes being final."""
    final = order.validate(json.dumps(args).encode())

    assert order.validate(final) == final
    assert canonical(plain(final)) == final


@given(st.dictionaries(st.sampled_from(["item", "count", "when", "note"]), json_values))
def test_any_json_is_validated_or_refused(args: dict[str, Any]) -> None:
    """Nothing a model sends may surface as another exception."""
    try:
        final = order.validate(json.dumps(args).encode())
    except InvalidInput:
        return

    assert order.validate(final) == final


@given(st.binary(max_size=60))
def test_any_bytes_are_validated_or_refused(args: bytes) -> None:
    """Arguments may come from a broken stream."""
    with pytest.raises(InvalidInput):
        pay.validate(args)
