"""What the sources say of the documentation: every page and heading they cite is there."""

import re

import pytest

from tests.project.repository import ROOT, SOURCE

CITED = re.compile(r'docs/([\w-]+\.md),\s+(?:#\s+|--\s+)?"([^"]+)"')
HEADING = re.compile(r"^#+ (.+)$|^\*\*(.+?)\*\*", re.MULTILINE)


def titles(page: str) -> set[str]:
    """Return the headings of a page and the bold words that open its paragraphs."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return {(heading or bold).rstrip(".") for heading, bold in HEADING.findall(text)}


def citations(text: str) -> list[tuple[str, str]]:
    """Return (page, title) of each citation in a source."""
    return CITED.findall(text)


@pytest.mark.parametrize(
    ("source", "found"),
    [('# 3 beats; docs/design.md, "Leases"', [("design.md", "Leases")]),
     ('(docs/design.md,\n"Who commits")', [("design.md", "Who commits")]),
     ('# docs/design.md,\n# "Limits"', [("design.md", "Limits")]),
     ("see docs/policy.md.", [])],
)  # fmt: skip
def test_a_citation_is_found_where_it_is_broken_too(
    source: str, found: list[tuple[str, str]]
) -> None:
    """A line may end inside it, in a docstring or in a comment."""
    assert citations(source) == found


def test_the_sources_cite_what_there_is() -> None:
    """Whoever follows a citation must not end at a heading that was renamed or never written."""
    cited = {
        (page, title, str(file.relative_to(ROOT)))
        for file in [*SOURCE.rglob("*.py"), *SOURCE.rglob("*.sql")]
        for page, title in citations(file.read_text(encoding="utf-8"))
    }

    assert len(cited) > 10
    assert [entry for entry in sorted(cited) if entry[1] not in titles(entry[0])] == []
