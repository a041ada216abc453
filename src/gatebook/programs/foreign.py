"""Tools that others wrote: any object of the right shape, held to what the journal needs.

What such an object says or returns goes into the journal; so it is checked as if it were hostile:
bytes that are no strict JSON would make the whole run unreadable, or say what they should not.
"""

from typing import Any

import msgspec

from gatebook.errors import ConfigError, InvalidInput
from gatebook.kernel.artifacts import too_large
from gatebook.kernel.codec import MAX_PAYLOAD, canonical, parse
from gatebook.kernel.pins import definition_digest
from gatebook.kernel.tools import ToolSpec, WritesCanonical
from gatebook.ports import Invocation, Tool

UNREADABLE = "(its definition cannot be read)"


def checked(item: Tool) -> Tool:
    """Return a tool whose spec, arguments and results are sound: ours are so by themselves.

    Raises:
        ConfigError: E_TOOL_DECLARATION when its spec is not.
    """
    return item if isinstance(item, WritesCanonical) else Checked(item)


class Checked(WritesCanonical):
    """A foreign tool, and what it answers, checked each time."""

    def __init__(self, inner: Tool) -> None:
        self._inner = inner
        self._known = inner.spec
        try:
            _check(self._known)
        except (InvalidInput, msgspec.ValidationError) as exc:
            raise ConfigError(
                "E_TOOL_DECLARATION",
                tool=str(self._known.name)[:64],
                detail=f"its spec cannot be used: {exc}",
                fix="correct the object that offers it",
            ) from exc

    def __repr__(self) -> str:
        return f"<foreign tool {self._known.name}>"

    @property
    def spec(self) -> ToolSpec:
        """What it says of itself now; of one that cannot be read, a definition nobody pinned."""
        try:
            now = self._inner.spec
            if now is self._known:
                return now
            if now.name != self._known.name:
                raise InvalidInput("E_TOOL_NAME", value=now.name)
            _check(now)
        except Exception:  # noqa: BLE001 - the object is anybody's
            return msgspec.structs.replace(self._known, description=UNREADABLE)
        self._known = now
        return now

    def validate(self, args: bytes) -> bytes:
        """Return what it makes of the arguments, as canonical JSON of an object."""
        try:
            final = self._inner.validate(args)
        except InvalidInput:
            raise
        except Exception as exc:  # noqa: BLE001 - the object is anybody's
            want = f"what its check accepts (it raised {type(exc).__name__})"
            raise self._unfit(want) from None
        if type(final) is not bytes:
            raise self._unfit("arguments as bytes")
        value = parse(final, what="arguments")
        if not isinstance(value, dict):
            raise self._unfit("an object of arguments")
        return canonical(value, what="arguments")

    def _unfit(self, want: str) -> InvalidInput:
        got = "something else"
        return InvalidInput("E_ARGS_SCHEMA", tool=self._known.name, path="$", want=want, got=got)

    async def call(self, args: bytes, invocation: Invocation) -> bytes:
        """Run it, and return its result as canonical JSON."""
        output = await self._inner.call(args, invocation)
        name = self._known.name
        if type(output) is not bytes:
            detail = f"it returned {type(output).__name__}, not JSON as bytes"
            raise InvalidInput("E_RESULT_TYPE", tool=name, detail=detail)
        if len(output) > MAX_PAYLOAD:
            raise too_large(output, tool=name)
        try:
            return canonical(parse(output, what="result"), what="result")
        except InvalidInput as exc:
            raise InvalidInput("E_RESULT_TYPE", tool=name, detail=str(exc)) from None

    def decode(self, output: bytes) -> Any:
        """Read a recorded result as it does."""
        return self._inner.decode(output)


def _check(spec: ToolSpec) -> None:
    """Refuse a spec with fields of other types, or a schema that is no JSON object."""
    msgspec.convert(msgspec.structs.asdict(spec), ToolSpec)
    if not isinstance(parse(bytes(spec.schema), what="schema"), dict):
        raise InvalidInput("E_JSON_TYPE", path="schema", value="no object")
    definition_digest(spec)
