"""What a model is asked to answer with: text, JSON of a type, or JSON that fits a JSON Schema.

Knows how it is put to a provider (a hint) and how an answer is read (the authority). What becomes
of an answer that does not fit is for the programs.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Generic, NoReturn, TypeVar, cast

from gatebook.errors import ConfigError, InvalidInput, shown
from gatebook.kernel.codec import canonical, parse, plain
from gatebook.programs.contracts import Contract
from gatebook.programs.fits import JsonSchema
from gatebook.programs.output_schema import ANSWER, check, closed, fits_strict, refused, rooted
from gatebook.programs.problems import UNTOLD, Problem, mistyped, told, unreadable

T = TypeVar("T")

FORMAT_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
FENCE = "```"


class Output(Generic[T]):
    """A declared answer. `None` and `str` mean text, a dict is a JSON Schema, all else is a type.

    Attributes:
        schema: the JSON Schema of the answer, as plain JSON.
        format: name, schema and strictness to ask a provider with; None for text.

    Raises:
        ConfigError: E_OUTPUT_SCHEMA and E_OUTPUT_SCHEMA_*; E_PROGRAM_DECLARATION for a type that
            cannot be JSON.
    """

    def __init__(self, declared: Any, *, program: str) -> None:
        self._program = program
        self._wrapped = False
        self._check: JsonSchema | None = None
        self.format: dict[str, Any] | None = None
        annotation = str if declared is None else declared
        if isinstance(annotation, Mapping):
            name = annotation.get("title", "")
            annotation = self._foreign(annotation)
        else:
            name = getattr(annotation, "__name__", "")
        self._contract: Contract[Any] = Contract(annotation, code="E_OUTPUT", program=program)
        if self._check is None:
            self.schema: Any = self._contract.schema()
        if annotation is not str:
            self._ask(annotation, name if isinstance(name, str) else "")

    def _foreign(self, declared: Mapping[str, Any]) -> Any:
        """Take a JSON Schema, copied, so that later changes of the dict change nothing here."""
        if type(declared) is not dict:
            raise refused(self._program, "#", f"it is {shown(declared)}, not a dict")
        check(declared, program=self._program)
        self.schema = plain(canonical(declared, what="schema"))
        self._check = JsonSchema(self.schema, program=self._program)
        return Any

    def _ask(self, annotation: Any, name: str) -> None:
        if self._check is None:
            asked = self._typed(annotation)
        else:
            asked = self.schema
        asked, self._wrapped = rooted(asked)
        kept = "".join(char for char in name if char in FORMAT_NAME)[:64]
        self.format = {"name": kept or ANSWER, "schema": asked, "strict": fits_strict(asked)}

    def _typed(self, annotation: Any) -> Any:
        from gatebook.programs.typed_schema import backtracks, shown_schema

        if not self.schema:
            return {}
        adapter = self._contract.adapter
        if backtracks(adapter):
            detail = "Python's re would match it"
            fields = {"path": "#", "value": getattr(annotation, "__name__", "?"), "detail": detail}
            raise ConfigError("E_OUTPUT_SCHEMA_PATTERN", program=self._program, **fields)
        asked = closed(shown_schema(adapter))
        check(asked, program=self._program)
        return asked

    def read(self, text: str) -> bytes:
        """Return the canonical JSON of an answer: the whole text, or one fenced block of it.

        Raises:
            InvalidInput: E_OUTPUT. With `fields["problems"]`, the model may be told and asked
                again; without, the type does not read what it writes.
        """
        if self.format is None:
            return self._contract.encode(text)
        data = unfenced(text)
        try:
            value = parse(data, what="answer")
        except InvalidInput as exc:
            self._unfit([Problem("$", "it is empty") if not data else unreadable(exc)], exc)
        wrapped = self._wrapped and isinstance(value, dict) and value.keys() == {ANSWER}
        under = ANSWER if wrapped else ""
        value = value[ANSWER] if wrapped else value
        if self._check is None:
            return self._read_typed(canonical(value), under)
        problems = self._check.problems(value)
        if problems:
            self._unfit(_under(under, problems))
        return canonical(value)

    def _read_typed(self, data: bytes, under: str) -> bytes:
        try:
            value = self._contract.decode(data)
        except InvalidInput as exc:
            from pydantic import ValidationError

            cause = exc.__cause__
            unknown = (Problem("$", UNTOLD),)
            problems = mistyped(cause) if isinstance(cause, ValidationError) else unknown
            self._unfit(_under(under, problems), exc)
        written = self._contract.dump(value)
        self._contract.decode(written)
        return written

    def decode(self, data: bytes) -> T:
        """Return the value that stored JSON stands for.

        Raises:
            InvalidInput: E_OUTPUT.
        """
        value = self._contract.decode(data)
        problems = () if self._check is None else self._check.problems(value)
        if problems:
            self._unfit(problems)
        return cast(T, value)

    def _unfit(self, problems: Sequence[Problem], cause: Exception | None = None) -> NoReturn:
        raise InvalidInput(
            "E_OUTPUT", program=self._program, detail=told(problems), problems=tuple(problems)
        ) from cause


def _under(key: str, problems: Sequence[Problem]) -> Sequence[Problem]:
    return [each.below(key) for each in problems] if key else problems


def output_of(declared: Any, *, program: str) -> Output[Any]:
    """Return the declared answer; shared for classes, where equal means the same."""
    if isinstance(declared, type):
        return _output_of_class(declared, program)
    return Output(declared, program=program)


@lru_cache(maxsize=256)
def _output_of_class(declared: Any, program: str) -> Output[Any]:
    return Output(declared, program=program)


def unfenced(text: str) -> str:
    """Return an answer without the Markdown fence around the whole of it, if that is all there is.

    A block with words before or after it stays as it is, and is refused: which part was meant to
    be the answer would be a guess.
    """
    text = text.strip()
    if not text.startswith(FENCE) or not text.endswith(FENCE) or "\n" not in text:
        return text
    first, _, rest = text.partition("\n")
    if first[len(FENCE) :].strip().lower() not in ("", "json"):
        return text
    return rest.removesuffix(FENCE).strip()
