"""What the kernel knows of a tool: name, schema, effect class and limits. Not how to call it."""

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from gatebook.errors import ConfigError, InvalidInput
from gatebook.kernel.codec import canonical, check_name, digest, plain

Effect = Literal["read", "idempotent", "at_most_once"]
OnError = Literal["failed", "unknown"]

TOOL_TIMEOUT_MS = 60_000  # every action has a finite deadline; docs/design.md, "Limits"
MAX_OUTPUT = 256 * 1024  # bytes of one tool result that a model reads
RESERVED = "gatebook"  # no tool of this name, nor of one that goes on with a separator
SEPARATORS = str.maketrans("", "", "._-")
# Letters and marks that show nothing though they are of a visible kind (UTS 39, "blank").
BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0") | {chr(c) for c in range(0xE0100, 0xE01F0)}
UNSEEN = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})  # control, format, private, separators


class WritesCanonical:
    """What marks a tool whose `validate` and `call` return canonical JSON of themselves.

    Of any other tool every answer is checked before it is used.
    """

    __slots__ = ()


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What may be decided about a tool without running it.

    Attributes:
        name: as policy, model and journal see it.
        description: text for the model.
        schema: JSON Schema of the arguments, canonical bytes.
        effect: what a second start would do: nothing (`read`), nothing new with the same key
            (`idempotent`), or harm (`at_most_once`).
        timeout_ms: deadline of one attempt.
        retries: how often an attempt may be repeated; None leaves it to the policy.
        on_error: what an exception other than ActionError means for an `at_most_once` tool.
        max_output: bytes of a result that a model reads; all of it is kept.
        digest: of all that makes it this tool, see `tool_digest`; a changed one is a new tool.
        returns: labels of what its results bring into a run ("untrusted", "private"), sorted.
        sends: whether it carries something outside.
        secrets: parameters that take secrets, by reference.
    """

    name: str
    description: str
    schema: msgspec.Raw
    effect: Effect = "at_most_once"
    timeout_ms: int = TOOL_TIMEOUT_MS
    retries: int | None = None
    on_error: OnError = "failed"
    max_output: int = MAX_OUTPUT
    digest: str = ""
    returns: tuple[str, ...] = ()
    sends: bool = False
    secrets: tuple[str, ...] = ()


def tool_digest(
    *, name: str, description: str, schema: bytes, effect: Effect, **annotations: Any
) -> str:
    """Return the digest that pins a tool's definition.

    Annotations (on_error, returns, sends) are left out where they are empty or the default, so
    that a new one changes the digests of those tools only that use it.
    """
    facts = {"name": name, "description": description, "schema": plain(schema), "effect": effect}
    said = {key: value for key, value in annotations.items() if value not in _UNSAID}
    return digest(canonical(facts | said))


_UNSAID: tuple[Any, ...] = ((), False, "failed")


def check_tools(specs: Mapping[str, ToolSpec] | Iterable[ToolSpec]) -> None:
    """Refuse tools whose names or texts could pass for something else.

    Raises:
        InvalidInput: E_TOOL_NAME, E_NAME_CONFUSABLE, E_NAME_RESERVED.
        ConfigError: E_TOOL_CONFUSABLE for two names that differ only in case or separators,
            E_TOOL_UNSEEN for a description or schema with characters nobody sees.
    """
    known: dict[str, str] = {}
    for spec in specs.values() if isinstance(specs, Mapping) else specs:
        check_name(spec.name, code="E_TOOL_NAME")
        bare = spec.name.lower().translate(SEPARATORS)
        prefix = spec.name.lower().removeprefix(RESERVED)
        if bare == RESERVED or (prefix != spec.name.lower() and prefix[:1] in "._-"):
            raise InvalidInput("E_NAME_RESERVED", value=spec.name)
        other = known.setdefault(bare, spec.name)
        if other != spec.name:
            raise ConfigError("E_TOOL_CONFUSABLE", value=spec.name, names=other)
        check_seen(spec)


def check_seen(spec: ToolSpec) -> None:
    """Refuse a tool whose texts hold characters that a model reads and a person does not see."""
    for what, text in (
        ("description", spec.description),
        ("schema", bytes(spec.schema).decode()),
    ):
        found = unseen(text)
        if found is not None:
            raise ConfigError("E_TOOL_UNSEEN", tool=spec.name, what=what, detail=found)


def unseen(text: str) -> str | None:
    """Return the first character that cannot be seen as `U+202E`, or None; line ends may stand."""
    if text.isascii() and text.isprintable():
        return None
    for char in text:
        hidden = unicodedata.category(char) in UNSEEN and char not in "\n\r\t"
        if hidden or char in BLANK:
            return f"U+{ord(char):04X}"
    return None
