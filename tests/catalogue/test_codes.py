"""The table of codes and texts, against everything that is raised."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import gatebook
from gatebook.codes import TEXTS, approvals, declarations, running, stores, values
from gatebook.errors import GatebookError

SOURCE = Path(gatebook.__file__).parent
CODE = re.compile(r"[EW]_[A-Z0-9]+(?:_[A-Z0-9]+)*")
DEFINED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        if path.parent.name != "codes":
            yield str(path.relative_to(SOURCE)), ast.parse(path.read_text(encoding="utf-8"))


def texts(tree: ast.Module) -> Iterator[str]:
    """Yield every string of a module that is no docstring."""
    nodes = list(ast.walk(tree))
    told = {id(node.body[0]) for node in nodes if isinstance(node, DEFINED) and node.body}
    docstrings = {
        id(node.value) for node in nodes if isinstance(node, ast.Expr) and id(node) in told
    }
    for node in nodes:
        if not isinstance(node, ast.Constant) or id(node) in docstrings:
            continue
        if isinstance(node.value, str):
            yield node.value


def fields_of(code: str) -> set[str]:
    """The fields that a code's text shows."""
    shown = (name for text in TEXTS[code] for _, name, _, _ in Formatter().parse(text))
    return {name for name in shown if name}


def raised() -> Iterator[tuple[str, str, set[str]]]:
    """Yield (where, code, fields) of every call that makes an error with all fields written out."""
    for name, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            first = node.args[0]
            code = first.value if isinstance(first, ast.Constant) else None
            fields = {keyword.arg for keyword in node.keywords}
            if isinstance(code, str) and code in TEXTS and None not in fields and is_error(node):
                yield f"{name}:{node.lineno}", code, {field for field in fields if field}


def is_error(call: ast.Call) -> bool:
    """Whether a call makes one of our errors: `Fail` and records bring their own texts."""
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    return name.endswith("Error") or name in {
        "InvalidInput", "RunNotFound", "RunConflict", "RunIsOver", "RunFailed", "RunDenied",
        "RunCancelled", "RunWaiting", "Conflict", "Fenced", "CommitUnknown", "JournalCorrupt",
        "Diverged", "BudgetShort",
    }  # fmt: skip


def test_every_code_that_is_used_has_a_text() -> None:
    """An error without a text would fail while it is being told."""
    used = {text for _, tree in modules() for text in texts(tree) if CODE.fullmatch(text)}

    assert sorted(used - set(TEXTS)) == []


def test_every_text_is_used() -> None:
    """A code nobody raises is a promise nobody keeps."""
    used = {text for _, tree in modules() for text in texts(tree) if CODE.fullmatch(text)}

    assert sorted(set(TEXTS) - used) == []


def test_every_error_is_given_the_fields_its_text_shows() -> None:
    """A gap in a message stands where the reader's answer should."""
    gaps = {
        f"{where} {code}": sorted(fields_of(code) - fields)
        for where, code, fields in raised()
        if fields_of(code) - fields
    }

    assert gaps == {}


def test_most_errors_are_seen_by_these_checks() -> None:
    """A check that looks at nothing finds nothing."""
    seen = {code for _, code, _ in raised()}

    assert len(seen) > 0.8 * len(TEXTS)


def test_every_text_says_what_happened_and_what_to_do() -> None:
    """Two clauses, joined by the message itself."""
    for code, (what, fix) in TEXTS.items():
        error = str(GatebookError(code, **dict.fromkeys(fields_of(code), "x")))

        assert CODE.fullmatch(code)
        assert what.strip() == what
        assert fix.strip() == fix
        assert len(what) > 10 or "{" in what, code
        assert fix, code
        assert not what.endswith("."), code
        assert not fix.endswith("."), code
        assert error.endswith(f"[{code}]")
        assert "{" not in error.replace("={", "").replace("{{", ""), code


def test_a_code_stands_in_one_place() -> None:
    """Of two texts for one code, one would be dead and nobody would see which."""
    parts = [part.TEXTS for part in (declarations, values, running, stores, approvals)]

    assert sum(map(len, parts)) == len(TEXTS)
