"""Lines of TOML keys: exact in the odd corners, and every path of every value has one."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatebook.kernel.rules.lines import Lines

TEXT = '''# a comment with [brackets] and "quotes"
name = "x # not a comment"
a.b = 1

[budgets] # the [[rule]] that is none
"tool calls" = 3
'wall.clock' = """
[[rule]]
id = "inside a text"
"""
long = \'\'\'
a\'\'\'
[[rule]]
id = "one"
tool = [
  "a]", # ]
  'b',
]
where = { "args.x" = { le = 1, in = [1, 2] }, b = { eq = "}" } }

[[rule]]
id = "two"
[rule.where]
seen = { has = "x" }
[[rule.part]]
x = 1
[[rule.part]]
y = 2
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 2), (("a", "b"), 3), (("a",), 3), (("budgets",), 5),
        (("budgets", "tool calls"), 6), (("budgets", "wall.clock"), 7), (("budgets", "long"), 11),
        (("rule", 0), 13), (("rule", 0, "id"), 14), (("rule", 0, "tool"), 15),
        (("rule", 0, "tool", 0), 16), (("rule", 0, "tool", 1), 17),
        (("rule", 0, "where", "args.x", "le"), 19), (("rule", 0, "where", "b", "eq"), 19),
        (("rule", 1), 21), (("rule", 1, "where"), 23), (("rule", 1, "where", "seen"), 24),
        (("rule", 1, "part", 0, "x"), 26), (("rule", 1, "part", 1), 27),
        (("rule", 1, "part", 1, "y"), 28),
    ],
)  # fmt: skip
def test_a_key_is_found_on_its_line(path: tuple[str | int, ...], line: int) -> None:
    """An error that names the wrong line sends its reader to the wrong rule."""
    assert Lines(TEXT).of(*path) == line


def test_line_breaks_of_any_system_count_once() -> None:
    """A file saved on Windows has the same lines."""
    assert Lines(TEXT.replace("\n", "\r\n")).of("rule", 1, "part", 1, "y") == 28


def test_an_unknown_path_gives_the_nearest_line_around_it() -> None:
    """A missing key is reported at the table it is missing from."""
    assert Lines(TEXT).of("rule", 1, "then") == 21
    assert Lines(TEXT).of("nothing") == 1


KEYS = st.text("ab.'\" #[]=\\é", min_size=0, max_size=4)
SCALARS = st.one_of(st.integers(-5, 5), st.booleans(), st.text("ab\"'\\#[]{},=\n\t", max_size=8))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\t", "\\t") + '"'


def written(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
        case list():
            return "[ " + " ,\n # ] a comment\n".join(map(written, value)) + " ]"
        case dict():
            pairs = (f"{quoted(key)} = {written(item)}" for key, item in value.items())
            return "{ " + ", ".join(pairs) + " }"
        case _:
            return str(value)


def paths(value: Any, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    found = {path} if path else set()
    if isinstance(value, dict):
        for key, item in value.items():
            found |= paths(item, (*path, key))
    if isinstance(value, list):
        for index, item in enumerate(value):
            found |= paths(item, (*path, index))
    return found


@given(
    st.dictionaries(KEYS, VALUES, max_size=5), st.lists(st.dictionaries(KEYS, VALUES, max_size=3))
)
def test_every_value_that_tomllib_reads_has_a_line(top: dict[str, Any], rows: list[Any]) -> None:
    """The reader of lines must follow every text that the reader of values accepts."""
    top.pop("row", None)
    lines = [f"{quoted(key)} = {written(value)}" for key, value in top.items()]
    for row in rows:
        lines.append("[[row]] # x")
        lines += [f"{quoted(key)} = {written(value)}" for key, value in row.items()]
    source = "\n".join(lines) + "\n"

    found = Lines(source).paths

    assert found == paths(tomllib.loads(source))
