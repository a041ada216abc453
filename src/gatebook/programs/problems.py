"""What is wrong with an answer: where and why, in words that never repeat what was answered.

A model reads these problems, in the words of the user: text of an answer (which may come from a
web page the model has read) must not get there by way of an error message.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gatebook.errors import InvalidInput, printable, writable

if TYPE_CHECKING:
    from pydantic import ValidationError

MAX_PROBLEMS = 12  # more would be noise: most answers go wrong in one place
MAX_TEXT = 200  # characters of one problem
MAX_LEAVES = 256  # values of an answer that a message is searched for; with more it is dropped
MAX_SEARCHED = 65_536  # characters of these values
SHARED = 24  # a message that has so many characters in a row of a value repeats it
CUT = "..."
UNTOLD = "does not pass a check of its type"
KEY = re.compile(r"[\w$-]{1,64}")

WORDS = {
    "E_JSON_DUPLICATE_KEY": "a key stands twice in one object",
    "E_JSON_NUMBER": "a number is not finite",
    "E_JSON_INT_RANGE": "an integer does not fit 64 bits",
    "E_JSON_DEPTH": "it is nested too deep",
    "E_PAYLOAD_TOO_LARGE": "it is too large",
    "E_TEXT_INVALID": "its text is not valid Unicode",
}


class Problem(NamedTuple):
    """One place where an answer does not fit, and what is wanted there."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"

    def below(self, key: str) -> "Problem":
        """Return this problem of a value that stands under `key`."""
        return Problem(key + dotted(self.path), self.text)


def dotted(path: str) -> str:
    """Return a path as it follows another: `.a`, `[0]`, or nothing for the whole."""
    if path == "$":
        return ""
    return path if path.startswith("[") else f".{path}"


def path_of(parts: Sequence[int | str]) -> str:
    """Return where a value lies: `items[0].price`, or `$` for the whole; odd keys as `?`."""
    text = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part if KEY.fullmatch(part) else '?'}"
        for part in parts
    )
    return text.removeprefix(".") or "$"


def unreadable(exc: InvalidInput) -> Problem:
    """Return the problem with text that is not strict JSON."""
    said = WORDS.get(exc.code)
    if said is None:
        said = f"it is not JSON: {exc.fields.get('detail', 'it cannot be read')}"
    return Problem("$", said)


def mistyped(exc: "ValidationError") -> tuple[Problem, ...]:
    """Return the first problems that pydantic found."""
    found = exc.errors(include_url=False, include_context=False)[:MAX_PROBLEMS]
    return tuple(Problem(path_of(each["loc"]), _said(each)) for each in found)


def _said(error: Any) -> str:
    if error["type"] == "missing":
        return "a value is required"
    if error["type"] == "extra_forbidden":
        return "there is no such field"
    text = redacted(str(error["msg"]).removeprefix("Value error, "), error["input"])
    return text.removeprefix("Assertion failed, ")


def redacted(text: str, given: Any) -> str:
    """Return a message without the values it may have been made from, each replaced by `...`."""
    text = printable(writable(text.partition("\n")[0]))[:MAX_TEXT]
    searched = 0
    for count, leaf in enumerate(_leaves(given)):
        searched += len(leaf)
        if count >= MAX_LEAVES or searched > MAX_SEARCHED:
            return UNTOLD
        text = re.sub(rf"(?<!\w){re.escape(leaf)}(?!\w)", CUT, text)
        if len(leaf) >= SHARED and _shares(text, leaf):
            return UNTOLD
    return text


def _shares(text: str, leaf: str) -> bool:
    return any(text[start : start + SHARED] in leaf for start in range(len(text) - SHARED + 1))


def _leaves(value: Any) -> Iterator[str]:
    """Yield the texts and numbers of a value, and its keys, as a message may spell them."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            left += [*each, *each.values()]
        elif isinstance(each, list | tuple):
            left += each
        elif isinstance(each, str):
            spelt = {each, repr(each)[1:-1], printable(writable(each))}
            yield from sorted(spelt - {""}, key=len, reverse=True)
        elif isinstance(each, int | float) and not isinstance(each, bool):
            yield repr(each)


def told(problems: Sequence[Problem]) -> str:
    """Return problems as one line."""
    return "; ".join(map(str, problems[:MAX_PROBLEMS]))
