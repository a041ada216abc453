"""What the sources may not contain, read from their syntax trees."""

import ast

from tests.project.repository import ROOT, SOURCE, calls, dotted, imports, parsed, within

CODE_FROM_DATA = ("pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle")
CODE_CALLS = {"eval", "exec", "compile", "__import__"}
PURE = (SOURCE / "kernel", SOURCE / "programs")
OUTSIDE_CALLS = {"open", "input", "print", "breakpoint", "__import__"}
OUTSIDE_CALLS |= {"id", "hash"}  # they differ from process to process; `__hash__` itself may ask
CLOCK_READS = {"now", "utcnow", "today"}
CLOCKS = {"datetime", "date", "datetime.datetime", "datetime.date"}


def test_nothing_shipped_can_turn_data_into_code() -> None:
    """Whoever can write to a journal must not be able to run code by it."""
    found = [
        f"{path}:{line} {name}"
        for path, tree in parsed(SOURCE)
        for line, name in imports(tree)
        if within(name, *CODE_FROM_DATA)
    ]
    found += [
        f"{path}:{line} {name}()"
        for path, tree in parsed(SOURCE)
        for line, name in calls(tree)
        if name.removeprefix("builtins.") in CODE_CALLS
    ]

    assert found == []


def test_nobody_uses_wait_for() -> None:
    """asyncio.wait_for swallows cancellation on 3.11, in tests as well."""
    found = [
        f"{path}:{line}"
        for path, tree in parsed(SOURCE, ROOT / "tests", ROOT / "bench")
        for line, name in imports(tree)
        if name == "asyncio.wait_for" or name.startswith("asyncio.tasks")
    ]
    found += [
        f"{path}:{node.lineno}"
        for path, tree in parsed(SOURCE, ROOT / "tests", ROOT / "bench")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and dotted(node) == "asyncio.wait_for"
    ]

    assert found == []


def test_nothing_shipped_imports_the_testing_room() -> None:
    """`gatebook.testing` stands beside: a production install must not need it."""
    found = [
        f"{path}:{line} {name}"
        for path, tree in parsed(SOURCE)
        if not path.startswith("src/gatebook/testing/")
        for line, name in imports(tree)
        if within(name, "gatebook.testing")
    ]

    assert found == []


def test_the_facade_is_for_users_only() -> None:
    """A module that imports its own package's facade imports every room at once, layers or not."""
    names = {f"gatebook.{entry.stem}" for entry in SOURCE.iterdir()}

    found = [
        f"{path}:{line} {name}"
        for path, tree in parsed(SOURCE)
        for line, name in imports(tree)
        if within(name, "gatebook") and not within(name, *names)
    ]

    assert [place for place in found if not place.startswith("src/gatebook/demo")] == []


def test_the_kernel_and_the_programs_call_nothing_outside() -> None:
    """Replay is only byte-identical if these rooms read no file, no clock and no process state."""
    found = [
        f"{path}:{line} {name}()"
        for path, tree in parsed(*PURE)
        for line, name in calls(tree)
        if name in OUTSIDE_CALLS
    ]
    found += [
        f"{path}:{node.lineno} {dotted(node)}"
        for path, tree in parsed(*PURE)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in CLOCK_READS
        and dotted(node.value) in CLOCKS
    ]

    assert found == []


def test_every_module_says_what_it_knows() -> None:
    """The first thing a reader sees of a file is its purpose."""
    silent = [
        path
        for path, tree in parsed(SOURCE, ROOT / "tests", ROOT / "bench", ROOT / "scripts")
        if tree.body and not ast.get_docstring(tree)
    ]

    assert silent == []


def test_every_test_says_why_it_exists() -> None:
    """The name says what is true; only the docstring says why anybody cares."""
    silent = [
        f"{path}:{node.lineno} {node.name}"
        for path, tree in parsed(ROOT / "tests")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]

    assert silent == []


def test_files_stay_short() -> None:
    """A file of more than about 400 lines has become two questions."""
    long = {
        str(file.relative_to(ROOT)): lines
        for file in SOURCE.rglob("*.py")
        if (lines := len(file.read_text(encoding="utf-8").splitlines())) > 450
    }

    assert long == {}
