"""Types whose values have one JSON form: times in UTC, sets in order; and which need no pydantic.

Only what stands in the annotation itself is changed; a model's own fields stay as it says.
"""

import collections.abc
import types
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from pydantic import AwareDatetime, PlainSerializer, SerializerFunctionWrapHandler, WrapSerializer

from gatebook.kernel.codec import INT_MAX, INT_MIN, canonical

CONTAINERS = frozenset(
    {list, tuple, dict, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Mapping}
)
SETS = frozenset({set, frozenset, collections.abc.Set})
SIMPLE = frozenset({str, int, float, bool, None, type(None)})
PLAIN = SIMPLE | {Any, object, list, dict}


def _in_utc(value: datetime) -> str:
    if value.tzinfo is None:
        return value.isoformat()
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _in_order(value: Iterable[Any], write: SerializerFunctionWrapHandler) -> list[Any]:
    return sorted(write(value), key=canonical)


IN_UTC = PlainSerializer(_in_utc, return_type=str, when_used="json")
IN_ORDER = WrapSerializer(_in_order, when_used="json")


def portable(annotation: Any) -> Any:
    """Return the annotation with aware times written in UTC and sets written in order."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is datetime or annotation is AwareDatetime:
        return Annotated[annotation, IN_UTC]
    if annotation in (set, frozenset):
        return Annotated[annotation, IN_ORDER]
    if origin is Annotated:
        return Annotated[portable(args[0]), *annotation.__metadata__]
    if origin is Union or origin is types.UnionType:
        return Union[tuple(map(portable, args))]  # noqa: UP007
    if origin in CONTAINERS:
        return origin[tuple(map(portable, args))]
    if origin in SETS:
        return Annotated[annotation, IN_ORDER]
    return annotation


def is_simple(annotation: Any) -> bool:
    """Whether strict JSON of this type is read as a value that is written as the same JSON."""
    if get_origin(annotation) in (Union, types.UnionType):
        return all(map(is_simple, get_args(annotation)))
    return _hashable(annotation) and annotation in SIMPLE


def exact(annotation: Any) -> Any:
    """Return a simple type for msgspec to read: whole numbers are those that JSON keeps."""
    if get_origin(annotation) in (Union, types.UnionType):
        return Union[tuple(map(exact, get_args(annotation)))]  # noqa: UP007
    return Annotated[int, msgspec.Meta(ge=INT_MIN, le=INT_MAX)] if annotation is int else annotation


def is_plain(annotation: Any) -> bool:
    """Whether values of this type are JSON already: written as they are, nothing converted."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (list, dict, Union, types.UnionType):
        return all(map(is_plain, args))
    return origin is None and _hashable(annotation) and annotation in PLAIN


def _hashable(annotation: object) -> bool:
    return type(annotation).__hash__ is not None
