"""Regular expressions that cannot explode: one pass over the text, whatever the pattern.

A pattern becomes a position automaton (Glushkov): one bit per character it names, and for each
bit the bits that may follow. A text of n characters costs n steps of at most `MAX_POSITIONS`
bit operations, so there is nothing to backtrack. Matches whole texts only.
"""

from collections.abc import Callable

import msgspec

MAX_PATTERN = 500  # characters of a pattern
MAX_POSITIONS = 256  # of the automaton, repetitions written out
MAX_TEXT = 4_096  # characters; a longer text is not matched at all (unknown)
MAX_REPEAT = 128
MAX_NESTING = 32
_MAX_ATOMS = 10_000  # read while compiling: repeated empty groups cost no position
_CACHED = 4_096  # remembered steps of one pattern; beyond it they are computed each time

Accepts = Callable[[str], bool]

_DIGIT = frozenset("0123456789")
_SPACE = frozenset(" \t\n\r\f\v")
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_SETS = {"d": _DIGIT, "s": _SPACE, "w": _WORD}
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t"}


class PatternError(ValueError):
    """A pattern is not in the language; the text says why."""


class _Part(msgspec.Struct, frozen=True):
    """A piece of the automaton: may it be empty, where it begins, where it ends."""

    empty: bool
    first: int
    last: int


_NOTHING = _Part(True, 0, 0)


class Regex:
    """One compiled pattern.

    Raises:
        PatternError: the pattern is not in the language, or too large.
    """

    def __init__(self, pattern: str) -> None:
        if len(pattern) > MAX_PATTERN:
            raise PatternError(f"it has more than {MAX_PATTERN} characters")
        self.pattern = pattern
        self._accepts: list[Accepts] = []
        self._follow: list[int] = []
        whole = _Parser(pattern, self._accepts, self._follow).whole()
        self._empty, self._first, self._last = whole.empty, whole.first, whole.last
        self._steps: dict[tuple[int, str], int] = {}

    def matches(self, text: str) -> bool | None:
        """Whether the pattern describes the whole text; None for a text that is too long."""
        if len(text) > MAX_TEXT:
            return None
        if not text:
            return self._empty
        state = -1  # before the first character
        steps = self._steps
        for char in text:
            after = steps.get((state, char))
            if after is None:
                after = self._step(state, char)
                if len(steps) < _CACHED:
                    steps[state, char] = after
            if not after:
                return False
            state = after
        return bool(state & self._last)

    def _step(self, state: int, char: str) -> int:
        reach = self._first
        if state != -1:
            reach = 0
            while state:
                low = state & -state
                reach |= self._follow[low.bit_length() - 1]
                state ^= low
        after = 0
        while reach:
            low = reach & -reach
            if self._accepts[low.bit_length() - 1](char):
                after |= low
            reach ^= low
        return after


class _Parser:
    """Reads a pattern once from left to right, building the automaton on the way."""

    def __init__(self, pattern: str, accepts: list[Accepts], follow: list[int]) -> None:
        self.pattern, self.at, self.depth, self.atoms = pattern, 0, 0, 0
        self.accepts, self.follow = accepts, follow

    def whole(self) -> _Part:
        part = self._choice()
        if self.at < len(self.pattern):
            raise PatternError("a ')' closes nothing")
        return part

    def _peek(self) -> str:
        return self.pattern[self.at] if self.at < len(self.pattern) else ""

    def _choice(self) -> _Part:
        part = self._sequence()
        while self._peek() == "|":
            self.at += 1
            other = self._sequence()
            part = _Part(
                part.empty or other.empty, part.first | other.first, part.last | other.last
            )
        return part

    def _sequence(self) -> _Part:
        part = _NOTHING
        while self._peek() not in ("", "|", ")"):
            part = self._joined(part, self._repeated())
        return part

    def _joined(self, left: _Part, right: _Part) -> _Part:
        self._link(left.last, right.first)
        return _Part(
            left.empty and right.empty,
            left.first | (right.first if left.empty else 0),
            right.last | (left.last if right.empty else 0),
        )

    def _link(self, ends: int, begins: int) -> None:
        while ends:
            low = ends & -ends
            self.follow[low.bit_length() - 1] |= begins
            ends ^= low

    def _repeated(self) -> _Part:
        start = self.at
        part = self._atom()
        begun = self.at
        low, high = self._quantifier()
        end = self.at
        if end > begun and self._peek() in ("*", "+", "?", "{"):
            raise PatternError("two repetitions in a row: put the first into a group")
        if (low, high) == (1, 1):
            return part
        whole = _NOTHING
        copies = max(low, 1) if high is None else high
        for index in range(copies):
            again = part if index == 0 else self._copy(start)
            if high is None and index == copies - 1:
                self._link(again.last, again.first)
            if index >= low:
                again = _Part(True, again.first, again.last)
            whole = self._joined(whole, again)
        self.at = end
        return whole

    def _copy(self, start: int) -> _Part:
        self.at = start
        return self._atom()

    def _quantifier(self) -> tuple[int, int | None]:
        char = self._peek()
        if char not in ("*", "+", "?", "{"):
            return 1, 1
        self.at += 1
        if char != "{":
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
        close = self.pattern.find("}", self.at)
        low, comma, high = self.pattern[self.at : max(close, self.at)].partition(",")
        if close < 0 or not _is_count(low) or (high and not _is_count(high)):
            raise PatternError("a repetition is {n}, {n,} or {n,m}: write \\{ for the character")
        self.at = close + 1
        least = int(low)
        most = (int(high) if high else None) if comma else least
        if max(least, most or 0) > MAX_REPEAT or (most is not None and most < max(least, 1)):
            raise PatternError(f"a repetition goes from 0 up to {MAX_REPEAT}, the smaller first")
        return least, most

    def _atom(self) -> _Part:
        char = self._peek()
        self.at += 1
        self.atoms += 1
        if self.atoms > _MAX_ATOMS:
            raise PatternError("its repetitions are nested too deep")
        match char:
            case "(":
                return self._group()
            case "[":
                return self._position(self._set())
            case ".":
                return self._position(lambda c: c != "\n")
            case "\\":
                return self._position(self._escape())
            case "^" | "$":
                raise PatternError(f"the whole text must match already: leave {char} out")
            case "*" | "+" | "?" | "{":
                raise PatternError(f"{char} repeats nothing: write \\{char} for the character")
            case "]" | "}":
                raise PatternError(f"{char} closes nothing: write \\{char} for the character")
            case _:
                pass
        return self._position(lambda c: c == char)

    def _group(self) -> _Part:
        if self.pattern.startswith("?:", self.at):
            self.at += 2
        elif self._peek() == "?":
            raise PatternError("look-around, flags and named groups are not in this language")
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise PatternError(f"groups are nested deeper than {MAX_NESTING}")
        part = self._choice()
        if self._peek() != ")":
            raise PatternError("a group is not closed")
        self.at += 1
        self.depth -= 1
        return part

    def _position(self, accepts: Accepts) -> _Part:
        if len(self.accepts) >= MAX_POSITIONS:
            raise PatternError(f"it spells more than {MAX_POSITIONS} characters with repetitions")
        self.accepts.append(accepts)
        self.follow.append(0)
        bit = 1 << (len(self.accepts) - 1)
        return _Part(False, bit, bit)

    def _escape(self) -> Accepts:
        char = self._peek()
        self.at += 1
        if char.lower() in _SETS:
            members = _SETS[char.lower()]
            return (lambda c: c in members) if char.islower() else (lambda c: c not in members)
        only = self._escaped(char)
        return lambda c: c == only

    def _escaped(self, char: str) -> str:
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char.isascii() and char.isprintable() and char and not char.isalnum():
            return char
        raise PatternError(f"\\{char} is not in this language (back-references never are)")

    def _set(self) -> Accepts:
        inverted = self._peek() == "^"
        self.at += inverted
        singles: set[str] = set()
        ranges: list[tuple[str, str]] = []
        others: list[Accepts] = []
        begun = self.at
        while self._peek() != "]" or self.at == begun:
            if self.at >= len(self.pattern) or self._peek() == "]":
                raise PatternError("a [set] is empty or not closed")
            member = self._member(others)
            if member is None:
                continue
            if self._peek() == "-" and self.pattern[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                end = self._member(others)
                if end is None or end < member:
                    raise PatternError("a range of a [set] goes from a character up to another")
                ranges.append((member, end))
            else:
                singles.add(member)
        self.at += 1

        def accepts(char: str) -> bool:
            found = char in singles or any(low <= char <= high for low, high in ranges)
            return (found or any(other(char) for other in others)) is not inverted

        return accepts

    def _member(self, others: list[Accepts]) -> str | None:
        char = self._peek()
        self.at += 1
        if char != "\\":
            return char
        if self._peek().lower() in _SETS and self._peek():
            others.append(self._escape())
            return None
        escaped = self._peek()
        self.at += 1
        return self._escaped(escaped)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 4
