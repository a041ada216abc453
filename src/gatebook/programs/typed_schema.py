"""The JSON Schema of a type as a model is shown it; imports pydantic, so it is imported late."""

import re
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from gatebook.programs.output_schema import rebuilt


class _Bare(GenerateJsonSchema):
    """Without what only noise would come of: titles made from names, patterns of decimals."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def decimal_schema(self, schema: Any) -> dict[str, Any]:
        """Drop the pattern of decimals as text: it looks ahead, which providers refuse."""
        found = super().decimal_schema(schema)
        for option in found.get("anyOf", ()):
            option.pop("pattern", None)
        return found


def shown_schema(types: TypeAdapter[Any]) -> dict[str, Any]:
    """Return the schema of what a type accepts, without the titles that repeat its names."""
    schema: dict[str, Any] = types.json_schema(schema_generator=_Bare)

    def untitled(each: dict[str, Any]) -> dict[str, Any]:
        if "properties" in each or "enum" in each:
            return {word: value for word, value in each.items() if word != "title"}
        return each

    made: dict[str, Any] = rebuilt(schema, untitled)
    return made


def backtracks(types: TypeAdapter[Any]) -> bool:
    """Return whether a type has text matched by Python's `re`, which can take for ever.

    Pydantic matches patterns given as text in linear time; compiled ones, and those of models
    with `regex_engine="python-re"`, it leaves to Python.
    """
    return _backtracks(types.core_schema)


def _backtracks(schema: Any) -> bool:
    left = [schema]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            if isinstance(each.get("pattern"), re.Pattern):
                return True
            if each.get("regex_engine") == "python-re":
                return True
            left += [value for word, value in each.items() if word != "metadata"]
        elif isinstance(each, list | tuple):
            left += each
    return False
