"""Names that were probably meant by one that is not known."""

import difflib
from collections.abc import Collection

MEANT, LISTED = 3, 5  # names that a message holds


def near(name: str, known: Collection[str], *, cutoff: float = 0.5) -> str:
    """Return " (did you mean: ...)" with the names that are close, "" for none."""
    found = difflib.get_close_matches(name, list(known), MEANT, cutoff)
    return f" (did you mean: {', '.join(found)})" if found else ""


def near_or_known(name: str, known: Collection[str]) -> str:
    """Return `near`, and where nothing is close the first of the names there are."""
    if not known:
        return " (there are none)"
    rest = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
    return near(name, known) or f" (there are: {', '.join(sorted(known)[:LISTED])}{rest})"
