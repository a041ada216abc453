"""Glob patterns: `*` is any run of characters, `?` is one; nothing else is special.

Also answers, for the checks, whether two patterns can meet and whether one holds another.
"""

from collections.abc import Callable, Iterable

Matcher = Callable[[str], bool]


def is_pattern(text: str) -> bool:
    """Whether a glob describes more than one text."""
    return "*" in text or "?" in text


def glob(pattern: str) -> Matcher:
    """Compile one glob; matching costs at most len(pattern) * len(text) steps."""
    if not is_pattern(pattern):
        return pattern.__eq__
    if pattern == "*":
        return lambda text: True
    stem = pattern[:-1]
    if pattern.endswith("*") and not is_pattern(stem):
        return lambda text: text.startswith(stem)
    tail = pattern[1:]
    if pattern.startswith("*") and not is_pattern(tail):
        return lambda text: text.endswith(tail)
    return lambda text: _matches(pattern, text)


def any_glob(patterns: Iterable[str]) -> Matcher:
    """Compile several globs: a text matches when one of them does."""
    found = tuple(patterns)
    if len(found) == 1:
        return glob(found[0])
    exact = frozenset(p for p in found if not is_pattern(p))
    wide = tuple(glob(p) for p in found if is_pattern(p))
    return lambda text: text in exact or any(matches(text) for matches in wide)


def _matches(pattern: str, text: str) -> bool:
    at = here = back = 0
    star = -1
    while at < len(text):
        if here < len(pattern) and pattern[here] == "*":
            star, back = here, at
            here += 1
        elif here < len(pattern) and pattern[here] in ("?", text[at]):
            here, at = here + 1, at + 1
        elif star >= 0:  # the last star takes one character more
            back += 1
            here, at = star + 1, back
        else:
            return False
    return not pattern[here:].strip("*")


def overlap(one: str, other: str) -> bool:
    """Whether some text matches both globs."""
    reach = {0}
    reach = _past_stars(other, reach)
    for char in one:
        if char == "*":
            reach = set(range(min(reach), len(other) + 1)) if reach else reach
            continue
        after = set()
        for at in reach:
            if at < len(other) and other[at] == "*":
                after.add(at)
            elif at < len(other) and (char == "?" or other[at] in ("?", char)):
                after.add(at + 1)
        reach = _past_stars(other, after)
    return len(other) in reach


def covers(wide: str, narrow: str) -> bool:
    """Whether every text that matches `narrow` surely matches `wide`."""
    if wide in ("*", narrow):
        return True
    if not is_pattern(narrow):
        return glob(wide)(narrow)
    stem = wide[:-1]
    return wide.endswith("*") and not is_pattern(stem) and _literal(narrow).startswith(stem)


def _literal(pattern: str) -> str:
    """Return what every match begins with."""
    ends = [i for i in (pattern.find("*"), pattern.find("?")) if i >= 0]
    return pattern[: min(ends)] if ends else pattern


def _past_stars(pattern: str, reach: set[int]) -> set[int]:
    found = set(reach)
    for at in range(len(pattern)):
        if at in found and pattern[at] == "*":
            found.add(at + 1)
    return found
