"""The table itself: every case is proved by a test, and every test says which case it proves."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.conformance.cases import CASES

HERE = Path(__file__).parent


def marked() -> Iterator[tuple[str, set[int], str]]:
    """Yield (place, numbers, docstring) of each test in this folder that is marked with cases."""
    for file in sorted(HERE.glob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.FunctionDef) and node.name.startswith("test_")):
                continue
            numbers = {
                argument.value
                for mark in node.decorator_list
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "case"
                for argument in mark.args
                if isinstance(argument, ast.Constant) and isinstance(argument.value, int)
            }
            yield f"{file.name}:{node.name}", numbers, ast.get_docstring(node) or ""


def test_every_case_is_proved() -> None:
    """A number without a test is a promise that nobody keeps."""
    proved = {number for _, numbers, _ in marked() for number in numbers}

    assert proved == set(CASES) == set(range(1, 45))


def test_every_test_names_its_cases_in_its_docstring() -> None:
    """A reader of a failure looks for the number, not for the mark."""
    silent = [
        place
        for place, numbers, text in marked()
        if place.partition(":")[0] != Path(__file__).name
        and (not numbers or not all(f"{n}" in text.partition(":")[0] for n in numbers))
    ]

    assert silent == []
