"""`Secret[str]` as a parameter's type: in JSON it is a reference, never a value.

Imports pydantic, so it is itself imported at a tool's first use.
"""

import types
import typing
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from gatebook.kernel.redact import REFERENCE
from gatebook.kernel.secrets import SCHEME, Secret
from gatebook.tools.options import refused

PATTERN = f"^{REFERENCE.pattern}$".replace("(", "").replace(")", "")
TOLD = "a reference to a secret, secret://name; never the secret itself"


@dataclass(frozen=True)
class Reference:
    """Reads `secret://name` as a Secret without its value; `only` is the one name it may be."""

    only: str = ""

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        """Return how pydantic reads and writes it."""
        text: CoreSchema = core_schema.str_schema(pattern=PATTERN, strict=True)
        if self.only:
            text = core_schema.literal_schema([f"{SCHEME}{self.only}"])
        return core_schema.no_info_after_validator_function(
            _named,
            text,
            serialization=core_schema.plain_serializer_function_ser_schema(
                _reference, return_schema=core_schema.str_schema()
            ),
        )


def _named(reference: str) -> Secret[str]:
    return Secret.named(reference.removeprefix(SCHEME))


def _reference(secret: Any) -> str:
    return secret.reference if isinstance(secret, Secret) else str(secret)


def takes_secret(hint: Any, what: str, tool: str) -> bool:
    """Whether a parameter is a secret: `Secret[str]`, or that or None.

    Raises:
        ConfigError: E_TOOL_DECLARATION for a secret within another type, or of other than text.
    """
    parts = [part for part in _alternatives(hint) if part is not type(None)]
    if len(parts) == 1 and _is_secret(parts[0]):
        if typing.get_args(parts[0]) not in ((), (str,)):
            raise refused(tool, f"{what} is a secret that is not text", "write Secret[str]")
        return True
    if mentions_secret(hint):
        fix = "make it a parameter of its own: Secret[str], or Secret[str] | None"
        raise refused(tool, f"{what} holds a secret inside another type", fix)
    return False


def mentions_secret(hint: Any) -> bool:
    """Whether an annotation says Secret anywhere."""
    return _is_secret(hint) or any(map(mentions_secret, typing.get_args(hint)))


def _is_secret(hint: Any) -> bool:
    return hint is Secret or typing.get_origin(hint) is Secret


def _alternatives(hint: Any) -> tuple[Any, ...]:
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _alternatives(hint.__origin__)
    if origin is typing.Union or origin is types.UnionType:
        return tuple(part for each in typing.get_args(hint) for part in _alternatives(each))
    return (hint,)


def secret_field(hint: Any, default: Any, what: str, tool: str) -> Any:
    """Return the type of a secret's field; a default names the one secret that it may be.

    Raises:
        ConfigError: E_TOOL_DECLARATION for a default that holds a value.
    """
    optional = type(None) in _alternatives(hint)
    if isinstance(default, Secret) and not default.name:
        fix = "give Secret.named('name of a secret of the runtime')"
        raise refused(tool, f"the default of {what} is a secret's value", fix)
    only = default.name if isinstance(default, Secret) else ""
    found: Any = typing.Annotated[Secret[str], Reference(only)]
    found = found | None if optional else found
    given = getattr(hint, "__metadata__", ())
    return typing.Annotated[found, *given] if given else found
