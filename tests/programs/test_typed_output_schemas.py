"""What may be declared as a typed answer, refused before any call; and how a model is asked."""

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from gatebook.errors import ConfigError
from gatebook.programs import Agent, Workflow, WorkflowContext
from gatebook.programs.outputs import Output
from tests.programs.play import begin, failure

ROUTE = "openai:gpt-5-mini"


class City(BaseModel):
    """A place with people."""

    name: str
    people: int


@dataclass
class Point:
    """A dataclass."""

    x: int
    y: int


class Pair(TypedDict):
    """A TypedDict."""

    left: int
    right: City


class Node(BaseModel):
    """A type that holds itself."""

    name: str
    children: list["Node"]


class Loose(BaseModel):
    """A type with a field that may be left out."""

    name: str
    note: str | None = None


class Open(BaseModel):
    """A type that keeps what it does not know."""

    model_config = ConfigDict(extra="allow")

    name: str


class Compiled(BaseModel):
    """A pattern that Python's engine would match."""

    text: Annotated[str, Field(pattern=re.compile(r"(a+)+$"))]


class Configured(BaseModel):
    """The same, by configuration."""

    model_config = ConfigDict(regex_engine="python-re")

    text: Annotated[str, Field(pattern=r"(a+)+$")]


def asked(declared: Any) -> dict[str, Any]:
    """How a provider is asked for a declared answer."""
    form = Output[Any](declared, program="p").format
    assert form is not None
    return form


def nested(levels: int) -> dict[str, Any]:
    """A schema of so many lists and objects inside one another."""
    schema: dict[str, Any] = {}
    for _ in range(levels - 1):
        schema = {"items": schema}
    return schema


def shared(levels: int) -> list[Any]:
    """A value that is small in memory and huge when written out."""
    value: list[Any] = [1]
    for _ in range(levels):
        value = [value] * 10
    return value


def circular() -> dict[str, Any]:
    """A value that holds itself."""
    value: dict[str, Any] = {}
    value["items"] = value
    return value


LINKED = {
    "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
    "$ref": "#/$defs/node",
}
CHAIN = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(30)}
HOSTILE: list[tuple[str, Any, str]] = [
    ("64 KiB", {"description": "x" * 65_536}, "E_OUTPUT_SCHEMA_SIZE"),
    ("9 MiB", {"description": "x" * 9_437_184}, "E_OUTPUT_SCHEMA_SIZE"),
    ("shared parts", {"enum": shared(18)}, "E_OUTPUT_SCHEMA_SIZE"),
    ("depth 25", nested(25), "E_OUTPUT_SCHEMA_DEPTH"),
    ("a circle in memory", circular(), "E_OUTPUT_SCHEMA_DEPTH"),
    ("257 properties", {"properties": {f"p{n}": {} for n in range(257)}},
     "E_OUTPUT_SCHEMA_PROPERTIES"),
    ("257 in two", {"properties": {f"p{n}": {} for n in range(200)},
                    "items": {"properties": {f"q{n}": {} for n in range(57)}}},
     "E_OUTPUT_SCHEMA_PROPERTIES"),
    ("remote", {"$ref": "https://example.com/schema.json"}, "E_OUTPUT_SCHEMA_REF"),
    ("file", {"$ref": "file:///etc/passwd"}, "E_OUTPUT_SCHEMA_REF"),
    ("remote, below", {"items": {"anyOf": [{"$ref": "other.json"}]}}, "E_OUTPUT_SCHEMA_REF"),
    ("to nothing", {"$ref": "#/$defs/gone"}, "E_OUTPUT_SCHEMA_REF"),
    ("no text", {"$ref": 5}, "E_OUTPUT_SCHEMA_REF"),
    ("dynamic", {"$dynamicRef": "#meta"}, "E_OUTPUT_SCHEMA_REF"),
    ("own base", {"properties": {"a": {"$id": "http://x/"}}}, "E_OUTPUT_SCHEMA_REF"),
    ("itself", {"$ref": "#"}, "E_OUTPUT_SCHEMA_REF"),
    ("a circle of two", {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]},
                                   "b": {"not": {"$ref": "#/$defs/a"}}},
                         "$ref": "#/$defs/a"}, "E_OUTPUT_SCHEMA_REF"),
    ("a long chain", {"$defs": CHAIN | {"d30": {}}, "$ref": "#/$defs/d0"}, "E_OUTPUT_SCHEMA_REF"),
    ("unknown word", {"unevaluatedProperties": False}, "E_OUTPUT_SCHEMA_WORD"),
    ("unknown word below", {"properties": {"a": {"contains": {}}}}, "E_OUTPUT_SCHEMA_WORD"),
    ("unknown format", {"format": "int32"}, "E_OUTPUT_SCHEMA_WORD"),
    ("wrong type", {"type": "strin"}, "E_OUTPUT_SCHEMA"),
    ("empty enum", {"enum": []}, "E_OUTPUT_SCHEMA"),
    ("properties as a list", {"properties": ["a"]}, "E_OUTPUT_SCHEMA"),
    ("no schema inside", {"items": 5}, "E_OUTPUT_SCHEMA"),
    ("negative", {"minLength": -1}, "E_OUTPUT_SCHEMA"),
    ("zero step", {"multipleOf": 0}, "E_OUTPUT_SCHEMA"),
    ("no JSON", {"const": {1, 2}}, "E_OUTPUT_SCHEMA"),
    ("not finite", {"const": float("nan")}, "E_OUTPUT_SCHEMA"),
    ("keys", {1: {}}, "E_OUTPUT_SCHEMA"),
    ("look-ahead", {"pattern": "(?=a)b"}, "E_OUTPUT_SCHEMA_PATTERN"),
    ("back-reference", {"pattern": r"(a+)\1"}, "E_OUTPUT_SCHEMA_PATTERN"),
    ("huge pattern", {"pattern": "((a{500}){500}){500}"}, "E_OUTPUT_SCHEMA_PATTERN"),
    ("no pattern", {"patternProperties": {"(": {}}}, "E_OUTPUT_SCHEMA_PATTERN"),
    ("compiled pattern", Compiled, "E_OUTPUT_SCHEMA_PATTERN"),
    ("backtracking engine", Configured, "E_OUTPUT_SCHEMA_PATTERN"),
    ("a type that is no JSON", object(), "E_PROGRAM_DECLARATION"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("declared", "code"),
    [(declared, code) for _, declared, code in HOSTILE],
    ids=[name for name, _, _ in HOSTILE],
)
def test_a_hostile_schema_is_refused_when_an_agent_is_made(declared: Any, code: str) -> None:
    """A schema may come from elsewhere; it must not reach a provider or hang a worker."""
    with pytest.raises(ConfigError) as caught:
        Agent(name="a", model=ROUTE, output=declared)

    assert caught.value.code == code


@pytest.mark.parametrize(("name", "declared", "code"), HOSTILE[:1] + HOSTILE[7:8])
def test_a_workflow_asks_nothing_with_a_hostile_schema(name: str, declared: Any, code: str) -> None:
    """What a workflow declares is known when it calls; the call is not made."""

    async def f(ctx: WorkflowContext) -> None:
        await ctx.call_llm(ROUTE, "hi", output=declared)

    _, step = begin(Workflow(f, models=[ROUTE]))

    assert (name, failure(step).error.code, step.wants) == (name, code, ())


@pytest.mark.parametrize(
    "declared",
    [
        {"description": "x" * 65_400},
        nested(24),
        {"properties": {f"p{n}": {} for n in range(256)}},
        LINKED,
        {"items": {"$ref": "#"}},
        {"$id": "https://example.com/a", "$schema": "https://json-schema.org/x", "x-mine": 1},
        {"properties": {"$ref": {"type": "string"}, "format": {"enum": ["int32"]}}},
        {"enum": [{"$ref": "http://example.com"}]},
        {},
        Node,
        Pair,
        Point,
        list[City],
        Literal["a", "b"],
        City | Point,
    ],
)
def test_what_stays_within_the_limits_is_taken(declared: Any) -> None:
    """The limits must not refuse what people use: recursion, unions, names that look like words."""
    agent = Agent(name="a", model=ROUTE, output=declared)

    assert agent.output.format is not None


def test_a_schema_is_copied() -> None:
    """An agent is immutable, the dict it was made of is not."""
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    agent = Agent(name="a", model=ROUTE, output=schema)
    before = agent.digest

    schema["properties"]["late"] = {"type": "string"}

    assert agent.output.schema == {"type": "object", "properties": {}}
    assert Agent(name="a", model=ROUTE, output=schema).digest != before


@pytest.mark.parametrize("declared", [City, Point, Pair, Node, list[City], Literal["a", "b"], int])
def test_a_type_that_needs_all_its_fields_is_asked_for_strictly(declared: Any) -> None:
    """Types drop unknown keys, so their objects may be closed; then strict modes take them."""
    assert asked(declared)["strict"] is True


@pytest.mark.parametrize(
    "declared",
    [
        Loose,
        Open,
        dict[str, int],
        {"type": "object", "properties": {"a": {}}, "additionalProperties": False},
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "string", "minLength": 1}},
         "required": ["a"], "additionalProperties": False},
        {"type": "array", "items": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}},
    ],
)  # fmt: skip
def test_what_strict_modes_refuse_is_asked_for_without(declared: Any) -> None:
    """OpenAI answers 400 to a strict schema with an open object or a field that may be missing."""
    assert asked(declared)["strict"] is False


def test_a_json_schema_is_asked_for_word_by_word() -> None:
    """Only types are closed: in a schema, an open object may be meant."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}

    assert asked(schema | {"title": "A form!"}) == {
        "name": "Aform",
        "schema": schema | {"title": "A form!"},
        "strict": False,
    }


def test_deep_or_wide_objects_are_not_strict() -> None:
    """Strict modes have limits of their own, and a refused call helps nobody."""
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(6):
        deep = {"type": "object", "properties": {"a": deep}, "required": ["a"],
                "additionalProperties": False}  # fmt: skip
    names = [f"p{n}" for n in range(101)]
    wide = {"type": "object", "properties": {name: {"type": "null"} for name in names},
            "required": names, "additionalProperties": False}  # fmt: skip

    assert (asked(deep)["strict"], asked(wide)["strict"]) == (False, False)
    assert asked(deep["properties"]["a"])["strict"] is True


def test_a_value_that_is_no_object_is_asked_for_under_a_key() -> None:
    """Providers take objects only at the top."""
    form = asked(list[City])

    assert form["schema"]["type"] == "object"
    assert form["schema"]["required"] == ["answer"]
    assert form["schema"]["properties"]["answer"]["items"] == {"$ref": "#/$defs/City"}
    assert form["schema"]["$defs"]["City"]["required"] == ["name", "people"]


def test_references_to_the_top_follow_it_down() -> None:
    """Under the key, the top is another place."""
    schema = {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"$ref": "#"}]}}

    inner = asked(schema)["schema"]["properties"]["answer"]

    assert inner["items"]["anyOf"][1] == {"$ref": "#/properties/answer"}


def test_a_type_that_holds_itself_stands_at_the_top() -> None:
    """Pydantic writes it as a reference, which providers refuse as the top."""
    schema = asked(Node)["schema"]

    assert schema["type"] == "object"
    assert schema["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}


def test_a_model_is_shown_no_noise() -> None:
    """Titles repeat names in every call; the pattern of decimals makes providers refuse."""

    class Bill(BaseModel):
        total: Decimal
        city: City

    text = json.dumps(asked(Bill)["schema"])

    assert "title" not in text
    assert "pattern" not in text
    assert "A place with people." in text


def test_text_has_no_format() -> None:
    """Nothing is to be asked for beyond the question."""
    assert Output[str](str, program="p").format is None
    assert Output[str](None, program="p").schema == {"type": "string"}
