"""What a JSON Schema of a typed answer may be, and how it is put to a model.

Knows the structure of schemas: limits, references, what strict modes of providers accept. Whether
a value fits is for `fits`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gatebook.errors import ConfigError, InvalidInput
from gatebook.kernel.codec import canonical

MAX_BYTES = 64 * 1024
MAX_DEPTH = 24  # lists and objects inside one another, and references in a row
MAX_PROPERTIES = 256
ANSWER = "answer"  # the key under which a value that is no object is asked for

ONE = frozenset({
    "items", "additionalProperties", "propertyNames", "contains", "not", "if", "then", "else",
    "unevaluatedItems", "unevaluatedProperties", "additionalItems", "contentSchema",
})  # fmt: skip
LISTS = frozenset({"anyOf", "allOf", "oneOf", "prefixItems", "items"})
MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
IN_PLACE = frozenset({"anyOf", "allOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"})
POINTERS = frozenset({"$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveRef"})

# What every server with a strict mode takes: the vendors add words over time (bounds, patterns and
# formats came in 2025), and a word that one of them does not know makes it refuse the call.
STRICT_WORDS = frozenset({
    "type", "enum", "const", "properties", "required", "additionalProperties", "items", "anyOf",
    "$ref", "$defs", "description", "title",
})  # fmt: skip
STRICT_DEPTH, STRICT_PROPERTIES = 5, 100  # OpenAI's first limits; they have only grown since


def check(schema: Any, *, program: str) -> None:
    """Refuse a schema that is too large, too deep, or refers outside itself or in circles.

    Raises:
        ConfigError: E_OUTPUT_SCHEMA, E_OUTPUT_SCHEMA_SIZE, _DEPTH, _PROPERTIES or _REF.
    """
    _check_size(schema, program)
    places = dict(_places(schema, "#"))
    count = sum(
        len(each["properties"])
        for each in places.values()
        if isinstance(each, dict) and isinstance(each.get("properties"), dict)
    )
    if count > MAX_PROPERTIES:
        raise ConfigError(
            "E_OUTPUT_SCHEMA_PROPERTIES", program=program, size=count, limit=MAX_PROPERTIES
        )
    for place, each in places.items():
        if isinstance(each, dict):
            _check_reference(each, place, places, program)
    lengths: dict[str, int] = {}
    for place in places:
        _chain(place, places, lengths, 0, program)


def _check_size(schema: Any, program: str) -> None:
    left, seen = [(schema, 1)], 0
    while left:
        value, depth = left.pop()
        seen += 1
        if seen > MAX_BYTES:  # a value takes a byte at least; this also ends what holds itself
            raise _too_large(seen, program)
        if isinstance(value, Mapping | list | tuple):
            if depth > MAX_DEPTH:
                raise ConfigError("E_OUTPUT_SCHEMA_DEPTH", program=program, limit=MAX_DEPTH)
            inner = value.values() if isinstance(value, Mapping) else value
            left += [(each, depth + 1) for each in inner]
    try:
        size = len(canonical(schema, what="schema"))
    except InvalidInput as exc:
        if exc.code == "E_PAYLOAD_TOO_LARGE":
            raise _too_large(exc.fields["size"], program) from exc
        raise refused(program, "#", str(exc)) from exc
    if size > MAX_BYTES:
        raise _too_large(size, program)


def _too_large(size: int, program: str) -> ConfigError:
    return ConfigError("E_OUTPUT_SCHEMA_SIZE", program=program, size=size, limit=MAX_BYTES)


def refused(program: str, path: str, detail: str) -> ConfigError:
    """Return the error for a schema that is not well made."""
    return ConfigError("E_OUTPUT_SCHEMA", program=program, path=path, detail=detail)


def _places(schema: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield every schema inside a schema by its pointer, itself first."""
    yield place, schema
    for tokens, inner in inner_schemas(schema):
        yield from _places(inner, place + _pointer(tokens))


def _pointer(tokens: tuple[str, ...]) -> str:
    return "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in tokens)


def inner_schemas(schema: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the schemas directly inside a schema, each by its way there."""
    if not isinstance(schema, dict):
        return
    for word, value in schema.items():
        if word in MAPS and isinstance(value, dict):
            yield from (((word, key), each) for key, each in value.items())
        elif word in LISTS and isinstance(value, list):
            yield from (((word, str(index)), each) for index, each in enumerate(value))
        elif word in ONE and isinstance(value, dict | bool):
            yield (word,), value


def _check_reference(
    schema: dict[str, Any], place: str, places: Mapping[str, Any], program: str
) -> None:
    for word in POINTERS & schema.keys():
        raise _reference(program, place, f"{word} is not followed", schema[word])
    if "$id" in schema and place != "#":
        raise _reference(program, place, "$id is known at the top only", schema["$id"])
    if "$ref" not in schema:
        return
    target = schema["$ref"]
    if not isinstance(target, str) or not target.startswith("#"):
        raise _reference(program, place, "a $ref outside the schema is never fetched", target)
    if target not in places:
        raise _reference(program, place, "a $ref leads to no schema", target)


def _reference(program: str, place: str, detail: str, value: Any) -> ConfigError:
    return ConfigError(
        "E_OUTPUT_SCHEMA_REF", program=program, path=place, detail=detail, value=value
    )


def _chain(
    place: str, places: Mapping[str, Any], lengths: dict[str, int], above: int, program: str
) -> int:
    """Return how many schemas from here apply to one and the same value, one by the other.

    A circle among them would be checked for ever; a circle that goes down into the value ends
    where the value ends.
    """
    if above > MAX_DEPTH:
        detail = f"more than {MAX_DEPTH} schemas lead to one another on the same value"
        raise _reference(program, place, detail, place)
    if place not in lengths:
        schema = places[place]
        onward = [
            place + _pointer(tokens) for tokens, _ in inner_schemas(schema) if tokens[0] in IN_PLACE
        ]
        if isinstance(schema, dict) and "$ref" in schema:
            onward.append(schema["$ref"])
        found = [_chain(each, places, lengths, above + 1, program) for each in onward]
        lengths[place] = 1 + max(found, default=0)
    if above + lengths[place] > MAX_DEPTH + 1:
        detail = f"more than {MAX_DEPTH} schemas lead to one another on the same value"
        raise _reference(program, place, detail, place)
    return lengths[place]


def rebuilt(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Return a copy in which `change` was made to every schema, to the inner ones first."""
    if not isinstance(schema, dict):
        return schema
    copy: dict[str, Any] = {}
    for word, value in schema.items():
        if word in MAPS and isinstance(value, dict):
            copy[word] = {key: rebuilt(each, change) for key, each in value.items()}
        elif word in LISTS and isinstance(value, list):
            copy[word] = [rebuilt(each, change) for each in value]
        elif word in ONE:
            copy[word] = rebuilt(value, change)
        else:
            copy[word] = value
    return change(copy)


def closed(schema: Any) -> Any:
    """Return a schema whose objects say that they have no further keys, unless they say else.

    For types, which drop unknown keys: nothing that a model could usefully write is lost.
    """

    def close(each: dict[str, Any]) -> dict[str, Any]:
        if "properties" in each and "additionalProperties" not in each:
            return each | {"additionalProperties": False}
        return each

    return rebuilt(schema, close)


def rooted(schema: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the schema of an object to ask for, and whether the value is its `answer`.

    Providers take objects only at the top; any other value is asked for under one key.
    """
    if schema.get("type") == "object" and "anyOf" not in schema:
        return schema, False
    shared = {word: schema[word] for word in ("$defs", "definitions") if word in schema}
    target = schema.get("$ref", "")
    name = target.removeprefix("#/$defs/")
    found = schema.get("$defs", {}).get(name)
    if found is not None and found.get("type") == "object" and "$defs" not in found:
        return found | shared, False
    own = {word: value for word, value in schema.items() if word not in shared}

    def move(each: dict[str, Any]) -> dict[str, Any]:
        to = each.get("$ref")
        if to is None or to.startswith(("#/$defs/", "#/definitions/")):
            return each
        return each | {"$ref": f"#/properties/{ANSWER}{to[1:]}"}

    asked = {
        "type": "object",
        "properties": {ANSWER: rebuilt(own, move)},
        "required": [ANSWER],
        "additionalProperties": False,
    }
    return asked | rebuilt(shared, move), True


def fits_strict(schema: dict[str, Any]) -> bool:
    """Return whether providers' strict modes take a schema: closed objects, every key required."""
    if schema.get("type") != "object":
        return False
    places = [each for _, each in _places(schema, "#")]
    count = sum(len(each.get("properties", ())) for each in places if isinstance(each, dict))
    return (
        all(map(_is_strict, places))
        and count <= STRICT_PROPERTIES
        and _levels(schema) <= STRICT_DEPTH
    )


def _is_strict(schema: Any) -> bool:
    if not isinstance(schema, dict) or not schema.keys() <= STRICT_WORDS:
        return schema is False  # the `additionalProperties` of a closed object
    if "$ref" in schema:
        return schema.keys() <= {"$ref", "$defs"} and schema["$ref"].startswith("#/$defs/")
    if isinstance(schema.get("items"), bool):
        return False
    if schema.get("type") == "object" or "properties" in schema:
        names = schema.get("properties", {}).keys()
        required = schema.get("required", [])
        return schema.get("additionalProperties") is False and names == set(required)
    return bool({"type", "enum", "const", "anyOf"} & schema.keys())


def _levels(schema: Any) -> int:
    own = 1 if isinstance(schema, dict) and "properties" in schema else 0
    return own + max((_levels(inner) for _, inner in inner_schemas(schema)), default=0)
