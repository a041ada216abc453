"""Declared types at a program's border: JSON in, JSON out, by pydantic, imported when needed.

Knows types and canonical JSON; the error code to refuse with is told by whoever declares.
"""

import inspect
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from gatebook.errors import EXITS, ConfigError, InvalidInput
from gatebook.kernel.codec import MAX_DEPTH, canonical, plain
from gatebook.kernel.secrets import Secret, is_masked

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")
Mode = Literal["validation", "serialization"]

UNTYPED = (Any, inspect.Parameter.empty, inspect.Signature.empty)


class Contract(Generic[T]):
    """A declared type: reads and writes its JSON. Nothing declared means plain JSON.

    `code` and `fields` make the InvalidInput that refuses a value, with its `detail`.
    """

    def __init__(self, annotation: Any, *, code: str, **fields: Any) -> None:
        self._annotation = annotation
        self._code = code
        self._fields = fields
        self._untyped = any(annotation is nothing for nothing in UNTYPED)

    @cached_property
    def adapter(self) -> "TypeAdapter[T]":
        """Pydantic's adapter of the type. Raises ConfigError (E_PROGRAM_DECLARATION)."""
        from pydantic import PydanticUserError

        try:
            return _adapter_of(self._annotation)
        except (PydanticUserError, NameError, TypeError, ValueError, RuntimeError) as exc:
            raise self._undeclarable(exc) from exc

    def schema(self, mode: Mode = "validation") -> Any:
        """Return the JSON Schema as plain JSON, not to be changed; {} where any JSON fits.

        Raises:
            ConfigError: E_PROGRAM_DECLARATION when the type cannot be JSON.
        """
        if self._untyped:
            return {}
        if self._annotation is str:
            return {"type": "string"}
        from pydantic import PydanticUserError

        try:
            return _schema_of(self.adapter, mode)
        except PydanticUserError as exc:
            raise self._undeclarable(exc) from exc

    def taken(self) -> Any:
        """Return the schema of what is given to a program; see `schema`.

        Raises:
            ConfigError: E_PROGRAM_DECLARATION also for a SecretStr: it would be given asterisks.
        """
        if is_masked(self.schema("serialization")):
            held = ValueError("it holds a SecretStr, which is written as asterisks")
            raise self._undeclarable(held)
        return self.schema()

    def accept(self, value: Any) -> bytes:
        """Return canonical JSON of a value given from outside: strict, defaults filled in.

        A plain JSON value counts as JSON text would; other values are written by their type first.

        Raises:
            InvalidInput: this contract's code; E_JSON_*, E_TEXT_INVALID or E_PAYLOAD_TOO_LARGE.
        """
        try:
            data = canonical(value, what="input")
        except InvalidInput as exc:
            if self._untyped or exc.code not in ("E_JSON_TYPE", "E_JSON_KEY"):
                raise
            data = self.dump(value)
        if self._untyped:
            return data
        if self._annotation is str:
            return self._text(data)
        return self.dump(self._validate(data, strict=True))

    def encode(self, value: T) -> bytes:
        """Return canonical JSON of a value of this type, which `decode` reads."""
        if self._untyped:
            return self._canonical(value)
        if self._annotation is str:
            return self._text(self._canonical(value))
        data = self.dump(value)
        self._validate(data, strict=True)
        return data

    def decode(self, data: bytes) -> T:
        """Return the value that JSON bytes stand for."""
        if self._untyped:
            return cast(T, plain(data))
        if self._annotation is str:
            return cast(T, plain(self._text(data)))
        return self._validate(data, strict=False)

    def _canonical(self, value: Any) -> bytes:
        try:
            return canonical(value)
        except InvalidInput as exc:
            raise self._refused(str(exc)) from exc

    def dump(self, value: Any) -> bytes:
        """Return canonical JSON of a value as its type writes it, not read back."""
        from pydantic_core import PydanticSerializationError

        write = self.adapter.dump_python
        try:
            written = write(value, mode="json", warnings=False)
        except (PydanticSerializationError, AttributeError, TypeError, ValueError) as exc:
            raise self._refused(str(exc).partition("\n")[0]) from exc
        return self._canonical(written)

    def _validate(self, data: bytes, *, strict: bool) -> T:
        from pydantic import ValidationError

        read = self.adapter.validate_json
        try:
            return read(data, strict=strict, by_alias=True, by_name=True)
        except ValidationError as exc:
            raise self._unfit(exc) from exc
        except EXITS:
            raise
        except BaseException as exc:  # a validator of the user may raise anything
            raise self._refused(f"a check of its type raised {type(exc).__name__}") from exc

    def _text(self, data: bytes) -> bytes:
        if data[:1] != b'"':
            raise self._refused("it is not text")
        return data

    def _unfit(self, exc: "ValidationError") -> InvalidInput:
        first = exc.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "$"
        return self._refused(f"at {where}: {first['msg']}")

    def _refused(self, detail: str) -> InvalidInput:
        return InvalidInput(self._code, detail=detail, **self._fields)

    def _undeclarable(self, exc: Exception) -> ConfigError:
        return ConfigError(
            "E_PROGRAM_DECLARATION",
            program=self._fields.get("program", "?"),
            detail=f"a declared type cannot be JSON: {str(exc).partition(chr(10))[0]}",
            fix="use JSON types, Decimal, datetime, enums, dataclasses or pydantic models, "
            "defined at module level",
        )


def _adapter_of(annotation: Any) -> "TypeAdapter[Any]":
    """Return pydantic's adapter; shared for classes, where equal means the same."""
    if isinstance(annotation, type):
        return _adapter_of_class(annotation)
    from pydantic import TypeAdapter

    return TypeAdapter(annotation)


@lru_cache(maxsize=256)
def _adapter_of_class(annotation: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(annotation)


@lru_cache(maxsize=256)
def _schema_of(adapter: "TypeAdapter[Any]", mode: Mode) -> Any:
    return adapter.json_schema(mode=mode)


def rich_arguments(args: Mapping[str, Any], refused: InvalidInput) -> bytes:
    """Return canonical JSON of keyword arguments that are no plain JSON, as `refused` says.

    Values are written as pydantic writes them. A set becomes a list in canonical order, so that
    no hash seed shows; bytes are refused, and a SecretStr, which would become asterisks.
    """
    if refused.code != "E_JSON_TYPE":
        raise refused
    found = {name: _plain(value, f"$.{name}") for name, value in args.items()}
    return canonical(found, what="arguments")


def _plain(value: Any, path: str, above: tuple[Any, ...] = ()) -> Any:
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Secret):
        return value.reference
    if isinstance(value, bytes | bytearray | memoryview) or hasattr(value, "get_secret_value"):
        raise InvalidInput("E_JSON_TYPE", path=path, value=value)
    if any(value is outer for outer in above):
        raise InvalidInput("E_JSON_CYCLE", path=path)
    if len(above) >= MAX_DEPTH:
        raise InvalidInput("E_JSON_DEPTH", path=path[:80], limit=MAX_DEPTH)
    within = (*above, value)
    if type(value) is dict:
        for key in value:
            if type(key) is not str:
                raise InvalidInput("E_JSON_KEY", path=path, value=key)
        return {key: _plain(item, f"{path}.{key}", within) for key, item in value.items()}
    if type(value) in (list, tuple):
        return [_plain(item, f"{path}[{index}]", within) for index, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        return sorted((_plain(item, path, within) for item in value), key=canonical)
    from pydantic_core import to_jsonable_python

    try:
        return to_jsonable_python(value)
    except (ValueError, TypeError, AttributeError, RecursionError) as exc:
        raise InvalidInput("E_JSON_TYPE", path=path, value=value) from exc
