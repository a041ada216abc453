"""The source itself: one place makes permits, one spends them, one calls tools and models."""

import ast
from pathlib import Path

import gatebook
from gatebook.runtime.performing.permits import Permit

SOURCE = Path(gatebook.__file__).parent


def calls_of(path: Path, *names: str) -> list[str]:
    """Where a source file calls something of these names."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in names:
                found.append(f"{path.relative_to(SOURCE)}:{name}")
    return found


def test_only_one_place_makes_permits_and_only_one_spends_them() -> None:
    """Whoever adds a second has to change this test, and to say why."""
    kinds: list[type] = [Permit, *Permit.__subclasses__()]

    found = {
        place
        for path in SOURCE.rglob("*.py")
        for place in calls_of(path, *(kind.__name__ for kind in kinds), "perform")
    }

    assert found == {
        "runtime/performing/attempts.py:_Flight",
        "runtime/performing/attempts.py:perform",
    }


def test_only_the_executor_calls_tools_and_models() -> None:
    """Everything else wants, decides or records."""
    found = {
        place
        for room in ("runtime", "programs", "kernel", "engines", "journals", "cli")
        for path in (SOURCE / room).rglob("*.py")
        for place in calls_of(path, "stream", "complete")
        if not place.startswith("runtime/subscriptions")
    }

    assert {place.partition(":")[0] for place in found} <= {"runtime/performing/executor.py"}
