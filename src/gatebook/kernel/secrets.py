"""Secrets as values of a tool's parameters: what stands for one, and what may stand there.

Everything that is stored, decided on or shown holds `secret://name`. Knows no sources.
"""

from collections.abc import Collection, Mapping
from typing import Any, Generic, NoReturn, TypeVar

from gatebook.errors import InvalidInput
from gatebook.kernel.codec import Raw, canonical, plain
from gatebook.kernel.near import near
from gatebook.kernel.redact import MARK, REFERENCE
from gatebook.kernel.tools import ToolSpec

T = TypeVar("T")

SCHEME = "secret://"


class Secret(Generic[T]):
    """A value that is shown nowhere: `repr`, `str`, JSON and pickle do not give it.

    Declare a parameter `Secret[str]`; a tool that runs is given one that has its value. In a unit
    test pass `Secret("a value")`; to name one in a workflow or as a default, `Secret.named`.
    """

    __slots__ = ("_held", "_name")

    def __init__(self, value: T, *, name: str = "") -> None:
        self._held: tuple[T, ...] = (value,)
        self._name = name

    @classmethod
    def named(cls, name: str) -> "Secret[str]":
        """Return what stands for a secret of the runtime, without its value.

        Raises:
            InvalidInput: E_SECRET_SOURCE for a name no secret can have.
        """
        reference = f"{SCHEME}{name}"
        if not isinstance(name, str) or REFERENCE.fullmatch(reference) is None:
            raise InvalidInput("E_SECRET_SOURCE", name=name, detail="its name is not allowed")
        made: Secret[str] = Secret.__new__(Secret)
        made._held, made._name = (), name
        return made

    @property
    def name(self) -> str:
        """Its name, "" for a value without one."""
        return self._name

    @property
    def reference(self) -> str:
        """What stands for it where it is stored; a value without a name leaves only a mark."""
        return f"{SCHEME}{self._name}" if self._name else MARK.format("secret")

    def reveal(self) -> T:
        """Return the value: do not store it, and do not put it into a message.

        Raises:
            InvalidInput: E_SECRET_UNRESOLVED: it only names a secret.
        """
        if not self._held:
            raise InvalidInput("E_SECRET_UNRESOLVED", name=self._name)
        return self._held[0]

    def __repr__(self) -> str:
        return f"<secret {self._name or 'without a name'}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return (self._name, self._held) == (other._name, other._held)

    def __hash__(self) -> int:
        return hash(self._name)

    def __copy__(self) -> "Secret[T]":
        return self

    def __deepcopy__(self, memo: Any) -> "Secret[T]":
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled: pass its name, and name it again there")


def referred(args: bytes, spec: ToolSpec) -> dict[str, str]:
    """Return the secrets that final arguments refer to: names by parameter.

    Only parameters that take secrets count: elsewhere `secret://name` is text like any other.

    Raises:
        InvalidInput: E_SECRET_LITERAL when one of them holds anything but a reference.
    """
    given: Any = plain(args)
    found = {}
    for parameter in spec.secrets:
        value = given.get(parameter)
        if value is None:
            continue
        reference = REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if reference is None:
            raise InvalidInput("E_SECRET_LITERAL", tool=spec.name, path=parameter)
        found[parameter] = reference[1]
    return found


def check_references(args: bytes, spec: ToolSpec, known: Collection[str]) -> None:
    """Refuse arguments whose secrets are not references, or refer to none there is.

    Raises:
        InvalidInput: E_SECRET_LITERAL, E_SECRET_UNKNOWN.
    """
    for name in referred(args, spec).values():
        if name not in known:
            meant = near(name, known, cutoff=0.6)
            raise InvalidInput("E_SECRET_UNKNOWN", tool=spec.name, value=name, near=meant)


def keep_references(before: Mapping[str, Any], after: Mapping[str, Any], *, tool: str) -> None:
    """Refuse arguments that put something else where others held a reference to a secret.

    For whoever changes arguments without knowing the tool, and its parameters that take secrets.

    Raises:
        InvalidInput: E_SECRET_LITERAL.
    """
    for name, value in before.items():
        now = after.get(name)
        if _is_reference(value) and now is not None and not _is_reference(now):
            raise InvalidInput("E_SECRET_LITERAL", tool=tool, path=name)


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and REFERENCE.fullmatch(value) is not None


def without_literals(args: Raw, parameters: Collection[str]) -> Raw:
    """Return arguments without what was put where only a reference may stand.

    For what is stored of a call that was refused: a value given there may be a real one.
    """
    given = plain(args)
    if not isinstance(given, Mapping):
        return args
    literals = {
        name: MARK.format("argument")
        for name in parameters
        if given.get(name) is not None and not _is_reference(given[name])
    }
    return Raw(canonical({**given, **literals})) if literals else args


def is_masked(schema: Any) -> bool:
    """Whether a JSON Schema of what is written has text that is written as asterisks.

    Pydantic's SecretStr is: whoever reads it back is given the asterisks.
    """
    if isinstance(schema, dict):
        masked = schema.get("writeOnly") is True and schema.get("format") == "password"
        return masked or any(map(is_masked, schema.values()))
    return isinstance(schema, list) and any(map(is_masked, schema))
