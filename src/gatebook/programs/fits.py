"""Whether a JSON value fits a JSON Schema: a closed vocabulary, checked when it is declared.

Knows the words of draft 2020-12 that a typed answer needs. A word it does not know is refused, not
skipped: what is promised of an answer must have been checked. Patterns are matched by Rust's regex
engine (pydantic's), in linear time; look-around and back-references do not exist there.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from gatebook.errors import ConfigError
from gatebook.kernel.codec import canonical
from gatebook.programs.formats import FORMATS
from gatebook.programs.output_schema import inner_schemas, rebuilt, refused
from gatebook.programs.problems import KEY, MAX_PROBLEMS, Problem

MAX_STEPS = 50_000  # schemas applied while one answer is checked; a second of work at most
TEXT_STEP = 1_000  # characters of text that count as one more
MAX_NESTED = 128  # schemas applied inside one another; well within Python's own limit
NO_FORM = "it fits none of the forms; the nearest one says:"
AMONG = "\0among"  # beside `enum` and `const`, once they were made ready: the keys of their values

ANNOTATIONS = frozenset({
    "$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default",
    "examples", "example", "deprecated", "readOnly", "writeOnly", "discriminator",
    "propertyOrdering",
})  # fmt: skip


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: type(value) is bool,
    "integer": lambda value: _is_number(value) and value == int(value),
    "number": _is_number,
    "string": lambda value: type(value) is str,
    "array": lambda value: type(value) is list,
    "object": lambda value: type(value) is dict,
}


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_texts(value: Any) -> bool:
    return type(value) is list and all(type(each) is str for each in value)


def _is_types(value: Any) -> bool:
    if type(value) is str:
        return value in TYPES
    return _is_texts(value) and bool(value) and all(each in TYPES for each in value)


def _is_schema(value: Any) -> bool:
    return type(value) in (dict, bool)


def _is_schemas(value: Any) -> bool:
    return type(value) is list and bool(value) and all(map(_is_schema, value))


def _is_schema_map(value: Any) -> bool:
    return type(value) is dict and all(map(_is_schema, value.values()))


# What each word must hold.
WORDS: dict[str, Callable[[Any], bool]] = {
    "type": _is_types,
    "enum": lambda value: type(value) is list and bool(value),
    "const": lambda value: True,
    "$ref": lambda value: type(value) is str,
    "$defs": _is_schema_map,
    "definitions": _is_schema_map,
    "properties": _is_schema_map,
    "patternProperties": _is_schema_map,
    "additionalProperties": _is_schema,
    "propertyNames": _is_schema,
    "required": _is_texts,
    "dependentRequired": lambda value: type(value) is dict and all(map(_is_texts, value.values())),
    "minProperties": _is_count,
    "maxProperties": _is_count,
    "items": _is_schema,
    "prefixItems": _is_schemas,
    "minItems": _is_count,
    "maxItems": _is_count,
    "uniqueItems": lambda value: type(value) is bool,
    "minLength": _is_count,
    "maxLength": _is_count,
    "pattern": lambda value: type(value) is str,
    "format": lambda value: value in FORMATS if type(value) is str else False,
    "minimum": _is_number,
    "maximum": _is_number,
    "exclusiveMinimum": _is_number,
    "exclusiveMaximum": _is_number,
    "multipleOf": lambda value: _is_number(value) and value > 0,
    "allOf": _is_schemas,
    "anyOf": _is_schemas,
    "oneOf": _is_schemas,
    "not": _is_schema,
    "if": _is_schema,
    "then": _is_schema,
    "else": _is_schema,
}


class JsonSchema:
    """A schema that was checked when it was declared; says what is wrong with a value.

    Raises:
        ConfigError: E_OUTPUT_SCHEMA, E_OUTPUT_SCHEMA_WORD or E_OUTPUT_SCHEMA_PATTERN.
    """

    def __init__(self, schema: dict[str, Any], *, program: str) -> None:
        self._program = program
        self._patterns: dict[str, Callable[[str], bool]] = {}
        self._declare(schema, "#")
        self._ready = rebuilt(schema, _with_keys)

    def _declare(self, schema: Any, path: str) -> None:
        if type(schema) is bool:
            return
        for word, value in schema.items():
            fit = WORDS.get(word)
            if fit is None and word not in ANNOTATIONS and not word.startswith("x-"):
                detail = f"{word[:40]} is not among the words that answers are checked by"
                raise ConfigError(
                    "E_OUTPUT_SCHEMA_WORD", program=self._program, path=path, detail=detail
                )
            if word == "format" and type(value) is str and value not in FORMATS:
                detail = f"format {value[:40]} is not among those that answers are checked by"
                raise ConfigError(
                    "E_OUTPUT_SCHEMA_WORD", program=self._program, path=path, detail=detail
                )
            if fit is not None and not fit(value):
                raise refused(self._program, path, f"{word} does not hold what it must")
        for pattern in [schema.get("pattern"), *schema.get("patternProperties", {})]:
            if pattern is not None:
                self._patterns[pattern] = matcher(pattern, program=self._program, path=path)
        for tokens, inner in inner_schemas(schema):
            self._declare(inner, "/".join((path, *tokens)))

    def problems(self, value: Any) -> tuple[Problem, ...]:
        """Return what is wrong with a JSON value, at most twelve things; () when it fits."""
        check = _Check(self._ready, self._patterns)
        try:
            check.apply(self._ready, value, "$", 0)
        except _TooMuchError:
            check.found.append(Problem("$", "it takes too long to check: answer with less"))
        return tuple(check.found[:MAX_PROBLEMS])


class _TooMuchError(Exception):
    """A value is so large or deep, or the schema so branched, that checking it must stop."""


class _Check:
    """One value against one schema."""

    def __init__(self, root: dict[str, Any], patterns: Mapping[str, Callable[[str], bool]]) -> None:
        self.found: list[Problem] = []
        self._root = root
        self._patterns = patterns
        self._steps = 0

    def apply(self, schema: Any, value: Any, path: str, level: int) -> None:
        """Note what is wrong with a value."""
        self._spend(1 + (len(value) // TEXT_STEP if type(value) is str else 0))
        if level > MAX_NESTED:
            raise _TooMuchError
        if schema is True or len(self.found) >= MAX_PROBLEMS:
            return
        if schema is False:
            self._note(path, "nothing is allowed here")
            return
        if "type" in schema and not self._typed(schema["type"], value):
            wanted = schema["type"]
            self._note(path, "want " + (wanted if type(wanted) is str else " or ".join(wanted)))
            return
        if AMONG in schema and key_of(value) not in schema[AMONG]:
            self._note(path, _choices(schema))
            return
        if type(value) is str:
            self._text(schema, value, path)
        elif type(value) is dict:
            self._object(schema, value, path, level)
        elif type(value) is list:
            self._array(schema, value, path, level)
        elif _is_number(value):
            self._number(schema, value, path)
        self._combined(schema, value, path, level)

    def _spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise _TooMuchError

    def _note(self, path: str, text: str) -> None:
        self.found.append(Problem(path, text))

    def _typed(self, wanted: str | list[str], value: Any) -> bool:
        return any(TYPES[each](value) for each in ([wanted] if type(wanted) is str else wanted))

    def _text(self, schema: dict[str, Any], value: str, path: str) -> None:
        if len(value) < schema.get("minLength", 0):
            self._note(path, f"want at least {schema['minLength']} characters")
        if len(value) > schema.get("maxLength", len(value)):
            self._note(path, f"want at most {schema['maxLength']} characters")
        if "pattern" in schema and not self._patterns[schema["pattern"]](value):
            self._note(path, f"want text that matches {schema['pattern'][:80]}")
        if "format" in schema and not FORMATS[schema["format"]](value):
            self._note(path, f"want text of the format {schema['format']}")

    def _number(self, schema: dict[str, Any], value: float, path: str) -> None:
        if value < schema.get("minimum", value):
            self._note(path, f"want at least {schema['minimum']}")
        if value > schema.get("maximum", value):
            self._note(path, f"want at most {schema['maximum']}")
        if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
            self._note(path, f"want more than {schema['exclusiveMinimum']}")
        if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
            self._note(path, f"want less than {schema['exclusiveMaximum']}")
        step = schema.get("multipleOf")
        if step is not None and Fraction(repr(value)) % Fraction(repr(step)):
            self._note(path, f"want a multiple of {step}")

    def _array(self, schema: dict[str, Any], value: list[Any], path: str, level: int) -> None:
        if len(value) < schema.get("minItems", 0):
            self._note(path, f"want at least {schema['minItems']} items")
        if len(value) > schema.get("maxItems", len(value)):
            self._note(path, f"want at most {schema['maxItems']} items")
        if schema.get("uniqueItems") and len(set(map(key_of, value))) < len(value):
            self._note(path, "want items that differ")
        first = schema.get("prefixItems", [])
        rest = schema.get("items", True)
        for index, item in enumerate(value):
            inner = first[index] if index < len(first) else rest
            if inner is not True:
                self.apply(inner, item, f"{'' if path == '$' else path}[{index}]", level + 1)

    def _object(self, schema: dict[str, Any], value: dict[str, Any], path: str, level: int) -> None:
        self._keys(schema, value, path)
        known = schema.get("properties", {})
        patterns = schema.get("patternProperties", {})
        rest = schema.get("additionalProperties", True)
        self._spend(len(value) * (1 + len(patterns)))
        for key, item in value.items():
            place = _below(path, key)
            inner = [each for text, each in patterns.items() if self._patterns[text](key)]
            if key in known:
                inner.append(known[key])
            if "propertyNames" in schema:
                self.apply(schema["propertyNames"], key, place, level + 1)
            if not inner and rest is False:
                self._note(place, "there is no such field")
                continue
            for each in inner or [rest]:
                self.apply(each, item, place, level + 1)

    def _keys(self, schema: dict[str, Any], value: dict[str, Any], path: str) -> None:
        missing = [key for key in schema.get("required", []) if key not in value]
        for key, others in schema.get("dependentRequired", {}).items():
            missing += [other for other in others if key in value and other not in value]
        for key in dict.fromkeys(missing):
            self._note(_below(path, key), "a value is required")
        if len(value) < schema.get("minProperties", 0):
            self._note(path, f"want at least {schema['minProperties']} fields")
        if len(value) > schema.get("maxProperties", len(value)):
            self._note(path, f"want at most {schema['maxProperties']} fields")

    def _combined(self, schema: dict[str, Any], value: Any, path: str, level: int) -> None:
        if "$ref" in schema:
            self.apply(_at(self._root, schema["$ref"]), value, path, level + 1)
        for each in schema.get("allOf", ()):
            self.apply(each, value, path, level + 1)
        if "anyOf" in schema:
            self._any(schema["anyOf"], value, path, level)
        if "oneOf" in schema:
            count = sum(not self._aside(each, value, path, level) for each in schema["oneOf"])
            if not count:
                self._any(schema["oneOf"], value, path, level)
            elif count > 1:
                self._note(path, "it fits several of the forms, and must fit one")
        if "not" in schema and not self._aside(schema["not"], value, path, level):
            self._note(path, "it has a form that is not allowed")
        if "if" in schema:
            word = "else" if self._aside(schema["if"], value, path, level) else "then"
            self.apply(schema.get(word, True), value, path, level + 1)

    def _any(self, forms: list[Any], value: Any, path: str, level: int) -> None:
        """Note why a value fits none of several forms: the problems with the nearest one."""
        tried = []
        for each in forms:
            found = self._aside(each, value, path, level)
            if not found:
                return
            tried.append(found)
        nearest = max(tried, key=lambda found: max(len(each.path) for each in found))
        if nearest[0].text != NO_FORM:
            self._note(path, NO_FORM)
        self.found += nearest

    def _aside(self, schema: Any, value: Any, path: str, level: int) -> list[Problem]:
        """Return what is wrong by a schema, without noting it."""
        noted, self.found = self.found, []
        try:
            self.apply(schema, value, path, level + 1)
            return self.found
        finally:
            self.found = noted


def _with_keys(schema: dict[str, Any]) -> dict[str, Any]:
    allowed = [frozenset(map(key_of, schema["enum"]))] if "enum" in schema else []
    if "const" in schema:
        allowed.append(frozenset({key_of(schema["const"])}))
    return schema | {AMONG: frozenset.intersection(*allowed)} if allowed else schema


def matcher(pattern: str, *, program: str, path: str) -> Callable[[str], bool]:
    """Return whether text has a match of a pattern, found in linear time.

    Raises:
        ConfigError: E_OUTPUT_SCHEMA_PATTERN when the engine does not take it.
    """
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    try:
        check = SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError as exc:
        lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
        raise ConfigError(
            "E_OUTPUT_SCHEMA_PATTERN",
            program=program,
            path=path,
            value=pattern,
            detail=lines[-1] if lines else "",
        ) from exc
    return check.isinstance_python


def key_of(value: Any) -> bytes:
    """Return bytes that are equal for equal JSON values: 1 and 1.0 are, 1 and true are not."""
    return canonical(_plain(value))


def _plain(value: Any) -> Any:
    if type(value) is float and value == int(value):
        return int(value) if abs(value) < 2**63 else value
    if type(value) is list:
        return [_plain(each) for each in value]
    if type(value) is dict:
        return {key: _plain(each) for key, each in value.items()}
    return value


def _choices(schema: dict[str, Any]) -> str:
    """Return what a value must be one of; the schema's own words, so they may be said."""
    wanted = [schema["const"]] if "const" in schema else schema["enum"]
    return f"want {' or '.join(canonical(each).decode()[:60] for each in wanted[:20])}"


def _below(path: str, key: str) -> str:
    name = key if KEY.fullmatch(key) else "?"
    return name if path == "$" else f"{path}.{name}"


def _at(root: Any, pointer: str) -> Any:
    found = root
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        found = found[int(key)] if type(found) is list else found[key]
    return found
