"""A tool's arguments and result as JSON: schema, strict reading and canonical writing.

Imports pydantic, so it is itself imported at a tool's first use. Knows no functions.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import msgspec
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ErrorDetails, PydanticSerializationError
from typing_extensions import TypedDict

from gatebook.errors import EXITS, SHOWN, InvalidInput
from gatebook.kernel.codec import MAX_PAYLOAD, bounded, canonical, parse
from gatebook.kernel.secrets import is_masked
from gatebook.tools.options import refused
from gatebook.tools.portable import exact, is_plain, portable

TYPES = "JSON types, Decimal, datetime, enums, dataclasses, TypedDicts or pydantic models"
SHOWN_PROBLEMS = 12
SMALL, KEPT = 1_024, 128  # bytes of arguments, and how many, that are kept from check to call
SURE = (str, int, bool)  # a value of just this type is read back as it was written

_write = msgspec.json.Encoder(order="deterministic").encode


class Arguments:
    """The arguments of one tool: `schema` for the model, and strict reading of what it sends.

    `simple` are the types of those parameters whose values are JSON as they are read. Where all
    are, pydantic need not write them, and what is canonical need not be read by it either.
    """

    def __init__(
        self,
        fields: Mapping[str, Any],
        tool: str,
        secrets: Collection[str],
        *,
        simple: Mapping[str, Any],
    ) -> None:
        self._tool = tool
        self._secrets = frozenset(secrets)
        self._simple = exact_reader(simple) if len(simple) == len(fields) else None
        self._adapter = adapter(mapping(fields), tool, "its parameters")
        self._read_json = self._adapter.validator.validate_json
        self.schema = canonical(json_schema(self._adapter), what=f"schema of {tool}")
        self._read: dict[bytes, dict[str, Any]] = {}  # read for a call that is still to come

    def validate(self, args: bytes) -> bytes:
        """Return the final arguments, defaults filled in, as canonical bytes.

        Validating the answer again returns it unchanged: what is approved and recorded is what
        the function is given.

        Raises:
            InvalidInput: E_JSON_*, E_ARGS_SCHEMA, E_ARGS_EXTRA or E_SECRET_LITERAL.
            ConfigError: E_TOOL_DECLARATION when the types do not read back what they write.
        """
        if len(args) > MAX_PAYLOAD:
            bounded(args, what="arguments")
        values = self._as_they_stand(args)
        if values is not None:
            return self._keep(args, values)
        try:
            values = self.decode(args)
            final = self._encode(values)
        except InvalidInput:
            parse(args, what="arguments")  # what is no strict JSON is refused as that
            raise
        if final == args:  # canonical, so strict as well
            return self._keep(final, values)
        parse(args, what="arguments")
        if not self._reads_back(final, values):
            raise refused(
                self._tool,
                "its arguments change each time they are validated",
                "let its validators accept their own answers unchanged, or do that in the body",
            )
        return final

    def _as_they_stand(self, args: bytes) -> dict[str, Any] | None:
        """Return canonical arguments of simple types, read by msgspec, or None for all others.

        They are what pydantic would read and write, at a third of its price.
        """
        if self._simple is None:
            return None
        try:
            values = self._simple(args)
            return values if _write(values) == args else None
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None  # pydantic says what is wrong

    def _keep(self, final: bytes, values: dict[str, Any]) -> bytes:
        """Remember what was read for the call that follows."""
        if len(final) <= SMALL and len(self._read) < KEPT:
            self._read[final] = values
        return final

    def take(self, args: bytes) -> dict[str, Any]:
        """Return the keyword arguments for one call: those that `validate` read, if it did."""
        values = self._read.pop(args, None)
        if values is None:
            self._read.clear()  # what is left belongs to calls that were refused, or happened
            values = self.decode(args)
        return values

    def decode(self, args: bytes) -> dict[str, Any]:
        """Return the keyword arguments that JSON bytes stand for, or refuse them."""
        try:
            values: dict[str, Any] = self._read_json(args, strict=True)
        except ValidationError as exc:
            raise self._unfit(exc) from (None if self._secrets else exc)  # it holds the values
        except EXITS:
            raise
        except BaseException as exc:  # a validator of the user may raise anything
            want = f"what its validators accept (one raised {type(exc).__name__})"
            raise InvalidInput(
                "E_ARGS_SCHEMA", tool=self._tool, path="$", want=want, got=_small(args)
            ) from exc
        return values

    def _reads_back(self, final: bytes, values: dict[str, Any]) -> bool:
        try:
            again = self.decode(final)
        except InvalidInput:
            return False
        return again == values or self._encode(again) == final

    def _encode(self, values: dict[str, Any]) -> bytes:
        if self._simple is not None:
            return canonical(values, what="arguments")
        try:
            plain = self._adapter.serializer.to_python(
                values, mode="json", by_alias=True, warnings=False
            )
        except PydanticSerializationError as exc:
            want = f"values that can be written as JSON ({exc})"
            raise InvalidInput(
                "E_ARGS_SCHEMA", tool=self._tool, path="$", want=want, got="others"
            ) from exc
        return canonical(plain, what="arguments")

    def _unfit(self, exc: ValidationError) -> InvalidInput:
        problems = exc.errors(include_url=False, include_context=False)
        first = problems[0]
        for problem in problems:
            if problem["loc"][:1] and problem["loc"][0] in self._secrets:
                return self._no_reference(problem)
        paths = [_path(problem) for problem in problems[:SHOWN_PROBLEMS]]
        if first["type"] == "extra_forbidden":
            return InvalidInput("E_ARGS_EXTRA", tool=self._tool, path=paths[0], paths=paths)
        missing = first["type"] == "missing"
        extra = next((_path(each) for each in problems if each["type"] == "extra_forbidden"), "")
        wanted = first["msg"].removeprefix("Input should be ")
        want = "a value, it is required" if missing else wanted
        return InvalidInput(
            "E_ARGS_SCHEMA",
            tool=self._tool,
            path=paths[0],
            want=f"{want} (and there is no argument {extra[:40]!r})" if extra else want,
            got=None if missing else _small(first["input"]),
            paths=paths,
        )

    def _no_reference(self, problem: ErrorDetails) -> InvalidInput:
        path = _path(problem)
        if problem["type"] == "missing":
            want = "a reference to a secret, it is required"
            return InvalidInput("E_ARGS_SCHEMA", tool=self._tool, path=path, want=want, got=None)
        return InvalidInput("E_SECRET_LITERAL", tool=self._tool, path=str(problem["loc"][0]))


class Result:
    """The result of one tool: written by its declared type, and read back by it."""

    def __init__(self, annotation: Any, tool: str) -> None:
        self._tool = tool
        self._plain = is_plain(annotation)
        self._sure = annotation if annotation in SURE else None
        self._read_sure = msgspec.json.Decoder(exact(self._sure)).decode
        self._adapter = adapter(portable(annotation), tool, "its return type")
        self._read_json = self._adapter.validator.validate_json
        check_json(self._adapter, tool, "its return type", mode="serialization")

    def encode(self, value: object, *, limit: int) -> bytes:
        """Return canonical bytes of a returned value that `decode` reads.

        Raises:
            InvalidInput: E_RESULT_TYPE, or E_RESULT_TOO_LARGE above `limit` bytes.
        """
        if isinstance(value, str) and len(value) > limit:
            raise self._too_large(len(value), limit)
        try:
            data = canonical(value if self._plain else self._to_json(value), what="result")
        except PydanticSerializationError as exc:
            raise self._mistyped(str(exc)) from exc
        except InvalidInput as exc:
            if exc.code == "E_PAYLOAD_TOO_LARGE":
                raise self._too_large(exc.fields["size"], limit) from exc
            raise self._mistyped(str(exc)) from exc
        if len(data) > limit:
            raise self._too_large(len(data), limit)
        if type(value) is not self._sure:
            self.decode(data)
        return data

    def decode(self, output: bytes) -> Any:
        """Return the value that JSON bytes stand for; field names and aliases both count."""
        if self._sure is not None:
            try:
                return self._read_sure(output)
            except (msgspec.DecodeError, UnicodeError):
                pass  # pydantic reads more, or says what is wrong
        try:
            return self._read_json(output, by_alias=True, by_name=True)
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_context=False)[0]
            raise self._mistyped(f"at {_path(first)}: {first['msg']}") from exc

    def _to_json(self, value: object) -> Any:
        return self._adapter.dump_python(value, mode="json", by_alias=False, warnings=False)

    def _mistyped(self, detail: str) -> InvalidInput:
        return InvalidInput("E_RESULT_TYPE", tool=self._tool, detail=detail)

    def _too_large(self, size: int, limit: int) -> InvalidInput:
        return InvalidInput("E_RESULT_TOO_LARGE", tool=self._tool, size=size, limit=limit)


def mapping(fields: Mapping[str, Any]) -> Any:
    """Return the type of a JSON object with exactly these fields."""
    make: Any = TypedDict
    found = make("Arguments", dict(fields))
    found.__pydantic_config__ = ConfigDict(extra="forbid")
    return found


def exact_reader(types: Mapping[str, Any]) -> Callable[[bytes], dict[str, Any]]:
    """Return a reader of JSON objects that have these keys, of simple types; it skips others."""
    make: Any = TypedDict
    fields = {name: exact(annotation) for name, annotation in types.items()}
    return msgspec.json.Decoder(make("Arguments", fields)).decode


def adapter(annotation: Any, tool: str, what: str) -> TypeAdapter[Any]:
    """Return pydantic's adapter for an annotation, or refuse it in the name of `what`."""
    try:
        return TypeAdapter(annotation)
    except PydanticUndefinedAnnotation as exc:
        fix = "define it at module level, outside `if TYPE_CHECKING`"
        raise refused(tool, f"{what} names the unknown type {exc.name!r}", fix) from exc
    except (PydanticUserError, TypeError, ValueError, RuntimeError) as exc:
        raise _no_json(tool, what, exc) from exc


def check_json(
    types: TypeAdapter[Any],
    tool: str,
    what: str,
    *,
    mode: Literal["validation", "serialization"] = "validation",
) -> None:
    """Refuse types that have no JSON Schema, and bytes, which JSON cannot hold.

    Of what a tool is given also SecretStr: what is recorded of it is asterisks, and read back.
    """
    try:
        found = types.json_schema(mode=mode)
        written = types.json_schema(mode="serialization") if mode == "validation" else None
    except PydanticUserError as exc:
        raise _no_json(tool, what, exc) from exc
    if _has_bytes(found):
        fix = "pass base64 text (pydantic.Base64Bytes) or a path or address of the body"
        raise refused(tool, f"{what} holds bytes, which JSON cannot", fix)
    if is_masked(written):
        fix = "take str, or Secret[str] for a secret that the runtime has"
        raise refused(tool, f"{what} holds a SecretStr, which is written as asterisks", fix)


def check_order(types: TypeAdapter[Any], tool: str, what: str) -> None:
    """Refuse sets inside models and dataclasses: how they are written depends on the process.

    Sets in the annotation itself are written in order, see `portable`.
    """
    if _has_bare_set(types.core_schema):
        fix = (
            "use a list there, or Annotated[set[...], pydantic.PlainSerializer(sorted, "
            "return_type=list)]"
        )
        raise refused(tool, f"{what} holds a set inside its type, and sets have no order", fix)


def json_schema(types: TypeAdapter[Any]) -> dict[str, Any]:
    """Return the JSON Schema without the titles that pydantic makes from names."""
    schema = types.json_schema(schema_generator=_Untitled)
    schema.pop("title", None)
    for part in schema.get("$defs", {}).values():
        part.pop("title", None)
    return schema


class _Untitled(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def decimal_schema(self, schema: Any) -> dict[str, Any]:
        """Drop the pattern of decimals as text: it differs between releases of pydantic.

        A tool's digest should not change with them, and model providers refuse look-aheads.
        """
        found = super().decimal_schema(schema)
        for option in found.get("anyOf", ()):
            option.pop("pattern", None)
        return found


def _no_json(tool: str, what: str, exc: Exception) -> Exception:
    reason = str(exc).partition("\n")[0]
    return refused(tool, f"{what} cannot be JSON: {reason}", f"use {TYPES}")


def _has_bytes(schema: Any) -> bool:
    if isinstance(schema, dict):
        if schema.get("type") == "string" and schema.get("format") == "binary":
            return True
        return any(map(_has_bytes, schema.values()))
    return isinstance(schema, list) and any(map(_has_bytes, schema))


def _small(value: Any) -> Any:
    """Return a refused value as an error may carry it: never a large or nested one."""
    if isinstance(value, str | bytes):
        return value[: SHOWN + 1]
    if value is None or isinstance(value, bool | int | float):
        return value
    return f"a {type(value).__name__}"


def _has_bare_set(schema: Any) -> bool:
    if isinstance(schema, dict):
        if schema.get("type") in ("set", "frozenset"):
            return "serialization" not in schema
        return any(map(_has_bare_set, schema.values()))
    return isinstance(schema, list) and any(map(_has_bare_set, schema))


def _path(problem: ErrorDetails) -> str:
    """Return where in the value a problem lies: `items[0].price`, or `$` for the whole."""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in problem["loc"])
    return text.removeprefix(".") or "$"
