"""What a function says about itself: its signature, hints and docstring, read as a tool.

Imports pydantic and docstring_parser, so it is itself imported at a tool's first use.
"""

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired

import docstring_parser
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError

from gatebook.errors import InvalidInput
from gatebook.kernel.codec import canonical
from gatebook.kernel.secrets import Secret
from gatebook.tools.context import ToolContext
from gatebook.tools.options import refused
from gatebook.tools.portable import is_simple, portable
from gatebook.tools.schema import SURE, Arguments, Result, adapter, check_json, check_order, mapping
from gatebook.tools.secret_types import TOLD, mentions_secret, secret_field, takes_secret

NO_NAME = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}


@dataclass(frozen=True)
class Definition:
    """A function read as a tool: its text, arguments and result, and if it takes a context.

    `secrets` are the parameters that take secrets.
    """

    description: str
    takes_context: bool
    arguments: Arguments
    result: Result
    secrets: tuple[str, ...] = ()

    def given(self, args: bytes, secrets: Mapping[str, Secret[str]]) -> dict[str, Any]:
        """Return what the function is called with for stored arguments, but for its context."""
        values = self.arguments.take(args)
        for name in self.secrets:
            if values.get(name) is not None:
                values[name] = secrets.get(values[name].name, values[name])
        return values


def define(function: Callable[..., Any], *, tool: str) -> Definition:
    """Read a function.

    Raises:
        ConfigError: E_TOOL_DECLARATION, naming the parameter and what to write instead.
    """
    hints = _hints(function, tool)
    parameters = list(inspect.signature(function).parameters.values())
    takes_context = bool(parameters) and _is_context(hints.get(parameters[0].name))
    doc = _docstring(function)
    notes = {note.arg_name: note.description or "" for note in doc.params}
    fields, secrets, simple = {}, [], {}
    for parameter in parameters[takes_context:]:
        name = parameter.name
        _check_shape(parameter, hints.get(name), tool)
        if takes_secret(hints[name], f"parameter {name}", tool):
            secrets.append(name)
        fields[name] = _field(parameter, hints[name], notes.get(name, ""), tool)
        if _is_simple(parameter, hints[name]):
            simple[name] = hints[name]
    if mentions_secret(hints.get("return")):
        fix = "use it here and return what came of it: results are stored and shown"
        raise refused(tool, "it returns a secret", fix)
    return Definition(
        description="\n\n".join(filter(None, (doc.short_description, doc.long_description))),
        takes_context=takes_context,
        arguments=Arguments(fields, tool, secrets, simple=simple),
        result=Result(hints.get("return", Any), tool),
        secrets=tuple(secrets),
    )


def _hints(function: Callable[..., Any], tool: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as exc:
        fix = "define or import it at module level, outside `if TYPE_CHECKING`"
        raise refused(tool, f"its annotations name the unknown {exc.name!r}", fix) from exc
    except (TypeError, SyntaxError, AttributeError) as exc:
        raise refused(tool, f"its annotations cannot be read: {exc}", "correct them") from exc


def _is_context(hint: Any) -> bool:
    return hint is ToolContext or typing.get_origin(hint) is ToolContext


def _docstring(function: Callable[..., Any]) -> docstring_parser.Docstring:
    text = inspect.getdoc(function) or ""
    try:
        return docstring_parser.parse(text)
    except docstring_parser.ParseError:
        whole = docstring_parser.Docstring()
        whole.short_description = text
        return whole


def _check_shape(parameter: inspect.Parameter, hint: Any, tool: str) -> None:
    """Refuse parameters that JSON arguments, which have names and types, cannot fill."""
    name, kind = parameter.name, parameter.kind
    if kind in NO_NAME:
        fix = "name every argument, or take one list[...] or dict[str, ...]"
        raise refused(tool, f"it takes {NO_NAME[kind]}{name}, which has no schema", fix)
    if kind is inspect.Parameter.POSITIONAL_ONLY:
        fix = "drop the '/': arguments are passed by name"
        raise refused(tool, f"parameter {name} is positional-only", fix)
    if _is_context(hint):
        raise refused(tool, f"its ToolContext {name} is not the first", f"move {name} first")
    if hint is None and parameter.annotation is inspect.Parameter.empty:
        fix = f"write {name}: ToolContext" if name in ("ctx", "context") else f"write {name}: str"
        raise refused(tool, f"parameter {name} has no annotation", f"{fix}, or what it is")
    if isinstance(parameter.default, FieldInfo):
        fix = f"write {name}: Annotated[..., Field(...)] = default, so that it can also be called"
        raise refused(tool, f"the default of parameter {name} is a pydantic Field", fix)


def _field(parameter: inspect.Parameter, hint: Any, note: str, tool: str) -> Any:
    """Return the annotation of one field of the argument mapping.

    The docstring's text comes first, so that a `Field(description=...)` of the user wins.
    """
    name, what = parameter.name, f"parameter {parameter.name}"
    secret = takes_secret(hint, what, tool)
    hint = secret_field(hint, parameter.default, what, tool) if secret else portable(hint)
    note = note or (TOLD if secret else "")
    inner: Any = hint
    given: tuple[Any, ...] = ()
    if typing.get_origin(hint) is Annotated:
        inner, given = hint.__origin__, hint.__metadata__
    if note:
        given = (Field(description=note), *given)
    optional = any(isinstance(m, FieldInfo) and not m.is_required() for m in given)
    if parameter.default is not inspect.Parameter.empty:
        default = parameter.default
        if isinstance(default, Secret):
            given = (*given, Field(default=default.reference, validate_default=True))
        else:
            given = (*given, Field(default=default))
        optional = True
    field: Any = Annotated[inner, *given] if given else inner
    field = NotRequired[field] if optional else field
    alone = adapter(mapping({name: field}), tool, what)
    if parameter.default is not inspect.Parameter.empty:
        _check_default(alone, parameter, tool)
    check_json(alone, tool, what)
    check_order(alone, tool, what)
    return field


def _is_simple(parameter: inspect.Parameter, hint: Any) -> bool:
    """Whether what a parameter is given, its default included, is JSON as it stands."""
    default = parameter.default
    sure = default is inspect.Parameter.empty or default is None or type(default) in SURE
    return sure and is_simple(hint)


def _check_default(alone: TypeAdapter[Any], parameter: inspect.Parameter, tool: str) -> None:
    """Refuse a default that the parameter's own type would refuse as JSON."""
    name = parameter.name
    try:
        plain = alone.dump_python(
            {name: parameter.default}, mode="json", by_alias=True, warnings=False
        )
        alone.validate_json(canonical(plain), strict=True)
    except (ValidationError, PydanticSerializationError, InvalidInput) as exc:
        fix = f"give a default that fits, or widen the type: {name}: ... | None = None"
        detail = f"the default of parameter {name} does not fit its annotation"
        raise refused(tool, detail, fix) from exc
