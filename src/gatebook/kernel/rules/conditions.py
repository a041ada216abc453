"""Three-valued conditions, compiled to closures: true, false, or None for unknown.

Unknown is the stricter side: it never satisfies an `allow` and always fires anything else.
"""

import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from gatebook.kernel.rules.document import Condition, Test
from gatebook.kernel.rules.facts import MISSING, Each, Request, fact
from gatebook.kernel.rules.globs import any_glob
from gatebook.kernel.rules.places import (
    PlaceError,
    folder,
    host_pattern,
    is_host,
    is_within,
    read_host,
)
from gatebook.kernel.rules.regex import MAX_TEXT, PatternError, Regex

Truth = bool | None
Check = Callable[[Any], Truth]
Question = Callable[[Request], Truth]

COMPARED = ("lt", "le", "gt", "ge")
JSON_TYPES = ("string", "number", "integer", "boolean", "array", "object", "null")
OPS = ("eq", "ne", "in", *COMPARED, "glob", "regex", "within", "host", "has", "size", "type")


class OperandError(ValueError):
    """An operand does not fit its operator; the text says what would."""


def compiled(conditions: tuple[Condition, ...], *, opens: bool) -> Question:
    """Compile the conjunction of conditions for a rule that opens (allow) or one that narrows."""
    parts = [_condition(condition, opens=opens) for condition in conditions]
    if not parts:
        return lambda request: True
    if len(parts) == 1:
        return parts[0]

    def ask(request: Request) -> Truth:
        known: Truth = True
        for part in parts:
            answer = part(request)
            if answer is False:
                return False
            if answer is None:
                known = None
        return known

    return ask


def check_test(test: Test) -> Check:
    """Compile one operator with its operand.

    Raises:
        OperandError: the operand does not fit.
    """
    return _MAKERS[test.op](test.operand)


def _condition(condition: Condition, *, opens: bool) -> Question:
    found = fact(condition.fact)
    if found is None:
        raise OperandError(f"there is no fact {condition.fact}")
    read, check = found.read, _all_of(tuple(check_test(test) for test in condition.tests))
    absent: Truth = opens if condition.optional else None
    asks_type = any(test.op == "type" for test in condition.tests)
    null_counts = asks_type and not condition.optional

    def judge(value: Any) -> Truth:
        if value is MISSING or (value is None and not null_counts):
            return absent
        return check(value)

    def ask(request: Request) -> Truth:
        value = read(request)
        if type(value) is Each:
            return _of_each([judge(item) for item in value], absent, opens=opens)
        return judge(value)

    return ask


def _of_each(answers: list[Truth], absent: Truth, *, opens: bool) -> Truth:
    """Whether elements satisfy a rule: every one for an allow, one is enough to narrow."""
    if not answers:
        return absent if opens else False  # a list of nothing neither opens nor narrows
    if (not opens) in answers:
        return not opens
    return None if None in answers else opens


def _all_of(checks: tuple[Check, ...]) -> Check:
    if len(checks) == 1:
        return checks[0]

    def check(value: Any) -> Truth:
        known: Truth = True
        for one in checks:
            answer = one(value)
            if answer is False:
                return False
            if answer is None:
                known = None
        return known

    return check


def number(value: Any) -> int | Decimal | None:
    """Return a JSON number as an exact one, None for everything else."""
    kind = type(value)
    if kind is int:
        return value  # type: ignore[no-any-return]
    if kind is Decimal:
        return value if value == value else None
    if kind is float and value == value:
        return Decimal(repr(value))
    return None


def same(value: Any, operand: Any) -> Truth:
    """Whether two scalars are equal; None when they are of different types."""
    wanted = number(operand)
    if wanted is not None:
        found = number(value)
        return None if found is None else found == wanted
    return value == operand if type(value) is type(operand) else None


def _scalar(operand: Any) -> Any:
    if type(operand) not in (str, bool, int, float, Decimal):
        raise OperandError("a text, a number, true or false")
    return operand


def _scalars(operand: Any) -> tuple[Any, ...]:
    if type(operand) is not list or not operand:
        raise OperandError("a list of texts, numbers, true or false, and not an empty one")
    return tuple(_scalar(item) for item in operand)


def _texts(operand: Any) -> list[str]:
    found = [operand] if type(operand) is str else operand
    listed = type(found) is list and found
    if not listed or not all(type(item) is str and item for item in found):
        raise OperandError("a text or a list of texts, none of them empty")
    return found


def _eq(operand: Any) -> Check:
    wanted = _scalar(operand)
    return lambda value: same(value, wanted)


def _ne(operand: Any) -> Check:
    wanted = _scalar(operand)

    def check(value: Any) -> Truth:
        equal = same(value, wanted)
        return None if equal is None else not equal

    return check


def _in(operand: Any) -> Check:
    wanted = _scalars(operand)
    texts = frozenset(item for item in wanted if type(item) is str)
    others = tuple(item for item in wanted if type(item) is not str)

    def check(value: Any) -> Truth:
        if type(value) is str:
            return value in texts if texts else None
        answers = [same(value, item) for item in others]
        if True in answers:
            return True
        return False if False in answers else None

    return check


_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


def _compare(op: str) -> Callable[[Any], Check]:
    holds = _ORDERS[op]

    def make(operand: Any) -> Check:
        bound = number(operand)
        if bound is None:
            raise OperandError("a number")

        def check(value: Any) -> Truth:
            found = value if type(value) is int else number(value)
            return None if found is None else holds(found, bound)

        return check

    return make


def _glob(operand: Any) -> Check:
    patterns = _texts(operand)
    if any(len(pattern) > 500 for pattern in patterns):
        raise OperandError("patterns of at most 500 characters")
    matches = any_glob(patterns)

    def check(value: Any) -> Truth:
        if type(value) is not str or len(value) > MAX_TEXT or not _one_line(value):
            return None
        return matches(value)

    return check


def _one_line(text: str) -> bool:
    """Whether a text holds no control characters: a line break would hide what follows it."""
    return text.isprintable() or all(ord(c) >= 32 and c not in "\x7f\x85\u2028\u2029" for c in text)


def _regex(operand: Any) -> Check:
    try:
        patterns = [Regex(text) for text in _texts(operand)]
    except PatternError as exc:
        raise OperandError(f"another pattern: {exc}") from exc

    def check(value: Any) -> Truth:
        if type(value) is not str:
            return None
        return _any_of([pattern.matches(value) for pattern in patterns])

    return check


def _within(operand: Any) -> Check:
    try:
        folders = [folder(text) for text in _texts(operand)]
    except PlaceError as exc:
        raise OperandError(f"another folder: {exc}") from exc

    def check(value: Any) -> Truth:
        if type(value) is not str:
            return None
        return _any_of([is_within(value, base) for base in folders])

    return check


def _host(operand: Any) -> Check:
    try:
        patterns = [host_pattern(text) for text in _texts(operand)]
    except PlaceError as exc:
        raise OperandError(f"another host: {exc}") from exc

    def check(value: Any) -> Truth:
        if type(value) is not str:
            return None
        found = read_host(value)
        return _any_of([is_host(found, pattern) for pattern in patterns])

    return check


def _any_of(answers: list[Truth]) -> Truth:
    if True in answers:
        return True
    return None if None in answers else False


def _has(operand: Any) -> Check:
    wanted = _scalars(operand) if type(operand) is list else (_scalar(operand),)

    texts = all(type(one) is str for one in wanted)

    def check(value: Any) -> Truth:
        kind = type(value)
        if texts and kind in (set, frozenset):  # labels: texts only
            return value.issuperset(wanted)  # type: ignore[no-any-return]
        if kind not in (list, tuple, set, frozenset):
            return None
        answers = [_any_of([same(item, one) for item in value]) for one in wanted]
        if False in answers:
            return False
        return None if None in answers else True

    return check


def _size(operand: Any) -> Check:
    allowed = ("eq", "ne", *COMPARED)
    if type(operand) is not dict or not operand or not set(operand) <= set(allowed):
        raise OperandError(f"a table of {', '.join(allowed)}, for example {{ le = 10 }}")
    if any(type(bound) is not int for bound in operand.values()):
        raise OperandError("whole numbers")
    check = _all_of(tuple(_MAKERS[op](bound) for op, bound in operand.items()))
    return lambda value: check(len(value)) if isinstance(value, _SIZED) else None


_SIZED = (str, list, dict, tuple, set, frozenset)


def _type(operand: Any) -> Check:
    wanted = frozenset(_texts(operand))
    if not wanted <= set(JSON_TYPES):
        raise OperandError(f"one of {', '.join(JSON_TYPES)}, or a list of them")
    return lambda value: any(name in wanted for name in json_types(value))


def json_types(value: Any) -> tuple[str, ...]:
    """Return the JSON Schema types a value has: 1 and 1.0 are both integers and numbers."""
    if value is None:
        return ("null",)
    kind = type(value)
    if kind is bool:
        return ("boolean",)
    if kind is str:
        return ("string",)
    if kind is dict:
        return ("object",)
    if kind is int:
        return ("integer", "number")
    if kind is float:
        return ("integer", "number") if value.is_integer() else ("number",)
    if kind is Decimal:
        return ("integer", "number") if value == value.to_integral_value() else ("number",)
    return ("array",)


_MAKERS: dict[str, Callable[[Any], Check]] = {
    "eq": _eq,
    "ne": _ne,
    "in": _in,
    **{op: _compare(op) for op in COMPARED},
    "glob": _glob,
    "regex": _regex,
    "within": _within,
    "host": _host,
    "has": _has,
    "size": _size,
    "type": _type,
}
